"""What surrounds a lesson: its head, its neighbours, and links into the glossary."""

import re
from pathlib import Path

import getting_about as tool
import pytest

ROOT = Path(__file__).resolve().parents[2]
WORDS = {"budget": "budget", "rank": "rank", "ranks": "rank", "HELD": "verdict"}
WORDS |= {"learning rate": "learning-rate", "rate": "rate"}


def linked(*texts):
    return tool.with_glossary(list(texts), WORDS)


def test_the_first_time_a_word_is_said_it_is_a_link():
    first, second = linked("Agree on a budget. The budget holds.", "The budget again.")
    assert first == "Agree on a [budget](../docs/glossary.md#budget). The budget holds."
    assert second == "The budget again."


def test_a_form_of_a_word_leads_to_its_entry():
    assert linked("Two ranks, and one rank.") == [
        "Two [ranks](../docs/glossary.md#rank), and one rank."
    ]


def test_a_word_may_begin_a_sentence_or_end_a_line():
    assert "[Budget](" in linked("Budget first.")[0]
    assert "[learning\nrate](../docs/glossary.md#learning-rate)" in linked("A learning\nrate.")[0]


def test_a_verdict_is_no_verb():
    assert linked("We held it.") == ["We held it."]
    assert "#verdict" in linked("It was HELD.")[0]


@pytest.mark.parametrize(
    "text",
    [
        "## The budget",
        "| budget | x |",
        "`budget`",
        "```python\nbudget = 1\n```",
        "[the budget](x.md)",
        "$budget$",
        "https://example.org/budget",
        '<img alt="budget">',
        "prank, budgetary, low-rank",
    ],
)
def test_only_prose_is_linked(text):
    assert linked(text) == [text]


def test_a_course_without_a_glossary_has_no_links(tmp_path):
    assert tool.terms(tmp_path / "none.md") == {}
    assert tool.with_glossary(["A budget."], {}) == ["A budget."]


def test_the_glossary_is_in_order_and_says_each_word_once():
    words = re.findall(r"^## (.+)$", (ROOT / tool.GLOSSARY).read_text("utf-8"), re.MULTILINE)
    assert words == sorted(set(words), key=str.lower)
    assert tool.PLAIN_WORDS | set(tool.OTHER_FORMS.values()) <= set(words)


# ---------------------------------------------------------------- the way on


@pytest.fixture
def lessons(tmp_path):
    for name in ("00_one", "01_two", "02_three"):
        (tmp_path / f"{name}.md").write_text(f"---\ntitle: {name[3:].title()}\n---\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("00_one", (None, "01 Two")),
        ("01_two", ("00 One", "02 Three")),
        ("02_three", ("01 Two", None)),
    ],
)
def test_a_lesson_knows_its_neighbours(lessons, name, words):
    found = tool.neighbours(lessons / f"{name}.md")
    assert tuple(one and one.words for one in found) == words


def test_the_way_leads_through_its_own_folder(lessons):
    around = tool.neighbours(lessons / "01_two.md")
    at_home, on_colab = tool.way(around, "solutions", "me/lab").split("\n\n")
    assert at_home.startswith("[← 00 One](00_one_solved.ipynb) · [Contents](../README.md#")
    assert at_home.endswith("[02 Three →](02_three_solved.ipynb)")
    colab = "https://colab.research.google.com/github/me/lab/blob/main/solutions/"
    assert f"]({colab}00_one_solved.ipynb)" in on_colab
    assert f"]({colab}02_three_solved.ipynb)" in on_colab
    assert "](.." not in on_colab
