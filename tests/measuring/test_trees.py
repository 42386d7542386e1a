"""What begins alike is read once, in a row and over all rows, and nobody's answer changes."""

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from test_likelihood import gap

from caplab.measuring import likelihood, trees
from caplab.measuring.score import score
from caplab.measuring.trees import Reading, families
from caplab.models.subject import Subject
from caplab.questions.exam import Exam, Question

SYSTEM = "You boil water in a pot on the stove, and the opposite of hot is cold."
WORDS = ("hot", "cold", "big", "small", "dog", "pot", "Rome", "Paris")


def many(system=SYSTEM, count=40):
    """Short questions behind one long beginning."""
    turns = [[{"role": "system", "content": system}, user(n)] for n in range(count)]
    return tuple(
        Question("x", choices=("hot", f"cold {n}", "big"), answer=n % 3, messages=messages)
        for n, messages in enumerate(turns)
    )


def user(number):
    """A turn that differs from all others."""
    return {"role": "user", "content": f"{WORDS[number % 8]} {number} is {WORDS[number // 8]}?"}


def whole(who, asked, monkeypatch):
    """The answers where each row repeats the beginning."""
    with monkeypatch.context() as patch:
        patch.setattr(likelihood, "families", lambda readings, room: [(0, readings)])
        likelihood._plans.clear()
        found = score(who, asked).loglikelihoods
    likelihood._plans.clear()
    return found


def begins(who, asked):
    """What the batches begin with, each once."""
    plan = likelihood._plan(who, asked, None, True)
    return [*dict.fromkeys(batch.beginning for batch in plan.batches)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", sorted(likelihood.SHARING))
def test_a_shared_beginning_changes_nothing(family, attention, monkeypatch):
    who = tiny.chatty(family)
    who.model.set_attn_implementation(attention)
    asked = Exam(many())
    assert len(begins(who, asked)[0]) > 20
    assert gap(score(who, asked).loglikelihoods, whole(who, asked, monkeypatch)) < 1e-4


def test_another_beginning_would_show(monkeypatch):
    who, asked, read = tiny.chatty(), Exam(many()), likelihood._begin
    right = whole(who, asked, monkeypatch)
    monkeypatch.setattr(likelihood, "_begin", lambda model, tokens: read(model, tokens[::-1]))
    assert gap(score(who, asked).loglikelihoods, right) > 0.1


def test_one_odd_question_keeps_nobody_from_sharing(monkeypatch):
    odd = (Question("y", "Is it odd?", ("yes", "no"), 0),)
    who, other = tiny.chatty(), "The capital of Italy is Rome, and a dog says woof to a small pot."
    asked = Exam((*many(), *odd, *many(other)))
    assert len(begins(who, asked)) == 3  # two beginnings, and none
    assert gap(score(who, asked).loglikelihoods, whole(who, asked, monkeypatch)) < 1e-4


def test_an_adapter_reads_the_beginning_too(monkeypatch):
    who = tiny.chatty("gpt2")
    lora = LoraConfig(r=2, target_modules=["c_attn"], init_lora_weights=False, fan_in_fan_out=True)
    tuned, asked = Subject(get_peft_model(who.model, lora), who.tokenizer, "tuned"), Exam(many())
    with tuned.model.disable_adapter():
        base = score(tuned, asked).loglikelihoods
    found = score(tuned, asked).loglikelihoods
    assert gap(found, base) > 0.01
    assert gap(found, whole(tuned, asked, monkeypatch)) < 1e-4


def test_nested_beginnings_make_families():
    system, shots = list(range(100, 130)), [list(range(200 + 99 * n, 290 + 99 * n)) for n in (0, 1)]
    readings = sorted(Reading([*system, *shots[n % 2], 1000 + n, 7, 8], 122, n) for n in range(600))
    found = [(common, len(family)) for common, family in families(readings, 500)]
    assert found == [(120, 300), (120, 300)]
    assert [common for common, _ in families(readings[:200], 500)] == [120]
    assert [common for common, _ in families(readings[:20], 500)] == [0]  # too few to pay


def test_the_last_token_of_a_prompt_is_never_cut_off():
    readings = sorted(Reading([*range(40), n], 40, n) for n in range(600))
    assert [common for common, _ in families(readings, 100)] == [39]


@pytest.mark.parametrize("size", [1, 100, 5_000])
def test_few_logits_at_once_are_the_same(size, monkeypatch):
    who, exam = tiny.subject("llama"), tiny.exam()
    right = score(who, exam)
    monkeypatch.setattr(likelihood, "_PRECISE", size)
    assert score(who, exam) == right, "bit for bit"
    plan = likelihood._plan(who, exam, None)
    monkeypatch.setattr(likelihood, "_LOGITS", size)
    monkeypatch.setattr(likelihood, "_plan", lambda *_: plan)
    assert gap(score(who, exam).loglikelihoods, right.loglikelihoods) < 1e-4
    assert torch.is_grad_enabled()


def test_rows_beside_a_beginning_are_fewer(monkeypatch):
    monkeypatch.setattr(trees, "_ROW", 16)
    rows = [trees.grow([Reading(list(range(n, n + 17)), 1, n)]) for n in range(64)]
    alone = [*likelihood._batches(rows, 256, None)]
    beside = [*likelihood._batches(rows, 256, None, tuple(range(1000)))]
    assert len(alone[0].tokens) == 16
    assert len(beside[0].tokens) == 1
