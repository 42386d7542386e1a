"""Scores equal the definition, which computes one choice at a time."""

import copy
import gc
import random
import weakref
from threading import Thread

import pytest
import tiny
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from tokenizers.processors import TemplateProcessing
from tqdm import tqdm

from caplab.measuring import likelihood, trees
from caplab.measuring.score import score
from caplab.models.chat import encode
from caplab.models.subject import Subject
from caplab.questions.exam import Exam, Question, Text
from caplab.support.errors import BadInput


def gap(ours, theirs):
    """The largest difference of two sets of log-likelihoods."""
    pairs = zip(ours, theirs, strict=True)
    return max(abs(a - b) for pair in pairs for a, b in zip(*pair, strict=True))


@pytest.fixture(scope="module")
def gpt2():
    return tiny.subject()


@pytest.fixture(scope="module")
def exam():
    return tiny.exam()


# ---------------------------------------------------------------- equal to the definition


def test_every_sharing_family_is_tested():
    assert set(tiny.CONFIGS) >= likelihood.SHARING


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", sorted(likelihood.SHARING))
def test_a_tree_equals_the_definition(family, attention, exam):
    who = tiny.subject(family)
    who.model.set_attn_implementation(attention)
    assert likelihood.reads_trees(who.model)
    assert gap(score(who, exam).loglikelihoods, tiny.naive(who, exam)) < 1e-4


@pytest.mark.parametrize("family", sorted(set(tiny.CONFIGS) - likelihood.SHARING))
def test_other_families_read_row_by_row(family, exam):
    who = tiny.subject(family)
    assert not likelihood.reads_trees(who.model)
    assert gap(score(who, exam).loglikelihoods, tiny.naive(who, exam)) < 1e-4


def test_a_family_that_cannot_would_show(exam, monkeypatch):
    who = tiny.subject("mistral")
    monkeypatch.setattr(likelihood, "reads_trees", lambda model: True)
    assert gap(score(who, exam).loglikelihoods, tiny.naive(who, exam)) > 0.1


def test_a_wrong_mask_would_show(gpt2, exam, monkeypatch):
    right = tiny.naive(gpt2, exam)
    monkeypatch.setattr(
        likelihood, "tree_mask", lambda ends, *_: torch.zeros(len(ends), 1, *[ends.shape[1]] * 2)
    )
    assert gap(score(gpt2, exam).loglikelihoods, right) > 0.1


def test_a_token_across_the_boundary_is_split(exam):
    who = Subject(tiny.subject().model, tiny.tokenizer(crossing=True), "crossing")
    question = Question("capitals", "The capital of France is", ("Paris", "Rome"), 0)
    prompt, whole = (
        who.tokenizer(t)["input_ids"] for t in (question.prompt, f"{question.prompt} Rome")
    )
    assert whole[: len(prompt)] != prompt  # otherwise this tests nothing
    asked = Exam((question, *exam.questions))
    assert gap(score(who, asked).loglikelihoods, tiny.naive(who, asked)) < 1e-4


def test_windows_predict_each_token_once(gpt2, exam):
    for text, (nats, tokens) in zip(exam.texts, score(gpt2, exam).text_losses, strict=True):
        assert (nats, tokens) == (
            pytest.approx(tiny.naive_loss(gpt2, text.text)[0], abs=1e-4),
            tokens,
        )
        assert tokens == len(gpt2.tokenizer(text.text)["input_ids"]) - 1
    assert tokens > gpt2.context  # the last text needs two windows


def test_language_loss_is_the_models_own(gpt2, exam):
    ids = torch.tensor([gpt2.tokenizer(exam.texts[0].text)["input_ids"]])
    alone = Exam(exam.questions, exam.texts[:1])
    with torch.no_grad():
        loss = gpt2.model(input_ids=ids, labels=ids).loss
    assert score(gpt2, alone).language_loss == pytest.approx(float(loss), abs=1e-5)


def test_no_text_gets_a_second_start_token():
    tokens = copy.deepcopy(tiny.tokenizer())
    start = (tiny.END, tokens.bos_token_id)
    tokens.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tiny.END} $A", special_tokens=[start]
    )
    plain, started = encode(tokens, ["A dog", f"{tiny.END}A dog"])
    assert plain == started == tokens("A dog")["input_ids"]
    assert plain[0] == tokens.bos_token_id != plain[1]


def test_lm_eval_finds_the_same(gpt2, exam):
    lm_eval = pytest.importorskip("lm_eval.models.huggingface")
    from lm_eval.api.instance import Instance

    reference = lm_eval.HFLM(pretrained=gpt2.model, tokenizer=gpt2.tokenizer, batch_size=3)
    pairs = [(asked.prompt, f" {choice}") for asked in exam.questions for choice in asked.choices]
    made = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    theirs = [nats for nats, _ in reference.loglikelihood(made, disable_tqdm=True)]
    ours = [nats for row in score(gpt2, exam).loglikelihoods for nats in row]
    assert gap([ours], [theirs]) < 1e-4


