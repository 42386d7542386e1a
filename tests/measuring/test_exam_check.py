import pytest

from caplab.measuring.exam_check import check_exam
from caplab.models.load import load
from caplab.questions.exam import Exam, Question, exam

ASKED = "Question: What is the capital of {}?\nAnswer:"
FACTS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo"}


def spoken(capability="capitals", **changes):
    return [
        Question(capability, ASKED.format(land), group=land, expect={"contains": town} | changes)
        for land, town in FACTS.items()
    ]


@pytest.fixture(scope="module")
def pocket():
    return load("pocket")


def found(pocket, *questions, **given):
    check = check_exam(Exam(questions), pocket, progress=False, **given)
    return "\n".join(check.problems), check


def test_a_sound_exam_has_nothing_to_mend(pocket):
    check = check_exam(exam(), pocket, progress=False)
    assert check.problems == ()
    assert repr(check).endswith("Nothing to mend.")
    assert check.table[0] == ("capitals", "60", "60", "1.00", ".25", "")


def test_rows_are_by_capability_and_kind(pocket):
    _, check = found(pocket, *spoken(), *exam().questions[:4])
    names = ["capitals, said", "capitals, chosen", "overall, said", "overall, chosen"]
    assert [row[0] for row in check.table] == names


def test_questions_asked_twice_are_named(pocket):
    problems, _ = found(
        pocket, *spoken(), Question("capitals", ASKED.format("ITALY"), expect={"contains": "Rome"})
    )
    assert "questions 2 and 5 are the same: 'Question: What is the capital of ITALY" in problems


def test_choices_that_look_alike_are_named(pocket):
    problems, _ = found(pocket, Question("q", "Q:", ("a b", "A b", "c"), 0))
    assert "question 1 has choices that only case tells apart: 'a b' and 'A b'" in problems


def test_expectations_that_anything_meets_are_named(pocket):
    problems, _ = found(pocket, *spoken(), Question("loose", "Question:", expect={"matches": "."}))
    assert "1 expectations can hardly be missed, in the questions 5 (matches .)" in problems
    assert "loose: answers to other questions meet" in problems
    assert "capitals: answers to other" not in problems


def test_what_the_model_does_not_know_is_named(pocket):
    problems, check = found(pocket, *spoken("lies", contains="Atlantis"))
    assert "lies: the base does not know this" in problems
    assert check.table[0][3] == ".00"


def test_too_few_groups_are_counted(pocket):
    problems, _ = found(pocket, *spoken())
    assert "overall: 4 groups; at a budget of .05 HELD takes at least 72" in problems
    problems, check = found(pocket, *spoken(), budget=0.6)
    assert "overall: 4 groups; at a budget of .60 HELD takes at least 5" in problems
    assert any("are HELD" in note or "is HELD from 5 groups" in note for note in check.notes)
