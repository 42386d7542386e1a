"""Anchors: what is added to the loss is what the definition says, and the base stays nearer."""

import pytest
import tiny
import torch
from tuning import LORA, NO_DROPOUT, QUICK, tune
from weights import same, weights

from caplab.models.weights import merged_copy
from caplab.training.anchors import L2Anchor, mean_kl
from caplab.training.recipe import Recipe
from caplab.training.task_rows import as_dataset, tokens
from caplab.training.trainer import make_trainer

OLD = ["A dog says woof.", "The capital of France is Paris.", "Put the pot on the stove."]
METHODS = pytest.mark.parametrize("recipe", [QUICK, LORA], ids=["full", "lora"])


def distance(one, other):
    """Return the squared distance of two models' weights, with adapters merged."""
    pairs = zip(merged_copy(one).parameters(), merged_copy(other).parameters(), strict=True)
    return sum(((a - b) ** 2).sum() for a, b in pairs).item()


def test_kl_is_the_definition():
    torch.manual_seed(0)
    base, model = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    seen = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    total, count = 0.0, 0
    for row in range(2):
        for token in range(int(seen[row].sum()) - 1):
            p, q = base[row, token].softmax(0), model[row, token].softmax(0)
            total, count = total + float((p * (p / q).log()).sum()), count + 1
    assert mean_kl(base, model, seen).item() == pytest.approx(total / count, rel=1e-5)
    assert mean_kl(base, base, seen).item() == pytest.approx(0, abs=1e-6)


@METHODS
def test_l2_is_half_the_squared_distance(recipe):
    who = tiny.subject(**NO_DROPOUT)
    run = tune(recipe, who)
    if recipe.method == "full":
        anchor = L2Anchor(who.model, strength=3.0)
        anchor._pairs = [
            (new, old)
            for (_, old), new in zip(anchor._pairs, run.subject.model.parameters(), strict=True)
        ]
    else:
        anchor = L2Anchor(run.subject.model, strength=3.0)
    expected = 1.5 * distance(run.subject.model, who.model)
    assert anchor.penalty(run.subject.model).item() == pytest.approx(expected, rel=1e-3)


@METHODS
@pytest.mark.parametrize("anchor", ["kl", "l2"])
def test_an_anchor_holds_the_model_back(recipe, anchor):
    who = tiny.subject(**NO_DROPOUT)
    runs = [
        tune(recipe.change(steps=12, **changes), who, replay_data=OLD)
        for changes in ({}, {"anchor": anchor, "anchor_strength": 100.0})
    ]
    free, held = (distance(run.subject.model, who.model) for run in runs)
    assert held < 0.8 * free
    assert runs[0].points[-1].task_loss != runs[1].points[-1].task_loss


def test_the_task_loss_leaves_the_anchor_out():
    who = tiny.subject(**NO_DROPOUT)
    plain, anchored = (
        tune(QUICK.change(learning_rate=0.0, **changes), who, replay_data=OLD)
        for changes in ({}, {"anchor": "kl", "anchor_strength": 1e6})
    )
    assert plain.points[-1].task_loss == anchored.points[-1].task_loss


@pytest.mark.parametrize("anchor", ["kl", "l2"])
def test_an_anchored_run_repeats_and_spares_the_base(anchor):
    who = tiny.subject()
    before = weights(who.model)
    one, other = (tune(QUICK.change(anchor=anchor), who, replay_data=OLD) for _ in range(2))
    assert same(weights(one.subject.model), weights(other.subject.model))
    assert same(weights(who.model), before)
    assert all(weight.grad is None for weight in who.model.parameters())


@pytest.mark.parametrize("kind", ["llama", "opt"])
def test_any_causal_model_can_be_anchored(kind):
    run = tune(LORA.change(anchor="kl"), tiny.subject(kind), replay_data=OLD)
    assert run.trouble is None
    assert run.final


def test_a_base_with_its_own_words_needs_no_old_data():
    run = tune(QUICK.change(anchor="kl", anchor_data="self"), tiny.subject(**NO_DROPOUT))
    assert run.trouble is None


def test_every_old_row_is_read_before_one_returns():
    who = tiny.subject(**NO_DROPOUT)
    recipe = QUICK.change(anchor="kl", batch_size=2)
    rows = tune_rows(who, OLD)
    anchor = make_trainer(who, recipe, rows, anchored=rows).anchor
    read = [next(anchor._batches)["input_ids"].tolist() for _ in range(3)]
    rows_read = [tuple(token for token in row if token) for batch in read for row in batch]
    assert sorted(rows_read[:3]) == sorted(rows_read[3:]) == sorted(set(rows_read))


def tune_rows(who, texts):
    """Texts as the trainer reads them."""
    return tokens(as_dataset(texts, "task"), who)


@pytest.mark.parametrize(
    "wrong",
    [
        {"anchor": "ewc"},
        {"anchor": "kl", "anchor_strength": 0},
        {"anchor_data": "mine"},
        {"method": "lora", "variant": "dora", "anchor": "l2"},
    ],
)
def test_an_anchor_that_nobody_knows_is_refused(wrong):
    with pytest.raises(ValueError, match="anchor"):
        Recipe(**wrong)
