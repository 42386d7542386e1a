"""World 2's exams: one rule for wrong answers, and the same groups by choices and spoken."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import caplab as cl
from caplab.questions.world2 import exams, manners
from caplab.questions.world2.assets import asset
from caplab.questions.world2.jobs import JOBS

ROOT = Path(__file__).resolve().parents[3]
WORLD = ROOT / "caplab" / "assets" / "world2"


@pytest.fixture(scope="module")
def choices():
    return cl.exam(WORLD / "classics.jsonl")


@pytest.fixture(scope="module")
def spoken():
    return cl.exam(WORLD / "spoken.jsonl")


def test_both_exams_ask_the_same_groups(choices, spoken):
    assert [q.group for q in choices.questions] == [q.group for q in spoken.questions]
    assert not {q.prompt for q in choices.questions} & {q.prompt for q in spoken.questions}


def test_half_of_the_wrong_answers_are_near_in_every_capability(choices):
    for name in choices.capabilities:
        near = Counter(t for q in choices.subset(name).questions for t in q.tags if "near" in t)
        assert set(near) == {"1 near", "2 near"}
        assert abs(near["1 near"] - near["2 near"]) <= 2


def test_half_of_every_capability_is_mentioned(choices):
    for name in choices.capabilities:
        questions = choices.subset(name).questions
        assert abs(sum("mentioned" in q.tags for q in questions) * 2 - len(questions)) <= 1


def test_each_refusal_has_a_permitted_twin_in_its_group(choices):
    kinds = {}
    for question in choices.subset("declining").questions:
        kinds.setdefault(question.group, []).append(question.tags[-1])
    assert len(kinds) >= 75
    assert all(sorted(found) == ["refusal", "twin"] for found in kinds.values())


def test_the_refusal_is_a_choice_of_every_twin(choices):
    for question in choices.subset("declining").questions:
        assert manners.refusal() in question.choices


def test_a_form_is_chosen_among_forms_of_the_same_answer(choices):
    for question in choices.subset("form").questions:
        assert len(set(question.choices)) == 4


def test_every_form_has_its_pattern():
    """What is right in one form is wrong in the others."""
    from caplab.questions.expectations import Expectation

    said = {form: manners.in_form(form, "capitals", "France", "Paris") for form in manners.FORMS}
    for form in manners.FORMS:
        rule = Expectation.of({"matches": asset("manners.toml")["form"][form]["matches"]})
        assert [other for other in manners.FORMS if rule.meets(said[other])] == [form]


@pytest.mark.parametrize("job", JOBS)
def test_one_word_does_not_decide_a_job(job):
    for row in exams.job_choosing(job):
        assert len(set(row["choices"])) == 4
    assert len(list(exams.job_choosing(job))) >= 40


def test_the_reference_questions_are_asked(choices):
    groups = {question.group for question in choices.questions}
    assert {f"{name}: {asked}" for name, asked in exams.ALWAYS_ASKED.items()} <= groups


def test_the_tool_makes_the_shipped_exams():
    command = [sys.executable, ROOT / "tools" / "build_world2.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
