"""How likely does a model find a text? The engine under `score`.

A question is one row: its prompt once, then its choices side by side, as the branches of a tree.
A token sees the tokens on its way back to the root and nothing else, and its position is its depth,
so each choice reads as if it stood alone behind the prompt. Of the output head, the largest layer
of a small model, only the rows are computed that a choice needs.

That needs a model that obeys a four-dimensional attention mask and given positions. Such families
are named in `SHARING`, each with a test against the plain way; every other model gets the plain
way, one row per choice, which holds for whatever reads from left to right.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]

from caplab.errors import BadInput
from caplab.models import Subject, measuring

if TYPE_CHECKING:
    from caplab.exam import Exam

__all__ = ["SHARING", "Likelihoods", "likelihoods"]

SHARING = frozenset({"gpt2", "gpt_neox", "llama", "opt", "qwen2"})
_TOKENS = {"cpu": 1024, "mps": 4096, "cuda": 16384}  # in one forward pass; measured on the first
_LOGITS = 2**26  # in one forward pass at most: 256 MB
_PLANS_KEPT = 16  # of one tokenizer

Tokens = list[int]


@dataclass(frozen=True)
class Likelihoods:
    """The log-likelihood of each choice of each question, and of each text with its length."""

    choices: tuple[tuple[float, ...], ...]
    texts: tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class Row:
    """One input of the model: a tree of tokens, every branch written out before the next begins."""

    tokens: Tokens
    parents: list[int]
    picks: list[tuple[int, int, int]]  # at this place, how likely is that token, for which owner?

    @property
    def branching(self) -> bool:
        """Tell a tree from a plain sequence, which needs no mask."""
        return self.parents != list(range(-1, len(self.tokens) - 1))

    @property
    def depths(self) -> list[int]:
        """Tell how far each token is from the root: its position for the model."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        return depths

    @property
    def ends(self) -> list[int]:
        """Tell where the branch below each token ends, so that i sees j when j <= i < ends[j]."""
        ends = list(range(1, len(self.tokens) + 1))
        for place in range(len(ends) - 1, 0, -1):
            parent = self.parents[place]
            ends[parent] = max(ends[parent], ends[place])
        return ends


def grow(prompt: Tokens, choices: Iterable[tuple[int, Tokens]]) -> Row:
    """Grow the tree of a prompt and its choices, given as (owner, tokens).

    In sorted order, choices that begin alike stand together: each branch is one stretch of places.
    """
    row = Row(list(prompt), list(range(-1, len(prompt) - 1)), [])
    grown: dict[tuple[int, int], int] = {}
    for owner, choice in sorted(choices, key=lambda item: item[1]):
        place = len(prompt) - 1
        for step, token in enumerate(choice):
            row.picks.append((place, token, owner))
            if step == len(choice) - 1:
                break  # the last token is predicted and never read
            if (place, token) not in grown:
                grown[place, token] = len(row.tokens)
                row.tokens.append(token)
                row.parents.append(place)
            place = grown[place, token]
    return row


@dataclass(frozen=True)
class Batch:
    """Rows of about one length, padded at their ends, where no token that counts sees them."""

    tokens: Tensor  # (rows, places)
    depths: Tensor  # (rows, places)
    ends: Tensor  # (rows, places)
    picks: Tensor  # (4, picks): row, place, token, owner
    branching: bool

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Batch":
        """Pad the rows to the longest; a place of padding sees itself alone."""
        length = max(len(row.tokens) for row in rows)

        def padded(values: list[list[int]]) -> Tensor:
            return torch.tensor([[*row, *range(len(row) + 1, length + 1)] for row in values])

        picks = [(number, *pick) for number, row in enumerate(rows) for pick in row.picks]
        return cls(
            tokens=torch.tensor([row.tokens + [0] * (length - len(row.tokens)) for row in rows]),
            depths=torch.tensor([row.depths + [0] * (length - len(row.tokens)) for row in rows]),
            ends=padded([row.ends for row in rows]),
            picks=torch.tensor(picks).T,
            branching=any(row.branching for row in rows),
        )


@dataclass(frozen=True)
class Plan:
    """An exam made ready for one tokenizer: tokenised, sorted, batched."""

    batches: list[Batch]
    choices: list[int]  # of each question
    texts: int

    @property
    def owners(self) -> Tensor:
        """Tell whose each picked token is: the choices are numbered first, then the texts."""
        return torch.cat([batch.picks[3] for batch in self.batches])


