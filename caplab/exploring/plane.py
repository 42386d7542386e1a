"""Draw the Explorer's right chart: task learned across, classics kept up, one dot per model."""

from dataclasses import dataclass

from caplab.exploring.curves import draw_budget
from caplab.exploring.sentences import name
from caplab.exploring.shapes import Frame, draw_axes, svg_dot, svg_paper, svg_path, svg_text
from caplab.exploring.state import Band, Place, State, place
from caplab.support.text import format_percent

PLANE_WIDTH = 300
PLANE = Frame(42, 34, 246, 246)


def draw_plane(state: State) -> str:
    """Draw the base, the path from it, the newest model and the pins on the plane."""
    frame = PLANE
    parts = [draw_axes(frame, (0, 0.25, 0.5, 0.75, 1), "task: learned →", "classics: kept ↑")]
    base = _base(state)
    parts += [draw_budget(frame, base[1] if base else None, state)]
    parts += [_expected(frame, state.band)] if state.band and not state.veiled else []
    parts += [_path(frame, state)]
    spots = _spots(state)
    parts += [_spot(frame, spot) for spot in spots]
    parts += [_names(frame, spots)]
    return "".join(parts)


def _base(state: State) -> Place | None:
    """Return the place of the base: measured, or as in the atlas."""
    if state.base:
        return state.base
    return (state.band.task[0][0], state.band.classics[0][0]) if state.band else None


def _expected(frame: Frame, band: Band) -> str:
    """Draw a cloud where runs of this setting ended in the atlas."""
    (task, left, right), (classics, low, high) = band.task[-1], band.classics[-1]
    x, y = frame.at((task, classics))
    wide = max(8.0, frame.x(right) - frame.x(left)) / 2 + 5
    tall = max(8.0, frame.y(low) - frame.y(high)) / 2 + 5
    return f'<ellipse cx="{x:.1f}" cy="{y:.1f}" rx="{wide:.1f}" ry="{tall:.1f}" class="cl-cloud"/>'


def _path(frame: Frame, state: State) -> str:
    """Draw the path from the base: through the points of the run, or the models between."""
    if state.mixes:
        stops = [mix.outcome.place for _, mix in sorted(state.mixes.items())]
    else:
        stops = [place(point) for point in state.seen]
        stops += [state.outcome.place] if state.outcome else []
    path = svg_path([frame.at(stop) for stop in stops if stop], "cl-path")
    if state.guess and state.place and not state.veiled:
        path += svg_path([frame.at(state.guess), frame.at(state.place)], "cl-miss")
    return path


@dataclass(frozen=True)
class Spot:
    """A named dot on the plane."""

    place: Place
    name: str
    kind: str
    size: float
    number: str = ""


def _spots(state: State) -> list[Spot]:
    """List the dots: base, pins, guess, and the newest model unless a pin marks it already."""
    base, spots = _base(state), []
    if base:
        spots.append(Spot(base, "base", "base", 8))
    spots += [Spot(pin.place, pin.name, "pin", 9, str(pin.number)) for pin in state.pins]
    if state.guess:
        spots.append(Spot(state.guess, "your guess", "guess", 8))
    if state.place and not any(pin.place == state.place for pin in state.pins):
        spots.append(Spot(state.place, _here(state), "now", 8))
    return spots


def _here(state: State) -> str:
    """Name the newest dot briefly: the sentence above says which setting it is."""
    if state.mix:
        return format_percent(state.alpha)
    return f"step {state.points[-1].step}" if state.busy else name(state)


def _spot(frame: Frame, spot: Spot) -> str:
    x, y = frame.at(spot.place)
    dot = svg_dot(x, y, spot.size, f"cl-spot-{spot.kind}")
    return dot + (svg_text(x, y + 4, spot.number, "cl-number", "middle") if spot.number else "")


def _names(frame: Frame, spots: list[Spot]) -> str:
    """Write each dot's name where it covers no other dot and no other name."""
    taken = [_box(*frame.at(spot.place), "middle", 18, 18) for spot in spots]
    parts = []
    for spot in reversed(spots):  # the newest chooses first
        x, y = frame.at(spot.place)
        wide = 6.9 * len(spot.name) + 6
        choices = [(x + dx, y + dy, anchor) for dx, dy, anchor in _AROUND]
        boxes = [_box(cx, cy - 4, anchor, wide, 16) for cx, cy, anchor in choices]
        costs = [_cost(box, taken, frame) + rank for rank, box in enumerate(boxes)]  # near first
        best = costs.index(min(costs))
        taken.append(boxes[best])
        left, top, right, bottom = boxes[best]
        parts.append(svg_paper(left, top, right - left, bottom - top))
        parts.append(svg_text(*choices[best][:2], spot.name, "cl-name cl-rim", choices[best][2]))
    return "".join(parts)


_SIDES = ((-14, "end"), (14, "start"))
_AROUND = [
    *((side, up, anchor) for up in (4, 20, -12, 36, -28, 52, 68) for side, anchor in _SIDES),
    (0, -14, "middle"),
    (0, 26, "middle"),
]

Box = tuple[float, float, float, float]


def _box(x: float, y: float, anchor: str, wide: float, tall: float) -> Box:
    """Return the edges of a text's rectangle: left, top, right, bottom."""
    left = x - wide * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
    return left, y - tall / 2, left + wide, y + tall / 2


def _cost(box: Box, taken: list[Box], frame: Frame) -> float:
    """Return the cost of a position for a name: what it covers, and whether it leaves the plane."""
    left, top, right, bottom = box
    outside = left < frame.left - 30 or right > PLANE_WIDTH or top < 0 or bottom > frame.bottom
    covered = sum(
        left < other[2] and other[0] < right and top < other[3] and other[1] < bottom
        for other in taken
    )
    return 100.0 * covered + 150.0 * outside
