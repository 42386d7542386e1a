"""Muon beside AdamW, and the running average: each does what its library does."""

import pytest
import tiny
import torch
from transformers import TrainerCallback
from tuning import LORA, NO_DROPOUT, QUICK, tune
from weights import same, weights

from caplab.support.errors import BadInput
from caplab.training.optimizers import muon_with_adamw

MUON = QUICK.change(optimizer="muon", learning_rate=1e-3, weight_decay=0.1)


def test_matrices_get_muon_and_words_get_adamw():
    model = tiny.subject().model
    muon, adamw = muon_with_adamw(model, 1e-3, 0.1)._parts
    shapes = {tuple(w.shape) for group in muon.param_groups for w in group["params"]}
    assert shapes == {(32, 96), (32, 32), (32, 128), (128, 32)}
    tables, vectors = (group["params"] for group in adamw.param_groups)
    assert {tuple(table.shape) for table in tables} == {(400, 32), (64, 32)}
    assert all(vector.dim() == 1 for vector in vectors)
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.1, 0.0]


def test_steps_are_those_of_both_optimisers():
    torch.manual_seed(0)
    one, other = tiny.subject(**NO_DROPOUT).model, tiny.subject(**NO_DROPOUT).model
    ids = torch.randint(400, (2, 8))
    together = muon_with_adamw(one, 1e-3, 0.1)
    named = dict(other.named_parameters())
    matrices = [w for name, w in named.items() if ".h." in name and w.dim() == 2]
    tables = [w for name, w in named.items() if ".h." not in name and w.dim() == 2]
    vectors = [w for w in named.values() if w.dim() == 1]
    muon = torch.optim.Muon(matrices, 1e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": tables}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1)
    for model, optimisers in ((one, [together]), (other, [muon, adamw])):
        for _ in range(3):
            model.zero_grad()
            model(ids, labels=ids).loss.backward()
            for optimiser in optimisers:
                optimiser.step()
    assert same(weights(one), weights(other))


@pytest.mark.parametrize("recipe", [MUON, LORA.change(optimizer="muon")], ids=["full", "lora"])
def test_muon_learns_by_its_schedule(recipe):
    run = tune(recipe.change(steps=24))
    assert run.points[-1].task_loss < run.points[1].task_loss
    assert run.points[-1].learning_rate < run.points[1].learning_rate


class Recorder(TrainerCallback):
    """Keep the weights of every step."""

    def __init__(self):
        self.seen = []

    def on_step_end(self, args, state, control, model=None, **_):
        self.seen.append(weights(model))


@pytest.mark.parametrize("recipe", [QUICK, LORA], ids=["full", "lora"])
def test_the_run_ends_with_the_average(recipe):
    plain = Recorder()
    tune(recipe, callbacks=[plain])
    run = tune(recipe.change(average=0.8))
    trained = {name for name in plain.seen[0] if (plain.seen[0][name] != plain.seen[1][name]).any()}
    start = tune(recipe.change(learning_rate=0.0)).subject.model
    mean = weights(start)
    for step in plain.seen:
        mean = {name: 0.8 * mean[name] + 0.2 * step[name] for name in mean}
    found = weights(run.subject.model)
    for name in trained:
        torch.testing.assert_close(found[name], mean[name], rtol=1e-4, atol=1e-6)


def test_a_guard_cannot_restore_an_average():
    with pytest.raises(BadInput, match=r"average=0\.8.*Leave out one"):
        tune(QUICK.change(average=0.8), callbacks=[Recorder()])


def test_the_last_point_measures_the_average():
    run = tune(QUICK.change(average=0.8, steps=12))
    again = run.final
    assert run.points[-1].classics_accuracy == pytest.approx(again.accuracy, abs=1e-9)
