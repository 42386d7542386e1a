"""Draw what was measured. Every title states a finding, computed from the data.

The colours mean the same in the whole course: OLD is what the base could already do, NEW is what
is being learned. They stay apart for colour-blind eyes, on a projector and in grey print. Pictures
bring their own paper, so that they read alike on light and dark pages.
"""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from io import BytesIO
from itertools import pairwise
from math import cos, pi, sin
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from caplab.errors import BadInput, require, shown
from caplab.exam import OVERALL, Scorecard
from caplab.stats import (
    HELD,
    REGRESSED,
    UNDERPOWERED,
    Report,
    Row,
    check_budget,
    compare,
    listed,
    number,
    wilson,
)

if TYPE_CHECKING:
    from caplab.guard import RegressionGuard
    from caplab.recipe import Recipe
    from caplab.run import Point, Run

__all__ = [
    "BUDGET",
    "GUARD",
    "INK",
    "NEW",
    "OLD",
    "PAPER",
    "Picture",
    "before_after",
    "kl",
    "looks",
    "run",
    "scorecard",
    "trade_off",
]

OLD = "#0072b2"  # blue: the classics
NEW = "#d55e00"  # vermilion: the new task
BUDGET = "#4d4d4d"  # the line that a drop must not cross
GUARD = "#aa3377"  # purple: where the guard acted
PAPER, INK, PALE = "#fbfaf7", "#1f1f1f", "#666666"
NEW_WORDS = "#ad4c00"  # NEW, dark enough for words
VERDICTS = {REGRESSED: "#b3261e", HELD: "#0b6e4f", UNDERPOWERED: PALE}
MOST_ROWS = 40  # in a picture; a table has room for all
_MOST_PANELS = 24
_AT_MOST: dict[str, Any] = {"max_lines": 4, "placeholder": " …"}  # of a sentence
DOTS = 96  # per inch, as shown; rendered at twice as many for high-resolution screens


class Picture(Figure):
    """A figure that shows itself in a notebook, whichever backend is active, and without pyplot."""

    def __init__(self, finding: str, width: float, height: float, note: str = "") -> None:
        super().__init__((width, height), DOTS, facecolor=PAPER)
        self.finding = finding
        across, up = 0.12 / width, 0.1 / height  # matplotlib counts in parts of the figure
        title = textwrap.wrap(plain(finding), int(8.6 * width), **_AT_MOST)
        room = up * (1.5 + 2.6 * len(title))
        self.set_layout_engine("constrained", rect=(across, up, 1 - 2 * across, 1 - up - room))
        head = {"x": 1.5 * across, "y": 1 - 1.3 * up, "ha": "left", "va": "top"}
        self.suptitle("\n".join(title), **head, color=INK, size=14, weight="bold")
        notes = note.splitlines()
        lines = [textwrap.fill(plain(line), int(13 * width), **_AT_MOST) for line in notes]
        self.supxlabel("\n".join(lines), x=1.5 * across, ha="left", color=PALE, size=10)

    def png(self) -> bytes:
        """Render the picture as PNG with twice the pixels of the size shown.

        A few dozen colours are enough, and make the file four times smaller.
        """
        from PIL import Image

        full, small = BytesIO(), BytesIO()
        self.savefig(full, format="png", dpi=2 * DOTS, facecolor=PAPER)
        Image.open(full).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
            small, format="png", optimize=True
        )
        return small.getvalue()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        width, height = (round(inches * DOTS) for inches in self.get_size_inches())
        shown = {"image/png": self.png(), "text/plain": repr(self)}
        size = {"image/png": {"width": width, "height": height}}
        display(shown, metadata=size, raw=True)  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        return f"<Picture: {self.finding}>"

    __str__ = __repr__


def scorecard(card: Scorecard) -> Picture:
    """Draw the accuracy on each capability, with 95 % Wilson intervals and the level of chance."""
    require(card, Scorecard, "This draws a Scorecard, which is what score returns")
    groups, note = _groups(card), "bars: 95 % Wilson intervals; chance: what guessing would reach"
    if len(groups) > MOST_ROWS:
        weakest = sorted(groups, key=lambda name: fmean(groups[name][0]))[: MOST_ROWS - 1]
        note += f"\n{MOST_ROWS - 1} of {len(groups) - 1} capabilities, the weakest"
        groups = {name: found for name, found in groups.items() if name in (*weakest, OVERALL)}
    picture = Picture(_scorecard_finding(card), 8.0, 1.6 + 0.4 * len(groups), note)
    axes = picture.subplots()
    for place, (right, chance) in enumerate(groups.values()):
        share = sum(right) / len(right)
        _interval(axes, place, *wilson(sum(right), len(right)), OLD)
        axes.plot(share, place, "o", color=OLD, markersize=9, clip_on=False)
        axes.vlines(chance, place - 0.5, place + 0.5, colors=PALE, linestyles=":", linewidth=2)
        _label(axes, place, 1.02, number(share), INK)
    _rows(axes, [f"{name} ({len(right)})" for name, (right, _) in groups.items()])
    chance = next(iter(groups.values()))[1]
    axes.text(chance, -0.6, "chance", color=PALE, size=11, ha="center", va="bottom")
    axes.set(xlim=(0, 1.01), xlabel="accuracy: share of the questions answered right")
    return picture


