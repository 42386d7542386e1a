"""Count the memory that a forward pass takes, without taking it: tensors of the meta device."""

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM

GIB = 2**30


class Tally(TorchDispatchMode):
    """Sum the bytes of what is alive at once beside a model's weights, and remember the most."""

    def __init__(self, model):
        super().__init__()
        self.peak, self.alive = 0, {}
        kept = [*model.parameters(), *model.buffers()]
        self.weights = {tensor.untyped_storage()._cdata for tensor in kept}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            return True  # transformers asks whether a mask of ones is all ones
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.weights:
                    found = StorageWeakRef(storage), storage.nbytes()
                    self.alive.setdefault(storage._cdata, found)
        self.alive = {key: kept for key, kept in self.alive.items() if not kept[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return result


def model(config, dtype=torch.bfloat16):
    """Return a model of any size that takes no memory, and the bytes that its weights would."""
    config.dtype = dtype
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    return made, sum(weight.numel() * weight.element_size() for weight in made.parameters())
