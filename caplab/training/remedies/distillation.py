"""Repair a tuned model by a little training: let its base teach it again.

Both read old texts, the base's own words where nobody has others, and the tuned model learns to say
about them what the base says (knowledge distillation, Hinton et al. 2015, arXiv 1503.02531). The
task is not practised meanwhile, so ask both exams afterwards.
"""

from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from caplab.models.subject import Subject
from caplab.models.weights import merged_copy, set_base_name
from caplab.support.errors import BadInput, as_number, is_count, require_type, short_repr
from caplab.support.quiet import quiet
from caplab.training.anchors import KLAnchor
from caplab.training.observer import random_state_kept
from caplab.training.recipe import ReplaySource
from caplab.training.remedies.blend import Tuned, subject_of
from caplab.training.replay import old_texts
from caplab.training.task_rows import Rows, tokens
from caplab.training.trainer import Collator

__all__ = ["distill"]

_TEXTS = 512  # old texts that are read at most


def distill(
    base: Subject,
    tuned: Tuned,
    *,
    steps: int = 30,
    learning_rate: float = 3e-4,
    batch_size: int = 8,
    old_data: Rows | None = None,
    seed: int = 0,
) -> Subject:
    """Return a copy of the tuned model that the base has taught for a few steps.

    The texts are `old_data`, or what the base writes itself. An adapter is merged into the copy.
    """
    end = subject_of(tuned)
    require_type(base, Subject, 'The base is a Subject, such as load("pocket")')
    _check(steps, learning_rate, batch_size)
    source: ReplaySource = "self" if old_data is None else "original"
    with quiet(), random_state_kept(base.device):
        torch.manual_seed(seed)
        texts = old_texts(base, source, old_data, min(steps * batch_size, _TEXTS), seed)
        pad = Collator.of(base.tokenizer)
        teacher = KLAnchor(base, tokens(texts, base), batch_size, 1.0, seed, pad)
        model = merged_copy(end.model)
        set_base_name(model, "")
        _learn(model, teacher, steps, learning_rate)
    return Subject(model, end.tokenizer, f"{end.name}, taught by its base")


def _learn(model: Any, teacher: KLAnchor, steps: int, rate: float) -> None:
    """Take steps of AdamW, whose rate falls to zero, so that the last ones do no harm."""
    model.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for step in range(steps):
        loss: Any = teacher.penalty(model)
        if not torch.isfinite(loss):
            raise BadInput(
                f"The repair diverged in step {step + 1}: give a learning_rate below {rate:g}."
            )
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()


def _check(steps: Any, rate: Any, batch_size: Any) -> None:
    """Refuse numbers that no training can use."""
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if not is_count(value, 1):
            raise BadInput(f"{name} is {short_repr(value)}: give a whole number from 1 on.")
    if not 0 < as_number(rate) < float("inf"):
        raise BadInput(f"learning_rate is {short_repr(rate)}: give a rate such as 3e-4.")
