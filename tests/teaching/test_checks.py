"""What the lessons ask: quizzes, hints and checks belong together and are all tried out."""

from pathlib import Path

import pytest

import caplab as cl
from caplab.teaching.checks import checks
from caplab.teaching.lessons import lesson, lessons

TESTS = "".join(
    path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("lessons/test_*.py")
)
EXERCISES = [name for number in lessons() for name in checks(number)]


@pytest.mark.parametrize("number", lessons())
def test_each_question_has_one_right_answer(number):
    for asked in lesson(number).quiz:
        assert 3 <= len(asked.choices) <= 4
        assert sum(choice.right for choice in asked.choices) == 1
        said = [choice.feedback for choice in asked.choices] + [asked.hint]
        assert len(set(said)) == len(said)
        assert min(map(len, said)) >= 20


@pytest.mark.parametrize("number", lessons())
def test_right_answers_vary_in_letter(number):
    quiz = cl.quiz(number)
    right = [
        next(letter for letter in "ABCD" if quiz.answer(letter, place).kind == "Right")
        for place in range(1, len(quiz.questions) + 1)
    ]
    assert len(set(right)) > 1


@pytest.mark.parametrize("number", lessons())
def test_each_exercise_has_two_hints(number):
    hints = lesson(number).hints
    assert hints.keys() == checks(number).keys()
    for texts in hints.values():
        assert len(set(texts)) == len(texts) == 2


@pytest.mark.parametrize("exercise", EXERCISES)
def test_every_check_meets_wrong_answers(exercise):
    assert f'diagnoses("{exercise}"' in "".join(TESTS.split())
