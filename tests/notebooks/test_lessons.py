"""What every lesson has: the parts that teach, and answers that stay hidden."""

import re
from functools import cache
from pathlib import Path

import jupytext
import nbformat
import pytest

from caplab.teaching import lessons as teaching

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "lessons").glob("[0-9]*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PARTS = ["Why this matters", "The idea", "Common gotcha", "A note from experience", "Summary"]
PARTS += ["Check your understanding"]
BANNED = re.compile(r"\b(simply|just)\b", re.IGNORECASE)

every_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
full_lesson = pytest.mark.parametrize("path", LESSONS[1:], ids=lambda path: path.stem)
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@cache
def cells(path: Path) -> list[tuple[str, str]]:
    """Return (kind, source) of each cell."""
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


def code(path: Path) -> str:
    return "\n\n".join(source for kind, source in cells(path) if kind == "code")


def prose(path: Path) -> str:
    """Return what is said, headings kept, code in it left out."""
    said = "\n\n".join(source for kind, source in cells(path) if kind == "markdown")
    return re.sub(r"```.*?```|`[^`]*`", "", said, flags=re.DOTALL)


@full_lesson
def test_a_lesson_has_its_parts(path):
    headings = re.findall(r"^##+ (.+)$", prose(path), re.MULTILINE)
    assert [part for part in PARTS if part not in headings] == []
    assert "What just happened" in headings
    assert "cl.explorer(" in code(path)
    assert f'cl.quiz("{path.stem[:2]}")' in code(path)
    assert len(teaching.lesson(path.stem[:2]).quiz) >= 3


@every_lesson
def test_every_guess_is_asked_for_before_it_is_answered(path):
    number, source = path.stem[:2], code(path)
    asked = re.findall(r'key="(\w+)"', source)
    revealed = re.findall(r'cl\.reveal\(\s*"(\w+)"', source)
    assert sorted(asked) == sorted(revealed) != []
    assert all(key.startswith(f"{number}_") for key in asked)
    assert all(source.index(f'key="{key}"') < source.rindex(f'"{key}"') for key in asked)


@full_lesson
def test_every_exercise_says_how_hard_it_is_and_has_its_check(path):
    number = path.stem[:2]
    exercises = re.findall(r"^### Exercise (\d+): .+\n\n(.+)", prose(path), re.MULTILINE)
    assert [place for place, _ in exercises] == [str(n + 1) for n in range(len(exercises))]
    assert len(exercises) >= 2
    for place, first in exercises:
        assert re.match(r"\*(Easy|Medium|Hard), \d+ minutes\.\*", first), first
        assert f'cl.check("{number}_{place}", ' in code(path)
    assert teaching.lesson(number).hints.keys() == {f"{number}_{place}" for place, _ in exercises}


@every_lesson
def test_prose_is_calm(path):
    assert BANNED.findall(prose(path).replace("What just happened", "")) == []


@every_lesson
def test_no_measured_number_is_typed_into_the_prose(path):
    """What a run gave stands in outputs; a table of results in the prose would go stale."""
    tables = re.findall(r"^\|.*\d\.\d.*\|$|^\|.* \.\d\d.*\|$", prose(path), re.MULTILINE)
    assert tables == []


@every_notebook
def test_answers_cannot_be_read_in_a_learners_notebook(path):
    text = " ".join(
        " ".join(cell.source.split()) for cell in nbformat.read(path, as_version=4).cells
    )
    if path.stem[:2] not in teaching.lessons():
        pytest.skip("this lesson asks nothing")
    found = teaching.lesson(path.stem[:2])
    secrets = [choice.feedback for asked in found.quiz for choice in asked.choices]
    secrets += [hint for hints in found.hints.values() for hint in hints]
    assert [secret for secret in secrets if " ".join(secret.split()) in text] == []
    assert "# >>> solution" not in text
