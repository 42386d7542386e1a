"""What is done with a model's weights as a whole: name, digest, copy."""

import hashlib
from copy import deepcopy
from typing import Any

__all__ = ["digest", "merged_copy", "set_base_name", "unwrapped", "without_adapter"]


def set_base_name(model: Any, name: str) -> None:
    """Give a model the name under which an adapter trained on it will look for its base.

    Weights that no folder holds, such as those of a training or a mixture, have no name: "".
    """
    model.name_or_path = model.config.name_or_path = name


def digest(model: Any) -> str:
    """Identify a model's weights: equal weights have equal digests."""
    import torch

    sha = hashlib.sha256()
    for weight in model.state_dict().values():
        sha.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def merged_copy(model: Any) -> Any:
    """Copy a model; if it has a PEFT adapter, merge that into the copy."""
    copied = unwrapped(deepcopy(model))
    return unwrapped(copied.merge_and_unload()) if hasattr(copied, "merge_and_unload") else copied


def without_adapter(model: Any) -> Any:
    """Return the model itself, or where it has an adapter a copy with that merged."""
    return merged_copy(model) if hasattr(model, "merge_and_unload") else model


def unwrapped(model: Any) -> Any:
    """Take off the forwards that trainers put on: a copy's would still lead to the original."""
    for wrapped in (model, model.get_base_model() if hasattr(model, "get_base_model") else model):
        if not hasattr(wrapped, "_hf_hook"):  # accelerate's, which spreads a model over devices
            vars(wrapped).pop("forward", None)
            vars(wrapped).pop("_original_forward", None)
    return model
