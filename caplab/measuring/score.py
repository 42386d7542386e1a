"""`score`: ask a subject every question of an exam, and return its `Scorecard`.

A choice is scored as lm-evaluation-harness scores its `multiple_choice` tasks: by the
log-likelihood of `" " + choice` after the prompt, summed over its tokens.
"""

from typing import TYPE_CHECKING

from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam
from caplab.support.errors import BadInput, require_type, short_repr

if TYPE_CHECKING:
    from caplab.models.subject import Subject

__all__ = ["score"]


def score(
    subject: "Subject", exam: Exam, batch_size: int | None = None, *, progress: bool = True
) -> "Scorecard":
    """Ask a subject every question of an exam, and measure its loss on the exam's texts.

    The subject is measured in evaluation mode and left as it was: a training can go on as if nobody
    had asked. `batch_size` counts rows of some 128 tokens in one forward pass; left out, it follows
    from the device. Texts longer than the context are read in windows that overlap by one token, so
    that every token but a text's first is predicted once.
    """
    from caplab.measuring.likelihood import likelihoods
    from caplab.models.subject import Subject

    require_type(subject, Subject, 'score needs a Subject, such as load("pocket")')
    require_type(exam, Exam, "score needs an Exam, such as exam() or exam(path)")
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise BadInput(f"batch_size is a whole number from 1 on, not {short_repr(batch_size)}.")
    found = likelihoods(subject, exam, batch_size, progress=progress)
    return Scorecard(
        subject=subject.name,
        exam=exam.name,
        fingerprint=exam.fingerprint,
        capability=tuple(question.capability for question in exam.questions),
        answer=tuple(question.answer for question in exam.questions),
        loglikelihoods=found.choices,
        characters=tuple(tuple(map(len, question.choices)) for question in exam.questions),
        text_losses=found.texts,
        group=tuple(question.group for question in exam.questions),
    )
