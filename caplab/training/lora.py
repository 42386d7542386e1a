"""Choose the layers that LoRA adapts, and describe the adapter to PEFT.

LoRA freezes a layer's weight W and adds what it learns as a product of two thin matrices: the layer
computes with W + alpha/r · B A, where W is (out, in), A (r, in), B (out, r) and r the rank. B
begins at zero, so that training starts from the base. rsLoRA divides by the root of r instead of r
(Kalajdzievski 2023, arXiv 2312.03732); DoRA learns the length of each column apart from its
direction (Liu et al. 2024, arXiv 2402.09353).
"""

from typing import Any

import torch
from peft import LoraConfig
from transformers.pytorch_utils import Conv1D

from caplab.support.errors import BadInput, did_you_mean
from caplab.training.recipe import Recipe

__all__ = ["linear_layers", "lora_config"]


def linear_layers(model: Any) -> dict[str, Any]:
    """Return the layers that LoRA can adapt, by name: every linear one but the output head."""
    head = model.get_output_embeddings()
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear | Conv1D) and layer is not head
    }


def lora_config(model: Any, recipe: Recipe) -> LoraConfig:
    """Return PEFT's configuration for a recipe and the layers of this model."""
    layers = linear_layers(model)
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        use_rslora=recipe.variant == "rslora",
        use_dora=recipe.variant == "dora",
        target_modules=_targets(layers, recipe.target_modules),
        # GPT-2's Conv1D stores its weights transposed: (in, out).
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in layers.values()),
        task_type="CAUSAL_LM",
    )


def _targets(layers: dict[str, Any], wanted: str | tuple[str, ...]) -> str | list[str]:
    """Resolve `attention` and `mlp` for this architecture; refuse names that no layer has."""
    if wanted == "all-linear":
        return wanted
    if wanted in ("attention", "mlp"):
        return _part(layers, wanted)
    short = {layer.rpartition(".")[2] for layer in layers}
    for name in wanted:
        if not any(layer == name or layer.endswith(f".{name}") for layer in layers):
            raise BadInput(
                f"The model has no linear layer {name!r}.{did_you_mean(name, short)} "
                f"There are: {', '.join(sorted(short))}."
            )
    return list(wanted)


def _part(layers: dict[str, Any], wanted: str) -> list[str]:
    """Name the layers of the attention blocks or all others, whatever the architecture calls them.

    Two parts of a path are enough: GPT-2 has a `c_proj` in both kinds of block.
    """
    paths = [layer.split(".") for layer in layers]
    attention = [any("att" in part for part in path[:-1]) for path in paths]
    if not any(attention) or all(attention):
        raise BadInput(
            f"No {wanted} was recognised among these layers: {', '.join(layers)}. "
            "Name them in target_modules."
        )
    chosen = [
        path
        for path, inside in zip(paths, attention, strict=True)
        if inside == (wanted == "attention")
    ]
    return sorted({".".join(path[-2:]) for path in chosen})
