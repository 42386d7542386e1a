"""Read many prompts at once, what begins alike only once, and keep what each answer starts from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

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


class _Part(NamedTuple):
    """A few of the prompts: which ones, and the same for them."""

    owners: list[int]
    logits: Tensor
    layers: list[tuple[Tensor, Tensor]]  # keys and values, (prompts, heads, tokens, width)


def read_prompts(subject: Subject, prompts: Sequence[list[int]]) -> Prompts:
    """Read the prompts as the branches of trees, and write the cache of each in a row of its own.

    A branch sees its own way back to the root and nothing else, as in `likelihood`.
    """
    longest = max(map(len, prompts))
    # The token that is to be predicted is not known yet: any stands for it.
    readings = (Reading([*prompt, 0], len(prompt), n) for n, prompt in enumerate(prompts))
    trees = sorted(pack(readings, sharing=True), key=lambda tree: -len(tree.tokens))
    parts = []
    while trees:
        room = _TOKENS.get(subject.device.type, 1024)
        count = max(1, room // len(trees[0].tokens))
        parts.append(_read(subject, trees[:count], longest))
        trees = trees[count:]
    owners = [owner for part in parts for owner in part.owners]
    order = torch.tensor(owners, device=subject.device).argsort()
    cache = DynamicCache()
    for number, layers in enumerate(zip(*(part.layers for part in parts), strict=True)):
        keys, values = (torch.cat(column)[order] for column in zip(*layers, strict=True))
        cache.update(keys, values, number)
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
