"""Read many prompts at once, what begins alike only once, and keep what each answer starts from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from caplab.measuring.likelihood import only_asked
from caplab.measuring.trees import Batch, Reading, Row, pack, tree_mask
from caplab.models.subject import Subject

__all__ = ["Prompts", "read_prompts"]

_TOKENS = {"cpu": 1024, "mps": 4096, "cuda": 16384}  # in one forward pass


class Prompts(NamedTuple):
    """Prompts that were read, side by side, each with its end at the right."""

    logits: Tensor  # (prompts, vocabulary), of the first token of each answer
    cache: Any  # keys and values of all layers
    mask: Tensor  # (prompts, tokens): 1 where there is a token
    lengths: Tensor  # (prompts, 1)


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values with room for the answers: a new token is written, and no other is copied."""

    def __init__(self, keys: Tensor, values: Tensor, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.whole = [nn.functional.pad(each, (0, 0, 0, room)) for each in (keys, values)]
        self._show(keys.shape[-2])

    def _show(self, length: int) -> tuple[Tensor, Tensor]:
        keys, values = (each[:, :, :length] for each in self.whole)
        self.keys, self.values = keys, values
        return keys, values

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write what comes next, and return all that was written."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        for whole, new in zip(self.whole, (key_states, value_states), strict=True):
            whole[:, :, start:end] = new
        return self._show(end)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some of the rows."""
        self.whole = [each[indices] for each in self.whole]
        self._show(self.get_seq_length())


class _Part(NamedTuple):
    """A few of the prompts: which ones, and the same for them."""

    owners: list[int]
    logits: Tensor
    layers: list[tuple[Tensor, Tensor]]  # keys and values, (prompts, heads, tokens, width)


def read_prompts(subject: Subject, prompts: Sequence[list[int]], room: int) -> Prompts:
    """Read the prompts as the branches of trees, and write the cache of each in a row of its own.

    A branch sees its own way back to the root and nothing else, as in `likelihood`. In each row is
    room for so many more tokens.
    """
    longest = max(map(len, prompts))
    # The token that is to be predicted is not known yet: any stands for it.
    readings = (Reading([*prompt, 0], len(prompt), n) for n, prompt in enumerate(prompts))
    # Attention costs a tree's length, the layers the model's width: a wide one reads longer trees.
    width = subject.model.config.get_text_config().hidden_size
    trees = sorted(pack(readings, True, max(128, width)), key=lambda tree: -len(tree.tokens))
    parts = []
    while trees:
        most = _TOKENS.get(subject.device.type, 1024)
        count = max(1, most // len(trees[0].tokens))
        parts.append(_read(subject, trees[:count], longest))
        trees = trees[count:]
    owners = [owner for part in parts for owner in part.owners]
    order = torch.tensor(owners, device=subject.device).argsort()
    cache = DynamicCache()
    for layers in zip(*(part.layers for part in parts), strict=True):
        keys, values = (torch.cat(column)[order] for column in zip(*layers, strict=True))
        cache.layers.append(_Layer(keys, values, room))
    lengths = torch.tensor([[len(prompt)] for prompt in prompts], device=subject.device)
    places = torch.arange(longest, device=subject.device)
    mask = (places >= longest - lengths).long()
    return Prompts(torch.cat([part.logits for part in parts])[order], cache, mask, lengths)


def _read(subject: Subject, trees: list[Row], longest: int) -> _Part:
    """Read some trees, and gather for each prompt what stands on its way from the root."""
    device, batch = subject.device, Batch.of(trees)
    asked = batch.asked.to(device)
    with only_asked(subject.model, asked):
        output = subject.model(
            input_ids=batch.tokens.to(device),
            attention_mask=tree_mask(batch.ends.to(device), subject.model.dtype),
            position_ids=batch.depths.to(device),
            use_cache=True,
        )
    picks = [(n, place, owner) for n, tree in enumerate(trees) for place, _, owner in tree.picks]
    paths = [_path(trees[n], place, longest) for n, place, _ in picks]
    rows = torch.tensor([[n] for n, _, _ in picks], device=device)  # (prompts, 1)
    path = torch.tensor(paths, device=device)  # (prompts, longest)
    layers = [
        (layer.keys[rows, :, path].transpose(1, 2), layer.values[rows, :, path].transpose(1, 2))
        for layer in output.past_key_values.layers
    ]
    logits = output.logits[batch.picks[0].to(device)]
    return _Part([owner for _, _, owner in picks], logits, layers)


def _path(tree: Row, place: int, length: int) -> list[int]:
    """List the places from the root to this one, with padding before the first."""
    path = [place]
    while tree.parents[path[-1]] >= 0:
        path.append(tree.parents[path[-1]])
    return [*[0] * (length - len(path)), *reversed(path)]