def likelihoods(
    subject: Subject, exam: "Exam", batch_size: int | None = None, *, progress: bool = True
) -> Likelihoods:
    """Compute the log-likelihood of every choice and text of an exam."""
    plan = _plan(subject, exam, batch_size)
    with measuring(subject.model):
        nats = torch.cat(list(_surprises(subject, plan, progress))).cpu().double()
    if nats.isnan().any():
        raise BadInput(
            f"{subject.name} answers with NaN, not with probabilities: its weights have diverged. "
            "Train with a lower learning rate, or load the model again."
        )
    owners = plan.owners
    ends = [0, *accumulate(plan.choices)]
    lost = torch.zeros(ends[-1] + plan.texts, dtype=torch.double).index_add_(0, owners, nats)
    tokens = owners.bincount(minlength=len(lost)).tolist()
    sums = lost.tolist()
    return Likelihoods(
        choices=tuple(tuple(-nats for nats in sums[start:end]) for start, end in pairwise(ends)),
        texts=tuple(zip(sums[ends[-1] :], tokens[ends[-1] :], strict=True)),
    )


# ---------------------------------------------------------------- the model's part


def _surprises(subject: Subject, plan: Plan, progress: bool) -> Iterator[Tensor]:
    """Run the batches; a bar shows up where it takes longer than two seconds, and goes away."""
    sharing = _shares(subject.model)
    shown = progress and threading.current_thread() is threading.main_thread()
    total = sum(len(batch.tokens) for batch in plan.batches)
    name = f"Scoring {subject.name}"
    with tqdm(total=total, desc=name, delay=2, leave=False, disable=not shown) as bar:
        for batch in plan.batches:
            yield _surprise(subject.model, batch, sharing)
            bar.update(len(batch.tokens))


def _surprise(model: Any, batch: Batch, sharing: bool) -> Tensor:
    """Compute how unlikely the model finds each picked token, in nats."""
    device = next(model.parameters()).device
    tokens = batch.tokens.to(device)
    rows, places, targets, _ = batch.picks.to(device)
    reading = {"attention_mask": torch.ones_like(tokens)}  # padding comes last and needs no mask
    if batch.branching:
        mask = _mask(batch.ends.to(device), model.dtype)
        reading = {"attention_mask": mask, "position_ids": batch.depths.to(device)}
    with _only(model, rows, places) if sharing else nullcontext():
        logits = model(input_ids=tokens, use_cache=False, **reading).logits  # (picks, vocabulary)
    if logits.ndim == 3:  # (rows, places, vocabulary), after the virtual tokens of a tuned prompt
        logits = logits[:, -tokens.shape[1] :][rows, places]
    return cross_entropy(logits.float(), targets, reduction="none")


def _mask(ends: Tensor, dtype: torch.dtype) -> Tensor:
    """Let each token see itself and its way back to the root."""
    places = torch.arange(ends.shape[1], device=ends.device)
    seen = (places <= places[:, None]) & (places[:, None] < ends[:, None, :])  # (rows, i, j)
    blocked = torch.zeros(seen.shape, dtype=dtype, device=ends.device)
    return blocked.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]  # (rows, heads, i, j)


@contextmanager
def _only(model: Any, rows: Tensor, places: Tensor) -> Iterator[None]:
    """Hand the output head the hidden states that are picked, and no others."""
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, hidden: (hidden[0][rows, places],))
    try:
        yield
    finally:
        hook.remove()


def _shares(model: Any) -> bool:
    """Tell whether a model can read a tree: its family does, and nothing in its setting objects."""
    config = model.config
    adapter = getattr(model, "active_peft_config", None)
    return (
        config.model_type in SHARING
        and config._attn_implementation in ("eager", "sdpa")
        and "sliding_attention" not in (getattr(config, "layer_types", None) or ())
        and not getattr(adapter, "is_prompt_learning", False)
    )


# ---------------------------------------------------------------- the tokenizer's part

# Tokenising takes a while, and a tuned copy has its base's tokenizer: an exam is made ready once
# for a whole training. The plans go when their tokenizer goes.
_plans: WeakKeyDictionary[Any, dict[tuple[Any, ...], Plan]] = WeakKeyDictionary()


def _plan(subject: Subject, exam: "Exam", batch_size: int | None) -> Plan:
    """Look up how an exam is read, or work it out."""
    sharing, room = _shares(subject.model), _room(subject)
    plans = _plans.setdefault(subject.tokenizer, {})
    key = (exam.fingerprint, subject.context, sharing, room, batch_size)
    if key not in plans:
        plans[key] = _make_plan(subject, exam, sharing, room, batch_size)
        for oldest in list(plans)[:-_PLANS_KEPT]:
            plans.pop(oldest, None)
    return plans[key]


