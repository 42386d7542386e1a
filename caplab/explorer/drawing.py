"""Draw a state as markup: a pure function, small and quick, set as one trait of one widget.

The colours are those of `caplab.plots`. In a live panel they come from the page, which knows
whether it is dark (see `style`); the picture in a saved notebook brings its own paper.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import chain
from textwrap import wrap

from caplab.explorer.state import Answer, Band, Pin, Place, State, place
from caplab.explorer.style import PRINTED
from caplab.explorer.words import Headline, headline, name, percent
from caplab.run import Point
from caplab.stats import REGRESSED, number

__all__ = ["picture", "render"]


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

    def at(self, spot: Place) -> Place:
        """Return the pixel of a place."""
        return self.x(spot[0]), self.y(spot[1])


WIDTH, HEIGHT = 860, 332  # of both charts; the page scales them
CURVES = Frame(40, 34, 404, 246)
PLANE = Frame(602, 34, 246, 246)
SMALL = 104  # the height of a row of capabilities
COLUMNS = 6


# ---------------------------------------------------------------- the whole


def render(state: State) -> str:
    """Return all that a panel shows below its controls, as HTML."""
    said = headline(state)
    drawn = _svg(_drawn(state), WIDTH, _height(state), escape(said.text))
    return f'<div class="cl-screen">{_said(state, said)}{drawn}{_answers(state)}</div>'


def picture(state: State) -> str:
    """Return a state as one SVG of its own, for pages on which no kernel runs."""
    said = headline(state)
    verdict = f": {said.verdict} ({said.change})" if said.verdict else ""
    head = _rows(said.text + verdict, "cl-big") + _rows(said.detail, "cl-pale")
    foot = list(chain.from_iterable(_rows(_told(line), "cl-name") for line in _current(state)))
    top = ROW * len(head) + 20
    bottom = top + _height(state) + 14
    inside = f'<g transform="translate(0 {top})">{_drawn(state)}</g>'
    paper = f'<style>{PRINTED}</style><rect width="100%" height="100%" class="cl-paper"/>'
    words = _column(head, 28) + _column(foot, bottom)
    height = bottom + ROW * len(foot)
    return _svg(paper + inside + words, WIDTH, height, escape(said.text))


ROW = 22  # between two lines of text
FITS = {"cl-big": 64, "cl-pale": 112, "cl-name": 114}  # characters in a line, in a wide font

Row = tuple[str, str]


def _rows(words: str, kind: str) -> list[Row]:
    """Break a text into lines that fit: an SVG cuts what is too long."""
    return [(line, kind) for line in wrap(words, FITS[kind], subsequent_indent="\u00a0" * 4)]


def _column(rows: list[Row], y: float) -> str:
    """Write lines of text below each other."""
    return "".join(_text(20, y + ROW * n, *row) for n, row in enumerate(rows))


def _told(line: Answer) -> str:
    """Write a question and its answers so far as one line."""
    answers = [line.before] if line.after is None else [line.before, line.after]
    return " → ".join([line.question, *(answer or "(nothing)" for answer in answers)])


def _svg(inside: str, width: int, height: int, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'class="cl-charts" aria-label="{title}">{inside}</svg>'
    )


def _height(state: State) -> int:
    names = _capabilities(state)
    return HEIGHT + SMALL * -(-len(names) // COLUMNS)


def _drawn(state: State) -> str:
    return _curves(state) + _plane(state) + _details(state)


def _said(state: State, said: Headline) -> str:
    badge = ""
    if said.verdict:
        kind = f"cl-verdict cl-{said.verdict.lower()}"
        badge = f'<span class="{kind}">{said.verdict} <i>({escape(said.change)})</i></span>'
    trouble = " cl-trouble" if state.phase == "failed" else ""
    return (
        f'<div class="cl-said{trouble}" role="status"><b>{escape(said.text)}</b>{badge}'
        f'<div class="cl-detail">{escape(said.detail) or "&nbsp;"}</div></div>'
    )


# ---------------------------------------------------------------- the answers


def _current(state: State) -> Sequence[Answer]:
    """Return the answers of the base and of the model that is shown."""
    if not state.mix:
        return state.answers
    after = state.mix.answers
    return [replace(line, after=now) for line, now in zip(state.answers, after, strict=True)]


def _answers(state: State) -> str:
    if not state.answers:
        return ""
    now = f"after: {name(state)}" if state.points else "after"
    head = "".join(f"<th>{escape(title)}</th>" for title in ("question", "before", now))
    rows = "".join(map(_answer, _current(state)))
    return f'<table class="cl-answers"><tr>{head}</tr>{rows}</table>'


def _answer(line: Answer) -> str:
    before, after = line.before or "(nothing)", line.after
    kind = line.fate and f"cl-{line.fate}"
    now = "…" if after is None else after or "(nothing)"
    cells = f"<td>{escape(line.question)}</td><td>{escape(before)}</td>"
    return f'<tr>{cells}<td class="{kind}">{escape(now)}</td></tr>'


# ---------------------------------------------------------------- along the training


def _curves(state: State) -> str:
    """Draw task and classics against the steps: the atlas pale, pins faint, the run strong."""
    steps = (state.trained or state.recipe).steps
    frame = replace(CURVES, across=steps)
    parts = [_axes(frame, [steps * part / 4 for part in range(5)], "training steps", "accuracy")]
    if state.veiled:
        return "".join([*parts, _veil(frame)])
    parts += [_band(frame, state.band)] if state.band else []
    parts += [_budget(frame, _start(state), state)]
    parts += [_pinned_curve(frame, pin) for pin in state.pins]
    parts += [_curve(frame, _classics(state.points), "old"), _curve(frame, _task(state), "new")]
    return "".join([*parts, _guard(frame, state), _last(frame, state), _ends(frame, state)])


def _last(frame: Frame, state: State) -> str:
    """Draw large what all questions say at the end; the points before ask a sample."""
    if not state.outcome or not state.points:
        return ""
    back = state.guard.restored if state.guard else None
    step, found = state.points[-1].step if back is None else back, state.outcome
    dots = [_dot(*frame.at((step, found.after.accuracy)), 8, "cl-last cl-old")]
    if found.task is not None:
        dots.insert(0, _dot(*frame.at((step, found.task)), 8, "cl-last cl-new"))
    return "".join(dots)


def _axes(frame: Frame, ticks: Sequence[float], below: str, above: str) -> str:
    """Draw a grid with its numbers, and what they count."""
    parts = []
    for level in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_line(frame.left, frame.y(level), frame.right, frame.y(level), "cl-grid"))
        parts.append(_text(frame.left - 8, frame.y(level) + 4, _tick(level), "cl-tick", "end"))
    for tick in ticks:
        parts.append(_text(frame.x(tick), frame.bottom + 18, _tick(tick), "cl-tick", "middle"))
    middle = frame.left + frame.width / 2
    parts.append(_text(middle, frame.bottom + 38, below, "cl-axis", "middle"))
    parts.append(_text(frame.left - 30, frame.top - 16, above, "cl-axis"))
    return "".join(parts)


def _tick(value: float) -> str:
    return f"{value:g}".replace("0.", ".")


def _veil(frame: Frame) -> str:
    middle = frame.left + frame.width / 2
    return _text(middle, frame.y(0.5) + 22, "?", "cl-veil", "middle")


def _band(frame: Frame, band: Band) -> str:
    """Draw what the atlas has seen over its seeds."""
    parts = []
    for kind, seen in (("new", band.task), ("old", band.classics)):
        pairs = list(zip(band.steps, seen, strict=True))
        there = [frame.at((step, high)) for step, (_, _, high) in pairs]
        back = [frame.at((step, low)) for step, (_, low, _) in reversed(pairs)]
        middle = [frame.at((step, mean)) for step, (mean, _, _) in pairs]
        parts.append(
            _path([*there, *back], f"cl-band cl-{kind}") + _path(middle, f"cl-mean cl-{kind}")
        )
    return "".join(parts)


def _start(state: State) -> float | None:
    """Return the level of the classics before training, as the curve begins."""
    if state.points:
        return state.points[0].classics_accuracy
    if state.band:
        return state.band.classics[0][0]
    return state.base[1] if state.base else None


def _budget(frame: Frame, start: float | None, state: State) -> str:
    """Draw the line that the classics must not cross, and tint what lies below."""
    if start is None:
        return ""
    y = frame.y(start - state.budget)
    tint = (
        f'<rect x="{frame.left}" y="{y:.1f}" width="{frame.width}" '
        f'height="{frame.bottom - y:.1f}" class="cl-beyond"/>'
    )
    return tint + _line(frame.left, y, frame.right, y, "cl-budget")


def _classics(points: Iterable[Point]) -> list[Place]:
    return [(point.step, point.classics_accuracy) for point in points]


def _task(state: State) -> list[Place]:
    return [
        (point.step, point.task_accuracy)
        for point in state.points
        if point.task_accuracy is not None
    ]


def _curve(frame: Frame, spots: list[Place], kind: str) -> str:
    pixels = [frame.at(spot) for spot in spots]
    dots = (_dot(*pixel, 4, f"cl-dot cl-{kind}") for pixel in pixels)
    return _path(pixels, f"cl-curve cl-{kind}") + "".join(dots)


def _pinned_curve(frame: Frame, pin: Pin) -> str:
    spots = [spot for spot in _classics(pin.points) if spot[0] <= frame.across]
    pixels = [frame.at(spot) for spot in spots]
    if not pixels:
        return ""
    x, y = pixels[-1]
    return _path(pixels, "cl-mean cl-old") + _text(x - 4, y - 6, str(pin.number), "cl-tick", "end")


def _guard(frame: Frame, state: State) -> str:
    """Draw where the guard acted."""
    if not state.guard or state.guard.acted_at is None:
        return ""
    x, words = frame.x(state.guard.acted_at), f"guard: {_ACTED[state.guard.action]}"
    side, anchor = (-6, "end") if x > frame.left + 120 else (6, "start")
    parts = [_line(x, frame.top, x, frame.bottom, "cl-guard")]
    parts += [_text(x + side, frame.bottom - 8, words, "cl-guarded", anchor)]
    if state.guard.restored is not None:
        back = frame.x(state.guard.restored)
        parts += [_dot(back, frame.bottom, 6, "cl-guarded")]
        parts += [_path([(x, frame.bottom), (back, frame.bottom)], "cl-guard")]
    return "".join(parts)


_ACTED = {"warn": "warning", "stop": "stop", "rollback": "back"}


def _ends(frame: Frame, state: State) -> str:
    """Write what each line is at its right end, as near to its level as leaves it readable."""
    names: list[tuple[float, str, str]] = []
    if state.points:
        task, classics = _levels(state)
        names.append((classics, f"classics {number(classics)}", "old"))
        names += [(task, f"task {number(task)}", "new")] if task is not None else []
    elif state.band:
        names.append((state.band.classics[-1][0], "classics", "old"))
        names.append((state.band.task[-1][0], "task", "new"))
    start = _start(state)
    if start is not None:
        names.append((start - state.budget, f"budget −{number(state.budget)}", "line"))
    levels = _apart([frame.y(level) for level, *_ in names], 19, frame.bottom)
    return "".join(
        _text(frame.right + 10, y + 5, words, f"cl-end cl-{kind}")
        for y, (_, words, kind) in zip(levels, names, strict=True)
    )


def _levels(state: State) -> tuple[float | None, float]:
    """Return task and classics at the end: on all questions, or on the sample so far."""
    if state.outcome:
        return state.outcome.task, state.outcome.after.accuracy
    return state.points[-1].task_accuracy, state.points[-1].classics_accuracy


def _apart(levels: list[float], gap: float, lowest: float) -> list[float]:
    """Move levels apart, downwards first, so that lines of text do not cover each other."""
    order = sorted(range(len(levels)), key=levels.__getitem__)
    moved, above = list(levels), float("-inf")
    for index in order:
        above = moved[index] = max(moved[index], above + gap)
    below = lowest + gap
    for index in reversed(order):
        below = moved[index] = min(moved[index], below - gap)
    return moved


# ---------------------------------------------------------------- learned against kept


def _plane(state: State) -> str:
    """Draw what was learned against what was kept: the base, the way, the newest, the pins."""
    frame = PLANE
    parts = [_axes(frame, (0, 0.25, 0.5, 0.75, 1), "task: learned →", "classics: kept ↑")]
    base = _base(state)
    parts += [_budget(frame, base[1] if base else None, state)]
    parts += [_expected(frame, state.band)] if state.band and not state.veiled else []
    parts += [_way(frame, state)]
    spots = _spots(state)
    parts += [_spot(frame, spot) for spot in spots]
    parts += [_names(frame, spots)]
    return "".join(parts)


def _base(state: State) -> Place | None:
    """Return where the training sets out: known once the base was asked, or from the atlas."""
    if state.base:
        return state.base
    return (state.band.task[0][0], state.band.classics[0][0]) if state.band else None


def _expected(frame: Frame, band: Band) -> str:
    """Draw where the atlas's runs of this setting ended."""
    (task, left, right), (classics, low, high) = band.task[-1], band.classics[-1]
    x, y = frame.at((task, classics))
    wide = max(8.0, frame.x(right) - frame.x(left)) / 2 + 5
    tall = max(8.0, frame.y(low) - frame.y(high)) / 2 + 5
    return f'<ellipse cx="{x:.1f}" cy="{y:.1f}" rx="{wide:.1f}" ry="{tall:.1f}" class="cl-cloud"/>'


