import math
from dataclasses import replace

from answers_made import card
from exams import FRANCE, ITALY

from caplab.measuring.lost import lost_answers
from caplab.questions.exam import Exam, Question

ROME = Question("capitals", "What is the capital of Italy?", expect={"contains": "Rome"})
EXAM = Exam((FRANCE, ROME, ITALY), (), "three")
RIGHT, WRONG = (0.0, -math.inf), (-math.inf, 0.0)


def answers(choice, said, last=(-9.0, -0.1)):
    blank = card([1.0] * 3, sizes={"capitals": 3}, fingerprint=EXAM.fingerprint)
    verdict = RIGHT if "Rome" in said else WRONG
    return replace(
        blank,
        answer=(0, 0, 1),
        loglikelihoods=(choice, verdict, last),
        characters=((5, 4), (1, 1), (5, 4)),
        said=("", said, ""),
    )


def test_both_answers_stand_side_by_side():
    before, after = answers((-0.1, -5), "Rome."), answers((-5, -0.1), "Click <City>.")
    assert lost_answers(before, after, EXAM) == [
        (ROME, "Rome.", "Click <City>."),
        (FRANCE, "Paris", "Rome"),
    ]
    assert lost_answers(after, before, EXAM) == []


def test_what_is_no_longer_said_comes_last():
    alone = Exam((FRANCE, ITALY), (), "two")
    old, new = (
        replace(
            answers((-0.1, -5), ""),
            answer=(0, 1),
            capability=("capitals",) * 2,
            loglikelihoods=(first, (-9.0, -0.1)),
            characters=((5, 4),) * 2,
            said=(),
        )
        for first in ((-0.1, -5.0), (-6.1, -9.0))
    )
    ((question, was, now),) = lost_answers(old, new, alone)
    assert (question, was) == (FRANCE, "Paris")
    assert now == "Paris (preferred, but said with .002 where it was .90)"


def test_where_answers_are_heard_nothing_is_inferred():
    before, after = answers((-0.1, -5.0), "Rome"), answers((-6.1, -9.0), "Rome")
    assert lost_answers(before, after, EXAM) == []