def _room(subject: Subject) -> int:
    """Tell how many tokens go into one forward pass."""
    vocabulary: int = subject.model.config.get_text_config().vocab_size
    return max(1, min(_TOKENS.get(subject.device.type, 1024), _LOGITS // vocabulary))


def _make_plan(
    subject: Subject, exam: "Exam", sharing: bool, room: int, batch_size: int | None
) -> Plan:
    """Tokenise an exam, grow its trees and batch them, the longest first."""
    questions = _tokenise(subject.tokenizer, exam)
    _check_lengths(subject, exam, questions)
    asked: list[Row] = []
    read: list[Row] = []
    owner = 0
    for prompt, choices in questions:
        asked += _rows(prompt, list(enumerate(choices, owner)), sharing)
        owner += len(choices)
    texts = _encode(subject.tokenizer, [text.text for text in exam.texts])
    for number, tokens in enumerate(texts, owner):
        read += _windows(tokens, number, subject.context)
    batches = [*_batches(asked, room, batch_size), *_batches(read, room, batch_size)]
    return Plan(batches, [len(choices) for _, choices in questions], len(texts))


def _tokenise(tokenizer: Any, exam: "Exam") -> list[tuple[Tokens, list[Tokens]]]:
    """Split each question into the tokens of its prompt and those of its choices.

    As lm-evaluation-harness does it: a choice is what the whole text has beyond the length of the
    prompt, and spaces at the prompt's end belong to the choice.
    """
    prompts = _encode(tokenizer, [question.prompt.rstrip() for question in exam.questions])
    wholes = [f"{asked.prompt} {choice}" for asked in exam.questions for choice in asked.choices]
    tokens = iter(_encode(tokenizer, wholes))
    return [
        (prompt, [next(tokens)[len(prompt) :] for _ in question.choices])
        for prompt, question in zip(prompts, exam.questions, strict=True)
    ]


def _encode(tokenizer: Any, texts: list[str]) -> list[Tokens]:
    """Tokenise as the tokenizer is set, but never put a second start before a text that has one."""
    start = tokenizer.bos_token or tokenizer.eos_token
    started = [bool(start) and text.startswith(start) for text in texts]
    if not any(started):
        return tokenizer(texts, verbose=False)["input_ids"] if texts else []
    return [
        tokenizer(text, add_special_tokens=not has, verbose=False)["input_ids"]
        for text, has in zip(texts, started, strict=True)
    ]


def _check_lengths(
    subject: Subject, exam: "Exam", questions: list[tuple[Tokens, list[Tokens]]]
) -> None:
    """Refuse what the model cannot read whole: nothing is ever cut off."""
    for number, (prompt, choices) in enumerate(questions):
        opening = f"Question {number + 1} ({exam.questions[number].prompt[:40]!r})"
        if not prompt or not all(choices):
            raise BadInput(
                f"{opening}: for the tokenizer of {subject.name}, a choice adds no token to the "
                "prompt, so nothing is left to predict. Let the prompt end in a word or a colon."
            )
        length = len(prompt) + max(map(len, choices))
        if length > subject.context + 1:  # the last token is predicted, never read
            raise BadInput(
                f"{opening} has {length} tokens with its longest choice, and {subject.name} reads "
                f"{subject.context} at once. Shorten it, or take a model with a longer context."
            )


def _rows(prompt: Tokens, choices: list[tuple[int, Tokens]], sharing: bool) -> list[Row]:
    """Write a question as one tree, or as one row for each different reading."""
    if sharing:
        return [grow(prompt, choices)]
    readings: dict[tuple[int, ...], list[tuple[int, Tokens]]] = {}
    for owner, choice in choices:
        readings.setdefault(tuple(choice[:-1]), []).append((owner, choice))
    return [grow(prompt, alike) for alike in readings.values()]


def _windows(tokens: Tokens, owner: int, context: int) -> Iterator[Row]:
    """Cut a text into windows that each begin with the last token of the one before.

    So every token but the very first is predicted once, from what its own window has before it.
    """
    for start in range(0, len(tokens) - 1, context):
        first, *rest = tokens[start : start + context + 1]
        yield grow([first], [(owner, rest)])


def _batches(rows: list[Row], room: int, size: int | None) -> Iterator[Batch]:
    """Put rows of like length together, the longest first: memory runs out at once or never."""
    rows = sorted(rows, key=lambda row: -len(row.tokens))
    while rows:
        count = size or max(1, room // len(rows[0].tokens))
        yield Batch.of(rows[:count])
        rows = rows[count:]