def _way(frame: Frame, state: State) -> str:
    """Draw the way from the base: through the training, or through the weights between."""
    if state.mixes:
        stops = [mix.outcome.place for _, mix in sorted(state.mixes.items())]
    else:
        stops = [place(point) for point in state.points]
        stops += [state.outcome.place] if state.outcome else []
    way = _path([frame.at(stop) for stop in stops if stop], "cl-way")
    if state.guess and state.place and not state.veiled:
        way += _path([frame.at(state.guess), frame.at(state.place)], "cl-miss")
    return way


@dataclass(frozen=True)
class Spot:
    """A named dot on the plane."""

    place: Place
    name: str
    kind: str
    size: float
    number: str = ""


def _spots(state: State) -> list[Spot]:
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
        return percent(state.alpha)
    return f"step {state.points[-1].step}" if state.busy else name(state)


def _spot(frame: Frame, spot: Spot) -> str:
    x, y = frame.at(spot.place)
    dot = _dot(x, y, spot.size, f"cl-spot-{spot.kind}")
    return dot + (_text(x, y + 4, spot.number, "cl-number", "middle") if spot.number else "")


def _names(frame: Frame, spots: list[Spot]) -> str:
    """Write each dot's name where it covers no other dot and no other name."""
    taken = [_box(*frame.at(spot.place), "middle", 18, 18) for spot in spots]
    parts = []
    for spot in reversed(spots):
        x, y = frame.at(spot.place)
        wide = 6.9 * len(spot.name) + 6
        choices = [(x + dx, y + dy, anchor) for dx, dy, anchor in _AROUND]
        boxes = [_box(cx, cy - 4, anchor, wide, 16) for cx, cy, anchor in choices]
        costs = [_cost(box, taken, frame) + rank for rank, box in enumerate(boxes)]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        parts.append(_text(*choices[best][:2], spot.name, "cl-name cl-rim", choices[best][2]))
    return "".join(parts)


