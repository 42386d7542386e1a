"""Where a guard's values go: the Trainer's history, its callbacks and its dashboards."""

import json
import os
import sqlite3
import sys
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType, SimpleNamespace

import programs
import pytest
from gated import answers
from guarded import GENTLE, Keep, known, sft, trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from caplab import RegressionGuard
from caplab.measuring.compare import compare
from caplab.measuring.lost import lost_answers
from caplab.questions.exam import Exam, Question
from caplab.watching.records import tables

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
    script = trainer(tmp_path, report_to="tensorboard")
    RegressionGuard(known(), every=2).attach(script)
    script.train()

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

    class Table:
        """As both libraries have it: columns, and the data of each row."""

        def __init__(self, columns, data):
            assert all(len(row) == len(columns) for row in data)
            self.columns, self.data = columns, data


@pytest.mark.parametrize("name", ["wandb", "trackio"])
@pytest.mark.parametrize("run", ["a run", None])
def test_a_current_run_gets_the_values(tmp_path, forgetting, monkeypatch, name, run):
    tracker = Tracker(name, run)
    monkeypatch.setitem(sys.modules, name, tracker)
    forgetting(*WRONG)
    script = trainer(tmp_path, RegressionGuard(known(), every=2))
    script.args.report_to = [name]  # later than the Trainer looks for the library itself
    script.train()

    seen = {
        log["train/global_step"]: log["train/guard/accuracy"]
        for log in tracker.logs
        if "train/guard/accuracy" in log
    }
    assert seen == (LEVELS if run else {})
    lost = {
        log["train/global_step"]: log["train/guard/lost"].data
        for log in tracker.logs
        if "train/guard/lost" in log
    }
    assert {step: len(rows) for step, rows in lost.items()} == (LOST if run else {})


# ---------------------------------------------------------------- what was lost, was and now

LOST = {2: 6, 4: 30, 6: 30, 8: 30}


def texts(folder, name):
    """Read a text from the event files of one TensorBoard run."""
    events = EventAccumulator(str(folder)).Reload().Tensors(f"{name}/text_summary")
    return {event.step: event.tensor_proto.string_val[0].decode() for event in events}


@pytest.mark.parametrize("attached", [False, True])
def test_tensorboard_shows_what_was_lost(tmp_path, forgetting, monkeypatch, attached):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    forgetting(*WRONG)
    script = trainer(tmp_path, report_to="tensorboard")
    guard = RegressionGuard(known(), every=2)
    if attached:
        guard.attach(script)
    else:
        script.add_callback(guard)
    script.train()
    folder = tmp_path / "board" if attached else tmp_path / "board" / "guard"
    lost, rows = (texts(folder, f"train/guard/{name}") for name in ("lost", "rows"))
    assert {step: len(text.splitlines()) - 2 for step, text in lost.items()} == LOST
    header, _, first, *_ = lost[2].splitlines()
    assert header == "| capability | question | was | now |"
    question = known().questions[54]
    assert question.prompt in first
    assert first.endswith(f"| {question.choices[0]} | {question.choices[1]} |")
    assert [*rows] == [*LEVELS]
    assert "REGRESSED" in rows[4]


def test_tables_are_safe_and_bounded():
    markup = "say\n\n# **::error::** <script>"
    asked = (Question("a|b", f"{markup} {n}", ("x", "y" * 9000, "z", "w"), 0) for n in range(300))
    exam = Exam(tuple(asked), name="odd")
    report = compare(answers(exam), answers(exam, wrong=range(300)))
    found = tables(report, lost_answers(answers(exam), answers(exam, wrong=range(300)), exam))
    assert len(found["guard/lost"].data) == 100
    shown = found["guard/lost"].markdown
    assert len(shown.splitlines()) == 102
    assert "<script>" not in shown
    assert "\n::" not in shown
    assert all(line.count(" | ") == 3 for line in shown.splitlines())


TRACKED = """
from guarded import known, trainer
from caplab import RegressionGuard

trainer("out", RegressionGuard(known(), every=2), report_to="trackio", project="guarded").train()
"""


@pytest.mark.weekly
def test_trackio_keeps_them_offline(tmp_path):
    """The real one, if it is installed; no project's extra asks for it."""
    installed = Path(pytest.importorskip("trackio").__file__).parents[1]
    offline = {"TRACKIO_DIR": str(tmp_path / "kept"), "HF_HUB_OFFLINE": "1"}
    offline["PYTHONPATH"] = os.pathsep.join([str(programs.HELPERS), str(installed)])
    programs.run(TRACKED, cwd=tmp_path, env=offline)
    with sqlite3.connect(tmp_path / "kept" / "guarded.db") as kept:
        logged = [json.loads(row) for (row,) in kept.execute("select metrics from metrics")]
    tables = [log["train/guard/lost"] for log in logged if "train/guard/lost" in log]
    assert tables
    assert tables[0]["_type"] == "trackio.table"
    assert tables[0]["_value"][0].keys() == {"capability", "question", "was", "now"}
    assert any("train/guard/accuracy" in log for log in logged)
