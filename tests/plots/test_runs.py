"""Pictures of one run, and of what a guard saw in it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from drawings import a_guard, a_run, curve, words

from caplab import plots
from caplab.support.colours import VERDICTS
from caplab.support.errors import BadInput
from caplab.support.text import format_number


def test_a_run_shows_curves_and_budget():
    picture = plots.run(a_run(), budget=0.05)
    (axes,) = picture.axes
    assert curve(axes, plots.OLD) == pytest.approx([1.0, 0.9, 0.75], abs=0.005)
    assert curve(axes, plots.NEW) == pytest.approx([0.25, 0.5, 0.95], abs=0.005)
    assert set(curve(axes, plots.BUDGET, "--")) == {0.95}
    assert {"classics .75", "task .95", "budget −.05"} <= set(words(picture))


@pytest.mark.parametrize(
    ("classics", "said"),
    [
        ((1.0, 0.9, 0.75), "beyond the budget of .05 from step 30 on"),
        ((1.0, 0.99, 0.75), "beyond the budget of .05 from step 60 on"),
        ((1.0, 0.5, 0.96), "back within the budget of .05"),
        ((1.0, 1.0, 0.96), "within the budget of .05"),
    ],
)
def test_the_title_says_since_when(classics, said):
    levels = f"task .25 → .95, classics 1.00 → {format_number(classics[-1])}"
    assert plots.run(a_run(classics)).finding == f"{levels}: {said}"


def test_title_and_ends_tell_of_all_questions():
    """A sample that flatters: the picture says what the whole exam says, and marks the sample."""
    run = a_run((0.9, 0.8, 0.9))
    run = replace(run, cards=run.cards | {"final": a_run((0.9, 0.8, 0.6)).final})
    picture = plots.run(run)
    assert picture.finding.startswith("task .25 → .95, classics .90 → .60")
    (line,) = [each for each in picture.axes[0].lines if each.get_markersize() == 11][1:]
    assert list(line.get_ydata()) == [run.before.accuracy, run.final.accuracy]
    note = " ".join(words(picture)[-1].split())
    assert "large dots: all 192 questions; small dots: the same sample of them" in note
    assert "REGRESSED (−.30, 95 %" in note
    assert "classics" not in note, "one number for one result"


def test_a_task_without_questions():
    picture = plots.run(a_run(task=(None, None, None)))
    assert picture.finding.startswith("classics 1.00 → .75:")
    assert not any(text.startswith("task") for text in words(picture))


def test_each_capability_has_a_panel():
    main, *panels = plots.run(a_run(), capabilities=True).axes
    assert [panel.get_title("left") for panel in panels] == [
        "capitals .75",
        "arithmetic .75",
        "how-to .75",
        "sounds .75",
    ]
    drawn = [[list(line.get_ydata()) for line in panel.lines] for panel in panels]
    assert drawn[1][2] == [1.0, 0.45, 0.75], "its ends ask all of its questions"
    assert panels[1].get_ylim() == main.get_ylim()


def test_a_failed_run_is_drawn():
    failed = replace(a_run(), trouble="Diverged: NaN.", cards={"before": a_run().before})
    picture = plots.run(failed)
    assert picture.finding.endswith(", then the run failed")
    assert any("Diverged: NaN." in text for text in words(picture))


# ---------------------------------------------------------------- the guard


def test_the_guards_moment_is_marked():
    picture = plots.run(a_run(), guard=a_guard())
    (axes,) = picture.axes
    marks = [line for line in axes.lines if line.get_color() == plots.GUARD]
    assert [list(line.get_xdata()) for line in marks] == [[40, 40]]
    assert set(curve(axes, plots.BUDGET, "--")) == {0.95}
    assert picture.finding.endswith(
        "the guard saw the budget crossed at step 40 and stopped at step 60"
    )


def test_a_rollback_shows_its_source():
    picture = plots.run(a_run(), guard=a_guard(back=20, action="rollback"))
    marks = [line for line in picture.axes[0].lines if line.get_color() == plots.GUARD]
    assert [20] in [list(line.get_xdata()) for line in marks]
    assert picture.finding.endswith("at step 40 and went back to step 20")


def looks_of(levels, budget=0.05, crossed=None, back=None):
    """Make what a guard leaves behind that found these changes."""
    import pandas as pd

    rows = [
        {"step": 10 * i, "change": -x, "low": -x - 0.1, "high": -x + 0.1, "verdict": verdict}
        for i, (x, verdict) in enumerate(levels)
    ]
    left = {"checks": rows, "budget": budget, "crossed_at": crossed, "restored_step": back}
    return SimpleNamespace(to_pandas=lambda: pd.DataFrame(rows), **left)


def test_looks_have_intervals_and_verdicts():
    guard = looks_of([(0.0, "HELD"), (0.3, "REGRESSED"), (0.4, "REGRESSED")], crossed=10, back=0)
    picture = plots.looks(guard)
    (axes,) = picture.axes
    assert picture.finding == (
        "The guard looked 3 times, saw the budget crossed at step 10 and went back to step 0"
    )
    shapes = {line.get_color(): line.get_marker() for line in axes.lines}
    assert shapes[VERDICTS["HELD"]] != shapes[VERDICTS["REGRESSED"]], "told apart without colours"
    marks = {line.get_color(): list(line.get_ydata()) for line in axes.lines}
    assert marks[VERDICTS["REGRESSED"]] == [-0.3, -0.4]
    assert marks[plots.BUDGET] == [-0.05, -0.05]
    ends = axes.collections[0].get_segments()
    assert np.allclose([end[:, 1] for end in ends], [[-0.1, 0.1], [-0.4, -0.2], [-0.5, -0.3]])


def test_a_guard_that_saw_nothing_says_so():
    assert (
        plots.looks(looks_of([(0.0, "HELD")] * 2)).finding
        == "The guard looked 2 times and saw no crossing"
    )


def test_a_guard_that_only_warned_stopped_nothing():
    warned = plots.run(a_run(), guard=a_guard(action="warn")).finding
    assert warned.endswith("the guard saw the budget crossed at step 40")
    calm = plots.run(a_run(), guard=a_guard(crossed=None))
    assert calm.finding.endswith("the guard saw no crossing")
    assert plots.GUARD not in [line.get_color() for line in calm.axes[0].lines]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: plots.run(replace(a_run(), points=[])), "no points"),
        (lambda: plots.run("pocket"), "Give a Run.*'pocket'"),
        (lambda: plots.run(a_run(), budget=-1), "budget is -1"),
        (lambda: plots.run(a_run(), guard=SimpleNamespace(checks=[])), "has not looked"),
    ],
)
def test_what_cannot_be_drawn_says_why(wrong, said):
    with pytest.raises(BadInput, match=said):
        wrong()
