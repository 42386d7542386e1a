"""Watching a training: points at the right steps, no bit changed, and every kind of end."""

import io
import random
import signal
import threading
from contextlib import redirect_stderr
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from transformers import TrainerCallback
from tuning import LORA, QUICK, TASK, tune
from weights import same, weights

from caplab.measuring.score import score
from caplab.training import fine_tune as tuning
from caplab.training import observer
from caplab.training.run import Run
from caplab.training.task_rows import open_task, tokens
from caplab.training.trainer import make_trainer

# ---------------------------------------------------------------- looking


@pytest.mark.parametrize("recipe", [QUICK, LORA.change(dropout=0.5)])
def test_looking_changes_no_bit(recipe):
    who = tiny.subject()
    trainer = make_trainer(who, recipe, tokens(open_task(TASK)[0], who))
    with observer.random_state_kept(who.device):
        trainer.train()

    def draw(point):
        torch.rand(3), random.random(), np.random.rand()

    looked_at = tune(recipe, who, every=1, on_point=draw)
    assert same(weights(looked_at.subject.model), weights(trainer.model))


@pytest.mark.parametrize(
    ("steps", "every", "looked"),
    [
        (6, None, [0, 1, 2, 3, 4, 5, 6]),
        (60, None, [0, 8, 15, 22, 30, 38, 45, 52, 60]),
        (7, 3, [0, 3, 6, 7]),
        (6, 3, [0, 3, 6]),
        (2, 5, [0, 2]),
        (1, None, [0, 1]),
    ],
)
def test_steps_at_which_points_come(steps, every, looked):
    assert sorted({0} | tuning._steps_to_look(steps, every)) == looked


def test_points_arrive_as_they_are_made():
    seen = []
    run = tune(every=2, on_point=seen.append)
    assert [point.step for point in seen] == [0, 2, 4, 6]
    assert seen == run.points
    assert [point.elapsed for point in seen] == sorted(point.elapsed for point in seen)


def test_rate_follows_the_schedule():
    rates = [point.learning_rate for point in tune(QUICK.change(warmup=2), every=1).points]
    assert rates == pytest.approx([0, 5e-3, 1e-2, 7.5e-3, 5e-3, 2.5e-3, 0])
    rates = [point.learning_rate for point in tune(QUICK.change(schedule="constant")).points]
    assert rates == [1e-2] * 7
    warm = QUICK.change(schedule="constant", warmup=4)
    assert [p.learning_rate for p in tune(warm, every=2).points] == [0, 5e-3, 1e-2, 1e-2]


# ---------------------------------------------------------------- callbacks


def test_a_callback_acts_before_the_look():
    class Early(TrainerCallback):
        def on_step_end(self, args, state, control, model, **_):
            if state.global_step == 2:
                with torch.no_grad():
                    model.lm_head.weight.zero_()
                control.should_training_stop = True

    run = tune(callbacks=[Early()], every=6)
    assert (run.steps, run.stopped) == (2, True)
    assert run.points[-1].step == 2
    assert len(set(run.final.loglikelihoods[0])) == 1  # every word is as likely


def test_a_callback_sees_the_loss():
    logged = []

    class Log(TrainerCallback):
        def on_log(self, args, state, control, logs, **_):
            logged.append(logs)

    tune(QUICK.change(steps=20), callbacks=[Log()])
    assert any("loss" in logs for logs in logged)


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize("recipe", [QUICK, LORA])
def test_stop_ends_within_one_step(recipe):
    stop = threading.Event()

    def listen(point):
        if point.step == 2:
            stop.set()

    run = tune(recipe, on_point=listen, stop=stop)
    assert run.steps == 2
    assert run.stopped
    assert run.trouble is None
    assert [point.step for point in run.points] == [0, 1, 2]
    assert "final" not in run.cards  # whoever stopped it was in a hurry
    assert run.final == score(run.subject, tiny.exam())
    assert run.final_task.accuracy == run.points[-1].task_accuracy
    assert run.final.accuracy == run.points[-1].classics_accuracy
    assert "2 of 6" in repr(run)


