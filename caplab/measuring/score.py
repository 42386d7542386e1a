"""`score`: ask a subject every question of an exam, and return its `Scorecard`.

A choice is scored as lm-evaluation-harness scores its `multiple_choice` tasks: by the
log-likelihood of `" " + choice` after the prompt, summed over its tokens.
"""

from typing import TYPE_CHECKING

from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam
from caplab.support.errors import BadInput, is_count, require_type, short_repr

if TYPE_CHECKING:
    from caplab.models.subject import Subject

__all__ = ["score"]


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
    from caplab.models.chat import uses_chat
    from caplab.models.subject import Subject

    require_type(subject, Subject, 'score needs a Subject, such as load("pocket")')
    require_type(exam, Exam, "score needs an Exam, such as exam() or exam(path)")
    if batch_size is not None and not is_count(batch_size, 1):
        given = short_repr(batch_size)
        raise BadInput(f"batch_size is a whole number of at least 1, not {given}.")
    through = uses_chat(subject, chat)
    found = likelihoods(subject, exam, batch_size, progress=progress, chat=through)
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
