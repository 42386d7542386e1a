"""Lay out what a model reads as trees: what begins alike stands there once.

The branches of a tree are the readings: prompts with their choices. A token attends only to the
tokens on its path back to the root, and its position is its depth.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "Batch",
    "Reading",
    "Row",
    "families",
    "grow",
    "pack",
    "shared_prefix",
    "tree_mask",
]

_ROW = 128  # tokens in a tree (see `pack`)
_WORTH = 16  # tokens that readings begin with alike, from which on these are read apart


class Reading(NamedTuple):
    """A sequence of tokens; those from `start` on are scored, for the choice or text `owner`."""

    tokens: list[int]
    start: int
    owner: int


class Row(NamedTuple):
    """One input of the model: a tree of tokens, each branch complete before the next begins."""

    tokens: list[int]
    parents: list[int]  # the index of the token before; -1 at a root
    picks: list[tuple[int, int, int]]  # (index, token, owner): how likely is the token after index?

    @property
    def branching(self) -> bool:
        """Check for more than one branch: a plain sequence needs no mask."""
        return self.parents != list(range(-1, len(self.tokens) - 1))

    @property
    def depths(self) -> list[int]:
        """Return how far each token is from its root: its position id for the model."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        return depths

    @property
    def ends(self) -> list[int]:
        """Return where the branch below each token ends: i attends to j if j <= i < ends[j]."""
        ends = list(range(1, len(self.tokens) + 1))
        for index, parent in reversed([*enumerate(self.parents)]):
            if parent >= 0:
                ends[parent] = max(ends[parent], ends[index])
        return ends


def grow(readings: Iterable[Reading]) -> Row:
    """Build the tree of some readings; they are sorted, so that each branch is in one piece."""
    row = Row([], [], [])
    grown: dict[tuple[int, int], int] = {}  # (parent, token) -> the token's index
    for tokens, start, owner in readings:
        index = -1
        for step, token in enumerate(tokens):
            if step >= start:
                row.picks.append((index, token, owner))
            if step == len(tokens) - 1:
                break  # the last token is predicted and never read
            if (index, token) not in grown:
                grown[index, token] = len(row.tokens)
                row.tokens.append(token)
                row.parents.append(index)
            index = grown[index, token]
    return row


def pack(readings: Iterable[Reading], sharing: bool, length: int | None = None) -> Iterator[Row]:
    """Put readings that begin alike into one row: as a tree, or only while it stays a sequence.

    A row has about 128 tokens. A longer one shares more beginnings, but attention compares each
    token with all others of its row, most of which are in other branches: beyond this length that
    costs more than sharing saves (measured).
    """
    group: list[Reading] = []
    last: list[int] = []
    size = 0  # tokens in the tree of the group
    # Sorted, what begins alike is side by side, and a reading shares with the one before it all
    # that it shares with any earlier one: so the rest of its tokens is what it adds to the tree.
    for reading in sorted(readings):
        read = reading.tokens[:-1]  # the last token is predicted and never read
        alike = shared_prefix(last, read)
        room = max(length or _ROW, 2 * len(read))  # the choices of a long prompt still share it
        fits = size + len(read) - alike <= room if sharing else alike == len(last)
        if group and not fits:
            yield grow(group)
            group, size, alike = [], 0, 0
        group.append(reading)
        size, last = size + len(read) - alike, read
    if group:
        yield grow(group)


def shared_prefix(one: list[int], other: list[int]) -> int:
    """Count the tokens at the beginning that both share."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def families(readings: list[Reading], room: int) -> Iterator[tuple[int, list[Reading]]]:
    """Group sorted readings that share a long beginning; yield its length, and the readings.

    Such as the system turn of a chat template, and the examples before each question of a
    capability. The beginning is read once, and each row attends to it. That pays where a family
    fills a forward pass of `room` tokens by itself; the readings of smaller ones stay together.
    """
    if readings:
        yield from _families(readings, 0, room)


def _families(
    readings: list[Reading], common: int, room: int
) -> Iterator[tuple[int, list[Reading]]]:
    rest: list[Reading] = []
    for alike, family in _alike(readings, max(_WORTH, 2 * common)):
        if sum(len(reading.tokens) - alike for reading in family) < room:
            rest += family
        else:
            yield from _families(family, alike, room)
    if rest:
        yield common, rest


def _alike(readings: list[Reading], least: int) -> Iterator[tuple[int, list[Reading]]]:
    """Split sorted readings wherever two neighbours share fewer than `least` tokens."""
    # The last token of a prompt stays in the tree: what follows it is predicted there.
    prompts = [reading.tokens[: reading.start - 1] for reading in readings]
    shared = [shared_prefix(*pair) for pair in pairwise(prompts)]
    cuts = [0, *(n for n, tokens in enumerate(shared, 1) if tokens < least), len(readings)]
    for start, end in pairwise(cuts):
        yield min(shared[start : end - 1], default=len(prompts[start])), readings[start:end]


class Batch(NamedTuple):
    """Rows of similar length, padded at their ends: no token of a row attends to its padding."""

    tokens: Tensor  # (rows, length)
    depths: Tensor  # (rows, length)
    ends: Tensor  # (rows, length)
    asked: Tensor  # (2, asked): row and index of each position whose prediction is needed
    picks: Tensor  # (3, picks): which of the asked, in order; the token that follows; its owner
    branching: bool
    beginning: tuple[int, ...] = ()  # tokens that all rows begin with, read before them

    @classmethod
    def of(cls, rows: Sequence[Row], beginning: tuple[int, ...] = ()) -> "Batch":
        """Pad the rows to the longest; a token of padding attends only to itself."""
        length = max(len(row.tokens) for row in rows)
        own = range(1, length + 1)
        picks = [(n, *pick) for n, row in enumerate(rows) for pick in row.picks]
        # Several choices may follow one position: each position is computed once.
        asked = {where: number for number, where in enumerate(dict.fromkeys(p[:2] for p in picks))}
        return cls(
            tokens=_padded([row.tokens for row in rows], [0] * length),
            depths=_padded([row.depths for row in rows], [0] * length) + len(beginning),
            ends=_padded([row.ends for row in rows], own),
            asked=torch.tensor(list(asked)).T,
            picks=torch.tensor(
                sorted((asked[n, index], token, owner) for n, index, token, owner in picks)
            ).T.contiguous(),
            branching=any(row.branching for row in rows),
            beginning=beginning,
        )


def _padded(rows: list[list[int]], filling: Sequence[int]) -> Tensor:
    """Fill up each row at its end, from the same positions of `filling`."""
    return torch.tensor([[*row, *filling[len(row) :]] for row in rows])


def tree_mask(ends: Tensor, dtype: torch.dtype, before: int = 0) -> Tensor:
    """Let each token attend to itself, its path back to the root, and all that was read before."""
    indices = torch.arange(ends.shape[1], device=ends.device)  # (length,)
    seen = (indices <= indices[:, None]) & (indices[:, None] < ends[:, None, :])  # (rows, i, j)
    mask = torch.zeros(seen.shape, dtype=dtype, device=ends.device)
    mask = mask.masked_fill_(~seen, torch.finfo(dtype).min)
    return nn.functional.pad(mask, (before, 0))[:, None]  # (rows, 1, i, before + j)
