"""Lessons as assignments: nbgrader makes, gives out and grades them with its own commands."""

import json
import re
from pathlib import Path

import build_notebooks
import grading
import nbformat
import nbgrader_assignments as tool
import pytest

from caplab.teaching.lessons import lesson

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted(ROOT.glob("lessons/[0-9]*.md"))
TOY = '''\
---
title: A toy
level: Beginner
minutes: 5
needs: nothing
---

See [the glossary](../docs/glossary.md).

### Exercise 1: count

*Medium, 4 minutes.* Count.

```python
import caplab as cl
```

```python
def sizes(exam):
    """Return the number of questions for each capability."""
    # >>> solution
    return {name: len(exam.subset(name)) for name in exam.capabilities}
    # <<< solution
```

```python
cl.check("00_2", sizes)
```

```python
cl.quiz("00")
```
'''


def made(path):
    """Return the cells of a lesson's assignment."""
    return list(tool.assignment(path.stem[:2], build_notebooks.read_lesson(path).cells, "me/lab"))


def kinds(cells, kind):
    settings = [cell.metadata.get("nbgrader", {}) for cell in cells]
    return [each for each in settings if each.get(kind)]


every_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


@every_lesson
def test_each_exercise_and_each_question_gives_points(path):
    number = path.stem[:2]
    cells, asked = made(path), lesson(path.stem[:2])
    graded = {each["grade_id"]: each["points"] for each in kinds(cells, "grade")}
    quiz = {f"quiz_{number}_{place + 1}_right" for place in range(len(asked.quiz))}
    assert graded.keys() == {*asked.hints, *quiz}
    assert all(graded[name] == 1 for name in quiz)
    assert set(graded.values()) <= {1, 2, 3}
    names = [each["grade_id"] for each in [*kinds(cells, "grade"), *kinds(cells, "solution")]]
    assert len(names) == len(set(names))


@every_lesson
def test_what_nbgrader_leaves_holds_no_answer(path):
    gap = re.compile(r"### BEGIN SOLUTION\n.*?### END SOLUTION", re.DOTALL)
    text = "\n".join(gap.sub("", cell.source) for cell in made(path))
    assert "SOLUTION" not in text
    assert ">>> solution" not in text
    for asked in lesson(path.stem[:2]).quiz:
        assert all(choice.feedback not in text for choice in asked.choices)
    assert not re.search(r"^quiz_\w+ = '", text, re.MULTILINE)


def test_the_handbook_says_how_many_points():
    row = re.search(r"^\| points \| (.*) \|$", (ROOT / "docs/classroom.md").read_text(), re.M)
    told = [int(number) for number in row[1].split(" | ")]
    assert told == [sum(each["points"] for each in kinds(made(path), "grade")) for path in LESSONS]


def test_links_leave_the_folder():
    assert tool.outward("[x](../docs/a.md)", "me/lab") == (
        "[x](https://github.com/me/lab/blob/main/docs/a.md)"
    )


# ---------------------------------------------------------------- with nbgrader itself


def course(folder, path):
    """Make a course of one lesson, and let nbgrader generate the assignment."""
    settings = (folder, path.stem, build_notebooks.read_lesson(path).cells, "me/lab")
    tool.write(*settings)
    grading.nbgrader(folder, "generate_assignment", path.stem, "--create")


def hand_in(folder, name, student, change=lambda cell: None, kind="release"):
    """Hand in what was given out, or its source, after a change of each cell."""
    given = nbformat.read(folder / kind / name / f"{name}.ipynb", as_version=4)
    for cell in given.cells:
        change(cell)
    target = folder / "submitted" / student / name / f"{name}.ipynb"
    target.parent.mkdir(parents=True)
    nbformat.write(given, target)


def spoil(cell):
    """Fill a gap with something that is wrong."""
    if not cell.metadata.get("nbgrader", {}).get("solution"):
        return
    assert "pass  # your code here" in cell.source
    if quiz := re.match(r"quiz_(\d\d)_(\d+) = ", cell.source):
        choices = lesson(quiz[1]).quiz[int(quiz[2]) - 1].choices
        wrong = next("ABCDEF"[at] for at, choice in enumerate(choices) if not choice.right)
        cell.source = f"{quiz[0]}{wrong!r}"
    elif name := re.match(r"(\w+) = \.\.\.", cell.source):
        cell.source = cell.source.replace("pass  # your code here", f'{name[1]} = "wrong"')
    else:
        cell.source = cell.source.replace("pass  # your code here", 'return "wrong"')


def said(folder, name, student):
    """Return what the graded cells of a submission printed."""
    path = folder / "autograded" / student / name / f"{name}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    graded = [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("grade")]
    return [json.dumps(cell.outputs) for cell in graded]


def grade(folder, path):
    """Grade an empty, a right and a wrong submission; return what the graded cells of each said."""
    name, most = path.stem, sum(each["points"] for each in kinds(made(path), "grade"))
    hand_in(folder, name, "empty")
    hand_in(folder, name, "right", kind="source")
    hand_in(folder, name, "wrong", spoil)
    grading.nbgrader(folder, "autograde", name, "--create")
    expected = {"empty": (0, most), "right": (most, most), "wrong": (0, most)}
    assert grading.scores(folder, name) == expected
    return {student: said(folder, name, student) for student in expected}


@pytest.mark.slow
def test_a_toy_is_graded(tmp_path):
    path = tmp_path / "00_toy.md"
    path.write_text(TOY, "utf-8")
    course(tmp_path / "course", path)
    told = grade(tmp_path / "course", path)
    assert "Not yet: Nothing is filled in yet." in told["empty"][0]
    assert "Try again: Return a dictionary" in told["wrong"][0]
    assert all("Right: " in one for one in told["right"])


@pytest.mark.weekly
@every_lesson
def test_a_lesson_is_graded(path, tmp_path):
    course(tmp_path / "course", path)
    told = grade(tmp_path / "course", path)
    assert all("Right: " in one for one in told["right"])
    assert all("Try again: " in one for one in told["wrong"])
    assert sum("Not yet: " in one for one in told["empty"]) == len(lesson(path.stem[:2]).hints)
