"""Make classroom/answers.md: for each lesson the answers, what to ask, where learners stumble.

tools/build_notebooks.py calls it. The quizzes come from caplab/teaching/lessons/, the exercises
from lessons/, the rest from classroom/notes.toml. Learners are not given the page.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode

from caplab.teaching.lessons import lesson as asked_in

PAGE = "classroom/answers.md"
NOTES = "classroom/notes.toml"
HEAD = """# The answers, for teachers

Made by `python tools/build_notebooks.py`; change lessons/, caplab/teaching/lessons/ or notes.toml.
Learners are not given this page. [docs/classroom.md](../docs/classroom.md) has the plans of a day.
"""
PART = re.compile(r"^([ \t]*)# >>> solution\n(.*?)^[ \t]*# <<< solution$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r"^### (Exercise \d+: .+)\n\n\*(\w+), (\d+ minutes)\.\*", re.MULTILINE)


def page(root: Path, lessons: list[tuple[str, str, list[NotebookNode]]]) -> str:
    """Write the page for lessons, each a name, a title and cells."""
    notes = tomllib.loads((root / NOTES).read_text("utf-8"))
    parts = [HEAD]
    for name, title, cells in lessons:
        number = name[:2]
        told = notes.get(number, {"ask": [], "stumble": []})  # written after the lesson
        parts += [f"## {number} {title}\n", *_list("What to ask", told["ask"])]
        parts += _list("Where learners stumble", told["stumble"])
        parts += ["### The quiz\n", "\n".join(_quiz(number)) + "\n", *_exercises(cells)]
    return "\n".join(parts)


def _list(title: str, lines: list[str]) -> list[str]:
    return [f"### {title}\n", "\n".join(f"- {line}" for line in lines) + "\n"] if lines else []


def _quiz(number: str) -> Iterator[str]:
    """Yield the right answer of each question, and why it is right."""
    for place, asked in enumerate(asked_in(number).quiz, start=1):
        at, right = next((n, one) for n, one in enumerate(asked.choices) if one.right)
        letter = chr(ord("A") + at)
        yield f"{place}. {_line(asked.question)}"
        yield f"   **{letter}**: {_line(right.text)} *{_line(right.feedback)}*"


def _line(text: str) -> str:
    return " ".join(text.split())


def _exercises(cells: list[NotebookNode]) -> Iterator[str]:
    """Yield each exercise with the lines that fill its gap."""
    title = ""
    for cell in cells:
        if cell.cell_type == "markdown":
            if found := TITLE.search(cell.source):
                title = f"### {found[1]} ({found[2].lower()}, {found[3]})\n"
        elif gap := PART.search(cell.source):
            yield title
            yield f"```python\n{_dedented(gap[1], gap[2])}```\n"


def _dedented(indent: str, code: str) -> str:
    return re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)