def before_after(report: Report) -> Picture:
    """Draw each capability before and after, and its change against the budget, with verdicts."""
    require(report, Report, "This draws a Report, which is what compare returns")
    note = "\n".join([*_footnotes(report), report.conditions.replace("->", "→")])
    finding, several = _before_after_finding(report), len(report.capabilities)
    if several >= MOST_ROWS:
        report = replace(report, rows=_worst(report))
        note += f"\n{MOST_ROWS - 1} of {several} capabilities, those that lost most"
    rows = report.rows
    picture = Picture(finding, 10.5, 2.0 + 0.4 * len(rows), note)
    left, right = picture.subplots(1, 2, sharey=True, width_ratios=(1, 1.3))
    _draw_levels(left, report)
    _draw_changes(right, report)
    _rows(left, [f"{row.name} ({row.n})" for row in rows])
    return picture


def _worst(report: Report) -> tuple[Row, ...]:
    """Choose the rows that lost most, in the order of the table, the overall row last."""
    lost = sorted(report.capabilities, key=lambda row: (row.verdict != REGRESSED, row.change))
    kept = {row.name for row in lost[: MOST_ROWS - 1]} | {OVERALL}
    return tuple(row for row in report.rows if row.name in kept)


def _draw_levels(axes: Axes, report: Report) -> None:
    """Draw where every row was and where it is.

    The ring is wide enough to be seen around a dot that has not moved from it.
    """
    ring: dict[str, Any] = {"markerfacecolor": PAPER, "markersize": 13, "mew": 2}
    for place, row in enumerate(report.rows):
        axes.plot([row.before, row.after], [place, place], color=OLD, alpha=0.35, linewidth=4)
        axes.plot(row.before, place, "o", color=OLD, **ring, clip_on=False)
        axes.plot(row.after, place, "o", color=OLD, markersize=7, clip_on=False)
    axes.set(xlim=(-0.02, 1.03), xlabel=f"{report.metric}   ○ before   ● after")


def _draw_changes(axes: Axes, report: Report) -> None:
    """Draw every change with its interval: the verdict is on which side of the budget it lies."""
    for place, row in enumerate(report.rows):
        colour, star = VERDICTS[row.verdict], "*" * _unlike_its_interval(row, report)
        _interval(axes, place, row.low, row.high, colour, alpha=0.25 if star else 0.55)
        axes.plot(row.change, place, "o", color=colour, markersize=8)
        _label(axes, place, 1.15, report.written(row.change), colour, ha="right")
        _label(axes, place, 1.18, row.verdict + star, colour, weight="bold")
    low = min(-1.5 * report.budget, *(row.low for row in report.rows))
    high = max(0.5 * report.budget, *(row.high for row in report.rows))
    room = 0.06 * (high - low)
    axes.set(
        xlim=(low - room, high + room), xlabel=f"change, {100 * report.confidence:.4g} % interval"
    )
    axes.axvspan(low - room, -report.budget, color=VERDICTS[REGRESSED], alpha=0.07, linewidth=0)
    axes.axvline(0, color=PALE, linewidth=1)
    axes.axvline(-report.budget, color=BUDGET, linewidth=2, linestyle="--")
    said = f"beyond the budget of {number(report.budget)} "
    axes.text(-report.budget, -0.6, said, color=BUDGET, size=11, ha="right", va="bottom")


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Lay out one row per name, the first on top and the overall row apart."""
    short = [plain(clipped(name, 32)) for name in names]
    axes.set_yticks(range(len(names)), short, color=INK, size=12)
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_ylim(len(names) - 0.5, -0.6)
    for panel in axes.figure.axes:
        on_paper(panel, "x")
        panel.spines["left"].set_visible(False)
        panel.tick_params(axis="y", length=0)
        panel.xaxis.set_major_formatter(tick)
        panel.axhline(len(names) - 1.5, color=PALE, linewidth=0.8)


def on_paper(axes: Axes, which: Literal["x", "y", "both"]) -> None:
    """Give axes the paper's colours, with grid and tick labels where they carry numbers."""
    axes.set_facecolor(PAPER)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(PALE)
    axes.tick_params(axis=which, colors=PALE, labelsize=11)
    axes.grid(axis=which, color=INK, alpha=0.08)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, size=12)


