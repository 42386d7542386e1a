"""The shapes that pictures are made of, as SVG: text, lines, dots, and the frame of a chart."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from caplab.support.safe_text import html_text

HEIGHT = 332  # of a chart
Pair: TypeAlias = tuple[float, float]  # x and y, as values or as pixels


@dataclass(frozen=True)
class Frame:
    """A rectangle in which values from 0 to `across` run to the right and from 0 to 1 upwards."""

    left: float
    top: float
    width: float
    height: float
    across: float = 1

    @property
    def right(self) -> float:
        """Return the right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Return the lower edge."""
        return self.top + self.height

    def x(self, value: float) -> float:
        """Return the pixel of a value on the axis to the right."""
        return self.left + self.width * value / self.across

    def y(self, value: float) -> float:
        """Return the pixel of an accuracy."""
        return self.top + self.height * (1 - min(max(value, 0), 1))

    def at(self, values: Pair) -> Pair:
        """Return the pixel of a pair of values."""
        return self.x(values[0]), self.y(values[1])


def svg_picture(inside: str, width: float, height: float, title: str, kind: str = "") -> str:
    """Wrap shapes into one picture with a title for screen readers."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'class="cl-charts {kind}" aria-label="{html_text(title)}">{inside}</svg>'
    )


def svg_group(inside: str, x: float, y: float) -> str:
    """Move shapes to another place."""
    return f'<g transform="translate({x:g} {y:g})">{inside}</g>'


def draw_axes(frame: Frame, ticks: Sequence[float], below: str, above: str) -> str:
    """Draw a grid with its numbers, and the names of both axes."""
    parts = []
    for level in (0, 0.25, 0.5, 0.75, 1):
        parts.append(svg_line(frame.left, frame.y(level), frame.right, frame.y(level), "cl-grid"))
        parts.append(svg_text(frame.left - 8, frame.y(level) + 4, _tick(level), "cl-tick", "end"))
    for tick in ticks:
        parts.append(svg_text(frame.x(tick), frame.bottom + 18, _tick(tick), "cl-tick", "middle"))
    middle = frame.left + frame.width / 2
    parts.append(svg_text(middle, frame.bottom + 38, below, "cl-axis", "middle"))
    parts.append(svg_text(frame.left - 30, frame.top - 16, above, "cl-axis"))
    return "".join(parts)


def _tick(value: float) -> str:
    return f"{value:g}".replace("0.", ".")


def draw_veil(frame: Frame) -> str:
    """Draw a question mark where the answer is still hidden."""
    middle = frame.left + frame.width / 2
    return svg_text(middle, frame.y(0.5) + 22, "?", "cl-veil", "middle")


def svg_text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    """Write words; characters that XML cannot hold become U+FFFD."""
    where = f'x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"'
    return f"<text {where}>{html_text(words)}</text>"


def svg_line(x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
    """Draw a straight line."""
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" class="{kind}"/>'


def svg_path(pixels: Sequence[Pair], kind: str) -> str:
    """Draw a line through pixels, or fill the area that they enclose if it is a band."""
    if len(pixels) < 2:
        return ""
    numbers = " ".join(f"{value:.1f}" for value in chain.from_iterable(pixels))
    tag = "polygon" if "cl-band" in kind else "polyline"
    return f'<{tag} points="{numbers}" class="{kind}"/>'


def svg_paper(left: float, top: float, width: float, height: float) -> str:
    """Lay paper below words, so that no line runs through them."""
    box = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {box} rx="3" class="cl-behind"/>'


def svg_dot(x: float, y: float, size: float, kind: str) -> str:
    """Draw a dot."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" class="{kind}"/>'
