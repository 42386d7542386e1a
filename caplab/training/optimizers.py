"""Muon beside AdamW, and the running average of the weights: what moves weights in other ways."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback

__all__ = ["RunningAverage", "Together", "muon_with_adamw"]


class Together(torch.optim.Optimizer):
    """Several optimisers that a trainer handles as one: a scheduler sets the rates of all."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self._parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step with each."""
        for part in self._parts:
            part.step()


def muon_with_adamw(model: Any, rate: float, decay: float) -> torch.optim.Optimizer:
    """Take Muon for the matrices inside the blocks, and AdamW for embeddings, head and vectors.

    Muon was made for matrices that turn one vector into another (Jordan et al. 2024). Its steps are
    scaled to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982), so that one rate means about
    the same for both.
    """
    words = {id(module.weight) for module in _tables(model)}
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    matrices = [weight for weight in trained if weight.dim() == 2 and id(weight) not in words]
    others = [weight for weight in trained if weight.dim() != 2 or id(weight) in words]
    parts: list[torch.optim.Optimizer] = []
    if matrices:
        sized = "match_rms_adamw"
        parts.append(torch.optim.Muon(matrices, rate, weight_decay=decay, adjust_lr_fn=sized))
    if others:
        vectors = {"params": [weight for weight in others if weight.dim() < 2], "weight_decay": 0.0}
        tables = {"params": [weight for weight in others if weight.dim() > 1]}
        groups = [group for group in (tables, vectors) if group["params"]]
        parts.append(torch.optim.AdamW(groups, lr=rate, weight_decay=decay))
    return Together(parts)


def _tables(model: Any) -> list[Any]:
    """Return the embeddings, of positions too, and the output head."""
    head = model.get_output_embeddings()
    embeddings = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    return [*embeddings, *([head] if head is not None else [])]


class RunningAverage(TrainerCallback):
    """Keep a running average of the trained weights, which begins at the base."""

    def __init__(self, model: Any, decay: float) -> None:
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._mean = [weight.detach().clone() for weight in self._weights]
        self._update: Any = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the average towards the weights."""
        self._update(self._mean, [weight.detach() for weight in self._weights], None)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Give the model its average while the body runs."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average with the weights: called once at the end, the average stays."""
        for weight, mean in zip(self._weights, self._mean, strict=True):
            kept = weight.clone()
            weight.copy_(mean)
            mean.copy_(kept)
