"""Check what a guard is given, before hours of training."""

import os
from collections.abc import Mapping
from typing import Any, Literal, get_args

from transformers import PreTrainedTokenizerBase

from caplab.measuring.compare import check_metric
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam
from caplab.support.errors import BadInput, is_count, require_type, short_repr

__all__ = ["Action", "check_options", "find_tokenizer", "loss_name"]

Action = Literal["warn", "stop", "rollback"]


def check_options(guard: Any) -> None:
    """Refuse options that no guard can keep to."""
    if guard.action not in get_args(Action):
        choices = ", ".join(get_args(Action))
        raise BadInput(f"action is {short_repr(guard.action)}: choose one of {choices}.")
    for name, least in (("every", 1), ("patience", 0)):
        value = getattr(guard, name)
        if not is_count(value, least):
            raise BadInput(f"{name} is {short_repr(value)}: give a whole number, at least {least}.")
    check_metric(guard.metric)
    guard.policy.check_covers(guard.exam.name, guard.exam.capabilities)
    require_type(
        guard.tokenizer, (PreTrainedTokenizerBase, type(None)), "tokenizer is the model's own"
    )
    require_type(
        guard.task_loss, (str, type(None)), "task_loss names a value that the Trainer logs"
    )
    _check_before(guard.before, guard.exam)
    kinds = (str, os.PathLike, type(None))
    require_type(guard.snapshots, kinds, "snapshots is the folder in which they are kept")
    if guard.snapshots is not None and guard.action != "rollback":
        raise BadInput(f'snapshots are for action="rollback", and action is {guard.action!r}.')


def _check_before(before: Scorecard | None, exam: Exam) -> None:
    """Refuse a base's answers to another exam."""
    if before is None:
        return
    require_type(before, Scorecard, "before is the base's Scorecard, score(base, exam)")
    if before.fingerprint != exam.fingerprint:
        raise BadInput(f"before answers {before.exam!r}, but the guard asks {exam.name!r}.")


def find_tokenizer(*candidates: Any) -> PreTrainedTokenizerBase:
    """Return the first tokenizer; a processor for several media has one inside."""
    for candidate in candidates:
        inside = getattr(candidate, "tokenizer", candidate)
        if isinstance(inside, PreTrainedTokenizerBase):
            return inside
    raise BadInput(
        "The guard needs a tokenizer to ask its exam, and this Trainer has none: give one to the "
        "Trainer (processing_class=tokenizer) or to the guard (tokenizer=tokenizer)."
    )


def loss_name(logs: Mapping[str, float], evaluated: bool) -> str | None:
    """Find the task loss among the logged values: the evaluation's, if there is one."""
    wanted = (name for name in logs if name.startswith("eval_") and name.endswith("loss"))
    return next(wanted, None) if evaluated else "loss"
