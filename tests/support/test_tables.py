import pytest

from caplab.support.tables import html_table, text_table

ROWS = [("capital", "n"), ("a", "100"), ("sums", "5")]


def test_words_are_left_and_numbers_right():
    assert text_table(ROWS) == [
        "capital    n",
        "a        100",
        "sums       5",
    ]


def test_columns_of_words_can_be_chosen():
    assert text_table(ROWS, words=(1,)) == [
        "capital  n",
        "      a  100",
        "   sums  5",
    ]


def test_lines_end_without_spaces():
    assert text_table([("a", "long"), ("b", "")], words=(0, 1)) == ["a  long", "b"]


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        text_table([("a", "b"), ("c",)])


def test_html_shows_caption_head_and_rows():
    assert html_table([("a", "1")], ("name", "n"), caption="Two", words=(0,)) == (
        "<table><caption>Two</caption>"
        '<thead><tr><th style="text-align: left">name</th>'
        '<th style="text-align: right">n</th></tr></thead>'
        '<tbody><tr><td style="text-align: left">a</td>'
        '<td style="text-align: right">1</td></tr></tbody></table>'
    )


def test_html_is_left_aligned_by_default():
    assert html_table([("a",)]) == (
        '<table><tbody><tr><td style="text-align: left">a</td></tr></tbody></table>'
    )


def test_html_is_escaped_everywhere():
    shown = html_table([("<b>",)], ("<i>",), caption="<u>")
    assert not any(tag in shown for tag in ("<b>", "<i>", "<u>"))
    assert "&lt;b&gt;" in shown
