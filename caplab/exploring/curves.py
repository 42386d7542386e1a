"""Draw task and classics along a training: for the whole exam, and for each capability."""

from collections.abc import Iterable
from dataclasses import replace

from caplab.exploring.sentences import ABOUT
from caplab.exploring.shapes import (
    Frame,
    Pair,
    draw_axes,
    draw_veil,
    svg_dot,
    svg_line,
    svg_path,
    svg_text,
)
from caplab.exploring.state import Band, Pin, Place, State
from caplab.measuring.report import REGRESSED
from caplab.support.text import format_number
from caplab.training.run import Point

WIDE, WIDE_WIDTH = Frame(40, 34, 404, 246), 560  # the rest is for the names at the ends
NARROW, NARROW_WIDTH = Frame(40, 34, 158, 246), 320  # where the page is too narrow for the other
SMALL = 137, 104  # the width and height of one capability's chart


# ---------------------------------------------------------------- along the training


def draw_curves(state: State, frame: Frame = WIDE) -> str:
    """Draw task and classics against the steps: the atlas pale, pins faint, the run strong."""
    steps = (state.trained or state.recipe).steps
    frame = replace(frame, across=steps)
    # On the way back the headline tells of another model than the one that these curves end with.
    below = "steps to the tuned model" if state.mix and state.alpha < 1 else "training steps"
    parts = [draw_axes(frame, [steps * part / 4 for part in range(5)], below, "accuracy")]
    if state.veiled:
        return "".join([*parts, draw_veil(frame)])
    parts += [_band(frame, state.band)] if state.band else []
    parts += [draw_budget(frame, _start(state), state)]
    parts += [_pinned_curve(frame, pin) for pin in state.pins]
    parts += [_curve(frame, _classics(state.seen), "old"), _curve(frame, _task(state.seen), "new")]
    return "".join([*parts, _guard(frame, state), _whole(frame, state), _ends(frame, state)])


def _whole(frame: Frame, state: State) -> str:
    """Draw large dots where all questions were asked, at both ends; those between ask a sample."""
    places: list[tuple[int, Place]] = []
    if state.base and state.points:
        places.append((0, state.base))
    if state.outcome and state.outcome.place and state.points:
        back = state.guard.restored if state.guard else None
        places.append((state.points[-1].step if back is None else back, state.outcome.place))
    return "".join(
        svg_dot(*frame.at((step, level)), 7, f"cl-last cl-{kind}")
        for step, place in places
        for level, kind in zip(place, ("new", "old"), strict=True)
    )


def _band(frame: Frame, band: Band) -> str:
    """Draw mean and extremes of the runs in the atlas."""
    parts = []
    for kind, seen in (("new", band.task), ("old", band.classics)):
        pairs = list(zip(band.steps, seen, strict=True))
        there = [frame.at((step, high)) for step, (_, _, high) in pairs]
        back = [frame.at((step, low)) for step, (_, low, _) in reversed(pairs)]
        middle = [frame.at((step, mean)) for step, (mean, _, _) in pairs]
        parts.append(
            svg_path([*there, *back], f"cl-band cl-{kind}") + svg_path(middle, f"cl-mean cl-{kind}")
        )
    return "".join(parts)


def _start(state: State) -> float | None:
    """Return the level of the classics before training, where the curve begins."""
    if state.seen:
        return state.seen[0].classics_accuracy
    if state.band:
        return state.band.classics[0][0]
    return state.base[1] if state.base else None


def draw_budget(frame: Frame, start: float | None, state: State) -> str:
    """Draw the line that the classics must not cross, and tint the area below."""
    if start is None:
        return ""
    y = frame.y(start - state.budget)
    tint = (
        f'<rect x="{frame.left}" y="{y:.1f}" width="{frame.width}" '
        f'height="{frame.bottom - y:.1f}" class="cl-beyond"/>'
    )
    return tint + svg_line(frame.left, y, frame.right, y, "cl-budget")


def _classics(points: Iterable[Point]) -> list[Pair]:
    return [(point.step, point.classics_accuracy) for point in points]


def _task(points: Iterable[Point]) -> list[Pair]:
    return [
        (point.step, point.task_accuracy) for point in points if point.task_accuracy is not None
    ]