# ---------------------------------------------------------------- nothing else matters


def test_a_copy_scores_exactly_the_same(gpt2, exam):
    copied = Subject(copy.deepcopy(gpt2.model), gpt2.tokenizer, gpt2.name)
    assert score(copied, exam) == score(gpt2, exam)


@pytest.mark.parametrize("family", ["gpt2", "bloom"])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_batch_size_changes_nothing(family, size, exam):
    who = tiny.subject(family)
    ours, theirs = score(who, exam, size), score(who, exam)
    assert gap(ours.loglikelihoods, theirs.loglikelihoods) < 1e-5
    assert gap(ours.text_losses, theirs.text_losses) < 1e-5


def test_order_of_questions_changes_nothing(gpt2, exam):
    order = random.Random(1).sample(range(len(exam)), len(exam))
    shuffled = Exam(tuple(exam.questions[index] for index in order), exam.texts)
    found = score(gpt2, exam).loglikelihoods
    again = score(gpt2, shuffled).loglikelihoods
    assert gap(again, [found[index] for index in order]) < 1e-5


def test_a_question_scores_alone_as_among_others(gpt2, exam):
    found = score(gpt2, exam).loglikelihoods
    alone = [score(gpt2, Exam((question,))).loglikelihoods[0] for question in exam.questions]
    assert gap(found, alone) < 1e-5


def test_full_rows_are_cut_and_still_right(gpt2, exam, monkeypatch):
    uncut = len(_rows(gpt2, exam))
    monkeypatch.setattr(trees, "_ROW", 8)
    fresh = Exam(exam.questions[::-1])
    assert len(_rows(gpt2, fresh)) > uncut
    assert len(_rows(gpt2, Exam(exam.questions[4:5]))) == 1  # a long prompt is still shared
    assert gap(score(gpt2, fresh).loglikelihoods, tiny.naive(gpt2, fresh)) < 1e-4


def test_planted_answers_score_what_they_must(gpt2, exam):
    chosen = score(gpt2, exam).chosen

    def planted(right):
        questions = zip(exam.questions, chosen, right, strict=True)
        return Exam(
            tuple(
                Question(q.capability, q.prompt, q.choices, best if ok else best - 1 if best else 1)
                for q, best, ok in questions
            )
        )

    assert score(gpt2, planted([True] * 6)).accuracy == 1
    assert score(gpt2, planted([False] * 6)).accuracy == 0
    assert score(gpt2, planted([True, False] * 3)).accuracy == 0.5


# ---------------------------------------------------------------- measured as it is, left as it was


def test_dropout_is_off_and_modes_are_restored(exam):
    who = tiny.subject(resid_pdrop=0.5, attn_pdrop=0.5)
    calm = score(who, exam)
    who.model.train()
    who.model.transformer.h[0].eval()
    modes = [module.training for module in who.model.modules()]
    assert score(who, exam) == calm
    assert [module.training for module in who.model.modules()] == modes


def test_random_state_is_untouched(gpt2, exam):
    before = torch.get_rng_state()
    score(gpt2, exam)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_goes_on_after_scoring(exam):
    who = tiny.subject("llama")
    score(who, exam)
    ids = torch.tensor([[1, 2, 3]])
    who.model(input_ids=ids, labels=ids).loss.backward()
    assert all(weight.grad is not None for weight in who.model.parameters())
    assert not any(tensor.is_inference() for tensor in who.model.buffers())
    assert score(who, exam) == score(who, exam)


