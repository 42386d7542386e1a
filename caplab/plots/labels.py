"""Place names beside dots, rows and the ends of lines, where they cover nothing."""

from itertools import pairwise
from math import cos, pi, sin
from typing import Any

from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from caplab.plots.picture import DOTS, clipped, plain
from caplab.support.colours import PALE, PAPER

__all__ = ["name_dots", "name_ends", "write_beside_row"]


def write_beside_row(axes: Axes, row: int, x: float, text: str, colour: str, **style: Any) -> None:
    """Write text at the height of a row; x counts in widths of the axes, so 1.02 is beside them."""
    across = axes.get_yaxis_transform()
    text = text.replace("-", "−")
    axes.text(x, row, text, transform=across, color=colour, size=12, va="center", **style)


def name_ends(axes: Axes, names: list[tuple[float, str, str]]) -> None:
    """Write names at the right edge, each at its level or as near to it as keeps them readable."""
    low, high = axes.get_ylim()
    gap = 0.065  # of the axes' height: one line of text
    ends = sorted(((level - low) / (high - low), text, colour) for level, text, colour in names)
    heights = [level for level, *_ in ends]  # as parts of the axes' height
    # Push neighbours that are too close apart, each by half of what is missing: so a cluster stays
    # centred on its levels. A push may bring a name too close to the next one, hence the rounds.
    for _ in range(50):
        for i, (below, above) in enumerate(pairwise(heights)):
            push = max(0.0, gap - (above - below)) / 2
            heights[i], heights[i + 1] = heights[i] - push, heights[i + 1] + push
    style: dict[str, Any] = {"size": 13, "weight": "bold", "va": "center"}
    for height, (_, text, colour) in zip(heights, ends, strict=True):
        name = plain(clipped(text, 40))
        axes.text(1.02, height, name, transform=axes.transAxes, color=colour, **style)


def name_dots(axes: Axes, dots: list[tuple[float, float, str, str]]) -> None:
    """Write each dot's name near it, where it covers nothing and is nearest to its own dot.

    The first line of the axes is the frontier; names keep off it where they can.
    """
    # Only a layout pass decides where the axes lie in pixels, and names are measured in pixels.
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    marks = [line for line in axes.lines if line.get_marker() != "None"]
    taken = [line.get_window_extent().padded(2) for line in marks]
    frontier = axes.transData.transform_path(axes.lines[0].get_path())
    centres = axes.transData.transform([dot[:2] for dot in dots])  # (dots, 2), in pixels
    # One name after the other takes the best box that is left. To try all combinations would place
    # them even better, but the number of combinations grows exponentially with the dots.
    for own, (x, y, name, colour) in enumerate(dots):
        boxes = _candidates(centres[own], *_size(axes, name))
        best = min(boxes, key=lambda box: _cost(box, axes.bbox, taken, frontier, centres, own))
        taken.append(best.padded(6))
        offset = (_middle(best) - centres[own]) * 72 / DOTS  # pixels to points
        # A name that had to move away is tied to its dot by a thin line.
        far = _distances(best, centres[own : own + 1])[0] > 20
        _name_dot(axes, (x, y), offset, plain(clipped(name, 48)), colour, _LEADER if far else None)


def _size(axes: Axes, name: str) -> tuple[float, float]:
    """Measure a name as it will be written, in pixels."""
    text = axes.text(0, 0, plain(clipped(name, 48)), size=12)
    box = text.get_window_extent()
    text.remove()
    return box.width, box.height


def _candidates(centre: Any, width: float, height: float) -> list[Bbox]:
    """Return the boxes that a name may take: in 16 directions around its dot, near and far."""
    directions = [(cos(pi * part / 8), sin(pi * part / 8)) for part in range(16)]
    return [
        # Half of the box's own size comes on top: `far` is the gap between the dot and the box,
        # not its middle. Otherwise a wide name to the right of its dot would cover it.
        Bbox.from_bounds(
            centre[0] + x * (far + width / 2) - width / 2,
            centre[1] + y * (far + height / 2) - height / 2,
            width,
            height,
        )
        for far in (13, 19, 28, 42, 60, 80, 105)  # pixels; 13 clears the largest dot
        for x, y in directions
    ]


def _cost(box: Bbox, frame: Any, taken: list[Any], frontier: Path, centres: Any, own: int) -> float:
    """Weigh a box for a name: the lower, the better.

    The unit is a pixel of distance from the dot. To be cut off at the edge, or to cover a dot or
    another name, makes a name unreadable: that costs more than the farthest box (105), so that it
    happens only where nothing is free. To stand nearer to another dot misleads, but the line to the
    own dot helps. To cross the frontier is only ugly.
    """
    away = _distances(box, centres)
    outside = frame.x0 > box.x0 or box.x1 > frame.x1 or frame.y0 > box.y0 or box.y1 > frame.y1
    penalty = 200 * outside + 150 * box.count_overlaps(taken)
    penalty += 30 * (away.argmin() != own) + 20 * frontier.intersects_bbox(box, filled=False)
    return float(away[own] + penalty)


def _middle(box: Any) -> Any:
    return (box.min + box.max) / 2  # (2,): x and y


def _distances(box: Bbox, centres: Any) -> Any:
    """Return how far each dot is from a box, in pixels: (dots,); 0 inside."""
    import numpy as np

    # Per axis: the distance from the middle, less half the size; not negative inside the box.
    return np.hypot(*np.maximum(abs(centres - _middle(box)) - np.array(box.size) / 2, 0).T)


def _name_dot(
    axes: Axes, dot: tuple[float, float], offset: Any, name: str, colour: str, leader: Any
) -> None:
    """Write a name at an offset from its dot, with a leader line if one is given."""
    style = {"color": colour, "size": 12, "ha": "center", "va": "center", "arrowprops": leader}
    # A rim in the paper's colour keeps letters readable where a line runs below them.
    rim = [withStroke(linewidth=3, foreground=PAPER)]
    text = axes.annotate(
        name, dot, tuple(offset), textcoords="offset points", path_effects=rim, **style
    )
    text.set_in_layout(False)  # else the layout would shrink the axes, and the pixels be wrong


_LEADER = {"arrowstyle": "-", "color": PALE, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 4}
