"""Draw one scorecard, or two compared."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from caplab.measuring.intervals import wilson
from caplab.measuring.policy import WATCHED
from caplab.measuring.report import REGRESSED, UNDERPOWERED, Report, Row
from caplab.measuring.scorecard import Scorecard
from caplab.plots.labels import write_beside_row
from caplab.plots.picture import MOST_ROWS, Picture, clipped, on_paper, plain, tick
from caplab.questions.exam import OVERALL
from caplab.support.colours import BUDGET, INK, OLD, PALE, PAPER, VERDICTS
from caplab.support.errors import require_type
from caplab.support.text import format_number, join_words

__all__ = ["before_after", "scorecard"]

_NAME = 26  # letters of a name; its evidence stands behind it in full


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
    _rows(axes, [f"{clipped(name, _NAME)} ({len(right)})" for name, (right, _) in groups.items()])
    chance = next(iter(groups.values()))[1]
    axes.text(chance, -0.6, "chance", color=PALE, size=11, ha="center", va="bottom")
    axes.set(xlim=(0, 1.01), xlabel="accuracy: share of the questions answered right")
    return picture


def before_after(report: Report) -> Picture:
    """Draw each capability before and after, and its change against the budget, with verdicts."""
    require_type(report, Report, "This draws a Report, which is what compare returns")
    thin = ["thin line: the interval corrected for all rows"] * (len(report.capabilities) > 1)
    notes = [*_footnotes(report), *thin, report.conditions.replace("->", "→")]
    note = "\n".join(notes)
    finding, several = _before_after_finding(report), len(report.capabilities)
    if several >= MOST_ROWS:
        report = replace(report, rows=_worst(report))
        note += f"\n{MOST_ROWS - 1} of {several} capabilities, those that lost most"
    rows = report.rows
    picture = Picture(finding, 10.5, 2.0 + 0.4 * len(rows), note)
    left, right = picture.subplots(1, 2, sharey=True, width_ratios=(1, 1.3))
    _draw_levels(left, report)
    _draw_changes(right, report)
    _rows(left, [_named(row) for row in rows], apart=sum(row.is_overall for row in rows))
    return picture


def _named(row: Row) -> str:
    """Name a row with its questions, the groups behind them where they are fewer, and its tier."""
    evidence = f"{row.n}" if row.n == row.groups else f"{row.n} in {row.groups} groups"
    tier = "" if row.tier == WATCHED or row.is_overall else f", {row.tier}"
    return f"{clipped(row.name, _NAME)} ({evidence}{tier})"


def _worst(report: Report) -> tuple[Row, ...]:
    """Return the rows that lost most, in the order of the table, the overall rows last."""
    lost = sorted(report.capabilities, key=lambda row: (row.verdict != REGRESSED, row.change))
    kept = {row.name for row in lost[: MOST_ROWS - 1]}
    return tuple(row for row in report.rows if row.is_overall or row.name in kept)


def _draw_levels(axes: Axes, report: Report) -> None:
    """Draw the level of each row before and after."""
    # The ring is wide enough to be seen around a dot that has not moved.
    ring: dict[str, Any] = {"markerfacecolor": PAPER, "markersize": 13, "mew": 2}
    for y, row in enumerate(report.rows):
        axes.plot([row.before, row.after], [y, y], color=OLD, alpha=0.75, linewidth=3)
        axes.plot(row.before, y, "o", color=OLD, **ring, clip_on=False)
        axes.plot(row.after, y, "o", color=OLD, markersize=7, clip_on=False)
    axes.set(xlim=(-0.02, 1.03), xlabel=f"{report.metric}   ○ before   ● after")


def _draw_changes(axes: Axes, report: Report) -> None:
    """Draw each change with its intervals: the verdict tells where they lie.

    The thick bar is the row's own interval, whose low end decides about HELD. The thin line is
    corrected for all rows, and its high end decides about REGRESSED.
    """
    for y, row in enumerate(report.rows):
        colour, star = VERDICTS[row.verdict], "*" * row.by_collapse
        axes.plot([row.joint_low, row.joint_high], [y, y], color=colour, linewidth=1.2)
        _interval(axes, y, row.low, row.high, colour, width=2.5 if star else 4.5)
        axes.plot(row.change, y, "o", color=colour, markersize=8)
        write_beside_row(axes, y, 1.15, report.format_change(row.change), colour, ha="right")
        write_beside_row(axes, y, 1.18, row.verdict + star, colour, weight="bold")
    low = min(-1.5 * report.budget, *(-1.2 * row.budget for row in report.rows))
    low = min(low, *(row.joint_low for row in report.rows))
    high = max(0.5 * report.budget, *(row.joint_high for row in report.rows))
    room = 0.06 * (high - low)
    level = f"change, {100 * report.confidence:.4g} % interval"
    axes.set(xlim=(low - room, high + room), xlabel=level)
    axes.axvline(0, color=PALE, linewidth=1)
    _draw_budgets(axes, report, low - room)


def _draw_budgets(axes: Axes, report: Report, left: float) -> None:
    """Draw the budget line, which has a step where a row has its own, and shade what is beyond."""
    budgets = [row.budget for row in report.rows]
    line = np.repeat(np.negative(budgets), 2)
    heights = np.repeat(np.arange(len(budgets) + 1) - 0.5, 2)[1:-1]  # from one row's edge to next
    heights[0] = -0.6  # the upper end of the axes
    axes.plot(line, heights, color=BUDGET, linewidth=2, linestyle="--")
    axes.fill_betweenx(heights, left, line, color=VERDICTS[REGRESSED], alpha=0.07, linewidth=0)
    own = len(set(budgets)) > 1
    said = "beyond the budget " if own else f"beyond the budget of {format_number(report.budget)} "
    axes.text(line[0], -0.6, said, color=BUDGET, size=11, ha="right", va="bottom")
    for y, budget in enumerate(budgets) if own else ():
        number = f"{format_number(budget)} "
        axes.text(-budget, y - 0.18, number, color=BUDGET, size=9, ha="right", va="bottom")


def _rows(axes: Axes, names: Sequence[str], apart: int = 1) -> None:
    """Set up one row per name, the first on top; the last ones stand apart, below a line."""
    axes.set_yticks(range(len(names)), list(map(plain, names)), color=INK, size=12)
    for label in axes.get_yticklabels()[-apart:]:
        label.set_fontweight("bold")
    axes.set_ylim(len(names) - 0.5, -0.6)
    for panel in axes.figure.axes:
        on_paper(panel, "x")
        panel.spines["left"].set_visible(False)
        panel.tick_params(axis="y", length=0)
        panel.xaxis.set_major_formatter(tick)
        panel.axhline(len(names) - apart - 0.5, color=PALE, linewidth=0.8)


def _interval(
    axes: Axes, row: int, low: float, high: float, colour: str, width: float = 4.5
) -> None:
    axes.plot([low, high], [row, row], color=colour, linewidth=width, alpha=0.75)


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
        seen = [row.name for row in report.deciding if not row.within_budget]
        why = (
            f"more than allowed was seen lost in {join_words(seen)}, " if 0 < len(seen) < 4 else ""
        )
        return f"{levels}: UNDERPOWERED, {why}too few groups to tell"
    if not regressed or several == 1:
        return f"{levels}: {report.verdict}"
    where = (
        join_words(regressed)
        if len(regressed) < 4
        else f"{len(regressed)} of {several} capabilities"
    )
    return f"{levels}: REGRESSED in {where}"


def _footnotes(report: Report) -> list[str]:
    rows = [row for row in report.rows if row.by_collapse]
    counts = ", ".join(f"{row.collapsed} of {row.n} in {row.name}" for row in rows)
    return [f"* preferred, but no longer said: {counts}"] if rows else []