def test_a_failure_leaves_the_model_as_it_was(exam, monkeypatch):
    who = tiny.subject()
    who.model.train()
    before = dict(who.model.lm_head._forward_pre_hooks)
    monkeypatch.setattr(torch.Tensor, "log_softmax", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score(who, exam)
    assert who.model.training
    assert torch.is_grad_enabled()
    assert who.model.lm_head._forward_pre_hooks == before


def test_autocast_around_a_training_stays_out(gpt2, exam):
    calm = score(gpt2, exam)
    with torch.autocast("cpu", torch.bfloat16):
        assert score(gpt2, exam) == calm


def test_autocast_of_accelerate_stays_out(gpt2, exam):
    calm = score(gpt2, exam)
    AcceleratorState._reset_state(reset_partial_state=True)  # a trainer before us may have set it
    try:
        model = Accelerator(mixed_precision="bf16", cpu=True).prepare(copy.deepcopy(gpt2.model))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    wrapped = model.forward
    ids = torch.tensor([[1, 2, 3]])
    assert not torch.equal(model(ids).logits, gpt2.model(ids).logits)  # the wrapper is there
    assert score(Subject(model, gpt2.tokenizer, "gpt2"), exam) == calm
    assert model.forward == wrapped


def test_adapters_and_tuned_prompts_are_scored(exam):
    plain = score(tiny.subject(), exam).loglikelihoods
    everywhere = {"target_modules": "all-linear", "fan_in_fan_out": True}
    lora = LoraConfig(r=2, **everywhere, init_lora_weights=False)
    prompt = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    for config, shares in ((lora, True), (prompt, False)):
        who = tiny.subject()
        who.model = get_peft_model(who.model, config).eval()
        who.model.config.pad_token_id = 0
        assert likelihood.reads_trees(who.model) is shares
        found = score(who, exam).loglikelihoods
        assert gap(found, plain) > 1e-3
        one = Exam(exam.questions[:1])
        assert gap(found[:1], _virtual(who, one)) < 1e-4


@torch.no_grad()
def _virtual(who, asked):
    """The definition once more, counting from the end, where virtual tokens do not matter."""
    rows = []
    for question in asked.questions:
        row = []
        for choice in question.choices:
            start, rest = tiny._split(who.tokenizer, question.prompt, choice)
            ids = torch.tensor([(start + rest)[:-1]])
            logits = who.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
            chances = logits[-len(rest) :].log_softmax(-1)
            row.append(float(chances[range(len(rest)), rest].sum()))
        rows.append(row)
    return rows


def test_half_precision_stays_half_precision(exam):
    who = tiny.subject()
    full = score(who, exam).loglikelihoods
    who.model.bfloat16()
    assert 1e-4 < gap(score(who, exam).loglikelihoods, full) < 5


# ---------------------------------------------------------------- made ready once


def test_a_base_and_copies_tokenise_once(gpt2, exam, monkeypatch):
    score(gpt2, exam)
    monkeypatch.setattr(likelihood, "encode", lambda *_: pytest.fail("tokenised again"))
    score(Subject(copy.deepcopy(gpt2.model), gpt2.tokenizer, "copy"), exam)
    score(gpt2, Exam(exam.questions, exam.texts, "equal, under another name"))


def test_plans_are_few_and_go_with_the_tokenizer(exam):
    who = tiny.subject()
    who.tokenizer = copy.deepcopy(who.tokenizer)
    for number in range(likelihood._PLANS_KEPT + 5):
        likelihood._plan(who, Exam(exam.questions, (Text("language", f"{number} dogs"),)), None)
    assert len(likelihood._plans[who.tokenizer]) == likelihood._PLANS_KEPT
    gone = weakref.ref(who.tokenizer)
    del who
    gc.collect()
    assert gone() is None


def test_what_begins_alike_is_read_once(gpt2, exam):
    alike = Exam(
        tuple(Question("x", "The capital of Italy is", ("A", f"B{n}"), 0) for n in range(9))
    )
    tokens = sum(len(row.tokens) for row in _rows(gpt2, alike))
    assert tokens < 2 * len(gpt2.tokenizer("The capital of Italy is")["input_ids"])


def _rows(who, asked):
    pairs = [
        (prompt, choice)
        for prompt, choices in likelihood._tokenise(who, asked, chat=False)
        for choice in choices
    ]
    readings = [trees.Reading(p + c, len(p), n) for n, (p, c) in enumerate(pairs)]
    return list(trees.pack(readings, sharing=True))


# ---------------------------------------------------------------- what cannot be scored


def test_a_too_long_question_is_named_not_cut(gpt2, exam):
    long = Question("long", "dog" + " dog" * 200, ("a", "b c"), 0)
    with pytest.raises(
        BadInput, match=r"Question 7 \('dog dog.* has \d+ tokens.* reads 64 at once"
    ):
        score(gpt2, Exam((*exam.questions, long)))


def test_the_last_token_may_exceed_the_context(gpt2):
    word = next(w for w in ("a", "b") if len(gpt2.tokenizer(f" {w}")["input_ids"]) == 1)
    prompt = word + f" {word}" * (gpt2.context - 1)
    assert len(gpt2.tokenizer(prompt)["input_ids"]) == gpt2.context
    asked = Exam((Question("edge", prompt, ("a", "b"), 0),))
    assert gap(score(gpt2, asked).loglikelihoods, tiny.naive(gpt2, asked)) < 1e-4
    with pytest.raises(BadInput, match=f"has {gpt2.context + 2} tokens"):
        score(gpt2, Exam((Question("edge", f"{prompt} {word}", ("a", "b"), 0),)))


def test_a_diverged_model_is_refused(exam):
    who = tiny.subject()
    with torch.no_grad():
        who.model.transformer.wpe.weight[0, 0] = float("nan")
    with pytest.raises(BadInput, match="diverged"):
        score(who, exam)


def test_the_bar_is_for_screens_and_main_threads(gpt2, exam, monkeypatch):
    bars = []

    def bar(**settings):
        bars.append(settings)
        return tqdm(**settings | {"disable": True})

    monkeypatch.setattr(likelihood, "tqdm", bar)
    score(gpt2, exam)
    score(gpt2, exam, progress=False)
    worker = Thread(target=score, args=(gpt2, exam))
    worker.start()
    worker.join()
    assert [made["disable"] for made in bars] == [None, True, True]  # None: only on a screen
    assert {(made["delay"], made["leave"]) for made in bars} == {(2, False)}
