"""Anchors: what pulls a model towards its base while it is trained.

An anchor adds a penalty to the loss of each step. The KL anchor compares what the model and its
base say about old texts, so each step also reads old rows: once with the base, and once more,
forward and backward, with the model. The L2 anchor compares their weights and reads nothing
(L2-SP, Li et al. 2018, arXiv 1802.01483).
"""

import random
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from datasets import Dataset
from peft.tuners.lora import LoraLayer
from torch.nn.functional import kl_div

from caplab.models.subject import Subject, measuring
from caplab.training.recipe import Recipe

__all__ = ["Anchor", "KLAnchor", "L2Anchor", "make_anchor", "mean_kl"]


class Anchor(Protocol):
    """What a trainer adds to its loss."""

    def penalty(self, model: Any) -> torch.Tensor:
        """Return how far the model is from its base, times the strength."""
        ...


class KLAnchor:
    """Keep what a model says about old texts: KL(base || model) per token, in nats."""

    def __init__(
        self, base: Subject, rows: Dataset, batch_size: int, strength: float, seed: int, pad: Any
    ) -> None:
        self.base, self.strength = base, strength
        self._batches = _batches(rows.to_list(), batch_size, seed, pad)

    def penalty(self, model: Any) -> torch.Tensor:
        """Read the next old texts with the base and with the model."""
        batch = next(self._batches)
        names = ("input_ids", "attention_mask")
        inputs = {name: batch[name].to(self.base.device) for name in names}  # (rows, tokens)
        with measuring(self.base.model):
            wanted = self.base.model(**inputs, use_cache=False).logits
        found = model(**inputs, use_cache=False).logits
        return self.strength * mean_kl(wanted, found, inputs["attention_mask"])


def mean_kl(base: torch.Tensor, model: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return KL(base || model) in nats per predicted token; logits are (rows, tokens, words)."""
    predicted = seen[:, 1:].bool()  # (rows, tokens - 1); the first token is not predicted
    said, wanted = (
        logits[:, :-1][predicted].float().log_softmax(-1)  # (tokens, words)
        for logits in (model, base)
    )
    return kl_div(said, wanted, reduction="batchmean", log_target=True)


def _batches(rows: list[Any], size: int, seed: int, pad: Any) -> Iterator[dict[str, Any]]:
    """Yield padded batches without end; all rows are read before any is read again."""
    rng = random.Random(f"anchor {seed}")
    waiting: list[Any] = []
    while True:
        while len(waiting) < size:
            waiting += rng.sample(rows, len(rows))
        yield pad(waiting[:size])
        waiting = waiting[size:]


class L2Anchor:
    """Keep the weights: half of the squared distance from the base's, summed."""

    def __init__(self, model: Any, strength: float) -> None:
        self.strength = strength
        self._adapted = [module for module in model.modules() if isinstance(module, LoraLayer)]
        trained = [] if self._adapted else [w for w in model.parameters() if w.requires_grad]
        self._pairs = [(weight, weight.detach().clone()) for weight in trained]

    def penalty(self, model: Any) -> torch.Tensor:
        """Measure the distance of the weights that are trained."""
        parts = [_change_of(module) for module in self._adapted]
        parts += [(weight - start).square().sum() for weight, start in self._pairs]
        return self.strength / 2 * torch.stack(parts).sum()


def _change_of(module: Any) -> torch.Tensor:
    """Return |s · B A|², which is s² · sum of (BᵀB) ∘ (A Aᵀ): both are small, (rank, rank)."""
    squared = [
        module.scaling[name] ** 2
        * (
            (b := module.lora_B[name].weight).T @ b * ((a := module.lora_A[name].weight) @ a.T)
        ).sum()
        for name in module.active_adapters
    ]
    return torch.stack(squared).sum()


def make_anchor(
    recipe: Recipe, base: Subject, model: Any, rows: Dataset | None, pad: Any
) -> Anchor | None:
    """Build the anchor that a recipe asks for; `rows` are the old texts of a KL anchor."""
    if recipe.anchor == "l2":
        return L2Anchor(model, recipe.anchor_strength)
    if recipe.anchor == "kl" and rows is not None:
        return KLAnchor(base, rows, recipe.batch_size, recipe.anchor_strength, recipe.seed, pad)
    return None