_SIDES = ((-14, "end"), (14, "start"))
_AROUND = [
    *((side, up, anchor) for up in (4, 20, -12, 36, -28, 52, 68) for side, anchor in _SIDES),
    (0, -14, "middle"),
    (0, 26, "middle"),
]

Box = tuple[float, float, float, float]


def _box(x: float, y: float, anchor: str, wide: float, tall: float) -> Box:
    left = x - wide * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
    return left, y - tall / 2, left + wide, y + tall / 2


def _cost(box: Box, taken: list[Box], frame: Frame) -> float:
    """Weigh a place for a name: what it covers, and how far it leaves the plane."""
    outside = box[0] < frame.left - 30 or box[2] > WIDTH or box[1] < 0 or box[3] > frame.bottom
    covered = sum(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
        for other in taken
    )
    return 100.0 * covered + 150.0 * outside


# ---------------------------------------------------------------- each capability


def _capabilities(state: State) -> list[str]:
    return list(state.points[-1].by_capability) if state.detailed and state.points else []


def _details(state: State) -> str:
    """Draw one small panel for each capability."""
    parts, wide = [], (WIDTH - 2 * 20) / COLUMNS
    for number_, capability in enumerate(_capabilities(state)):
        row, column = divmod(number_, COLUMNS)
        steps = (state.trained or state.recipe).steps
        corner = 20 + column * wide + 8, HEIGHT + row * SMALL + 34
        frame = Frame(*corner, wide - 26, SMALL - 50, steps)
        parts.append(_detail(state, capability, frame))
    return "".join(parts)


