import io
import math

import nbformat
import pytest
from matplotlib import colors, rc_context, style
from nbclient import NotebookClient
from PIL import Image

from caplab import plots
from caplab.exam import Scorecard
from caplab.stats import compare

SIZES = {"capitals": 60, "arithmetic": 60, "how-to": 40, "sounds": 32}


def card(right, sizes=SIZES, subject="pocket", choices=4):
    """Make a scorecard from right and wrong answers; every third answer is less sure."""
    names = tuple(name for name, n in sizes.items() for _ in range(n))
    rows = []
    for place, ok in enumerate(right):
        sure = 1.0 if place % 3 else 0.2
        rows.append((0.0 if ok else -2 - sure, *([-sure] * (choices - 1))))
    sizes_of_choices = ((5,) * choices,) * len(rows)
    return Scorecard(
        subject, "classics", "f00d", names, (0,) * len(rows), tuple(rows), sizes_of_choices
    )


@pytest.fixture
def base():
    return card([place % 30 > 0 for place in range(192)])


@pytest.fixture
def report(base):
    return compare(base, card([place % 30 > 0 and place % 3 > 0 for place in range(192)]))


def words(picture):
    """All text that the picture shows."""
    drawn = picture.findobj(lambda artist: hasattr(artist, "get_text"))
    return [artist.get_text() for artist in drawn if artist.get_text()]


def test_a_scorecard_shows_every_capability_with_its_accuracy_and_chance(base):
    picture = plots.scorecard(base)
    assert picture.finding == "pocket answers .96 of classics right; weakest: how-to, .95"
    shown = words(picture)
    assert {"capitals (60)", "overall (192)", "chance", ".96"} <= set(shown)
    (axes,) = picture.axes
    means = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert means == pytest.approx([*base.by_capability.values(), base.accuracy])


def test_chance_follows_the_number_of_choices():
    two = plots.scorecard(card([True] * 192, choices=2))
    segments = two.axes[0].collections[0].get_segments()
    assert segments[0][0][0] == 0.5


def test_a_picture_of_equals_names_no_weakest():
    assert plots.scorecard(card([True] * 192)).finding == "pocket answers 1.00 of classics right"


def test_before_and_after_draws_levels_changes_intervals_and_the_budget(report):
    left, right = plots.before_after(report).axes
    dots = [line.get_xdata()[0] for line in left.lines if line.get_marker() == "o"]
    assert dots == [level for row in report.rows for level in (row.before, row.after)]
    intervals = [tuple(line.get_xdata()) for line in right.lines if len(line.get_xdata()) == 2]
    assert {(row.low, row.high) for row in report.rows} <= set(intervals)
    assert (-report.budget, -report.budget) in intervals


def test_titles_are_computed_from_the_data(base, report):
    some = card([place % 30 > 0 and place > 50 for place in range(192)])
    copy, lost, small = compare(base, base), compare(base, some), card([True] * 10, {"a": 10})
    few = compare(small, card([True] * 9 + [False], {"a": 10}))
    assert plots.before_after(copy).finding == "classics .96, was .96: HELD"
    assert plots.before_after(lost).finding == "classics .71, was .96: REGRESSED in capitals"
    assert plots.before_after(report).finding.endswith("REGRESSED in 4 of 4 capabilities")
    assert plots.before_after(few).finding.endswith("UNDERPOWERED, too few items to tell")


def test_a_verdict_that_the_interval_did_not_decide_wears_a_star_and_a_footnote(base):
    shown = words(plots.before_after(compare(base, base)))
    assert "HELD*" in shown
    assert any(text.startswith("* nothing moved") for text in shown)
    assert not any(
        "*" in text for text in words(plots.before_after(compare(base, card([False] * 192))))
    )


def test_pictures_look_the_same_under_any_style_of_the_notebook(report):
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


def test_all_words_are_readable_on_the_paper(report, base):
    """WCAG's contrast of 4.5 for every colour that writes."""
    for picture in (plots.before_after(report), plots.scorecard(base)):
        for text in picture.findobj(lambda artist: hasattr(artist, "get_text")):
            contrast = (luminance(plots.PAPER) + 0.05) / (luminance(text.get_color()) + 0.05)
            assert contrast >= 4.5 or not text.get_text()


def test_nothing_that_is_written_is_cut_off_or_written_over(report):
    wordy = card([True] * 192, {"a rather long name of a capability": 192}, subject="long " * 30)
    for picture in (plots.before_after(report), plots.scorecard(wordy)):
        picture.draw_without_rendering()
        inside, texts = picture.bbox, [*picture.texts, *picture.axes[0].get_yticklabels()]
        texts += [text for axes in picture.axes for text in [*axes.texts, axes.xaxis.label]]
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        for place, box in enumerate(boxes):
            assert inside.x0 <= box.x0 <= box.x1 <= inside.x1
            assert inside.y0 <= box.y0 <= box.y1 <= inside.y1
            assert box.count_overlaps(boxes[:place]) == 0


def test_png_is_sharp_and_small(report):
    picture = plots.before_after(report)
    image = Image.open(io.BytesIO(picture.png()))
    assert image.width == math.floor(2 * picture.get_figwidth() * plots.DOTS)
    assert len(picture.png()) < 80_000


def test_odd_names_are_drawn_as_they_are():
    odd = card([True] * 192, {"$x_1": 60, "a^b$": 60, "<b>" * 30: 72}, subject="$\\frac{")
    assert plots.scorecard(odd).png()
    assert plots.before_after(compare(odd, odd)).png()


def test_pictures_and_reports_show_themselves_in_a_notebook(report, tmp_path):
    """Pictures with and without the inline backend, which would draw them by its own rules."""
    report.save(tmp_path / "report.json")
    cells = [
        "from caplab.plots import Picture\nPicture('seen', 1, 0.5)",
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);",
        "Picture('seen', 1, 0.5)",
        f"from caplab.stats import Report\nReport.load({str(tmp_path / 'report.json')!r}).show()",
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
