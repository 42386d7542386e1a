import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import tiny
import torch
from transformers.cache_utils import DynamicLayer
from weights import same, weights

from caplab.measuring import speaking
from caplab.measuring.prompts import _Layer
from caplab.measuring.score import score
from caplab.measuring.speaking import MAX_NEW_TOKENS, speak
from caplab.models.chat import as_asked, encode
from caplab.models.fetch import fetched_folder
from caplab.models.load import load
from caplab.models.subject import measuring
from caplab.questions.exam import Exam, Question, exam
from caplab.support.errors import BadInput

QUESTIONS = tiny.SPOKEN.questions
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a colour."}]


def generated(who, question):
    """Answer one question the slow way, to the end."""
    ids = torch.tensor([who.tokenizer(question.prompt)["input_ids"]])
    limit = min(question.max_new_tokens or MAX_NEW_TOKENS, who.context - ids.shape[1])
    with measuring(who.model):
        output = who.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=limit,
            pad_token_id=who.tokenizer.eos_token_id,
        )
    return who.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip()


def ended(who, questions=QUESTIONS, **given):
    return speak(who, questions, early=False, progress=False, **given)


# ---------------------------------------------------------------- the same answers


@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
def test_batches_answer_as_generate_does(kind):
    for seed in range(2):
        who = tiny.subject(kind, seed)
        assert ended(who) == [generated(who, question) for question in QUESTIONS]


def test_pocket_answers_as_generate_does():
    who = load("pocket")
    asked = [Question("q", q.prompt, expect={"contains": "x"}) for q in exam().questions[::12]]
    assert ended(who, asked) == [generated(who, question) for question in asked]


@pytest.mark.slow
def test_a_real_chat_model_answers_as_generate_does():
    if not fetched_folder().is_dir():
        pytest.skip("smollm2 is not here: caplab fetch smollm2")
    who = load("smollm2")
    towns = ("France", "Italy", "Japan")
    asked = [
        Question("q", f"What is the capital of {town}?", expect={"contains": "x"}) for town in towns
    ]
    asked.append(Question("q", messages=CHAT, expect={"contains": "x"}, max_new_tokens=12))
    slow = []
    for question in asked:
        ids = torch.tensor(encode(who.tokenizer, [as_asked(who, question)]))
        with measuring(who.model):
            limit = question.max_new_tokens or MAX_NEW_TOKENS
            output = who.model.generate(ids, do_sample=False, max_new_tokens=limit)
        said = who.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
        slow.append(said.strip())
    assert ended(who, asked) == slow
    assert "Paris" in slow[0]


@pytest.mark.slow
def test_answers_are_those_of_the_harness(root):
    pytest.importorskip("lm_eval")
    command = [sys.executable, "benchmarks/speaking.py", "--quick"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answers that differ: 0 to the end, 0 up to where ours stops" in done.stdout


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_batch_of_any_size_answers_alike(size):
    who = tiny.subject("llama")
    assert ended(who, batch_size=size) == ended(who)
    assert speak(who, QUESTIONS, batch_size=size) == speak(who, QUESTIONS)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "mamba"])
def test_stopping_early_changes_no_verdict(kind):
    for seed in range(3):
        who = tiny.subject(kind, seed)
        for question, soon, late in zip(QUESTIONS, speak(who, QUESTIONS), ended(who), strict=True):
            assert late.startswith(soon)
            assert question.expect.meets(soon) is question.expect.meets(late)


def test_nothing_is_read_after_the_verdict(monkeypatch):
    who, read = tiny.subject(), []
    first = who.tokenizer.encode("the")[0]
    monkeypatch.setattr(
        type(who.model), "forward", _always(type(who.model).forward, first, read), raising=True
    )
    asked = [Question("q", "Say it.", expect={"starts_with": "zebra"})] * 3
    assert speak(who, asked) == ["the"] * 3
    assert read == [(1, len(who.tokenizer.encode("Say it.")))]  # what is asked thrice is read once


def test_rows_that_are_done_leave_the_batch(monkeypatch):
    who, read = tiny.subject(), []
    first = who.tokenizer.encode("the")[0]
    monkeypatch.setattr(type(who.model), "forward", _always(type(who.model).forward, first, read))
    short = [Question("q", "Say it.", expect={"contains": "x"}, max_new_tokens=1)] * 3
    asked = [*short, Question("q", "Say it.", expect={"contains": "x"}, max_new_tokens=4)]
    assert speak(who, asked) == ["the"] * 3 + ["the" * 4]
    assert [rows for rows, _ in read[1:]] == [1, 1, 1]


def _always(forward, token, read):
    """Let a model say one token for ever, and note what it reads."""

    def said(self, input_ids=None, **given):
        read.append(tuple(input_ids.shape))
        output = forward(self, input_ids=input_ids, **given)
        output.logits[..., token] = 1e9
        return output

    return said


# ---------------------------------------------------------------- what can happen


