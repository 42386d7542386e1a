"""Draw one training: `run`, its accuracy step by step, and `looks`, what its guard saw."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from caplab.measuring.compare import compare
from caplab.measuring.policy import BUDGET as DEFAULT_BUDGET
from caplab.measuring.policy import check_budget
from caplab.measuring.report import HELD, REGRESSED, UNDERPOWERED
from caplab.plots.labels import name_ends
from caplab.plots.picture import Picture, clipped, on_paper, plain, tick
from caplab.support.colours import BUDGET, GUARD, INK, NEW, NEW_WORDS, OLD, PALE, PAPER, VERDICTS
from caplab.support.errors import BadInput, short_repr
from caplab.support.text import format_number

if TYPE_CHECKING:
    import pandas as pd

    from caplab.measuring.scorecard import Scorecard
    from caplab.training.run import Point, Run

__all__ = ["looks", "run"]
_MOST_PANELS = 24
_SHAPES = {HELD: "o", UNDERPOWERED: "s", REGRESSED: "X"}  # told apart without their colours


class Watcher(Protocol):
    """What a picture needs from a guard; the guard itself lives above, in `watching`."""

    budget: float
    action: str
    checks: Sequence[Any]
    crossed_at: int | None
    restored_step: int | None

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table with one line per look."""


