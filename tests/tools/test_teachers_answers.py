"""The teacher's page has every answer, and learners are given none of it."""

import re
from pathlib import Path

import teachers_answers as tool

from caplab.teaching.lessons import lesson

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted(path.stem[:2] for path in ROOT.glob("lessons/[0-9]*.md"))
PAGE = (ROOT / tool.PAGE).read_text("utf-8")


def part(number):
    (found,) = re.findall(rf"^## {number} .*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return found


def test_every_question_has_its_letter_and_every_exercise_its_answer():
    for number in LESSONS:
        told, asked = part(number), lesson(number)
        right = [next(at for at, c in enumerate(q.choices) if c.right) for q in asked.quiz]
        letters = [chr(ord("A") + at) for at in right]
        assert re.findall(r"^   \*\*([A-Z])\*\*: ", told, re.MULTILINE) == letters
        assert len(re.findall(r"^### Exercise \d+: .+\n\n```python\n", told, re.MULTILINE)) == len(
            asked.hints
        )
        assert told.count("\n- ") >= 5


def test_a_gap_in_a_function_is_shown_at_the_margin():
    assert tool._dedented("    ", "    a = 1\n    if a:\n        b\n") == "a = 1\nif a:\n    b\n"
