"""Name, identify and copy a model's weights."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from threading import Lock, RLock, get_ident
from typing import Any
from weakref import WeakKeyDictionary

__all__ = [
    "digest",
    "in_pieces",
    "input_device",
    "is_placed",
    "merged_copy",
    "own_turn",
    "set_base_name",
    "unwrapped",
    "without_adapter",
]


def set_base_name(model: Any, name: str) -> None:
    """Set the name under which an adapter trained on this model will look for its base.

    Weights that are saved nowhere, such as those of a training or a mixture, get the name "".
    """
    model.name_or_path = model.config.name_or_path = name


_turns: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # a lock for each model
_finding = Lock()


def _turn(model: Any) -> Any:
    """Return the lock of a model."""
    with _finding:
        return _turns.setdefault(_bare(model), RLock())


@contextmanager
def own_turn(model: Any) -> Iterator[None]:
    """Let one thread at a time use a model; the same thread may do so again inside.

    A thread that knows nothing of turns, such as a training of the user's, waits where it next
    calls the model, or sets its mode.
    """
    bare, mine = _bare(model), get_ident()

    def wait(*_: Any) -> None:
        if get_ident() != mine:
            with _turn(bare):
                pass

    def train(mode: bool = True) -> Any:
        wait()
        return type(bare).train(bare, mode)

    with _turn(bare):
        if "train" in vars(bare):  # this thread has the turn already
            yield
            return
        vars(bare)["train"] = train
        hook = bare.register_forward_pre_hook(wait)
        try:
            yield
        finally:
            hook.remove()
            del vars(bare)["train"]


def _bare(model: Any) -> Any:
    """Return the model inside its adapter, its compilation and its data parallelism."""
    for _ in range(4):
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if inner is None and hasattr(model, "get_base_model"):
            inner = model.get_base_model()
        if inner is None or inner is model:
            break
        model = inner
    return model


def digest(model: Any) -> str:
    """Return a digest of a model's weights: equal weights have equal digests."""
    import torch

    sha = hashlib.sha256()
    for weight in model.state_dict().values():
        sha.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def merged_copy(model: Any) -> Any:
    """Return a copy of a model, into which its PEFT adapter, if it has one, is merged."""
    with _turn(model):  # what measures it in another thread would be copied, too
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


def in_pieces(model: Any) -> bool:
    """Tell whether FSDP2 has cut the weights up: each process then holds a part of each."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    from torch.distributed.fsdp import FSDPModule

    return any(isinstance(module, FSDPModule) for module in model.modules())


def is_placed(model: Any) -> bool:
    """Tell whether a library chose the devices: of quantised weights, or by a device map."""
    return getattr(model, "is_quantized", False) or hasattr(model, "hf_device_map")


def input_device(model: Any) -> Any:
    """Return the device that a model reads its tokens on; weights may wait elsewhere, unloaded."""
    import torch

    device = next(model.parameters()).device
    places = getattr(model, "hf_device_map", None)
    if device.type != "meta" or places is None:
        return device
    used = [place for place in places.values() if place != "disk"]
    place = next((place for place in used if place != "cpu"), "cpu")
    return torch.device("cuda", place) if isinstance(place, int) else torch.device(place)
