"""`score`: ask a subject every question of an exam, and return its `Scorecard`.

A choice is scored as lm-evaluation-harness scores its `multiple_choice` tasks: by the
log-likelihood of `" " + choice` after the prompt, summed over its tokens. Of a spoken answer only
right and wrong is known, and it is written as a choice between the two: 0 nats for the one that it
is, and -inf for the other. Questions marked `together` are right only if all of their group are.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam, Question
from caplab.support.errors import BadInput, is_count, require_type, short_repr

if TYPE_CHECKING:
    from caplab.models.subject import Subject

__all__ = ["score", "verdicts"]


def score(
    subject: "Subject",
    exam: Exam,
    batch_size: int | None = None,
    chat: bool | None = None,
    *,
    progress: bool = True,
) -> "Scorecard":
    """Ask a subject every question of an exam, and measure its loss on the exam's texts.

    The subject is measured in evaluation mode and left as it was, so that a training can go on as
    if nothing had happened. `batch_size` counts rows of about 128 tokens in one forward pass; by
    default it follows from the device. Texts longer than the context are read in windows that
    overlap by one token, so that every token except a text's first is predicted once.

    A subject with a chat template is asked through it, as lm-evaluation-harness does with
    `--apply_chat_template`; `chat=False` asks plainly.
    """
    from caplab.measuring.likelihood import likelihoods
    from caplab.measuring.speaking import speak
    from caplab.models.chat import uses_chat
    from caplab.models.subject import Subject

    require_type(subject, Subject, 'score needs a Subject, such as load("pocket")')
    require_type(exam, Exam, "score needs an Exam, such as exam() or exam(path)")
    if batch_size is not None and not is_count(batch_size, 1):
        given = short_repr(batch_size)
        raise BadInput(f"batch_size is a whole number of at least 1, not {given}.")
    through, part = uses_chat(subject, chat), exam.choosing
    chosen: list[tuple[float, ...]] = []
    text_losses: tuple[tuple[float, int], ...] = ()
    if part.questions or part.texts:
        found = likelihoods(subject, part, batch_size, progress=progress, chat=through)
        chosen, text_losses = [*found.choices], found.texts
    said = speak(subject, exam.questions, chat=chat, batch_size=batch_size, progress=progress)
    return card_of(
        subject.name,
        exam,
        chosen=chosen,
        text_losses=text_losses,
        said=said,
        asked="chat" if through else "plain",
    )


def card_of(
    subject: str,
    exam: Exam,
    *,
    chosen: Sequence[tuple[float, ...]],
    text_losses: tuple[tuple[float, int], ...],
    said: Sequence[str],
    asked: str,
) -> Scorecard:
    """Put together what a subject answered: `chosen` for choices only, `said` for each question."""
    left, right = iter(chosen), verdicts(exam.questions, said)
    return Scorecard(
        subject=subject,
        exam=exam.name,
        fingerprint=exam.fingerprint,
        capability=tuple(question.capability for question in exam.questions),
        answer=tuple(question.answer or 0 for question in exam.questions),
        loglikelihoods=tuple(
            graded(met) if question.spoken else next(left)
            for question, met in zip(exam.questions, right, strict=True)
        ),
        characters=tuple(
            (1, 1) if question.expect else tuple(map(len, question.choices))
            for question in exam.questions
        ),
        text_losses=text_losses,
        group=tuple(question.group for question in exam.questions),
        said=tuple(said) if any(question.spoken for question in exam.questions) else (),
        asked=asked,
    )


def verdicts(questions: Sequence[Question], said: Sequence[str]) -> list[bool]:
    """Tell of each question whether what was said is right; without words nothing is."""
    met = [
        question.expect is not None and question.expect.meets(answer)
        for question, answer in zip(questions, said, strict=True)
    ]
    missed = {q.group for q, ok in zip(questions, met, strict=True) if q.together and not ok}
    return [
        ok and not (q.together and q.group in missed) for q, ok in zip(questions, met, strict=True)
    ]


def graded(right: bool) -> tuple[float, float]:
    """Write right or wrong as the log-likelihoods of a choice between the two."""
    return (0.0, -math.inf) if right else (-math.inf, 0.0)