def run(
    run: "Run",
    *,
    budget: float | None = None,
    guard: Watcher | None = None,
    capabilities: bool = False,
) -> Picture:
    """Draw the task and the classics along a run, with the budget and what the guard did.

    `budget` defaults to the guard's, or .05 without a guard. With `capabilities` each capability
    gets a small panel of its own.
    """
    budget, points = _budget(budget, guard), _with_whole_ends(run)
    names = _most_lost(points) if capabilities else []
    rows = min(3, max(1, len(names)))
    columns = -(-len(names) // rows)
    note = _run_note(run, budget) + "\nsmall panels: one capability each; thin: all" * bool(names)
    picture = Picture(_run_finding(run, budget, guard), 8.0 + 1.9 * columns, 5.2, note)
    grid = picture.add_gridspec(rows, 1 + columns, width_ratios=(3.4, *[1] * columns), wspace=0.06)
    axes = picture.add_subplot(grid[:, 0])
    _draw_run(axes, points, budget)
    if guard and guard.crossed_at is not None:
        _draw_guard(axes, points[-1], guard)
    for index, name in enumerate(names):
        column, row = divmod(index, rows)  # filled column by column
        small = picture.add_subplot(grid[row, 1 + column], sharex=axes, sharey=axes)
        lowest = row == rows - 1 or index == len(names) - 1
        _draw_capability(small, points, name, budget, steps_below=lowest)
    return picture


def _most_lost(points: "list[Point]") -> list[str]:
    """Return the names of the capabilities; if they are too many, of those that lost most."""
    before, after = points[0].by_capability, points[-1].by_capability
    lost = sorted(before, key=lambda name: after[name] - before[name])[:_MOST_PANELS]
    return [name for name in before if name in lost]


def _budget(budget: float | None, guard: Watcher | None) -> float:
    if guard is not None and not getattr(guard, "checks", None):
        raise BadInput(
            f"This guard has not looked at a run yet: {short_repr(guard)}. Give a RegressionGuard "
            "to the run that you draw: fine_tune(..., callbacks=[guard])."
        )
    if budget is None:
        return guard.budget if guard else DEFAULT_BUDGET
    check_budget(budget)
    return budget


def checked_points(run: "Run") -> "list[Point]":
    """Return a run's points; refuse what has none."""
    points: list[Point] | None = getattr(run, "points", None)
    if points is None:
        raise BadInput(f"Give a Run, which is what fine_tune returns, not {short_repr(run)}.")
    if not points:
        raise BadInput("This run has no points: it was never looked at. Let fine_tune begin.")
    return points


def _with_whole_ends(run: "Run") -> "list[Point]":
    """Return the points, of which the first and the last tell of all questions, not of a sample."""
    first, *others = checked_points(run)
    first = _whole(first, run.before_task, run.before)
    if run.trouble or not others:
        return [first, *others]
    return [first, *others[:-1], _whole(others[-1], run.final_task, run.final)]


def _whole(point: "Point", task: "Scorecard | None", classics: "Scorecard") -> "Point":
    asked = point.task_accuracy is not None and task is not None
    return replace(
        point,
        classics_accuracy=classics.accuracy,
        by_capability=classics.by_capability,
        task_accuracy=task.accuracy if asked and task else point.task_accuracy,
    )


def _draw_run(axes: Axes, points: "list[Point]", budget: float) -> None:
    """Draw the two curves and the budget line, each with its name at its end."""
    steps, end = [point.step for point in points], points[-1]
    classics = [point.classics_accuracy for point in points]
    line = classics[0] - budget
    names = [(classics[-1], f"classics {format_number(end.classics_accuracy)}", OLD)]
    names.append((line, f"budget −{format_number(budget)}", BUDGET))
    axes.axhline(line, color=BUDGET, linewidth=2, linestyle="--")
    if end.task_accuracy is not None:
        _draw_curve(axes, steps, _task(points), NEW)
        names.append((end.task_accuracy, f"task {format_number(end.task_accuracy)}", NEW_WORDS))
    _draw_curve(axes, steps, classics, OLD)
    levels = [*classics, *_task(points), line]
    axes.set_ylim(max(-0.02, min(levels) - 0.06), max(levels) + 0.03)
    axes.set(xlabel="training steps", ylabel="accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_formatter(tick)
    on_paper(axes, "both")
    name_ends(axes, names)


def _draw_curve(axes: Axes, steps: list[int], levels: list[float], colour: str) -> None:
    """Draw a curve with small dots for samples of the questions, and large ones for all of them."""
    axes.plot(steps, levels, "o-", color=colour, linewidth=3, markersize=5)
    ends = slice(None, None, max(1, len(steps) - 1))
    axes.plot(steps[ends], levels[ends], "o", color=colour, markersize=11)


def _task(points: "list[Point]") -> list[float]:
    return [point.task_accuracy for point in points if point.task_accuracy is not None]


def _draw_guard(axes: Axes, end: "Point", guard: Watcher) -> None:
    """Mark where the guard saw the budget crossed and, after a rollback, where it went back to."""
    at, back = guard.crossed_at, guard.restored_step
    assert at is not None
    axes.axvline(at, color=GUARD, linewidth=2, zorder=1)
    left = at > (end.step / 2)
    across = axes.get_xaxis_transform()
    text = " guard: budget crossed " if back is None else " guard: crossed, rolled back "
    style: dict[str, Any] = {"color": GUARD, "size": 12, "weight": "bold", "va": "bottom"}
    axes.text(at, 1.005, text, transform=across, ha="right" if left else "left", **style)
    if back is not None:
        level = end.classics_accuracy
        line = {"arrowstyle": "->", "color": GUARD, "linewidth": 2, "linestyle": ":"}
        axes.annotate("", (end.step, level), (back, level), arrowprops=line)
        axes.plot(back, level, "o", color=GUARD, markerfacecolor=PAPER, markersize=11, mew=2)


def _draw_capability(
    axes: Axes, points: "list[Point]", name: str, budget: float, *, steps_below: bool
) -> None:
    """Draw one capability's curve in front of the overall curve, with its own budget line."""
    steps = [point.step for point in points]
    levels = [point.by_capability[name] for point in points]
    axes.axhline(levels[0] - budget, color=BUDGET, linewidth=1, linestyle="--")
    axes.plot(
        steps, [point.classics_accuracy for point in points], color=OLD, alpha=0.75, linewidth=0.8
    )
    axes.plot(steps, levels, "o-", color=OLD, linewidth=2, markersize=3.5)
    on_paper(axes, "both")
    axes.tick_params(left=False, labelleft=False, bottom=steps_below, labelbottom=steps_below)
    short = plain(clipped(name, 14))
    axes.set_title(f"{short} {format_number(levels[-1])}", color=INK, size=12, loc="left", pad=4)


def _run_finding(run: "Run", budget: float, guard: Watcher | None) -> str:
    points = _with_whole_ends(run)
    first, last = points[0], points[-1]
    levels = [from_to("classics", first.classics_accuracy, last.classics_accuracy)]
    if first.task_accuracy is not None and last.task_accuracy is not None:
        levels.insert(0, from_to("task", first.task_accuracy, last.task_accuracy))
    if run.trouble:
        return f"{', '.join(levels)}, then the run failed"
    said = _guard_finding(guard, last.step) if guard else _budget_finding(points, budget)
    return f"{', '.join(levels)}: {said}"


def from_to(name: str, before: float, after: float) -> str:
    """Write a level before and after: `task .25 → .95`."""
    return f"{name} {format_number(before)} → {format_number(after)}"


def _budget_finding(points: "list[Point]", budget: float) -> str:
    """Say from which step on the curve stayed below the budget line, if it did."""
    line = points[0].classics_accuracy - budget - 1e-9  # rounding alone is no crossing
    below = [point.classics_accuracy < line for point in points]
    if not below[-1]:
        return f"{'back ' * any(below)}within the budget of {format_number(budget)}"
    last_above = max((i for i, under in enumerate(below) if not under), default=-1)
    return (
        f"beyond the budget of {format_number(budget)} from step {points[last_above + 1].step} on"
    )


def _guard_finding(guard: Watcher, last: int) -> str:
    if guard.crossed_at is None:
        return "the guard saw no crossing"
    seen = f"the guard saw the budget crossed at step {guard.crossed_at}"
    if guard.restored_step is not None:
        return f"{seen} and went back to step {guard.restored_step}"
    return f"{seen} and stopped at step {last}" if guard.action != "warn" else seen


def looks(guard: Watcher) -> Picture:
    """Draw what a guard saw: the change at each look with its interval, against the budget."""
    if guard is None:
        raise BadInput("Give the guard that looked at a run: looks(guard).")
    budget, seen = _budget(None, guard), guard.to_pandas()
    note = "bars: the interval of the change over all questions\n"
    note += f"circle: {HELD}; square: {UNDERPOWERED}; cross: {REGRESSED}, whole or a capability"
    picture = Picture(f"The guard looked {_seen(guard)}", 8.0, 4.6, note)
    axes = picture.subplots()
    axes.vlines(seen["step"], seen["low"], seen["high"], OLD, linewidth=3, alpha=0.75)
    for verdict, rows in seen.groupby("verdict"):
        dots: dict[str, Any] = {"color": VERDICTS[str(verdict)], "markersize": 9, "zorder": 3}
        axes.plot(rows["step"], rows["change"], _SHAPES[str(verdict)], **dots)
    axes.axhline(0, color=PALE, linewidth=1)
    axes.axhline(-budget, color=BUDGET, linewidth=2, linestyle="--")
    axes.set(xlabel="training steps", ylabel="change in accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_formatter(tick)
    on_paper(axes, "both")
    last = seen.iloc[-1]
    names = [(-budget, f"budget −{format_number(budget)}", BUDGET)]
    names.append((last["change"], last["verdict"], VERDICTS[last["verdict"]]))
    name_ends(axes, names)
    return picture


def _seen(guard: Watcher) -> str:
    """Say how often a guard looked, what it saw and what it did."""
    times = f"{len(guard.checks)} times"
    if guard.crossed_at is None:
        return f"{times} and saw no crossing"
    back = guard.restored_step
    said = f"{times}, saw the budget crossed at step {guard.crossed_at}"
    return said if back is None else f"{said} and went back to step {back}"


def _run_note(run: "Run", budget: float) -> str:
    """Say what the whole exam shows, because the points ask only a sample of it."""
    if run.trouble:
        return f"{run.recipe!r}\n{run.trouble}"
    report = compare(run.before, run.final, budget=budget)
    # The verdict alone: its levels count groups, while the ends of the curves count questions.
    found = report.sentence.partition("; ")[0].partition(": ")[2].replace("-", "−")
    asked = f"large dots: all {report.overall.n} questions; small dots: the same sample of them"
    return f"{run.recipe!r}\n{asked}\n{found}"
