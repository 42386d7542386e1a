"""Make an nbgrader course from the lessons: each check is a graded cell, each quiz question too.

    python tools/build_notebooks.py --nbgrader OUT [01 02 ...]

OUT gets `nbgrader_config.py` and `source/LESSON/LESSON.ipynb`, which `nbgrader
generate_assignment` turns into what learners get. docs/classroom.md has the whole way.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from getting_about import GITHUB
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from caplab.teaching.lessons import QuizQuestion
from caplab.teaching.lessons import lesson as asked_in

POINTS = {"Easy": 1, "Medium": 2, "Hard": 3}  # of an exercise; a question of a quiz has one
LEVEL = re.compile(r"^\*(Easy|Medium|Hard), \d+ minutes\.\*", re.MULTILINE)
CHECK = re.compile(r'^cl\.check\("(\d\d_\d+)", .+\)$', re.DOTALL)
MARKS = {"# >>> solution": "### BEGIN SOLUTION", "# <<< solution": "### END SOLUTION"}
JUDGE = """said = {call}
print(said)
assert said.kind == "Right", said"""
CONFIG = '''"""What nbgrader reads in this folder; made by tools/build_notebooks.py --nbgrader."""

import os
from tempfile import mkdtemp

c = get_config()
c.CourseDirectory.course_id = "caplab"
# A gap is a statement, so that a function with nothing but a gap is Python.
c.ClearSolutions.code_stub = {"python": "pass  # your code here"}
c.ExecutePreprocessor.timeout = 600  # a cell may train a model
c.Execute.timeout = 600
# What is solved while grading, no learner has solved.
os.environ["CAPLAB_PROGRESS"] = os.path.join(mkdtemp(), "progress.json")
'''


def write(out: Path, name: str, cells: list[NotebookNode], repository: str) -> str:
    """Write the assignment of a lesson, and what nbgrader needs to know; say so."""
    made = new_notebook(cells=list(assignment(name[:2], cells, repository)))
    made.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for number, cell in enumerate(made.cells):
        cell.id = f"{name[:2]}-{number}"
    nbformat.validate(made)
    path = out / "source" / name / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(made) + "\n", "utf-8", newline="\n")
    (out / "nbgrader_config.py").write_text(CONFIG, "utf-8", newline="\n")
    points = sum(cell.metadata.get("nbgrader", {}).get("points", 0) for cell in made.cells)
    return f"{name}: {points} points in {path}"


def assignment(number: str, cells: list[NotebookNode], repository: str) -> Iterator[NotebookNode]:
    """Yield a lesson's cells with what nbgrader is to do with each."""
    points, gaps = 0, 0
    for cell in cells:
        if cell.cell_type == "markdown":
            if level := LEVEL.search(cell.source):
                points = POINTS[level[1]]
            yield new_markdown_cell(outward(cell.source, repository))
        elif cell.source.strip() == f'cl.quiz("{number}")':
            yield from quiz(number)
        elif exercise := CHECK.match(cell.source):
            call = " ".join(cell.source.split())
            yield judged(exercise[1], JUDGE.format(call=call), points)
        elif any(mark in cell.source for mark in MARKS):
            gaps += 1
            yield answer(f"{number}_gap_{gaps}", cell.source)
        else:
            yield new_code_cell(cell.source)


def outward(text: str, repository: str) -> str:
    """Let links to pages of the course lead to the web: an assignment lies in no such folder."""
    return re.sub(r"\]\(\.\./", f"]({GITHUB}/{repository}/blob/main/", text)


def quiz(number: str) -> Iterator[NotebookNode]:
    """Yield each question, the gap for its letter, and the cell that judges it."""
    for place, asked in enumerate(asked_in(number).quiz, start=1):
        name, letters = f"quiz_{number}_{place}", letters_of(asked)
        right = next(at for at, choice in zip(letters, asked.choices, strict=True) if choice.right)
        yield new_markdown_cell(words(place, asked))
        gap = f"### BEGIN SOLUTION\n{name} = {right!r}\n### END SOLUTION"
        yield answer(name, f"{name} = ...  # one of {', '.join(letters)}, in quotes\n{gap}")
        call = f'cl.quiz("{number}").answer({name}, {place})'
        yield judged(f"{name}_right", JUDGE.format(call=call), 1)


def letters_of(asked: QuizQuestion) -> list[str]:
    """Return a letter for each choice."""
    return [chr(ord("A") + at) for at in range(len(asked.choices))]


def words(place: int, asked: QuizQuestion) -> str:
    """Write a question and its choices."""
    texts = [" ".join(choice.text.split()) for choice in asked.choices]
    lines = [
        f"- **{letter}** {text}" for letter, text in zip(letters_of(asked), texts, strict=True)
    ]
    return "\n".join([f"**Question {place}.** {' '.join(asked.question.split())}", "", *lines])


def answer(name: str, source: str) -> NotebookNode:
    """Return a cell that the learner fills in; a gap inside a function keeps its indentation."""
    for ours, theirs in MARKS.items():
        source = source.replace(ours, theirs)
    return _cell(source, grade_id=name, grade=False, solution=True, locked=False)


def judged(name: str, source: str, points: int) -> NotebookNode:
    """Return a cell that gives points if it runs; what the check says is in its output."""
    return _cell(source, grade_id=name, grade=True, solution=False, locked=True, points=points)


def _cell(source: str, **settings: object) -> NotebookNode:
    kept = {"schema_version": 3, "task": False, "cell_type": "code", **settings}
    return new_code_cell(source, metadata={"nbgrader": kept})
