"""The `Picture`: a figure on paper that states its finding."""

import textwrap
from base64 import b64encode
from io import BytesIO
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from caplab.support.colours import DARK_PAGES, INK, PALE, PAPER
from caplab.support.safe_text import html_text, line_text, log_text

__all__ = ["Picture"]

MOST_ROWS = 40  # in a picture; a table has room for all
_SHORTEN: dict[str, Any] = {"max_lines": 4, "placeholder": " …"}  # a title or a note
DOTS = 96  # per inch, as shown; rendered at twice as many for high-resolution screens
# The smallest letters, of 10 points, have 11 pixels or more at this part of the figure's width.
_LEAST = 0.83
# On a dark page light and dark change places, and each colour keeps its hue: blue stays blue.
DARKEN = "invert(.92) hue-rotate(180deg)"
_STYLE = f"""<style>
.cl-picture {{ max-width: 100%; height: auto; }}
{", ".join(f"{page} .cl-picture" for page in DARK_PAGES)} {{ filter: {DARKEN}; }}
</style>"""


class Picture(Figure):
    """A figure that shows itself in a notebook under any backend, without pyplot."""

    def __init__(self, finding: str, width: float, height: float, note: str = "") -> None:
        super().__init__((width, height), DOTS, facecolor=PAPER)
        self.finding, self.note = finding, note
        across, up = 0.12 / width, 0.1 / height  # matplotlib counts in parts of the figure
        # Matplotlib does not wrap text: about 8.6 bold letters of a title fit into an inch.
        title = textwrap.wrap(plain(finding), int(8.6 * width), **_SHORTEN)
        room = up * (1.5 + 2.6 * len(title))
        self.set_layout_engine("constrained", rect=(across, up, 1 - 2 * across, 1 - up - room))
        head = {"x": 1.5 * across, "y": 1 - 1.3 * up, "ha": "left", "va": "top"}
        self.suptitle("\n".join(title), **head, color=INK, size=14, weight="bold")
        notes = note.splitlines()
        lines = [textwrap.fill(plain(line), int(13 * width), **_SHORTEN) for line in notes]
        self.supxlabel("\n".join(lines), x=1.5 * across, ha="left", color=PALE, size=10)

    def png(self) -> bytes:
        """Render the picture as PNG with twice the pixels of the displayed size.

        128 colours are enough, and make the file four times smaller.
        """
        from PIL import Image

        full, small = BytesIO(), BytesIO()
        self.savefig(full, format="png", dpi=2 * DOTS, facecolor=PAPER)
        Image.open(full).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
            small, format="png", optimize=True
        )
        return small.getvalue()

    def _repr_html_(self) -> str:
        """Return the picture with its words for those who do not see it; a narrow page scrolls."""
        width = round(self.get_figwidth() * DOTS)
        alt = html_text(" ".join([f"{self.finding}.", *self.note.split()]))
        data = b64encode(self.png()).decode()
        style = f"min-width: {round(_LEAST * width)}px"
        image = f'<img class="cl-picture" alt="{alt}" width="{width}" style="{style}"'
        image += f' src="data:image/png;base64,{data}">'
        return f'<div style="overflow-x: auto">{image}</div>{_STYLE}'

    def _ipython_display_(self) -> None:
        from IPython.display import display

        shown = {"text/html": self._repr_html_(), "text/plain": repr(self)}
        display(shown, raw=True)  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        return line_text(f"<Picture: {self.finding}>")

    __str__ = __repr__


def on_paper(axes: Axes, which: Literal["x", "y", "both"]) -> None:
    """Give axes the paper's colours, with a grid and tick labels on the axes that show numbers."""
    axes.set_facecolor(PAPER)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(PALE)
    axes.tick_params(axis=which, colors=PALE, labelsize=11)
    axes.grid(axis=which, color=INK, alpha=0.08)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, size=12)


def clipped(text: str, most: int) -> str:
    """Shorten a name in its middle: long names often differ at their ends."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


def plain(text: str) -> str:
    """Keep matplotlib from reading a name as a formula, and from what it cannot draw."""
    return log_text(text).replace("$", r"\$")


def tick(value: float, _: float) -> str:
    """Write an axis' number exactly as the course does: .925, not .93."""
    return f"{value + 0.0:.3g}".replace("0.", ".").replace("-", "−")


METHODS = {"full": "full", "lora": "LoRA"}
