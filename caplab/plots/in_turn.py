"""Draw what a model knew after each of several jobs: a matrix of states and exams."""

from typing import Any

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from caplab.plots.picture import Picture, clipped, plain
from caplab.support.colours import INK, NEW, OLD, PALE, PAPER, WHITE
from caplab.support.errors import require_type
from caplab.support.text import format_number
from caplab.training.in_turn import CLASSICS, InTurn

__all__ = ["in_turn"]

_NAME = 18  # letters of a state's or a job's name


def in_turn(turns: InTurn) -> Picture:
    """Draw the accuracy on the classics and on each job, before and after each training.

    A frame marks where a job had just been learned: what is below it in its column came later.
    """
    require_type(turns, InTurn, "This draws an InTurn, which is what train_in_turn returns")
    table = turns.table
    rows, columns = table.shape
    note = "a cell: share of an exam answered right; framed: the job that was just learned"
    picture = Picture(_finding(turns), 2.6 + 1.4 * columns, 1.9 + 0.7 * rows, note)
    axes = picture.subplots()
    for column, name in enumerate(table.columns):
        colour = OLD if name == CLASSICS else NEW
        shades = LinearSegmentedColormap.from_list(name, [PAPER, colour])
        for row, level in enumerate(table[name]):
            box = (column - 0.5, row - 0.5)
            axes.add_patch(_box(box, shades(float(level)), PAPER, 2))
            ink = WHITE if level > 0.6 else INK
            axes.text(
                column, row, format_number(level), color=ink, size=14, ha="center", va="center"
            )
    for step, name in enumerate(turns.jobs, start=1):
        frame = (list(table.columns).index(name) - 0.5, step - 0.5)
        axes.add_patch(_box(frame, "none", INK, 2.5))
    axes.set(xlim=(-0.55, columns - 0.45), ylim=(rows - 0.45, -0.55))
    axes.set_xticks(range(columns), [plain(clipped(name, _NAME)) for name in table.columns])
    axes.set_yticks(range(rows), [plain(clipped(name, _NAME)) for name in table.index])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=12, colors=PALE)
    axes.spines[:].set_visible(False)
    axes.set_facecolor(PAPER)
    return picture


def _box(corner: tuple[float, float], face: Any, edge: str, width: float) -> Rectangle:
    return Rectangle(corner, 1, 1, facecolor=face, edgecolor=edge, linewidth=width)


def _finding(turns: InTurn) -> str:
    """Say which job or the classics lost most by the end."""
    table = turns.table
    last = table.index[-1]
    lost = {CLASSICS: (table.loc["base", CLASSICS], table.loc[last, CLASSICS])}
    if turns.subject:
        lost |= {job: (table.loc[f"after {job}", job], table.loc[last, job]) for job in turns.jobs}
    name, (was, now) = max(lost.items(), key=lambda item: item[1][0] - item[1][1])
    if was - now <= 0:
        return f"After {len(turns.jobs)} jobs, nothing is known worse than before"
    return f"{name}: {format_number(was)} → {format_number(now)} after {len(turns.jobs)} jobs"