def test_stopped_at_once_is_the_base():
    stop = threading.Event()
    stop.set()
    run = tune(stop=stop)
    assert (run.steps, run.stopped, len(run.points)) == (0, True, 1)
    assert run.final.loglikelihoods == run.before.loglikelihoods


def test_another_thread_can_stop():
    stop = threading.Event()

    def on_point(point):
        if point.step:
            threading.Thread(target=stop.set).start()

    run = tune(QUICK.change(steps=100_000), stop=stop, every=5, on_point=on_point)
    assert 0 < run.steps < 100_000


def test_an_interrupt_keeps_the_points():
    def interrupt(point):
        if point.step == 3:
            signal.raise_signal(signal.SIGINT)

    run = tune(on_point=interrupt)
    assert run.stopped
    assert [point.step for point in run.points][:3] == [0, 1, 2]
    assert run.final.accuracy >= 0


def test_divergence_ends_in_plain_words():
    run = tune(QUICK.change(learning_rate=1e4, steps=50), every=1)
    assert run.stopped
    assert run.steps < 50
    assert run.trouble.startswith("Diverged: the loss was ")
    assert "lower learning rate" in run.trouble
    assert [point.step for point in run.points] == list(range(len(run.points)))
    assert run.trouble in repr(run)


class Poison(TrainerCallback):
    """Break the weights after a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, model, **_):
        if state.global_step == self.step:
            with torch.no_grad():
                next(model.parameters()).fill_(torch.nan)


@pytest.mark.parametrize(("step", "every"), [(3, 6), (3, 3), (6, 6)])
def test_nan_weights_end_a_run(step, every):
    run = tune(every=every, callbacks=[Poison(step)])
    assert run.trouble.startswith("Diverged")
    assert run.points
    assert all(np.isfinite(point.classics_accuracy) for point in run.points)
    assert run.stopped == (step < 6)


def test_a_diverged_run_can_be_saved(tmp_path):
    run = tune(every=2, callbacks=[Poison(5)])
    again = Run.load(run.save(tmp_path / "run"))
    assert again.trouble == run.trouble
    assert again.points == run.points
    assert again.before == run.before


# ---------------------------------------------------------------- the progress line


@pytest.mark.parametrize(("listening", "shown"), [(False, True), (True, False)])
def test_a_line_where_nobody_listens(monkeypatch, listening, shown):
    monkeypatch.setattr(observer, "_PATIENCE", 0.0)
    err = io.StringIO()
    with redirect_stderr(err):
        tune(on_point=(lambda point: None) if listening else None)
    assert ("step" in err.getvalue()) == shown


def test_no_line_in_a_thread(monkeypatch):
    monkeypatch.setattr(observer, "_PATIENCE", 0.0)
    err = io.StringIO()
    with redirect_stderr(err):
        thread = threading.Thread(target=tune)
        thread.start()
        thread.join()
    assert err.getvalue() == ""


def test_in_a_notebook_the_line_stays(monkeypatch, capsys):
    monkeypatch.setattr("caplab.support.bars.in_kernel", lambda: True)
    monkeypatch.setattr(observer, "_PATIENCE", -1.0)
    line = observer._ProgressLine(20, observer.Clock(), silent=False)
    line.show(8)
    line.close()
    out, err = capsys.readouterr()
    assert out.endswith("\n"), "text, and no widget that closes and leaves a gap"
    last = out.rstrip().rpartition("\r")[2]
    assert last.startswith("8 of 8 steps in 00:"), "words, also where a run was stopped"
    assert err == ""


def test_the_line_tells_the_time_since_the_beginning(monkeypatch, capsys):
    """It appears after a while; the steps before it took their time, too."""
    monkeypatch.setattr("caplab.support.bars.in_kernel", lambda: True)
    monkeypatch.setattr(observer, "_PATIENCE", 2.0)
    line = observer._ProgressLine(20, SimpleNamespace(elapsed=65.0), silent=False)
    line.show(8)
    line.close()
    assert "8 of 8 steps in 01:05" in capsys.readouterr().out
