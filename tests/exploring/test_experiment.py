"""Trainings for a panel: the same as in a cell, judged by any budget, silent guards."""

import logging
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from panels import outcome, small, trained

from caplab.exploring.drawing import render
from caplab.exploring.experiment import PanelSetup, _muted_guard, _watched, in_words, judged
from caplab.exploring.panel import explorer
from caplab.exploring.state import Mix, Watched
from caplab.training.fine_tune import fine_tune


def test_another_budget_judges_anew():
    lenient = judged(trained(), 0.2)
    assert (lenient.budget, lenient.outcome.report.budget) == (0.2, 0.2)
    assert judged(trained(outcome=outcome(after=95)), 0.2).outcome.report.verdict == "HELD"


def test_a_mix_is_judged_when_it_is_shown():
    far = trained(mixes={0.5: Mix(0.5, outcome(after=95), ())}, alpha=1.0)
    assert judged(far, 0.2).mixes[0.5].outcome is far.mixes[0.5].outcome
    assert judged(replace(far, alpha=0.5), 0.2).shown.report.budget == 0.2


@pytest.mark.parametrize(("patience", "acted"), [(0, 10), (1, 20), (2, 20)])
def test_a_guard_acts_when_patience_ends(patience, acted):
    looks = [SimpleNamespace(step=step) for step in (0, 10, 20)]
    guard = SimpleNamespace(
        action="stop", crossed_at=10, restored_step=None, patience=patience, checks=looks
    )
    assert _watched(guard) == Watched("stop", 10, acted)
    assert "guard: stop" in render(trained(guard=_watched(guard)))


def test_only_this_threads_guard_is_muted(caplog):
    logger = logging.getLogger("caplab.watching.guard")
    with caplog.at_level(logging.WARNING), _muted_guard():
        logger.warning("of the panel")
        other = threading.Thread(target=logger.warning, args=("of a cell",))
        other.start()
        other.join()
    logger.warning("afterwards")
    assert caplog.messages == ["of a cell", "afterwards"]


def test_an_error_is_told_in_one_line():
    assert "\n" not in in_words(RuntimeError("a\nb"))


@pytest.mark.parametrize("threaded", [True, False])
def test_a_run_is_the_same_as_in_a_cell(monkeypatch, threaded):
    runs, tune = [], PanelSetup.tune
    monkeypatch.setattr(PanelSetup, "tune", lambda *a, **k: runs.append(tune(*a, **k)) or runs[-1])
    panel = explorer("first_look", **small(learning_rate=1e-2, threaded=threaded))
    panel.run()
    there = panel.setup
    cell = fine_tune(
        there.subject, panel.state.recipe, there.task, there.exam, task_exam=there.task_exam
    )
    weights = [run.subject.model.state_dict() for run in (runs[-1], cell)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert [point.by_capability for point in panel.state.points] == [
        point.by_capability for point in cell.points
    ]


def test_a_run_that_diverges_is_said_in_words():
    panel = explorer("first_look", **small(learning_rate=1e30))
    panel.run()
    assert panel.state.phase == "failed"
    assert "try a lower learning rate" in panel._screen.value
