"""The minutes that lessons state: estimated by one rule, and the same wherever they stand."""

import re

import lesson_minutes
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell


@pytest.fixture(scope="module")
def times(root):
    return lesson_minutes.times(root)


@pytest.fixture(scope="module")
def heads(root):
    found = {}
    for path in sorted(root.glob("lessons/[0-9]*.md")):
        found[path.stem[:2]] = yaml.safe_load(path.read_text("utf-8").split("---")[1])
    return found


def test_each_lesson_states_its_minutes(times, heads):
    stated = {number: (head["minutes"], head["exercises"]) for number, head in heads.items()}
    assert stated == times


def test_the_readme_states_them(times, root):
    readme = (root / "README.md").read_text("utf-8")
    stated = dict(re.findall(r"^\| (\d\d) [^|]+ \| (\d+ \+ \d+) \|", readme, re.MULTILINE))
    known = {number: f"{read} + {solve}" for number, (read, solve) in times.items()}
    assert stated == {number: known[number] for number in stated}
    assert set(lesson_minutes.DAY) <= set(stated)


def test_the_plan_of_a_day_follows_from_them(times, heads, root):
    titles = {number: head["title"] for number, head in heads.items()}
    plan = "\n".join(lesson_minutes.day_plan(times, titles))
    assert plan in (root / "docs/classroom.md").read_text("utf-8")


def test_all_that_takes_time_counts():
    prose = [new_markdown_cell("word " * 3000)]
    alone = lesson_minutes.reading_minutes("99", prose)
    assert alone == 20
    for source in ("x = 1\n" * 200, "cl.fine_tune(base)\n" * 30, "cl.explorer()\n" * 2):
        assert lesson_minutes.reading_minutes("99", [*prose, new_code_cell(source)]) > alone
    assert lesson_minutes.exercise_minutes([new_markdown_cell("*Easy, 5 minutes.* Do it.")]) == 5
    assert lesson_minutes.reading_minutes("00", []) == 5, "its quiz alone"
