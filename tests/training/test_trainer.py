"""The trainer: the loss it reports, the order of its rows, and the memory it leaves."""

import gc
import weakref
from itertools import count
from types import SimpleNamespace

import pytest
import tiny
import torch
from trl import SFTTrainer
from tuning import NO_DROPOUT, QUICK, TASK, tune
from weights import same, weights

from caplab.training import fine_tune as tuning
from caplab.training import trainer
from caplab.training.recipe import Recipe
from caplab.training.task_rows import open_task, tokens
from caplab.training.trainer import make_trainer


def test_order_ignores_torchs_state():
    who = tiny.subject(**NO_DROPOUT)
    trainer = make_trainer(who, QUICK, tokens(open_task(TASK)[0], who))
    torch.manual_seed(99)
    trainer.train()
    assert same(weights(trainer.model), weights(tune(QUICK, who).subject.model))


# ---------------------------------------------------------------- the loss


def test_the_loss_falls():
    run = tune(QUICK.change(steps=60))
    losses = [point.task_loss for point in run.points]
    assert losses[0] is None
    assert losses[-1] < losses[1] / 4
    assert run.points[-1].task_accuracy > run.points[0].task_accuracy
    assert run.points[0].kl == 0
    assert run.points[-1].kl > 0.1


def test_the_loss_is_the_mean_over_words():
    who, text = tiny.subject(**NO_DROPOUT), "The opposite of hot is cold."
    nats, count = tiny.naive_loss(who, text + tiny.END)
    run = tune(QUICK.change(learning_rate=0.0, batch_size=1), who, task=[text])
    assert run.points[-1].task_loss == pytest.approx(nats / count, rel=1e-5)


def test_the_task_loss_leaves_out_replay():
    who, text = tiny.subject(**NO_DROPOUT), "The opposite of hot is cold."
    nats, count = tiny.naive_loss(who, text + tiny.END)
    still = QUICK.change(learning_rate=0.0, replay=0.5)
    run = tune(still, who, task=[text], replay_data=["\u2603 xyzzy \u00e9t\u00e9 qwerty"])
    for point in run.points[1:]:
        assert point.task_loss in (None, pytest.approx(nats / count, rel=1e-5))
    assert any(point.task_loss for point in run.points)


def test_replay_alone_has_no_task_loss():
    run = tune(QUICK.change(replay=1.0), replay_data=["A dog says woof."])
    assert run.replay_fraction == 1.0
    assert {point.task_loss for point in run.points} == {None}


# ---------------------------------------------------------------- the device


@pytest.mark.parametrize("native", [True, False])
def test_bf16_only_where_native(native, monkeypatch):
    asked = {"including_emulation": False}
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **how: native and how == asked)
    gpu = SimpleNamespace(device=torch.device("cuda"), context=64)
    settings = trainer._settings(gpu, Recipe(), logs=False)
    assert settings["bf16"] is native
    assert not settings["use_cpu"]
    assert settings["dataloader_pin_memory"]


# ---------------------------------------------------------------- garbage collection


def test_no_trainer_is_left_behind():
    run = tune()
    gc.collect()
    trainers = [o for o in gc.get_objects() if isinstance(o, SFTTrainer)]
    assert not [trainer for trainer in trainers if trainer.model is run.subject.model]
    assert not run.subject.model.training
    assert run.subject.model.config.use_cache


@pytest.fixture
def thawed():
    """No object is frozen, whatever another test's module has done."""
    gc.unfreeze()
    yield
    gc.unfreeze()


class Cyclic:
    """Refer to itself, as a trainer does, so that only the collector frees it."""

    def __init__(self):
        self.itself = self


def test_older_objects_are_collected_later(thawed):
    older = Cyclic()
    seen = weakref.ref(older)
    tune()
    del older
    gc.collect()
    assert seen() is None


def test_collections_are_cheap_in_training(thawed):
    frozen = []
    tune(on_point=lambda point: frozen.append(gc.get_freeze_count()))
    assert min(frozen) > 100_000  # the libraries
    assert gc.get_freeze_count() == 0


def test_a_failed_training_thaws(thawed):
    with pytest.raises(ZeroDivisionError):
        tune(on_point=lambda point: 1 / 0)
    assert gc.get_freeze_count() == 0


def test_objects_frozen_before_stay_frozen(thawed):
    gc.freeze()
    frozen = gc.get_freeze_count()
    tune()
    assert gc.get_freeze_count() > 0.9 * frozen


def test_an_inner_training_does_not_thaw(thawed):
    frozen = []

    def train_again(point):
        tune(QUICK.change(steps=1), on_point=lambda _: None)
        frozen.append(gc.get_freeze_count())

    tune(QUICK.change(steps=2), on_point=train_again)
    assert min(frozen) > 100_000
    assert gc.get_freeze_count() == 0


def test_garbage_never_piles_up(thawed, monkeypatch):
    monkeypatch.setattr(trainer, "_trainings", count())
    left = []
    for _ in range(2 * trainer._COLLECT_EVERY + 1):
        left.append(weakref.ref(Cyclic()))
        with trainer.cheap_collections(collect=False):
            pass
    assert not any(seen() for seen in left[: 2 * trainer._COLLECT_EVERY])


def test_a_big_model_gets_all_memory(thawed, monkeypatch):
    monkeypatch.setattr(trainer, "_trainings", count(1))
    older, found = Cyclic(), []
    left = weakref.ref(older)
    gc.collect()  # now it is old: only a full collection looks at it
    del older
    monkeypatch.setattr(tuning, "BIG", 1)
    monkeypatch.setattr(tuning, "announce_estimate", lambda *_: None)
    tune(on_point=lambda point: found.append(left()))
    assert set(found) == {None}
