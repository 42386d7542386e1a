"""Repair a tuned model without training: move it back towards its base.

`interpolate` mixes the weights of both (WiSE-FT, Wortsman et al., 2109.01903), and `scale_lora`
scales the adapter down.
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
    """A model between a base and a tuned one whose mixture can be changed in place, for sliders.

    An adapter is merged into a copy first; base and tuned stay as they are. `at` returns the same
    subject every time, with other weights: use it before the next call, or call `interpolate`.
    """

    def __init__(self, base: Subject, tuned: Tuned) -> None:
        end = subject_of(tuned)
        require_type(base, Subject, 'The base is a Subject, such as load("pocket")')
        _check_origin(base, tuned)
        old, new = (without_adapter(subject.model) for subject in (base, end))
        _check_shapes(old, new, base.name, end.name)
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
        """Set the weights to (1 - alpha) base + alpha tuned; 0 and 1 give the ends bit for bit."""
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
    """Return a copy of a LoRA-tuned subject with its adapter's effect multiplied by `scale`.

    0 gives the base and 1 the tuned model. For plain LoRA, every scale between gives the same model
    as `interpolate`, but the adapter remains an adapter.
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
    """Return the subject of a run, or the subject itself if one is given."""
    given: Any = tuned
    subject: Subject | None = getattr(given, "subject", given)
    if subject is None:
        raise BadInput(
            "This run was loaded without its weights. Save it with run.save(folder, weights=True)."
        )
    require_type(subject, Subject, "Give a Run or a Subject")
    return subject


def _check_origin(base: Subject, tuned: Tuned) -> None:
    """Refuse a run that began from other weights: models of the same shapes mix silently."""
    began = getattr(tuned, "base_digest", "")
    if began and began != digest(base.model):
        raise BadInput(
            f"This run did not begin from {base.name} as it is now: the weights differ. "
            "Mix a run with the model that it was tuned from."
        )


def _kind(weight: torch.Tensor) -> str:
    """Describe what must be equal for two weights to mix: `(128, 128), float32, cpu`."""
    return f"{tuple(weight.shape)}, {str(weight.dtype).removeprefix('torch.')}, {weight.device}"


def _check_shapes(old: Any, new: Any, base: str, tuned: str) -> None:
    """Refuse two models that cannot be mixed weight by weight."""
    before, after = (
        {name: _kind(weight) for name, weight in model.named_parameters()} for model in (old, new)
    )
    for name in before | after:
        was, now = before.get(name, "missing"), after.get(name, "missing")
        if was != now:
            raise BadInput(
                f"{tuned} was not tuned from {base}: {name} is {now} in {tuned} and {was} in "
                f"{base}. Mix a tuned model with the base that it was tuned from."
            )
