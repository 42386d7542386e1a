"""Distillation: the base teaches its tuned model again."""

import pytest
import tiny
import torch
from tuning import LORA, NO_DROPOUT, QUICK, tune
from weights import same, weights

from caplab.support.errors import BadInput
from caplab.training.anchors import mean_kl
from caplab.training.remedies import distill

OLD = ["A dog says woof.", "The capital of France is Paris.", "Put the pot on the stove."]


def apart(base, other):
    """Return the KL of what two models say about the old texts."""
    with torch.no_grad():
        read = [torch.tensor([tiny.tokenizer()(text)["input_ids"]]) for text in OLD]
        kls = [mean_kl(base(ids).logits, other(ids).logits, torch.ones_like(ids)) for ids in read]
    return sum(kls).item() / len(kls)


@pytest.mark.parametrize("recipe", [QUICK, LORA], ids=["full", "lora"])
def test_it_says_again_what_the_base_says(recipe):
    base = tiny.subject(**NO_DROPOUT)
    run = tune(recipe.change(steps=20), base)
    before = weights(base.model), weights(run.subject.model)
    repaired = distill(base, run, old_data=OLD, learning_rate=3e-3)
    assert apart(base.model, repaired.model) < 0.5 * apart(base.model, run.subject.model)
    assert same(weights(base.model), before[0])
    assert same(weights(run.subject.model), before[1])
    assert repaired.name.endswith("taught by its base")


def test_the_same_seed_gives_the_same_repair():
    base = tiny.subject(**NO_DROPOUT)
    run = tune(QUICK, base)
    one, again, other = (distill(base, run, steps=4, seed=seed) for seed in (0, 0, 1))
    assert same(weights(one.model), weights(again.model))
    assert not same(weights(one.model), weights(other.model))


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch_size": 2.5}, {"learning_rate": -1}, {"old_data": []}]
)
def test_numbers_of_no_use_are_refused(wrong):
    base = tiny.subject(**NO_DROPOUT)
    with pytest.raises(BadInput):
        distill(base, base, **wrong)
