"""How likely does a model find a text? The engine under `score`.

Questions are written side by side as the branches of a tree: what begins alike is read once, be it
the prompt of four choices or the opening words of many prompts. A token sees the tokens on its way
back to the root and nothing else, and its position is its depth, so that each choice reads as if
it stood alone behind its prompt. The output head, the largest layer of a small model, computes only
the places that a choice needs.

That takes a model that obeys a four-dimensional attention mask and given positions. Such families
are named in `SHARING`, each with a test against the definition. Every other model reads one plain
row after the other, which holds for whatever reads from left to right.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from tqdm.auto import tqdm

from caplab.models.subject import Subject, measuring
from caplab.support.errors import BadInput

if TYPE_CHECKING:
    from caplab.questions.exam import Exam

__all__ = ["SHARING", "Likelihoods", "likelihoods", "shared_prefix"]

SHARING = frozenset({"gpt2", "gpt_neox", "llama", "opt", "qwen2", "qwen3"})
_ROW = 128  # tokens in a tree; longer ones share more and pay for it in attention (measured)
_TOKENS = {"cpu": 1024, "mps": 4096, "cuda": 16384}  # in one forward pass; measured on the first
_LOGITS = 2**26  # in one forward pass at most: 256 MB
_PLANS_KEPT = 16  # of one tokenizer


class Likelihoods(NamedTuple):
    """The log-likelihood of each choice of each question; nats and tokens of each text."""

    choices: tuple[tuple[float, ...], ...]
    texts: tuple[tuple[float, int], ...]


class Reading(NamedTuple):
    """Tokens to read in one go; those from `start` on are scored, for their owner."""

    tokens: list[int]
    start: int
    owner: int


class Row(NamedTuple):
    """One input of the model: a tree of tokens, each branch written out before the next begins."""

    tokens: list[int]
    parents: list[int]  # the place of the token before; -1 at a root
    picks: list[tuple[int, int, int]]  # after this place, how likely is that token, for whom?

    @property
    def branching(self) -> bool:
        """Tell a tree from a plain sequence, which needs no mask."""
        return self.parents != list(range(-1, len(self.tokens) - 1))

    @property
    def depths(self) -> list[int]:
        """Tell how far each token is from its root: its position for the model."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        return depths

    @property
    def ends(self) -> list[int]:
        """Tell where the branch below each token ends, so that i sees j when j <= i < ends[j]."""
        ends = list(range(1, len(self.tokens) + 1))
        for place, parent in reversed([*enumerate(self.parents)]):
            if parent >= 0:
                ends[parent] = max(ends[parent], ends[place])
        return ends


def grow(readings: Iterable[Reading]) -> Row:
    """Grow the tree of some readings, which come in the order of their tokens."""
    row = Row([], [], [])
    grown: dict[tuple[int, int], int] = {}
    for tokens, start, owner in readings:
        place = -1
        for step, token in enumerate(tokens):
            if step >= start:
                row.picks.append((place, token, owner))
            if step == len(tokens) - 1:
                break  # the last token is predicted and never read
            if (place, token) not in grown:
                grown[place, token] = len(row.tokens)
                row.tokens.append(token)
                row.parents.append(place)
            place = grown[place, token]
    return row


def pack(readings: Iterable[Reading], sharing: bool) -> Iterator[Row]:
    """Put readings that begin alike into one row: as a tree, or only while it stays a sequence."""
    group: list[Reading] = []
    last: list[int] = []
    size = 0
    for reading in sorted(readings):
        read = reading.tokens[:-1]
        alike = shared_prefix(last, read)
        room = max(_ROW, 2 * len(read))
        fits = size + len(read) - alike <= room if sharing else alike == len(last)
        if group and not fits:
            yield grow(group)
            group, size, alike = [], 0, 0
        group.append(reading)
        size, last = size + len(read) - alike, read
    if group:
        yield grow(group)