def _detail(state: State, capability: str, frame: Frame) -> str:
    """Draw how one capability went; at the end its verdict on all its questions."""
    levels = [(point.step, point.by_capability[capability]) for point in state.points]
    after, kind = levels[-1][1], "cl-name"
    if state.shown:
        row = state.shown.report[capability]
        after, kind = row.after, "cl-name cl-bad" if row.verdict == REGRESSED else kind
    short = capability if len(capability) < 16 else capability[:15] + "…"
    words = f"{short} {number(after)}"
    edges = [
        _line(frame.left, frame.y(level), frame.right, frame.y(level), "cl-grid")
        for level in (0, 1)
    ]
    y = frame.y(levels[0][1] - state.budget)
    budget = _line(frame.left, y, frame.right, y, "cl-budget")
    curve = _path([frame.at(spot) for spot in levels], "cl-curve cl-old")
    curve += _dot(*frame.at((levels[-1][0], after)), 5, "cl-last cl-old") if state.shown else ""
    return "".join([*edges, budget, curve, _text(frame.left, frame.top - 12, words, kind)])


# ---------------------------------------------------------------- marks

# What XML cannot hold, not even escaped; an untrained model says such things.
_UNWRITABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    words = escape(_UNWRITABLE.sub("\ufffd", words))
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{words}</text>'


def _line(x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" class="{kind}"/>'


def _path(pixels: Sequence[Place], kind: str) -> str:
    if len(pixels) < 2:
        return ""
    way = " ".join(f"{value:.1f}" for value in chain.from_iterable(pixels))
    tag = "polygon" if "cl-band" in kind else "polyline"
    return f'<{tag} points="{way}" class="{kind}"/>'


def _dot(x: float, y: float, size: float, kind: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" class="{kind}"/>'