def test_choices_are_not_asked():
    mixed = [*tiny.exam().questions, *QUESTIONS]
    answers = speak(tiny.subject(), mixed)
    assert answers[: -len(QUESTIONS)] == [""] * 6
    assert answers[-len(QUESTIONS) :] == speak(tiny.subject(), QUESTIONS)


def test_an_answer_stops_at_its_limit():
    who = load("pocket")
    asked = Question("q", "Once there was", expect={"contains": "zebra"}, max_new_tokens=5)
    assert len(who.tokenizer(ended(who, [asked])[0])["input_ids"]) <= 5
    whole = Exam((replace(asked, max_new_tokens=None),), max_new_tokens=7)
    assert whole.questions[0].max_new_tokens == 7


def test_an_answer_stops_at_the_context():
    who = tiny.subject()
    asked = Question("q", "a " * 30, expect={"contains": "zebra"}, max_new_tokens=1000)
    assert ended(who, [asked]) == [generated(who, asked)]


def test_a_prompt_without_room_is_refused():
    asked = Question("q", "hot cold " * 40, expect={"contains": "x"})
    with pytest.raises(BadInput, match=r"Question 2 \('hot cold .* no room is left for an answer"):
        speak(tiny.subject(), [QUESTIONS[0], asked])


@pytest.mark.parametrize("kind", ["gpt2", "mamba"])
def test_a_model_that_diverged_is_refused(kind):
    who = tiny.subject(kind)
    with torch.no_grad():
        next(who.model.parameters()).fill_(torch.nan)
    with pytest.raises(BadInput, match="answers with NaN, not with probabilities"):
        speak(who, QUESTIONS)


def test_the_model_is_left_as_it_was():
    who = tiny.subject("llama")
    who.model.train()
    before, state = weights(who.model), torch.get_rng_state()
    speak(who, QUESTIONS)
    assert who.model.training
    assert same(weights(who.model), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_half_a_character_is_waited_for(monkeypatch):
    who, seen = tiny.subject(), []
    snowman = who.tokenizer.encode("\u2603")
    assert len(snowman) == 3
    row = speaking._Row(0, [1], 9, lambda text: seen.append(text))
    for token in snowman:
        speaking._hear(who, row, token, set())
    assert seen == ["", "", "\u2603"]


def test_a_thread_shows_no_bar():
    found = []
    thread = threading.Thread(target=lambda: found.extend(speak(tiny.subject(), QUESTIONS)))
    thread.start()
    thread.join()
    assert found == speak(tiny.subject(), QUESTIONS)


# ---------------------------------------------------------------- in a scorecard


def test_score_asks_both_kinds():
    whole = Exam((*tiny.exam().questions, *QUESTIONS), tiny.exam().texts, "both")
    found, choices = score(tiny.subject(), whole), score(tiny.subject(), tiny.exam())
    assert found.said == tuple([""] * 6 + speak(tiny.subject(), QUESTIONS))
    assert found.loglikelihoods[:6] == choices.loglikelihoods
    assert found.text_losses == choices.text_losses
    verdicts = [q.expect.meets(a) for q, a in zip(whole.questions[6:], found.said[6:], strict=True)]
    assert found.correct[6:] == verdicts
    assert found.kinds == ["chosen"] * 6 + ["said"] * 8
    assert found.asked == "plain"


def test_an_exam_may_be_spoken_alone():
    assert score(tiny.subject(), tiny.SPOKEN).kinds == ["said"] * 8
    texts = Exam(QUESTIONS, tiny.exam().texts)
    assert (
        score(tiny.subject(), texts).text_losses == score(tiny.subject(), tiny.exam()).text_losses
    )


def test_the_table_shows_what_was_said():
    found = score(tiny.subject(), tiny.SPOKEN)
    table = found.to_pandas(tiny.SPOKEN)
    assert list(table["given"]) == list(found.said) == list(found.to_pandas()["said"])
    assert list(table["expected"])[1] == "equals Rome"


@pytest.mark.parametrize("setting", [None, "0"])
def test_the_environment_stays_as_it_was(monkeypatch, setting):
    name = speaking._SHARE_KEYS
    monkeypatch.delenv(name, raising=False)
    if setting:
        monkeypatch.setenv(name, setting)
    heard = []
    who = tiny.subject("llama")
    with who.model.register_forward_hook(lambda *_: heard.append(os.environ.get(name))):
        ended(who, QUESTIONS[:1])
    assert {*heard} == {setting or "1"}
    assert os.environ.get(name) == setting


def test_a_cache_with_room_grows_as_one_without():
    keys, values, new = torch.randn(3, 2, 5, 4), torch.randn(3, 2, 5, 4), torch.randn(3, 2, 1, 4)
    roomy, plain = _Layer(keys, values, room=2), DynamicLayer()
    plain.update(keys, values)
    for _ in range(2):
        found, expected = roomy.update(new, new), plain.update(new, new)
        assert all(map(torch.equal, found, expected))
    for layer in (roomy, plain):
        layer.batch_select_indices(torch.tensor([2, 0]))
    assert torch.equal(roomy.keys, plain.keys)
    assert roomy.get_seq_length() == 7