def clipped(text: str, most: int) -> str:
    """Write a name in so many characters; two long ones differ at their ends, so that stays."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


def plain(text: str) -> str:
    """Keep matplotlib from reading a name as a formula."""
    return text.replace("$", r"\$")


def tick(value: float, _: float) -> str:
    return f"{value + 0.0:.3g}".replace("0.", ".").replace("-", "−")


def _interval(
    axes: Axes, place: int, low: float, high: float, colour: str, alpha: float = 0.55
) -> None:
    axes.plot([low, high], [place, place], color=colour, linewidth=3, alpha=alpha)


def _label(axes: Axes, place: int, x: float, text: str, colour: str, **style: Any) -> None:
    """Write beside a row, x being a part of the axes' width."""
    across = axes.get_yaxis_transform()
    text = text.replace("-", "−")
    axes.text(x, place, text, transform=across, color=colour, size=12, va="center", **style)


def _groups(card: Scorecard) -> dict[str, tuple[list[bool], float]]:
    """Collect what was right, and the level of chance, for each capability and over all."""
    chances = [1 / len(choices) for choices in card.loglikelihoods]
    items = list(zip(card.capability, card.correct, chances, strict=True))
    groups = {}
    for name in (*dict.fromkeys(card.capability), OVERALL):
        mine = [item for item in items if name in (item[0], OVERALL)]
        groups[name] = [right for _, right, _ in mine], sum(part for *_, part in mine) / len(mine)
    return groups


def _scorecard_finding(card: Scorecard) -> str:
    found = f"{card.subject} answers {number(card.accuracy)} of {card.exam} right"
    shares = card.by_capability
    weakest = min(shares, key=shares.__getitem__)
    if shares[weakest] == max(shares.values()):
        return found
    return f"{found}; weakest: {weakest}, {number(shares[weakest])}"


def _before_after_finding(report: Report) -> str:
    levels = report.levels
    regressed = [row.name for row in report.capabilities if row.verdict == REGRESSED]
    several = len(report.capabilities)
    if report.verdict == UNDERPOWERED:
        return f"{levels}: UNDERPOWERED, too few items to tell"
    if not regressed or several == 1:
        return f"{levels}: {report.verdict}"
    where = (
        listed(regressed) if len(regressed) < 4 else f"{len(regressed)} of {several} capabilities"
    )
    return f"{levels}: REGRESSED in {where}"


def _unlike_its_interval(row: Row, report: Report) -> bool:
    """Whether something other than the interval decided: see the rules of `compare`."""
    above, below = row.low >= -report.budget, row.high < -report.budget
    return (row.verdict == HELD and not above) or (row.verdict == REGRESSED and not below)


def _footnotes(report: Report) -> list[str]:
    notes = [row.note for row in report.rows if _unlike_its_interval(row, report)]
    return [f"* {note}" for note in dict.fromkeys(notes)]


# ---------------------------------------------------------------- one run


