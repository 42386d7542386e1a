"""Scores through a chat template against lm-evaluation-harness with `--apply_chat_template`."""

from dataclasses import replace

import pytest
import tiny
from test_likelihood import gap
from tokenizers.processors import TemplateProcessing

from caplab.measuring.score import score
from caplab.models.load import load
from caplab.questions.exam import Exam
from caplab.questions.exam import exam as load_exam
from caplab.support.errors import BadInput


@pytest.fixture(scope="module")
def exam():
    return tiny.exam()


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_lm_eval_finds_the_same_in_a_chat(family, chat, exam, tmp_path):
    """Against a task of the harness, with `--apply_chat_template`."""
    harness = pytest.importorskip("harness_asks")
    who = tiny.chatty(family)
    theirs = harness.nats(who, exam, tmp_path, chat=chat)
    assert gap(score(who, exam, chat=chat).loglikelihoods, theirs) < 1e-4


def test_a_start_in_template_and_tokenizer(exam, tmp_path):
    harness = pytest.importorskip("harness_asks")
    for template in (tiny.CHAT, "{{ bos_token }}" + tiny.CHAT):
        who = tiny.chatty(template=template)
        who.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{tiny.END} $A", special_tokens=[(tiny.END, who.tokenizer.bos_token_id)]
        )
        theirs = harness.nats(who, exam, tmp_path, chat=True)
        assert gap(score(who, exam).loglikelihoods, theirs) < 1e-4


@pytest.mark.parametrize("chat", [True, False])
def test_joined_choices_are_lm_evals(chat, exam, tmp_path):
    harness = pytest.importorskip("harness_asks")
    who, joined = tiny.chatty(), Exam(tuple(replace(q, joined=True) for q in exam.questions))
    theirs = harness.nats(who, exam, tmp_path, chat=chat, delimiter="")
    assert gap(score(who, joined, chat=chat).loglikelihoods, theirs) < 1e-4


def test_a_system_turn_is_lm_evals(exam, tmp_path):
    harness = pytest.importorskip("harness_asks")
    who, kind = tiny.chatty(), {"role": "system", "content": "Be kind."}
    turns = [(kind, {"role": "user", "content": q.prompt}) for q in exam.questions]
    pairs = zip(exam.questions, turns, strict=True)
    asked = Exam(tuple(replace(q, prompt="", messages=given) for q, given in pairs))
    theirs = harness.nats(who, exam, tmp_path, chat=True, system="Be kind.")
    assert gap(score(who, asked).loglikelihoods, theirs) < 1e-4


def test_the_plan_knows_how_one_asked(exam):
    who = tiny.chatty()
    through, plain = score(who, exam), score(who, exam, chat=False)
    assert gap(through.loglikelihoods, plain.loglikelihoods) > 0.1
    assert through.text_losses == plain.text_losses
    assert score(who, exam) == through
    who.tokenizer.chat_template = tiny.CHAT.replace("assistant", "model")
    assert gap(score(who, exam).loglikelihoods, through.loglikelihoods) > 1e-3


def test_chat_needs_a_template(exam):
    gpt2 = tiny.subject()
    assert score(gpt2, exam, chat=False) == score(gpt2, exam)
    with pytest.raises(BadInput, match="The tokenizer of gpt2 has no chat template"):
        score(gpt2, exam, chat=True)
    strict = tiny.chatty(template="{{ raise_exception('No.') }}")
    with pytest.raises(BadInput, match="Question 1: The chat template of chatty llama refuses"):
        score(strict, exam)


@pytest.mark.slow
def test_lm_eval_finds_the_same_of_smollm2(tmp_path):
    harness = pytest.importorskip("harness_asks")
    try:
        who = load("smollm2")
    except BadInput as error:
        pytest.skip(f"the real model cannot be had here: {error}")
    asked = load_exam().sample(8)
    joined = Exam(tuple(replace(question, joined=True) for question in asked.questions))
    for given, how in ((asked, {"chat": True}), (joined, {"chat": False, "delimiter": ""})):
        theirs = harness.nats(who, asked, tmp_path, **how)
        assert gap(score(who, given, chat=how["chat"]).loglikelihoods, theirs) < 1e-4
