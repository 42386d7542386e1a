"""Repair a tuned model without training it again: walk a part of the way back to the base.

`interpolate` mixes the weights (WiSE-FT, Wortsman et al., 2109.01903), and `scale_lora` turns the
adapter down.
"""

import math
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import torch

from caplab.models.subject import Subject
from caplab.models.weights import digest, set_base_name, unwrapped, without_adapter
from caplab.support.errors import BadInput, as_number, require_type, short_repr

if TYPE_CHECKING:
    from caplab.training.run import Run

__all__ = ["Blend", "interpolate", "scale_lora"]

Tuned: TypeAlias = Union["Run", Subject]


class Blend:
    """A model on the line between a base and a tuned one, moved along it in place: for sliders.

    An adapter is merged into a copy first; base and tuned stay as they are. `at` returns the same
    subject each time, with other weights: ask it before you move on, or take `interpolate`.
    """

    def __init__(self, base: Subject, tuned: Tuned) -> None:
        end = subject_of(tuned)
        require_type(base, Subject, 'The base is a Subject, such as load("pocket")')
        _check_origin(base, tuned)
        old, new = (without_adapter(subject.model) for subject in (base, end))
        _check_alike(old, new, base.name, end.name)
        self.subject = Subject(deepcopy(old).eval(), end.tokenizer, end.name)
        set_base_name(self.subject.model, "")
        self._name = end.name
        self._weights = [
            (mixed, at_0.detach(), at_1.detach())
            for mixed, at_0, at_1 in zip(
                self.subject.model.parameters(), old.parameters(), new.parameters(), strict=True
            )
        ]

    @torch.no_grad()
    def at(self, alpha: float) -> Subject:
        """Move to (1 - alpha) base + alpha tuned; 0 and 1 are the two ends, bit for bit."""
        if not 0 <= as_number(alpha) <= 1:
            share = "a share from 0 (the base) to 1 (the tuned)"
            raise BadInput(f"alpha is {short_repr(alpha)}: give {share}.")
        for mixed, at_0, at_1 in self._weights:
            torch.lerp(at_0, at_1, alpha, out=mixed)
        self.subject.name = f"{self._name}, {alpha:.0%} of the way"
        return self.subject


def interpolate(base: Subject, tuned: Tuned, alpha: float) -> Subject:
    """Return a new subject with the weights (1 - alpha) base + alpha tuned."""
    return Blend(base, tuned).at(alpha)


def scale_lora(tuned: Tuned, scale: float) -> Subject:
    """Return a copy of a LoRA-tuned subject whose adapter counts `scale` times as much.

    0 is the base again, 1 the tuned model, and for plain LoRA each scale between is the same model
    as `interpolate` gives; but the adapter stays an adapter.
    """
    from peft.tuners.lora import LoraLayer

    subject = subject_of(tuned)
    if not math.isfinite(as_number(scale)):
        raise BadInput(
            f"scale is {short_repr(scale)}: give a number, from 0 (the base) to 1 (the tuned)."
        )
    model = unwrapped(deepcopy(subject.model))
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    if not layers:
        raise BadInput(
            f"{subject.name} has no LoRA adapter to scale: it was tuned in full, or merged when it "
            "was loaded. interpolate(base, tuned, alpha) does the same for any model."
        )
    for layer in layers:
        for adapter in layer.active_adapters:
            layer.set_scale(adapter, scale)
    return Subject(model, subject.tokenizer, f"{subject.name}, adapter x {scale:g}")


def subject_of(tuned: Tuned) -> Subject:
    """Take the subject out of a run."""
    given: Any = tuned
    subject: Subject | None = getattr(given, "subject", given)
    if subject is None:
        raise BadInput(
            "This run was loaded without its weights. Save it with run.save(folder, weights=True)."
        )
    require_type(subject, Subject, "Give a Run or a Subject")
    return subject


def _check_origin(base: Subject, tuned: Tuned) -> None:
    """Refuse a run that began elsewhere: models of one shape mix without a complaint."""
    began = getattr(tuned, "base_digest", "")
    if began and began != digest(base.model):
        raise BadInput(
            f"This run did not begin from {base.name}, as it is now: its weights are others. "
            "Mix a run with the very model that it was tuned from."
        )


def _kind(weight: torch.Tensor) -> str:
    """Say what must agree of two weights: `(128, 128), float32, cpu`."""
    return f"{tuple(weight.shape)}, {str(weight.dtype).removeprefix('torch.')}, {weight.device}"


def _check_alike(old: Any, new: Any, base: str, tuned: str) -> None:
    """Refuse two models of which no weight-by-weight mixture exists."""
    kinds = [{name: _kind(p) for name, p in model.named_parameters()} for model in (old, new)]
    for name in [name for name in kinds[0] | kinds[1] if kinds[0].get(name) != kinds[1].get(name)]:
        sizes = [found.get(name, "missing") for found in kinds]
        raise BadInput(
            f"{tuned} was not tuned from {base}: {name} is {sizes[1]} here and {sizes[0]} there. "
            "Only a model and its own fine-tuning can be mixed, weight by weight."
        )