def run(
    run: "Run",
    *,
    budget: float | None = None,
    guard: "RegressionGuard | None" = None,
    capabilities: bool = False,
) -> Picture:
    """Draw the task and the classics along a run, with the budget and the guard's moment.

    `budget` is the guard's where one is given, else .02. With `capabilities` each of them has a
    small panel beside.
    """
    budget, points = _budget(budget, guard), _points(run)
    names = _most_lost(points) if capabilities else []
    rows = min(3, max(1, len(names)))
    columns = -(-len(names) // rows)
    note = _run_note(run, budget) + "\nsmall panels: one capability each; pale: all" * bool(names)
    picture = Picture(_run_finding(run, budget, guard), 8.0 + 1.9 * columns, 5.2, note)
    grid = picture.add_gridspec(rows, 1 + columns, width_ratios=(3.4, *[1] * columns), wspace=0.06)
    axes = picture.add_subplot(grid[:, 0])
    _draw_run(axes, points, budget)
    if guard and guard.crossed_at is not None:
        _draw_guard(axes, points[-1], guard)
    for place, name in enumerate(names):
        column, row = divmod(place, rows)
        small = picture.add_subplot(grid[row, 1 + column], sharex=axes, sharey=axes)
        lowest = row == rows - 1 or place == len(names) - 1
        _draw_capability(small, points, name, budget, steps_below=lowest)
    return picture


def _most_lost(points: "list[Point]") -> list[str]:
    """Name the capabilities, or where there are too many for panels those that lost most."""
    before, after = points[0].by_capability, points[-1].by_capability
    lost = sorted(before, key=lambda name: after[name] - before[name])[:_MOST_PANELS]
    return [name for name in before if name in lost]


def _budget(budget: float | None, guard: "RegressionGuard | None") -> float:
    if guard is not None and not getattr(guard, "checks", None):
        raise BadInput(
            f"This guard has not looked at a run yet: {shown(guard)}. Give a RegressionGuard to "
            "the run that you draw: fine_tune(..., callbacks=[guard])."
        )
    if budget is None:
        return guard.budget if guard else 0.02
    check_budget(budget)
    return budget


def _points(run: "Run") -> "list[Point]":
    """Return a run's points; whatever has none cannot be drawn."""
    points: list[Point] | None = getattr(run, "points", None)
    if points is None:
        raise BadInput(f"Give a Run, which is what fine_tune returns, not {shown(run)}.")
    if not points:
        raise BadInput("This run has no points: it was never looked at. Let fine_tune begin.")
    return points


def _draw_run(axes: Axes, points: "list[Point]", budget: float) -> None:
    """Draw the two curves and the budget line, each with its name at its end."""
    steps, end = [point.step for point in points], points[-1]
    classics = [point.classics_accuracy for point in points]
    line = classics[0] - budget
    names = [(classics[-1], f"classics {number(end.classics_accuracy)}", OLD)]
    names.append((line, f"budget −{number(budget)}", BUDGET))
    axes.axhline(line, color=BUDGET, linewidth=2, linestyle="--")
    if end.task_accuracy is not None:
        axes.plot(steps, _task(points), "o-", color=NEW, linewidth=3, markersize=6)
        names.append((end.task_accuracy, f"task {number(end.task_accuracy)}", NEW_WORDS))
    axes.plot(steps, classics, "o-", color=OLD, linewidth=3, markersize=6)
    levels = [*classics, *_task(points), line]
    axes.set_ylim(max(-0.02, min(levels) - 0.06), max(levels) + 0.03)
    axes.set(xlabel="training steps", ylabel="accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_formatter(tick)
    on_paper(axes, "both")
    name_ends(axes, names)


def _task(points: "list[Point]") -> list[float]:
    return [point.task_accuracy for point in points if point.task_accuracy is not None]


def name_ends(axes: Axes, names: list[tuple[float, str, str]]) -> None:
    """Write names at the right edge, each at its level, or as near as leaves them readable."""
    low, high = axes.get_ylim()
    gap = 0.065
    ends = sorted(((level - low) / (high - low), text, colour) for level, text, colour in names)
    places = [level for level, *_ in ends]
    for _ in range(50):  # push neighbours apart until all have room
        for i, (below, above) in enumerate(pairwise(places)):
            push = max(0.0, gap - (above - below)) / 2
            places[i], places[i + 1] = places[i] - push, places[i + 1] + push
    for place, (_, text, colour) in zip(places, ends, strict=True):
        style: dict[str, Any] = {"size": 13, "weight": "bold", "va": "center"}
        axes.text(
            1.02, place, plain(clipped(text, 40)), transform=axes.transAxes, color=colour, **style
        )


def _draw_guard(axes: Axes, end: "Point", guard: "RegressionGuard") -> None:
    """Mark where the guard saw the budget crossed and, after a rollback, what it went back to."""
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
    """Draw one capability's way in front of the way of all, with a budget line of its own."""
    steps = [point.step for point in points]
    levels = [point.by_capability[name] for point in points]
    axes.axhline(levels[0] - budget, color=BUDGET, linewidth=1, linestyle="--")
    axes.plot(steps, [point.classics_accuracy for point in points], color=OLD, alpha=0.25)
    axes.plot(steps, levels, "o-", color=OLD, linewidth=2, markersize=3.5)
    on_paper(axes, "both")
    axes.tick_params(left=False, labelleft=False, bottom=steps_below, labelbottom=steps_below)
    short = plain(clipped(name, 14))
    axes.set_title(f"{short} {number(levels[-1])}", color=INK, size=12, loc="left", pad=4)


def _run_finding(run: "Run", budget: float, guard: "RegressionGuard | None") -> str:
    points = _points(run)
    first, last = points[0], points[-1]
    levels = [_way("classics", first.classics_accuracy, last.classics_accuracy)]
    if first.task_accuracy is not None and last.task_accuracy is not None:
        levels.insert(0, _way("task", first.task_accuracy, last.task_accuracy))
    if run.trouble:
        return f"{', '.join(levels)}, then the run failed"
    said = _guard_finding(guard, last.step) if guard else _budget_finding(points, budget)
    return f"{', '.join(levels)}: {said}"


def _way(name: str, before: float, after: float) -> str:
    return f"{name} {number(before)} → {number(after)}"


def _budget_finding(points: "list[Point]", budget: float) -> str:
    """Say when the curve went below the budget line for good, if it did."""
    line = points[0].classics_accuracy - budget - 1e-9
    below = [point.classics_accuracy < line for point in points]
    if not below[-1]:
        return f"{'back ' * any(below)}within the budget of {number(budget)}"
    last_above = max((i for i, under in enumerate(below) if not under), default=-1)
    return f"beyond the budget of {number(budget)} from step {points[last_above + 1].step} on"


def _guard_finding(guard: "RegressionGuard", last: int) -> str:
    if guard.crossed_at is None:
        return "the guard saw no crossing"
    seen = f"the guard saw the budget crossed at step {guard.crossed_at}"
    if guard.restored_step is not None:
        return f"{seen} and went back to step {guard.restored_step}"
    return f"{seen} and stopped at step {last}" if guard.action != "warn" else seen


def looks(guard: "RegressionGuard") -> Picture:
    """Draw what a guard saw: the change at each look with its interval, against the budget."""
    if guard is None:
        raise BadInput("Give the guard that looked at a run: looks(guard).")
    budget, seen = _budget(None, guard), guard.to_pandas()
    note = "bars: the interval of the change over all questions\n"
    note += f"green: {HELD}; grey: {UNDERPOWERED}; red: {REGRESSED}, the whole or a capability"
    picture = Picture(f"The guard looked {_seen(guard)}", 8.0, 4.6, note)
    axes = picture.subplots()
    axes.vlines(seen["step"], seen["low"], seen["high"], OLD, linewidth=3, alpha=0.55)
    for verdict, rows in seen.groupby("verdict"):
        dots: dict[str, Any] = {"color": VERDICTS[str(verdict)], "markersize": 9, "zorder": 3}
        axes.plot(rows["step"], rows["change"], "o", **dots)
    axes.axhline(0, color=PALE, linewidth=1)
    axes.axhline(-budget, color=BUDGET, linewidth=2, linestyle="--")
    axes.set(xlabel="training steps", ylabel="change in accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_formatter(tick)
    on_paper(axes, "both")
    last = seen.iloc[-1]
    names = [(-budget, f"budget −{number(budget)}", BUDGET)]
    names.append((last["change"], last["verdict"], VERDICTS[last["verdict"]]))
    name_ends(axes, names)
    return picture


def _seen(guard: "RegressionGuard") -> str:
    """Say how often a guard looked and what came of it."""
    times = f"{len(guard.checks)} times"
    if guard.crossed_at is None:
        return f"{times} and saw no crossing"
    back = guard.restored_step
    said = f"{times}, saw the budget crossed at step {guard.crossed_at}"
    return said if back is None else f"{said} and went back to step {back}"


def _run_note(run: "Run", budget: float) -> str:
    """Say what the points leave open: they are a sample, and the whole exam has the last word."""
    if run.trouble:
        return f"{run.recipe!r}\n{run.trouble}"
    report = compare(run.before, run.final, budget=budget)
    found = report.sentence.partition("; ")[0].replace("-", "−")
    return f"{run.recipe!r}\npoints ask a sample; all {report.overall.n} questions: {found}"


# ---------------------------------------------------------------- many runs

Runs: TypeAlias = Union["Run", Iterable["Run"]]


@dataclass(frozen=True)
class _Group:
    """The runs of one recipe, which differ in their seeds alone."""

    label: str
    recipe: "Recipe | None"  # None: the base, before any
    seeds: tuple[tuple[float, float], ...]  # (task accuracy, classics accuracy)

    @property
    def mean(self) -> tuple[float, float]:
        return fmean(x for x, _ in self.seeds), fmean(y for _, y in self.seeds)

    def beaten_by(self, other: "_Group") -> bool:
        (x, y), (more, kept) = self.mean, other.mean
        return more >= x and kept >= y and (more, kept) != (x, y)


def trade_off(runs: Runs) -> Picture:
    """Draw what every recipe learned against what it kept, and the frontier of the best.

    Runs of one recipe that differ in their seed are one large dot, their mean; each small dot is a
    run. The frontier joins the recipes, and the base, that no other surpasses on both counts.
    """
    ended, failed = _ended(runs)
    bases, groups = _bases(ended), _groups_of(ended)
    everyone = [*bases, *groups]
    best = [one for one in everyone if not any(one.beaten_by(other) for other in everyone)]
    notes = ["line: the frontier, what no other recipe surpasses on both counts"]
    notes += ["large dots: means over seeds; small dots: single runs"] * (len(ended) > len(groups))
    picture = Picture(_trade_off_finding(bases, groups, best), 8.0, 6.0, _notes(notes, failed))
    axes = picture.subplots()
    best.sort(key=lambda group: group.mean)
    way = zip(*(group.mean for group in best), strict=True)
    axes.plot(*way, color=INK, alpha=0.3, linewidth=5, zorder=1)
    for group in everyone:
        _draw_group(axes, group, 1.0 if group in best else 0.4)
    exam = clipped(ended[0].before.exam, 40)
    axes.set(xlabel="task accuracy: learned →", ylabel=f"{plain(exam)} accuracy: kept →")
    axes.margins(0.1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(tick)
    on_paper(axes, "both")
    axes.xaxis.label.set_color(NEW_WORDS)
    axes.yaxis.label.set_color(OLD)
    names = [(*group.mean, group.label, INK if group in best else PALE) for group in everyone]
    _name_dots(axes, names)
    return picture


def kl(runs: Runs) -> Picture:
    """Draw how far each run moved from its base on the task's text, and what that cost.

    The KL counts nats per token, on held-out text of the new task; no old question is asked for it.
    The line is the least-squares fit, on a log axis where the values span more than a hundredfold.
    """
    import numpy as np

    ended, failed = _ended(runs)
    moved = np.array([one.points[-1].kl for one in ended])
    lost = np.array([one.before.accuracy - one.final.accuracy for one in ended])
    if len(ended) < 3 or np.ptp(moved) == 0:
        raise BadInput(f"A line needs three runs or more that moved differently, not {len(ended)}.")
    log = bool(moved.min() > 0 and moved.max() / moved.min() > 100)
    scale = np.log10 if log else np.asarray
    slope, start = np.polyfit(scale(moved), lost, 1)
    explained = _explained(scale(moved), lost)
    notes = [f"line: least squares{' on the logarithm of the KL' * log}"]
    fresh = np.array([not one.recipe.replay for one in ended])
    if 3 <= sum(fresh) < len(ended):
        apart = _explained(scale(moved)[fresh], lost[fresh])
        notes.append(f"the {sum(fresh)} runs without replay alone: R² {number(apart)}")
    picture = Picture(_kl_finding(slope, explained, len(ended)), 8.0, 5.2, _notes(notes, failed))
    axes = picture.subplots()
    _draw_fit(axes, ended, moved, lost, lambda x: start + slope * scale(x))
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    return picture


def _explained(x: Any, y: Any) -> float:
    """Return R², the share of y's variance that a line over x explains."""
    import numpy as np

    return float(np.corrcoef(x, y)[0, 1] ** 2) if np.ptp(x) and np.ptp(y) else 0.0


def _draw_fit(axes: Axes, runs: "list[Run]", moved: Any, lost: Any, fit: Any) -> None:
    """Draw every run and the line through them."""
    import numpy as np

    ends = np.array([moved.min(), moved.max()])
    axes.plot(ends, fit(ends), color=INK, alpha=0.3, linewidth=5)
    for run, x, y in zip(runs, moved, lost, strict=True):
        axes.plot(x, y, **_mark(run.recipe))
    exam = clipped(runs[0].before.exam, 40)
    axes.set(xlabel="KL to the base on the new task, nats per token", ylabel=f"{plain(exam)} lost")
    axes.margins(0.06)
    axes.yaxis.set_major_formatter(tick)
    on_paper(axes, "both")
    axes.xaxis.label.set_color(NEW_WORDS)
    axes.yaxis.label.set_color(OLD)
    kinds = {_kind(run.recipe): _mark(run.recipe) for run in runs}
    if len(kinds) > 1:
        handles = [axes.plot([], [], label=kind, **mark)[0] for kind, mark in kinds.items()]
        axes.legend(handles=handles, frameon=False, labelcolor=INK, fontsize=12)


def _kl_finding(slope: float, explained: float, count: int) -> str:
    """Say how much of the loss the KL explains; a falling line predicts nothing of the kind."""
    words = {0.8: "predicts", 0.5: "partly predicts", 0.0: "hardly predicts"}
    said = next(word for least, word in words.items() if explained >= least)
    said = said if slope > 0 else "does not predict"
    return (
        f"KL to the base on the new task {said} what is lost: "
        f"R² {number(explained)} over {count} runs"
    )


def _trade_off_finding(bases: list[_Group], groups: list[_Group], best: list[_Group]) -> str:
    """Name the recipes that no other surpasses on both counts."""
    names = [group.label for group in best if group.recipe]
    if len(groups) == 1:
        (start_x, start_y), (x, y) = bases[0].mean, groups[0].mean
        return f"{names[0]}: {_way('task', start_x, x)}, {_way('classics', start_y, y)}"
    most = max(groups, key=lambda group: group.mean)
    return (
        f"{len(names)} of {len(groups)} recipes on the frontier; {most.label} learns most: "
        f"task {number(most.mean[0])}, classics {number(most.mean[1])}"
    )


def _notes(notes: list[str], failed: "list[Run]") -> str:
    count = len(failed)
    return "\n".join([*notes, *[f"{count} that failed in training: not drawn"] * bool(failed)])


def _ended(runs: Runs) -> "tuple[list[Run], list[Run]]":
    """Part the runs that came to an end from those that failed; refuse what shares no axes."""
    given: list[Run] = list(runs) if isinstance(runs, Iterable) else [runs]
    if not given:
        raise BadInput("There is no run to draw. Give a list of what fine_tune returned.")
    for one in given:
        _points(one)
        if one.before_task is None:
            raise BadInput("A run was not asked about its task. Give fine_tune a task_exam.")
    if len({one.before.fingerprint for one in given}) > 1:
        exams = listed(sorted({one.before.exam for one in given}))
        raise BadInput(f"These runs were asked different exams ({exams}): draw them apart.")
    ended = [one for one in given if not one.trouble]
    if not ended:
        raise BadInput(f"All {len(given)} runs failed in training. {given[0].trouble}")
    return ended, [one for one in given if one.trouble]


def _bases(runs: "list[Run]") -> list[_Group]:
    """Return where the runs set out: one point for each base."""
    starts = {one.base: _place(one.before_task, one.before) for one in runs}
    return [
        _Group("base" if len(starts) == 1 else name, None, (start,))
        for name, start in starts.items()
    ]


def _place(task: Scorecard | None, classics: Scorecard) -> tuple[float, float]:
    assert task is not None
    return task.accuracy, classics.accuracy


def _groups_of(runs: "list[Run]") -> list[_Group]:
    """Gather the runs of one recipe and one base; who was stopped stands apart."""
    groups: dict[tuple[str, Recipe, int], list[tuple[float, float]]] = {}
    for one in runs:
        key = one.base, one.recipe.change(seed=0), one.steps
        groups.setdefault(key, []).append(_place(one.final_task, one.final))
    labels = _labels(list(groups))
    return [
        _Group(label, recipe, tuple(seeds))
        for label, ((_, recipe, _), seeds) in zip(labels, groups.items(), strict=True)
    ]


def _labels(keys: "list[tuple[str, Recipe, int]]") -> list[str]:
    """Name recipes by what sets them apart; by method and rate if nothing does."""
    recipes = [recipe for _, recipe, _ in keys]
    apart = {f.name for f in fields(recipes[0]) if len({getattr(r, f.name) for r in recipes}) > 1}
    several = len({base for base, *_ in keys}) > 1
    return [
        f"{base}: " * several
        + _label_of(recipe, apart)
        + f", stopped at {steps}" * (steps < recipe.steps)
        for base, recipe, steps in keys
    ]


def _label_of(recipe: "Recipe", apart: set[str]) -> str:
    """Write the fields that set a recipe apart: `LoRA 5e-3, rank 2, 10 % replay`."""
    head, replay = {"method", "learning_rate"}, {"replay", "replay_source"}
    words = [f"{METHODS[recipe.method]} {spoken_rate(recipe.learning_rate)}"] * bool(apart & head)
    for name in sorted(apart - head - replay):
        if recipe.method == "lora" or name not in _ADAPTER_FIELDS:
            words.append(f"{name.replace('_', ' ')} {getattr(recipe, name)}")
    if apart & replay and (recipe.replay or not words):
        share = f"{100 * recipe.replay:g} %" if recipe.replay else "no"
        words.append(f"{share} {'self-' * (recipe.replay_source == 'self')}replay")
    return ", ".join(words) or f"{METHODS[recipe.method]} {spoken_rate(recipe.learning_rate)}"


METHODS = {"full": "full", "lora": "LoRA"}
_ADAPTER_FIELDS = ("rank", "alpha", "target_modules", "dropout")


def spoken_rate(rate: float) -> str:
    """Write a learning rate as it is spoken of: 1e-3, 2.5e-4."""
    digits, _, exponent = f"{rate:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}" if rate else "0"


def _kind(recipe: "Recipe") -> str:
    return METHODS[recipe.method] + ", replay" * (recipe.replay > 0)


def _mark(recipe: "Recipe") -> dict[str, Any]:
    """Give full fine-tuning and LoRA a shape, and replay the colour of the old."""
    marker, size = ("D", 8) if recipe.method == "lora" else ("o", 10)
    colour = OLD if recipe.replay else INK
    return {"marker": marker, "markersize": size, "color": colour, "linestyle": "none"}


def _draw_group(axes: Axes, group: _Group, alpha: float) -> None:
    """Draw the mean large and the seeds small, each tied to the mean."""
    x, y = group.mean
    if group.recipe is None:
        # A ring wide enough to be seen around a dot that has not moved from it.
        ring: dict[str, Any] = {"markerfacecolor": PAPER, "markersize": 16, "mew": 2, "zorder": 1.5}
        axes.plot(x, y, "o", color=INK, **ring)
        return
    mark = _mark(group.recipe)
    for seed in group.seeds if len(group.seeds) > 1 else ():
        axes.plot(*zip((x, y), seed, strict=True), color=mark["color"], alpha=0.25, linewidth=1)
        axes.plot(*seed, **mark | {"markersize": 4}, alpha=0.45)
    axes.plot(x, y, **mark, alpha=alpha)


def _name_dots(axes: Axes, dots: list[tuple[float, float, str, str]]) -> None:
    """Write each dot's name near it, where it covers nothing and belongs to no other dot.

    The first line of the axes is the frontier, which is better left free, too.
    """
    axes.figure.draw_without_rendering()  # type: ignore[union-attr] # to know where things will be
    marks = [line for line in axes.lines if line.get_marker() != "None"]
    taken = [line.get_window_extent().padded(2) for line in marks]
    way = axes.transData.transform_path(axes.lines[0].get_path())
    centres = axes.transData.transform([dot[:2] for dot in dots])  # (dots, 2), in pixels
    for at, (x, y, name, colour) in enumerate(dots):
        boxes = _places(centres[at], *_size(axes, name))
        best = min(boxes, key=lambda box: _cost(box, axes.bbox, taken, way, centres, at))
        taken.append(best.padded(6))
        offset = (_middle(best) - centres[at]) * 72 / DOTS
        far = _distances(best, centres[at : at + 1])[0] > 20
        _name_dot(axes, (x, y), offset, plain(clipped(name, 48)), colour, _LEADER if far else None)


def _size(axes: Axes, name: str) -> tuple[float, float]:
    """Measure a name as it will be written."""
    text = axes.text(0, 0, plain(clipped(name, 48)), size=12)
    box = text.get_window_extent()
    text.remove()
    return box.width, box.height


def _places(centre: Any, width: float, height: float) -> list[Bbox]:
    """Return where a name may stand: all around its dot, near and far."""
    turns = [(cos(pi * part / 8), sin(pi * part / 8)) for part in range(16)]
    return [
        Bbox.from_bounds(
            centre[0] + x * (far + width / 2) - width / 2,
            centre[1] + y * (far + height / 2) - height / 2,
            width,
            height,
        )
        for far in (13, 19, 28, 42, 60, 80, 105)
        for x, y in turns
    ]


def _cost(box: Bbox, frame: Any, taken: list[Any], way: Path, centres: Any, own: int) -> float:
    """Weigh a place for a name: far away, in the way, outside, or nearer to another dot."""
    away = _distances(box, centres)
    outside = frame.x0 > box.x0 or box.x1 > frame.x1 or frame.y0 > box.y0 or box.y1 > frame.y1
    weights = {150: box.count_overlaps(taken), 200: outside, 30: away.argmin() != own}
    weights[20] = way.intersects_bbox(box, filled=False)
    return float(away[own] + sum(weight * found for weight, found in weights.items()))


def _middle(box: Any) -> Any:
    return (box.min + box.max) / 2


def _distances(box: Bbox, centres: Any) -> Any:
    """Return how far each dot is from a box, in pixels."""
    import numpy as np

    return np.hypot(*np.maximum(abs(centres - _middle(box)) - np.array(box.size) / 2, 0).T)


def _name_dot(
    axes: Axes, dot: tuple[float, float], offset: Any, name: str, colour: str, leader: Any
) -> None:
    """Write a name beside its dot, in letters with a rim of paper, and lead to it from afar."""
    style = {"color": colour, "size": 12, "ha": "center", "va": "center", "arrowprops": leader}
    rim = [withStroke(linewidth=3, foreground=PAPER)]
    text = axes.annotate(
        name, dot, tuple(offset), textcoords="offset points", path_effects=rim, **style
    )
    text.set_in_layout(False)


_LEADER = {"arrowstyle": "-", "color": PALE, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 4}
