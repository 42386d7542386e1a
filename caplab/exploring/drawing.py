"""Draw the Explorer's headline, charts and answers for a state, as HTML or as an SVG picture.

Pure functions: the same state gives the same markup. In a live panel the colours follow the page,
which knows whether it is dark (see `theme`); a picture in a saved notebook has its own background.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from textwrap import wrap

from caplab.exploring.curves import (
    NARROW,
    NARROW_WIDTH,
    SMALL,
    WIDE_WIDTH,
    draw_curves,
    draw_details,
)
from caplab.exploring.plane import PLANE_WIDTH, draw_plane
from caplab.exploring.sentences import Headline, headline, label, name
from caplab.exploring.shapes import HEIGHT, svg_group, svg_picture, svg_text
from caplab.exploring.state import Answer, State
from caplab.exploring.theme import PRINTED
from caplab.support.safe_text import html_text

__all__ = ["as_saved", "picture", "render"]


# ---------------------------------------------------------------- the whole


def render(state: State) -> str:
    """Return everything that a panel shows below its controls, as HTML."""
    said = headline(state)
    inside = _headline(state, said) + _charts(state, said.text) + _answers(state)
    return f'<div class="cl-screen">{inside}</div>'


def picture(state: State) -> str:
    """Return a state as one self-contained SVG, for pages without a kernel."""
    said = headline(state)
    verdict = f": {said.verdict} ({said.change})" if said.verdict else ""
    head = _rows(said.text + verdict, "cl-big") + _rows(said.detail, "cl-pale")
    foot = list(
        chain.from_iterable(_rows(_answer_line(line), "cl-name") for line in _current(state))
    )
    top = ROW * len(head) + 20
    bottom = top + _height(state) + 14
    inside = svg_group(_on_one_sheet(state), 0, top)
    paper = f'<style>{PRINTED}</style><rect width="100%" height="100%" class="cl-paper"/>'
    words = _column(head, 28) + _column(foot, bottom)
    height = bottom + ROW * len(foot)
    return svg_picture(paper + inside + words, WIDTH, height, said.text)


def as_saved(state: State) -> dict[str, str]:
    """Return what a saved notebook keeps of a state, by MIME types."""
    words, drawn = f"{label(state.recipe)}: {headline(state).text}", picture(state)
    # As an image, whose style sheet is its own: on the page it would restyle other pictures.
    data = b64encode(drawn.encode()).decode()
    image = f'<img alt="{html_text(words)}" src="data:image/svg+xml;base64,{data}">'
    return {"text/html": image, "image/svg+xml": drawn, "text/plain": words}


WIDTH = WIDE_WIDTH + PLANE_WIDTH
COLUMNS = WIDTH // SMALL[0]
ROW = 22  # between two lines of text
FITS = {"cl-big": 64, "cl-pale": 112, "cl-name": 114}  # characters in a line, in a wide font

Row = tuple[str, str]


def _rows(words: str, kind: str) -> list[Row]:
    """Break a text into lines that fit: an SVG cuts off what is too long."""
    return [(line, kind) for line in wrap(words, FITS[kind], subsequent_indent="\u00a0" * 4)]


def _column(rows: list[Row], y: float) -> str:
    """Write lines of text below each other."""
    return "".join(svg_text(20, y + ROW * n, *row) for n, row in enumerate(rows))


def _answer_line(line: Answer) -> str:
    """Write a question and its answers so far as one line of text."""
    answers = [line.before] if line.after is None else [line.before, line.after]
    return " → ".join([line.question, *(answer or "(nothing)" for answer in answers)])


def _height(state: State) -> int:
    return HEIGHT + SMALL[1] * -(-len(draw_details(state)) // COLUMNS)


def _on_one_sheet(state: State) -> str:
    """Put all charts where a page that cannot lay them out shows them."""
    wide, high = SMALL
    small = [
        svg_group(chart, 14 + wide * (n % COLUMNS), HEIGHT + high * (n // COLUMNS))
        for n, chart in enumerate(draw_details(state))
    ]
    return "".join([draw_curves(state), svg_group(draw_plane(state), WIDE_WIDTH, 0), *small])


def _charts(state: State, title: str) -> str:
    """Draw each chart by itself: the page puts them beside or below each other, as it has room.

    A narrow page shows the second drawing of the curves, because shrunken letters are not read.
    """
    curves = svg_picture(draw_curves(state), WIDE_WIDTH, HEIGHT, title, "cl-wide")
    curves += svg_picture(draw_curves(state, NARROW), NARROW_WIDTH, HEIGHT, title, "cl-narrow")
    plane = svg_picture(draw_plane(state), PLANE_WIDTH, HEIGHT, "task against classics", "cl-plane")
    small = "".join(svg_picture(chart, *SMALL, title, "cl-small") for chart in draw_details(state))
    details = f'<div class="cl-row">{small}</div>' if small else ""
    return f'<div class="cl-row">{curves}{plane}</div>{details}'


def _headline(state: State, said: Headline) -> str:
    badge = ""
    if said.verdict:
        kind = f"cl-verdict cl-{said.verdict.lower()}"
        badge = f'<span class="{kind}">{said.verdict} <i>({html_text(said.change)})</i></span>'
    failed = " cl-failed" if state.phase == "failed" else ""
    return (
        f'<div class="cl-said{failed}" role="status"><b>{html_text(said.text)}</b>{badge}'
        f'<div class="cl-detail">{html_text(said.detail) or "&nbsp;"}</div></div>'
    )


# ---------------------------------------------------------------- the answers


def _current(state: State) -> Sequence[Answer]:
    """Return the answers of the base and of the model that is shown now."""
    if not state.mix:
        return state.answers
    after = state.mix.answers
    return [replace(line, after=now) for line, now in zip(state.answers, after, strict=True)]


def _answers(state: State) -> str:
    """Show the questions from the beginning, so that nothing moves when the answers come."""
    lines = _current(state) or [Answer(question, "…") for question in state.questions]
    if not lines:
        return ""
    now = f"after: {name(state)}" if state.points else "after"
    head = "".join(f"<th>{html_text(title)}</th>" for title in ("question", "before", now))
    rows = "".join(map(_answer_row, lines))
    return f'<table class="cl-answers"><tr>{head}</tr>{rows}</table>'


def _answer_row(line: Answer) -> str:
    before, after = line.before or "(nothing)", line.after
    kind = line.fate and f"cl-{line.fate}"
    now = "…" if after is None else after or "(nothing)"
    cells = f"<td>{html_text(line.question)}</td><td>{html_text(before)}</td>"
    return f'<tr>{cells}<td class="{kind}">{html_text(now)}</td></tr>'
