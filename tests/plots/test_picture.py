"""The picture itself: alike under any style, readable, sharp, and shown in notebooks."""

import io
import math

import nbformat
from drawings import PICTURES
from matplotlib import colors, rc_context, style
from matplotlib.text import Text
from nbclient import NotebookClient
from PIL import Image

from caplab import plots
from caplab.plots.picture import DOTS, tick


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
        assert set(output.data) == {"image/png", "text/plain"}
        assert output.metadata["image/png"] == {"width": 96, "height": 48}
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
