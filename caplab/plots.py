"""Draw what was measured. Every title states a finding, computed from the data.

The colours mean the same in the whole course: OLD is what the base could already do, NEW is what
is being learned. They stay apart for colour-blind eyes, on a projector and in grey print. Pictures
bring their own paper, so that they read alike on light and dark pages.
"""

import textwrap
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from caplab.exam import Scorecard
from caplab.stats import (
    HELD,
    OVERALL,
    REGRESSED,
    UNDERPOWERED,
    Report,
    Row,
    listed,
    number,
    wilson,
)

__all__ = ["BUDGET", "GUARD", "INK", "NEW", "OLD", "PAPER", "Picture", "before_after", "scorecard"]

OLD = "#0072b2"  # blue: the classics
NEW = "#d55e00"  # vermilion: the new task
BUDGET = "#4d4d4d"  # the line that a drop must not cross
GUARD = "#aa3377"  # purple: where the guard acted
PAPER, INK, PALE = "#fbfaf7", "#1f1f1f", "#666666"
VERDICTS = {REGRESSED: "#b3261e", HELD: "#0b6e4f", UNDERPOWERED: PALE}
DOTS = 96  # per inch, as shown; rendered at twice as many for high-resolution screens


class Picture(Figure):
    """A figure that shows itself in a notebook, whichever backend is active, and without pyplot."""

    def __init__(self, finding: str, width: float, height: float, note: str = "") -> None:
        super().__init__((width, height), DOTS, facecolor=PAPER)
        self.finding = finding
        across, up = 0.12 / width, 0.1 / height  # matplotlib counts in parts of the figure
        title = textwrap.wrap(_plain(finding), int(8.6 * width))
        room = up * (1.5 + 2.6 * len(title))
        self.set_layout_engine("constrained", rect=(across, up, 1 - 2 * across, 1 - up - room))
        head = {"x": 1.5 * across, "y": 1 - 1.3 * up, "ha": "left", "va": "top"}
        self.suptitle("\n".join(title), **head, color=INK, size=14, weight="bold")
        lines = [textwrap.fill(_plain(line), int(13 * width)) for line in note.splitlines()]
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
    groups = _groups(card)
    note = "bars: 95 % Wilson intervals; chance: what guessing would reach"
    picture = Picture(_scorecard_finding(card), 8.0, 1.6 + 0.4 * len(groups), note)
    axes = picture.subplots()
    for place, (right, chance) in enumerate(groups.values()):
        share = sum(right) / len(right)
        _interval(axes, place, *wilson(sum(right), len(right)), OLD)
        axes.plot(share, place, "o", color=OLD, markersize=9)
        axes.vlines(chance, place - 0.5, place + 0.5, colors=PALE, linestyles=":", linewidth=2)
        _label(axes, place, 1.02, number(share), INK)
    _rows(axes, [f"{name} ({len(right)})" for name, (right, _) in groups.items()])
    chance = next(iter(groups.values()))[1]
    axes.text(chance, -0.6, "chance", color=PALE, size=11, ha="center", va="bottom")
    axes.set(xlim=(0, 1.01), xlabel="accuracy: share of the questions answered right")
    return picture


def before_after(report: Report) -> Picture:
    """Draw each capability before and after, and its change against the budget, with verdicts."""
    rows = report.rows
    note = "\n".join([*_footnotes(report), report.conditions.replace("->", "→")])
    picture = Picture(_before_after_finding(report), 10.5, 2.0 + 0.4 * len(rows), note)
    left, right = picture.subplots(1, 2, sharey=True, width_ratios=(1, 1.3))
    _draw_levels(left, report)
    _draw_changes(right, report)
    _rows(left, [f"{row.name} ({row.n})" for row in rows])
    return picture


def _draw_levels(axes: Axes, report: Report) -> None:
    """Draw where every row was and where it is."""
    for place, row in enumerate(report.rows):
        axes.plot([row.before, row.after], [place, place], color=OLD, alpha=0.35, linewidth=4)
        axes.plot(row.before, place, "o", color=OLD, markerfacecolor=PAPER, markersize=10, mew=2)
        axes.plot(row.after, place, "o", color=OLD, markersize=7)
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
        xlim=(low - room, high + room), xlabel=f"change, {100 * report.confidence:g} % interval"
    )
    axes.axvspan(low - room, -report.budget, color=VERDICTS[REGRESSED], alpha=0.07, linewidth=0)
    axes.axvline(0, color=PALE, linewidth=1)
    axes.axvline(-report.budget, color=BUDGET, linewidth=2, linestyle="--")
    said = f"beyond the budget of {number(report.budget)} "
    axes.text(-report.budget, -0.6, said, color=BUDGET, size=11, ha="right", va="bottom")


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Lay out one row per name, the first on top and the overall row apart."""
    short = [_plain(textwrap.shorten(name, 32, placeholder="…")) for name in names]
    axes.set_yticks(range(len(names)), short, color=INK, size=12)
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_ylim(len(names) - 0.5, -0.6)
    for panel in axes.figure.axes:
        panel.set_facecolor(PAPER)
        panel.spines[["top", "left", "right"]].set_visible(False)
        panel.spines["bottom"].set_color(PALE)
        panel.tick_params(axis="x", colors=PALE, labelsize=11)
        panel.tick_params(axis="y", length=0)
        panel.xaxis.label.set(color=INK, size=12)
        panel.xaxis.set_major_formatter(_tick)
        panel.grid(axis="x", color=INK, alpha=0.08)
        panel.axhline(len(names) - 1.5, color=PALE, linewidth=0.8)


def _plain(text: str) -> str:
    """Keep matplotlib from reading a name as a formula."""
    return text.replace("$", r"\$")


def _tick(value: float, _: float) -> str:
    return f"{value + 0.0:.2g}".replace("0.", ".").replace("-", "−")


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
