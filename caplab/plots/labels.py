"""Write names beside dots and at the ends of lines, where they cover nothing."""

from itertools import pairwise
from math import cos, pi, sin
from typing import Any

from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from caplab.plots.picture import DOTS, PALE, PAPER, clipped, plain


def write_beside_row(
    axes: Axes, place: int, x: float, text: str, colour: str, **style: Any
) -> None:
    """Write beside a row, x being a part of the axes' width."""
    across = axes.get_yaxis_transform()
    text = text.replace("-", "−")
    axes.text(x, place, text, transform=across, color=colour, size=12, va="center", **style)


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


def name_dots(axes: Axes, dots: list[tuple[float, float, str, str]]) -> None:
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
