"""The picture itself: alike under any style, readable, sharp, and shown in notebooks."""

import io
import math

import nbformat
import numpy as np
from drawings import PICTURES
from matplotlib import colors, rc_context, style
from matplotlib.lines import Line2D
from matplotlib.text import Text
from nbclient import NotebookClient
from PIL import Image

from caplab import plots
from caplab.plots.picture import DARKEN, DOTS, tick
from caplab.support import colours


def test_the_notebooks_style_is_ignored(report):
    plain = plots.before_after(report).png()
    with rc_context():
        style.use("dark_background")
        assert plots.before_after(report).png() == plain


def luminance(colour):
    parts = [
        part / 12.92 if part <= 0.04 else ((part + 0.055) / 1.055) ** 2.4
        for part in colors.to_rgb(colour)
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_all_words_are_readable(report, base):
    """WCAG's contrast of 4.5 for every colour that writes."""
    drawn = [draw() for draw in PICTURES.values()]
    for picture in (plots.before_after(report), plots.scorecard(base), *drawn):
        for text in picture.findobj(Text):
            contrast = (luminance(plots.PAPER) + 0.05) / (luminance(text.get_color()) + 0.05)
            assert contrast >= 4.5 or not text.get_text()


def test_lines_and_bands_stand_out(report, base):
    """WCAG's contrast of 3 for all that is drawn but the grid, with what shines through it."""
    drawn = [draw() for draw in PICTURES.values()]
    for picture in (plots.before_after(report), plots.scorecard(base), *drawn):
        grid = {line for axes in picture.axes for line in axes.get_xgridlines()}
        grid |= {line for axes in picture.axes for line in axes.get_ygridlines()}
        for line in set(picture.findobj(Line2D)) - grid:
            assert over_paper(line.get_color(), line.get_alpha()) >= 3, (picture, line)


def over_paper(colour, alpha):
    """The contrast of a colour that lets paper shine through."""
    paper, ink = colors.to_rgb(plots.PAPER), colors.to_rgba(colour)
    share = ink[3] * (1 if alpha is None else alpha)
    mixed = [part * share + below * (1 - share) for part, below in zip(ink, paper, strict=False)]
    return (luminance(plots.PAPER) + 0.05) / (luminance(mixed) + 0.05)


def test_a_dark_page_keeps_words_readable_and_hues():
    """What the filter of a dark page makes of the course's colours, by the rules of CSS."""
    share = float(DARKEN.partition("(")[2].partition(")")[0])
    paper = darkened(plots.PAPER, share)
    assert max(paper) < 0.2
    for colour in (
        plots.INK,
        colours.PALE,
        plots.OLD,
        colours.NEW_WORDS,
        *colours.VERDICTS.values(),
    ):
        assert (luminance(darkened(colour, share)) + 0.05) / (luminance(paper) + 0.05) >= 4.5
    assert int(np.argmax(darkened(plots.OLD, share))) == 2, "blue stays blue"


def darkened(colour, share):
    """CSS: invert(share), then hue-rotate(180deg)."""
    grey = np.array([0.213, 0.715, 0.072])
    parts = (1 - 2 * share) * np.array(colors.to_rgb(colour)) + share
    return np.clip(2 * (grey @ parts) - parts, 0, 1)


def test_a_picture_is_put_in_words():
    html = plots.Picture('a "finding"', 4, 3, "a note\nof two lines")._repr_html_()
    assert 'alt="a &quot;finding&quot;. a note of two lines"' in html


def test_png_is_sharp_and_small(report):
    picture = plots.before_after(report)
    image = Image.open(io.BytesIO(picture.png()))
    assert image.width == math.floor(2 * picture.get_figwidth() * DOTS)
    assert len(picture.png()) < 80_000


def test_pictures_show_in_a_notebook(report, tmp_path):
    """Pictures with and without the inline backend, which would draw them by its own rules."""
    path = str(tmp_path / "report.json")
    report.save(path)
    cells = [
        "from caplab.plots import Picture\nPicture('seen', 1, 0.5)",
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);",
        "Picture('seen', 1, 0.5)",
        f"from caplab.measuring.report import Report\nReport.load({path!r}).show()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120).execute()
    for cell in (notebook.cells[0], notebook.cells[2]):
        (output,) = cell.outputs
        assert set(output.data) == {"text/html", "text/plain"}
        assert '<img class="cl-picture" alt="seen." width="96"' in output.data["text/html"]
        assert output.data["text/plain"] == "<Picture: seen>"
    (output,) = notebook.cells[3].outputs
    assert output.data["text/plain"] == repr(report)
    assert output.data["text/html"] == report._repr_html_()


def test_ticks_say_where_they_are():
    """A tick at .925 that said .93 would move every dot beside it."""
    assert [tick(value, 0) for value in (0.925, -0.05, 1.0, 0.30000000004, -0.0)] == [
        ".925",
        "−.05",
        "1",
        ".3",
        "0",
    ]
