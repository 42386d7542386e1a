"""What a real model said before and after: the saved runs, and how they are shown."""

import pytest

from caplab.models.fetch import FULL_NAME
from caplab.questions.exam import exam
from caplab.questions.world import REFERENCE_QUESTIONS
from caplab.study import drift


@pytest.fixture(autouse=True)
def saved_only(monkeypatch):
    monkeypatch.delenv("CAPLAB_REAL", raising=False)


def test_every_saved_run_names_its_model_and_its_date():
    runs = drift.saved()
    assert runs
    assert {run["model"] for run in runs} == {FULL_NAME}
    assert all(run["date"].startswith("20") for run in runs)
    pairs = [(run["replay"], run["seed"]) for run in runs]
    assert len({*pairs}) == len(pairs)


def test_the_base_is_the_same_in_every_run():
    first, *others = drift.saved()
    for run in others:
        assert run["before"] == first["before"]
        assert run["answers"]["before"] == first["answers"]["before"]


def test_the_words_are_the_saved_ones():
    words = drift.in_its_own_words()
    assert tuple(words.answers) == REFERENCE_QUESTIONS
    first = next(run for run in drift.saved() if run["replay"] == 0)
    for asked, said in words.answers.items():
        assert said[0] == first["answers"]["before"][asked]
        assert said[2] == first["answers"]["60"][asked]
        assert said[0] in repr(words)
    assert first["date"] in words.caption


def test_as_many_questions_are_asked_as_promised():
    asked = drift._old_questions()
    counts = {name: len(asked.subset(name)) for name in asked.capabilities}
    assert counts == drift.ASKED
    assert {*asked.questions} <= {*exam("everyday").questions}
