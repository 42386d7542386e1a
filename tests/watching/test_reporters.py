"""Where a guard's values go: the Trainer's history, its callbacks and its dashboards."""

import sys
from contextvars import ContextVar
from types import ModuleType, SimpleNamespace

import pytest
from guarded import GENTLE, Keep, known, sft, trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from caplab import RegressionGuard

WRONG, LEVELS = (0, 6, 30, 30, 30), {0: 1.0, 2: 0.9, 4: 0.5, 6: 0.5, 8: 0.5}


def accuracies(logs):
    return {log["step"]: log["guard/accuracy"] for log in logs if "guard/accuracy" in log}


def scalars(folder, name):
    """Read a value from the event files of one TensorBoard run."""
    events = EventAccumulator(str(folder)).Reload().Scalars(name)
    return {event.step: pytest.approx(event.value) for event in events}


def test_values_are_in_the_trainers_history(tmp_path, forgetting):
    forgetting(*WRONG)
    run = trainer(tmp_path, RegressionGuard(known(), every=2), logging_steps=3)
    run.train()

    assert accuracies(run.state.log_history) == LEVELS
    names = {"epoch", "step", "guard/words", "guard/accuracy", "guard/change", "guard/regressed"}
    assert run.state.log_history[-2].keys() == names
    steps = [log["step"] for log in run.state.log_history if "loss" in log]
    assert steps == [3, 6]  # as without the guard


def test_attached_it_tells_every_callback(tmp_path, forgetting):
    forgetting(*WRONG)
    early, late = Keep(), Keep()
    guard = RegressionGuard(known(), every=2)
    run = trainer(tmp_path, early, guard, late, logging_steps=3)
    guard.attach(run)
    run.train()

    assert accuracies(run.state.log_history) == LEVELS
    assert accuracies(early.logs) == accuracies(late.logs) == LEVELS
    assert [log["step"] for log in early.logs if "loss" in log] == [3, 6]  # as without the guard


def test_attaching_adds_the_callback(tmp_path, forgetting):
    forgetting(*WRONG)
    run = trainer(tmp_path)
    guard = RegressionGuard(known(), every=2).attach(run)
    run.train()

    assert accuracies(run.state.log_history) == LEVELS
    assert [check.step for check in guard.checks] == [*LEVELS]


def test_it_hears_of_no_other_run(tmp_path, forgetting):
    forgetting(*WRONG, *WRONG)
    keep, guard = Keep(), RegressionGuard(known(), every=2)
    attached = trainer(tmp_path, keep)
    guard.attach(attached)
    other = trainer(tmp_path, guard)
    other.train()

    assert accuracies(other.state.log_history) == LEVELS
    assert keep.logs == []
    attached.train()
    assert accuracies(keep.logs) == LEVELS


def test_tensorboard_shows_a_run_of_the_guard(tmp_path, forgetting, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    forgetting(*WRONG)
    guard = RegressionGuard(known(), every=2)
    trainer(tmp_path, guard, report_to="tensorboard").train()

    assert scalars(tmp_path / "board" / "guard", "train/guard/accuracy") == LEVELS
    assert [*scalars(tmp_path / "board", "train/loss")] == [2, 4, 6, 8]


def test_the_guards_run_is_beside_the_trainers(tmp_path):
    guard = RegressionGuard(known(), every=2)
    trainer(tmp_path, guard, report_to="tensorboard", max_steps=2).train()

    (folder,) = (tmp_path / "runs").glob("*/guard")
    assert [*scalars(folder, "train/guard/accuracy")] == [0, 2]


def test_attached_it_joins_the_trainers_run(tmp_path, forgetting, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    forgetting(*WRONG)
    run = trainer(tmp_path, report_to="tensorboard")
    RegressionGuard(known(), every=2).attach(run)
    run.train()

    assert scalars(tmp_path / "board", "train/guard/accuracy") == LEVELS
    assert not (tmp_path / "board" / "guard").exists()


@pytest.mark.parametrize("attached", [False, True])
def test_sfts_own_metrics_stay_in_its_log(tmp_path, attached):
    guard = RegressionGuard(known(), every=2)
    script = sft(tmp_path, guard, max_steps=4, logging_steps=2, learning_rate=GENTLE)
    if attached:
        guard.attach(script)
    script.train()

    losses = [log for log in script.state.log_history if "loss" in log]
    assert len(losses) == 2
    assert all("mean_token_accuracy" in log for log in losses)


class Tracker(ModuleType):
    """Stands in for W&B or Trackio: knows a current run, and keeps what is logged."""

    def __init__(self, name, run):
        super().__init__(name)
        self.logs, self.run = [], run
        self.context_vars = SimpleNamespace(current_run=ContextVar("run", default=run))

    def log(self, values):
        self.logs.append(values)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
@pytest.mark.parametrize("run", ["a run", None])
def test_a_current_run_gets_the_values(tmp_path, forgetting, monkeypatch, name, run):
    tracker = Tracker(name, run)
    monkeypatch.setitem(sys.modules, name, tracker)
    forgetting(*WRONG)
    script = trainer(tmp_path, RegressionGuard(known(), every=2))
    script.args.report_to = [name]  # later than the Trainer looks for the library itself
    script.train()

    seen = {log["train/global_step"]: log["train/guard/accuracy"] for log in tracker.logs}
    assert seen == (LEVELS if run else {})