def _curve(frame: Frame, spots: list[Pair], kind: str) -> str:
    pixels = [frame.at(spot) for spot in spots]
    dots = (svg_dot(*pixel, 3.5, f"cl-dot cl-{kind}") for pixel in pixels)
    return svg_path(pixels, f"cl-curve cl-{kind}") + "".join(dots)


def _pinned_curve(frame: Frame, pin: Pin) -> str:
    """Draw both curves of a pinned run thinly, each with the pin's number at its end."""
    parts = []
    for spots, kind in ((_classics(pin.points), "old"), (_task(pin.points), "new")):
        pixels = [frame.at(spot) for spot in spots if spot[0] <= frame.across]
        if pixels:
            x, y = pixels[-1]
            parts.append(svg_path(pixels, f"cl-mean cl-{kind}"))
            parts.append(svg_text(x - 4, y - 6, str(pin.number), "cl-tick", "end"))
    return "".join(parts)


def _guard(frame: Frame, state: State) -> str:
    """Draw where the guard acted."""
    if not state.guard or state.guard.acted_at is None:
        return ""
    x, words = frame.x(state.guard.acted_at), f"guard: {_ACTED[state.guard.action]}"
    side, anchor = (-6, "end") if x > frame.left + 120 else (6, "start")
    parts = [svg_line(x, frame.top, x, frame.bottom, "cl-guard")]
    parts += [svg_text(x + side, frame.bottom - 8, words, "cl-guarded", anchor)]
    if state.guard.restored is not None:
        back = frame.x(state.guard.restored)
        parts += [svg_dot(back, frame.bottom, 6, "cl-guarded")]
        parts += [svg_path([(x, frame.bottom), (back, frame.bottom)], "cl-guard")]
    return "".join(parts)


_ACTED = {"warn": "warning", "stop": "stop", "rollback": "back"}


def _ends(frame: Frame, state: State) -> str:
    """Name each line at its right end, as near to its level as the other names allow."""
    names: list[tuple[float, str, str]] = []
    if state.points:
        task, classics = _levels(state)
        about = "" if state.outcome else ABOUT
        names.append((classics, f"classics {about}{format_number(classics)}", "old"))
        names += [(task, f"task {about}{format_number(task)}", "new")] if task is not None else []
    elif state.band:
        names.append((state.band.classics[-1][0], "classics", "old"))
        names.append((state.band.task[-1][0], "task", "new"))
    start = _start(state)
    if start is not None:
        names.append((start - state.budget, f"budget −{format_number(state.budget)}", "line"))
    levels = _apart([frame.y(level) for level, *_ in names], 19, frame.bottom)
    return "".join(
        svg_text(frame.right + 10, y + 5, words, f"cl-end cl-{kind}")
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


# ---------------------------------------------------------------- each capability


def shown_capabilities(state: State) -> list[str]:
    """Name the capabilities that have a small chart each, if the learner asked for them."""
    return list(state.points[-1].by_capability) if state.detailed and state.points else []


def draw_details(state: State) -> list[str]:
    """Draw one small chart for each capability."""
    width, height = SMALL
    frame = Frame(8, 34, width - 26, height - 50, (state.trained or state.recipe).steps)
    return [_detail(state, capability, frame) for capability in shown_capabilities(state)]


def _detail(state: State, capability: str, frame: Frame) -> str:
    """Draw the curve of one capability; at its end, all of its questions and their verdict."""
    levels = [(point.step, point.by_capability[capability]) for point in state.seen]
    after, kind, about = levels[-1][1], "cl-name", ABOUT
    if state.shown:
        row = state.shown.report[capability]
        after, about = row.after, ""
        kind = "cl-name cl-bad" if row.verdict == REGRESSED else kind
    short = capability if len(capability) < 14 else capability[:13] + "…"
    words = f"{short} {about}{format_number(after)}"
    edges = [
        svg_line(frame.left, frame.y(level), frame.right, frame.y(level), "cl-grid")
        for level in (0, 1)
    ]
    y = frame.y(levels[0][1] - state.budget)
    budget = svg_line(frame.left, y, frame.right, y, "cl-budget")
    curve = svg_path([frame.at(spot) for spot in levels], "cl-curve cl-old")
    curve += svg_dot(*frame.at((levels[-1][0], after)), 5, "cl-last cl-old") if state.shown else ""
    return "".join([*edges, budget, curve, svg_text(frame.left, frame.top - 12, words, kind)])
