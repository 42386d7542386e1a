"""Name, identify and copy a model's weights."""

import hashlib
from copy import deepcopy
from typing import Any

__all__ = ["digest", "merged_copy", "set_base_name", "unwrapped", "without_adapter"]


def set_base_name(model: Any, name: str) -> None:
    """Set the name under which an adapter trained on this model will look for its base.

    Weights that are saved nowhere, such as those of a training or a mixture, get the name "".
    """
    model.name_or_path = model.config.name_or_path = name


def digest(model: Any) -> str:
    """Return a digest of a model's weights: equal weights have equal digests."""
    import torch

    sha = hashlib.sha256()
    for weight in model.state_dict().values():
        sha.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def merged_copy(model: Any) -> Any:
    """Return a copy of a model, into which its PEFT adapter, if it has one, is merged."""
    copied = unwrapped(deepcopy(model))
    return unwrapped(copied.merge_and_unload()) if hasattr(copied, "merge_and_unload") else copied


def without_adapter(model: Any) -> Any:
    """Return the model itself or, if it has an adapter, a copy with the adapter merged."""
    return merged_copy(model) if hasattr(model, "merge_and_unload") else model


def unwrapped(model: Any) -> Any:
    """Remove the `forward` that a trainer set on the model, and return the model.

    A copy of the model would keep it, and call the original's weights with it.
    """
    for wrapped in (model, model.get_base_model() if hasattr(model, "get_base_model") else model):
        # A model that accelerate spread over several devices needs the forward of its hook.
        if not hasattr(wrapped, "_hf_hook"):
            vars(wrapped).pop("forward", None)
            vars(wrapped).pop("_original_forward", None)
    return model
