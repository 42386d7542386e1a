import pytest
import tiny
from exams import SMALL

from caplab.measuring.score import score, verdicts
from caplab.questions.exam import Question
from caplab.support.errors import BadInput


def test_a_score_names_subject_and_exam():
    found = score(tiny.subject(), SMALL)
    assert (found.subject, found.exam, found.fingerprint) == ("gpt2", "small", SMALL.fingerprint)
    assert found.capability == ("capitals", "capitals", "arithmetic")
    assert found.answer == (0, 1, 0)
    assert found.characters == ((5, 4), (5, 4), (1, 1, 2))
    assert [len(row) for row in found.loglikelihoods] == [2, 2, 3]
    assert len(found.text_losses) == 1


def test_what_cannot_be_scored_is_refused():
    who = tiny.subject()
    with pytest.raises(BadInput, match="score needs a Subject"):
        score("pocket", SMALL)
    with pytest.raises(BadInput, match="score needs an Exam"):
        score(who, "classics")
    for size in (0, -1, 2.0, True):
        with pytest.raises(BadInput, match="batch_size is a whole number"):
            score(who, SMALL, size)


def test_twins_are_right_only_together():
    asks = {"capability": "declining", "prompt": "?", "expect": {"contains": ["yes"]}}
    twins = [Question(group="one", together=True, **asks) for _ in range(2)]
    others = [Question(group="two", together=True, **asks), Question(group="one", **asks)]
    asked = [*twins, *others]
    assert verdicts(asked, ["yes", "yes", "yes", "yes"]) == [True] * 4
    assert verdicts(asked, ["yes", "no", "yes", "yes"]) == [False, False, True, True]
    assert verdicts(asked, ["yes", "yes", "no", "no"]) == [True, True, False, False]