def shared_prefix(one: list[int], other: list[int]) -> int:
    """Count the tokens with which both begin."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


class Batch(NamedTuple):
    """Rows of about one length, padded at their ends, where no token that counts sees them."""

    tokens: Tensor  # (rows, places)
    depths: Tensor  # (rows, places)
    ends: Tensor  # (rows, places)
    asked: Tensor  # (2, asked): the row and the place after which a token matters
    picks: Tensor  # (3, picks): which of the asked, the token, its owner
    branching: bool

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Batch":
        """Pad the rows to the longest; a place of padding sees itself alone."""
        length = max(len(row.tokens) for row in rows)
        own = range(1, length + 1)
        picks = [(n, *pick) for n, row in enumerate(rows) for pick in row.picks]
        asked = {spot: number for number, spot in enumerate(dict.fromkeys(p[:2] for p in picks))}
        return cls(
            tokens=_padded([row.tokens for row in rows], [0] * length),
            depths=_padded([row.depths for row in rows], [0] * length),
            ends=_padded([row.ends for row in rows], own),
            asked=torch.tensor(list(asked)).T,
            picks=torch.tensor(
                [(asked[n, place], token, owner) for n, place, token, owner in picks]
            ).T,
            branching=any(row.branching for row in rows),
        )


def _padded(rows: list[list[int]], filling: Sequence[int]) -> Tensor:
    """Fill up each row from its end on."""
    return torch.tensor([[*row, *filling[len(row) :]] for row in rows])


class Plan(NamedTuple):
    """An exam made ready for one tokenizer: tokenised, packed, batched."""

    batches: list[Batch]
    owners: Tensor  # (picks,): the choices are numbered first, then the texts
    choices: list[int]  # of each question
    texts: int


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
    ends = [0, *accumulate(plan.choices)]
    nothing = torch.zeros(ends[-1] + plan.texts, dtype=torch.double)
    lost = nothing.index_add(0, plan.owners, nats).tolist()
    tokens = plan.owners.bincount(minlength=len(lost)).tolist()
    return Likelihoods(
        choices=tuple(tuple(-nats for nats in lost[start:end]) for start, end in pairwise(ends)),
        texts=tuple(zip(lost[ends[-1] :], tokens[ends[-1] :], strict=True)),
    )


# ---------------------------------------------------------------- the model's part


def _surprises(subject: Subject, plan: Plan, progress: bool) -> Iterator[Tensor]:
    """Run the batches; a bar shows up where it takes longer than two seconds, and goes away.

    In a notebook or a terminal, that is: neither in a log nor from a background thread.
    """
    sharing = _shares(subject.model)
    hidden = not progress or threading.current_thread() is not threading.main_thread()
    total = sum(len(batch.tokens) for batch in plan.batches)
    name = f"Scoring {subject.name}"
    with tqdm(total=total, desc=name, delay=2, leave=False, disable=hidden or None) as bar:
        for batch in plan.batches:
            yield _surprise(subject.model, batch, sharing)
            bar.update(len(batch.tokens))


def _surprise(model: Any, batch: Batch, sharing: bool) -> Tensor:
    """Compute how unlikely the model finds each picked token, in nats."""
    device = next(model.parameters()).device
    tokens, asked = batch.tokens.to(device), batch.asked.to(device)
    which, targets, _ = batch.picks.to(device)
    reading = {"attention_mask": torch.ones_like(tokens)}  # padding comes last and needs no mask
    if batch.branching:
        mask = _mask(batch.ends.to(device), model.dtype)
        reading = {"attention_mask": mask, "position_ids": batch.depths.to(device)}
    with _only(model, asked) if sharing else nullcontext():
        logits = model(input_ids=tokens, use_cache=False, **reading).logits  # (asked, vocabulary)
    if logits.ndim == 3:  # (rows, places, vocabulary), after the virtual tokens of a tuned prompt
        logits = logits[:, -tokens.shape[1] :][tuple(asked)]
    nats: Tensor = -logits.float().log_softmax(-1)[which, targets]
    return nats


def _mask(ends: Tensor, dtype: torch.dtype) -> Tensor:
    """Let each token see itself and its way back to the root."""
    places = torch.arange(ends.shape[1], device=ends.device)
    seen = (places <= places[:, None]) & (places[:, None] < ends[:, None, :])  # (rows, i, j)
    blocked = torch.zeros(seen.shape, dtype=dtype, device=ends.device)
    return blocked.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]  # (rows, heads, i, j)


@contextmanager
def _only(model: Any, asked: Tensor) -> Iterator[None]:
    """Hand the output head the places that are asked for, and no others."""
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, hidden: (hidden[0][tuple(asked)],))
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
    """Tokenise an exam, pack it into rows and batch them, the longest first."""
    questions = _tokenise(subject.tokenizer, exam)
    _check_lengths(subject, exam, questions)
    pairs = [(prompt, choice) for prompt, choices in questions for choice in choices]
    asked = [Reading(p + choice, len(p), owner) for owner, (p, choice) in enumerate(pairs)]
    texts = _encode(subject.tokenizer, [text.text for text in exam.texts])
    windows = [_windows(text, n, subject.context) for n, text in enumerate(texts, len(asked))]
    rows = (pack(asked, sharing), pack(chain(*windows), sharing=False))
    batches = [batch for kind in rows for batch in _batches(kind, room, batch_size)]
    owners = torch.cat([batch.picks[2] for batch in batches])
    return Plan(batches, owners, [len(choices) for _, choices in questions], len(texts))


def _tokenise(tokenizer: Any, exam: "Exam") -> list[tuple[list[int], list[list[int]]]]:
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


def _encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
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
    subject: Subject, exam: "Exam", questions: list[tuple[list[int], list[list[int]]]]
) -> None:
    """Refuse what the model cannot read whole: nothing is ever cut off."""
    context = subject.context
    for number, (prompt, choices) in enumerate(questions):
        length = len(prompt) + max(map(len, choices))
        opening = f"Question {number + 1} ({exam.questions[number].prompt[:40]!r})"
        if not prompt or not all(choices):
            raise BadInput(
                f"{opening}: for the tokenizer of {subject.name}, a choice adds no token to the "
                "prompt, so nothing is left to predict. Let the prompt end in a word or a colon."
            )
        if length > context + 1:  # the last token is predicted, never read
            raise BadInput(
                f"{opening} has {length} tokens with its longest choice, and {subject.name} reads "
                f"{context} at once. Shorten it, or take a model with a longer context."
            )


def _windows(tokens: list[int], owner: int, context: int) -> Iterator[Reading]:
    """Cut a text into windows that each begin with the last token of the one before.

    So every token but the very first is predicted once, from what its own window has before it.
    """
    for start in range(0, len(tokens) - 1, context):
        yield Reading(tokens[start : start + context + 1], 1, owner)


def _batches(rows: Iterable[Row], room: int, size: int | None) -> Iterator[Batch]:
    """Put rows of like length together, the longest first: memory runs out at once or never."""
    left = sorted(rows, key=lambda row: -len(row.tokens))
    while left:
        count = size or max(1, room // len(left[0].tokens))
        yield Batch.of(left[:count])
        left = left[count:]
