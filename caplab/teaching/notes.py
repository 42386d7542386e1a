"""What a learner is shown: notes as text and HTML, and the widgets that lessons are made of."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from caplab.support.colours import NEW, OLD, PALE, VERDICTS
from caplab.support.safe_text import html_text

__all__ = [
    "BLANK",
    "RIGHT",
    "WRONG",
    "Front",
    "Note",
    "button",
    "buttons",
    "column",
    "html",
    "nothing",
    "one_line",
    "rich_text",
    "row",
]

RIGHT, WRONG, BLANK = "Right", "Try again", "Not yet"
# Of the bar beside a note: its words have the page's own colour, light or dark.
_COLOURS = {RIGHT: VERDICTS["HELD"], WRONG: NEW, BLANK: PALE}


@dataclass(frozen=True)
class Note:
    """A message to the learner: its kind in a word or two, and the text."""

    kind: str
    text: str

    def __repr__(self) -> str:
        return f"{self.kind}: {self.text}"

    def _repr_html_(self) -> str:
        bar = _COLOURS.get(self.kind, OLD)
        style = f"border-left: 5px solid {bar}; padding: .3em .8em; margin: .3em 0"
        style += "; max-width: 46em; line-height: 1.45"
        return (
            f'<div role="status" style="{style}"><b>{self.kind}.</b> {rich_text(self.text)}</div>'
        )


def rich_text(text: str) -> str:
    """Write a text as HTML: `code`, **bold**, *italic*, and paragraphs between empty lines."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html_text(text.strip()))
    text = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)
    text = re.sub(r"(?<![\w*])\*(?=\S)([^*]+?)(?<=\S)\*(?!\w)", r"<i>\1</i>", text)
    return re.sub(r"\n\s*\n", "<br><br>", text)


def one_line(text: str) -> str:
    """Write a text as one line."""
    return " ".join(text.split())


def nothing() -> None:
    """Keep nothing: no notebook shows this widget."""


class Front:
    """Show a widget in a notebook, and what it shows now as HTML where the notebook is saved."""

    def _widget(self, keep: Callable[[], None] = nothing) -> Any:
        """Make the widget; it calls `keep` when the learner has changed what it shows."""
        raise NotImplementedError

    def _saved(self) -> str:
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        from caplab.exploring.asleep import show_panel

        kept: list[Callable[[], None]] = []

        def keep() -> None:
            for update in kept:
                update()

        def saved() -> dict[str, str]:
            return {"text/html": self._saved(), "text/plain": repr(self)}

        kept.append(show_panel(self._widget(keep), repr(self), saved))


def html(text: str = "") -> Any:
    """Make a text widget from HTML."""
    import ipywidgets

    return ipywidgets.HTML(text, tooltip="")  # without one, its label's tooltip is "null"


def column(*children: Any) -> Any:
    """Stack widgets."""
    import ipywidgets

    return ipywidgets.VBox(list(children))


def row(*children: Any) -> Any:
    """Put widgets beside each other, or below where there is no room."""
    import ipywidgets

    return ipywidgets.HBox(list(children), layout=ipywidgets.Layout(flex_flow="row wrap"))


def buttons(
    options: Sequence[str],
    choose: Callable[[int], object],
    pressed: int | None = None,
    tooltips: Sequence[str] = (),
) -> Any:
    """Make one button per option; none is pressed at first, unless one was pressed before."""
    import ipywidgets

    style = ipywidgets.ToggleButtonsStyle(button_width="auto")
    known = {"tooltip": "", "tooltips": list(tooltips), "style": style}
    made = ipywidgets.ToggleButtons(options=list(options), index=pressed, **known)
    made.observe(lambda change: change["new"] is not None and choose(change["new"]), "index")
    return made


def button(text: str, press: Callable[[], object]) -> Any:
    """Make a button that calls `press`."""
    import ipywidgets

    slim = {"width": "auto", "align_self": "flex-start"}  # as wide as its text
    made = ipywidgets.Button(description=text, layout=slim)
    made.on_click(lambda _: press())
    return made
