"""Forgotten or out of practice: what comes back without being shown."""

from collections import Counter
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import pytest
import tiny
from tuning import adapted
from weights import same, weights

from caplab.measuring.score import score
from caplab.questions.exam import Exam, Question
from caplab.support.errors import BadInput
from caplab.training import fine_tune as tuning
from caplab.training.recipe import Recipe
from caplab.training.remedies.recovery import Recovered, recovery

# The package offers the function by the same name, so a plain import would find that.
recovering = import_module("caplab.training.remedies.recovery")


def questions(n=20):
    """Two capabilities, answered by counting."""
    return Exam(
        tuple(
            Question(name, f"{name} {i}", ("yes", "no"), 0)
            for name in ("facts", "skills")
            for i in range(n)
        ),
        name="half and half",
    )


@pytest.fixture
def school(monkeypatch):
    """A world in which it is decided what each subject says: base all, tuned none, and so on."""
    lessons = []

    def card(exam, said):
        blank = score(tiny.subject(), exam)
        nats = [-0.1 if said(question) else -5.0 for question in exam.questions]
        return replace(blank, loglikelihoods=tuple((right, -6.0) for right in nats))

    def open_school(comes_back, picked_up=lambda question: False, lost=lambda question: True):
        def fine_tune(subject, recipe, lesson, exam, **_):
            lessons.append((subject.name, lesson, exam))
            known = picked_up if subject.name == "from scratch" else comes_back
            before = card(exam, lambda question: not lost(question))
            after = card(exam, lambda question: known(question) or not lost(question))
            return SimpleNamespace(before=before, final=after)

        monkeypatch.setattr(recovering, "score", lambda subject, exam: card(exam, lambda q: True))
        monkeypatch.setattr(tuning, "fine_tune", fine_tune)
        return lessons

    return open_school


@pytest.mark.parametrize("show", ["questions", "capabilities"])
def test_nothing_asked_was_shown(school, show):
    lessons = school(lambda question: True)
    recovery(tiny.subject(), tiny.subject(), questions(), show=show)

    asked = Counter(question for _, _, exam in lessons for question in exam.questions)
    assert asked == Counter(
        dict.fromkeys(questions().questions, 2)
    )  # by the tuned, and from scratch
    for _, lesson, exam in lessons:
        shown = {row["prompt"] for row in lesson}
        assert shown.isdisjoint(question.prompt for question in exam.questions)
        kinds = {prompt.split()[0] for prompt in shown}
        assert len(kinds) == (2 if show == "questions" else 1)
    assert lessons[0][1][0] == {"prompt": "facts 0", "completion": " yes"}


def test_what_comes_back_was_not_forgotten(school):
    school(lambda question: question.capability == "facts", lambda q: q.prompt == "facts 3")
    found = recovery(tiny.subject(), tiny.subject(), questions())

    assert found["facts"] == Recovered("facts", 20, 20, 20, 20, 1)
    assert found["skills"] == Recovered("skills", 20, 20, 20, 0, 0)
    assert found["overall"] == Recovered("overall", 40, 40, 40, 20, 1)
    assert [row.finding for row in found.rows] == [
        "out of practice",
        "forgotten",
        "partly forgotten",
    ]


def test_four_lost_questions_say_nothing(school):
    school(lambda q: True, lost=lambda q: q.prompt[-2:] in (" 1", " 2", " 3", " 4"))
    found = recovery(tiny.subject(), tiny.subject(), questions())

    assert found["facts"].lost == 4
    assert found["facts"].finding == "little was lost"
    assert found["overall"].finding == "out of practice"


def test_a_recovery_shows_its_counts(school):
    school(lambda question: question.capability == "facts")
    found = recovery(tiny.subject(), tiny.subject(), questions())

    line = "facts       20    20    20    20             0  1.00 (.84 to 1.00)  out of practice"
    assert line in repr(found)
    assert ">1.00 (.84 to 1.00)</td>" in found._repr_html_()
    assert found.to_pandas()["back"].tolist() == [20, 0, 20]
    with pytest.raises(BadInput, match="facts, skills and overall"):
        found["fact"]


def test_recovery_trains_and_changes_neither():
    base, tuned = tiny.subject(seed=0), adapted()
    before = weights(base.model), weights(tuned.model)
    recipe = Recipe(steps=2, batch_size=2)
    found = recovery(base, tuned, questions(4), recipe=recipe)

    assert found["overall"].n == 8
    assert same(weights(base.model), before[0])
    assert same(weights(tuned.model), before[1])


def test_an_exam_needs_two_halves():
    with pytest.raises(BadInput, match="too small"):
        recovery(tiny.subject(), tiny.subject(), Exam(questions(1).questions[:1]))
    with pytest.raises(BadInput, match=r"'facts'.*questions and capabilities"):
        recovery(tiny.subject(), tiny.subject(), questions(), show="facts")
