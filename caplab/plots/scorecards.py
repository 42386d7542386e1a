"""Draw one scorecard, or two compared."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes

from caplab.measuring.intervals import wilson
from caplab.measuring.report import HELD, REGRESSED, UNDERPOWERED, Report, Row
from caplab.measuring.scorecard import Scorecard
from caplab.plots.labels import write_beside_row
from caplab.plots.picture import (
    BUDGET,
    INK,
    MOST_ROWS,
    OLD,
    PALE,
    PAPER,
    VERDICTS,
    Picture,
    clipped,
    on_paper,
    plain,
    tick,
)
from caplab.questions.exam import OVERALL
from caplab.support.errors import require_type
from caplab.support.text import format_number, join_words

__all__ = ["before_after", "scorecard"]


def scorecard(card: Scorecard) -> Picture:
    """Draw the accuracy on each capability, with 95 % Wilson intervals and the level of chance."""
    require_type(card, Scorecard, "This draws a Scorecard, which is what score returns")
    groups, note = _groups(card), "bars: 95 % Wilson intervals; chance: what guessing would reach"
    if len(groups) > MOST_ROWS:
        weakest = sorted(groups, key=lambda name: fmean(groups[name][0]))[: MOST_ROWS - 1]
        note += f"\n{MOST_ROWS - 1} of {len(groups) - 1} capabilities, the weakest"
        groups = {name: found for name, found in groups.items() if name in (*weakest, OVERALL)}
    picture = Picture(_scorecard_finding(card), 8.0, 1.6 + 0.4 * len(groups), note)
    axes = picture.subplots()
    for row, (right, chance) in enumerate(groups.values()):
        share = sum(right) / len(right)
        _interval(axes, row, *wilson(sum(right), len(right)), OLD)
        axes.plot(share, row, "o", color=OLD, markersize=9, clip_on=False)
        axes.vlines(chance, row - 0.5, row + 0.5, colors=PALE, linestyles=":", linewidth=2)
        write_beside_row(axes, row, 1.02, format_number(share), INK)
    _rows(axes, [f"{name} ({len(right)})" for name, (right, _) in groups.items()])
    chance = next(iter(groups.values()))[1]
    axes.text(chance, -0.6, "chance", color=PALE, size=11, ha="center", va="bottom")
    axes.set(xlim=(0, 1.01), xlabel="accuracy: share of the questions answered right")
    return picture


def before_after(report: Report) -> Picture:
    """Draw each capability before and after, and its change against the budget, with verdicts."""
    require_type(report, Report, "This draws a Report, which is what compare returns")
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
    """Return the rows that lost most, in the order of the table, the overall row last."""
    lost = sorted(report.capabilities, key=lambda row: (row.verdict != REGRESSED, row.change))
    kept = {row.name for row in lost[: MOST_ROWS - 1]} | {OVERALL}
    return tuple(row for row in report.rows if row.name in kept)


def _draw_levels(axes: Axes, report: Report) -> None:
    """Draw the level of each row before and after."""
    # The ring is wide enough to be seen around a dot that has not moved.
    ring: dict[str, Any] = {"markerfacecolor": PAPER, "markersize": 13, "mew": 2}
    for y, row in enumerate(report.rows):
        axes.plot([row.before, row.after], [y, y], color=OLD, alpha=0.35, linewidth=4)
        axes.plot(row.before, y, "o", color=OLD, **ring, clip_on=False)
        axes.plot(row.after, y, "o", color=OLD, markersize=7, clip_on=False)
    axes.set(xlim=(-0.02, 1.03), xlabel=f"{report.metric}   ○ before   ● after")


def _draw_changes(axes: Axes, report: Report) -> None:
    """Draw each change with its interval: the verdict tells on which side of the budget it lies."""
    for y, row in enumerate(report.rows):
        colour, star = VERDICTS[row.verdict], "*" * _unlike_its_interval(row, report)
        _interval(axes, y, row.low, row.high, colour, alpha=0.25 if star else 0.55)
        axes.plot(row.change, y, "o", color=colour, markersize=8)
        write_beside_row(axes, y, 1.15, report.written(row.change), colour, ha="right")
        write_beside_row(axes, y, 1.18, row.verdict + star, colour, weight="bold")
    low = min(-1.5 * report.budget, *(row.low for row in report.rows))
    high = max(0.5 * report.budget, *(row.high for row in report.rows))
    room = 0.06 * (high - low)
    axes.set(
        xlim=(low - room, high + room), xlabel=f"change, {100 * report.confidence:.4g} % interval"
    )
    axes.axvspan(low - room, -report.budget, color=VERDICTS[REGRESSED], alpha=0.07, linewidth=0)
    axes.axvline(0, color=PALE, linewidth=1)
    axes.axvline(-report.budget, color=BUDGET, linewidth=2, linestyle="--")
    said = f"beyond the budget of {format_number(report.budget)} "
    axes.text(-report.budget, -0.6, said, color=BUDGET, size=11, ha="right", va="bottom")


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Set up one row per name, the first on top and the overall row below a line."""
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


def _interval(
    axes: Axes, row: int, low: float, high: float, colour: str, alpha: float = 0.55
) -> None:
    axes.plot([low, high], [row, row], color=colour, linewidth=3, alpha=alpha)


def _groups(card: Scorecard) -> dict[str, tuple[list[bool], float]]:
    """Collect the answers and the level of chance for each capability and overall."""
    chances = [1 / len(choices) for choices in card.loglikelihoods]
    items = list(zip(card.capability, card.correct, chances, strict=True))
    groups = {}
    for name in (*dict.fromkeys(card.capability), OVERALL):
        mine = [item for item in items if name in (item[0], OVERALL)]
        groups[name] = [right for _, right, _ in mine], sum(part for *_, part in mine) / len(mine)
    return groups


def _scorecard_finding(card: Scorecard) -> str:
    found = f"{card.subject} answers {format_number(card.accuracy)} of {card.exam} right"
    shares = card.by_capability
    weakest = min(shares, key=shares.__getitem__)
    if shares[weakest] == max(shares.values()):
        return found
    return f"{found}; weakest: {weakest}, {format_number(shares[weakest])}"


def _before_after_finding(report: Report) -> str:
    levels = report.levels
    regressed = [row.name for row in report.capabilities if row.verdict == REGRESSED]
    several = len(report.capabilities)
    if report.verdict == UNDERPOWERED:
        return f"{levels}: UNDERPOWERED, too few items to tell"
    if not regressed or several == 1:
        return f"{levels}: {report.verdict}"
    where = (
        join_words(regressed)
        if len(regressed) < 4
        else f"{len(regressed)} of {several} capabilities"
    )
    return f"{levels}: REGRESSED in {where}"


def _unlike_its_interval(row: Row, report: Report) -> bool:
    """Tell whether something other than the interval decided; see the rules of `compare`."""
    above, below = row.low >= -report.budget, row.high < -report.budget
    return (row.verdict == HELD and not above) or (row.verdict == REGRESSED and not below)


def _footnotes(report: Report) -> list[str]:
    notes = [row.note for row in report.rows if _unlike_its_interval(row, report)]
    return [f"* {note}" for note in dict.fromkeys(notes)]
