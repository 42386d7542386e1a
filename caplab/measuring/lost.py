"""Which answers were lost: what was answered before, and what now."""

from typing import NamedTuple

from caplab.measuring.evidence import no_longer_said
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam, Question
from caplab.support.text import format_number

__all__ = ["Lost", "lost_answers"]


class Lost(NamedTuple):
    """A question that was answered right and no longer is, with both answers."""

    question: Question
    was: str
    now: str


def lost_answers(before: Scorecard, after: Scorecard, exam: Exam) -> list[Lost]:
    """List what was lost: spoken answers first, then choices, then what is no longer said."""
    asked = list(zip(exam.questions, before.given(exam), after.given(exam), strict=True))
    right = list(zip(before.correct, after.correct, strict=True))
    wrong = [Lost(*asked[n]) for n, (old, new) in enumerate(right) if old and not new]
    was, now = before.probability, after.probability
    silent = [
        Lost(question, answer, f"{answer} ({_fell(was[n], now[n])})")
        for n, ((question, answer, _), unsaid) in enumerate(
            zip(asked, no_longer_said(before, after), strict=True)
        )
        if unsaid
    ]
    return sorted(wrong, key=lambda lost: not lost.question.spoken) + silent


def _fell(was: float, now: float) -> str:
    """Say how far the probability of an answer fell that is preferred, but no longer said."""
    return f"preferred, but said with {format_number(now)} where it was {format_number(was)}"
