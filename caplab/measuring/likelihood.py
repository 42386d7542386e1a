"""Compute how likely a model finds each choice and each text of an exam: the engine of `score`.

Questions are the branches of a tree, and what begins alike is read once: the prompt of four
choices, or the first words of many prompts. A token attends only to the tokens on its path back to
the root, and its position is its depth. So the model reads each choice as if nothing but the prompt
came before it. The output head, the largest layer of a small model, computes only the positions
that a choice needs.

This needs a model that respects a four-dimensional attention mask and given position ids. The
families in `SHARING` do: a test compares each with the definition. All other models read one
sequence per row, which is right for every causal language model.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from tqdm.auto import tqdm

from caplab.models.chat import as_asked, encode
from caplab.models.subject import Subject, answers_nan, measuring
from caplab.support.errors import BadInput

if TYPE_CHECKING:
    from caplab.questions.exam import Exam, Question

__all__ = [
    "SHARING",
    "Likelihoods",
    "likelihoods",
    "only_asked",
    "reads_trees",
    "shared_prefix",
    "tree_mask",
]

SHARING = frozenset({"gpt2", "gpt_neox", "llama", "opt", "qwen2", "qwen3"})
_ROW = 128  # tokens in a tree (see `pack`)
_TOKENS = {"cpu": 1024, "mps": 4096, "cuda": 16384}  # in one forward pass; measured on a CPU only
_LOGITS = 2**26  # in one forward pass at most: 256 MB
_PLANS_KEPT = 16  # for each tokenizer


Questions: TypeAlias = list[tuple[list[int], list[list[int]]]]  # prompts, each with its choices


class Likelihoods(NamedTuple):
    """The log-likelihood of each choice of each question; nats and tokens of each text."""

    choices: tuple[tuple[float, ...], ...]
    texts: tuple[tuple[float, int], ...]


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


def pack(readings: Iterable[Reading], sharing: bool) -> Iterator[Row]:
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
        room = max(_ROW, 2 * len(read))  # the choices of a long prompt still share it
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


class Batch(NamedTuple):
    """Rows of similar length, padded at their ends: no token of a row attends to its padding."""

    tokens: Tensor  # (rows, length)
    depths: Tensor  # (rows, length)
    ends: Tensor  # (rows, length)
    asked: Tensor  # (2, asked): row and index of each position whose prediction is needed
    picks: Tensor  # (3, picks): which of the asked, the token that follows, its owner
    branching: bool

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Batch":
        """Pad the rows to the longest; a token of padding attends only to itself."""
        length = max(len(row.tokens) for row in rows)
        own = range(1, length + 1)
        picks = [(n, *pick) for n, row in enumerate(rows) for pick in row.picks]
        # Several choices may follow one position: each position is computed once.
        asked = {where: number for number, where in enumerate(dict.fromkeys(p[:2] for p in picks))}
        return cls(
            tokens=_padded([row.tokens for row in rows], [0] * length),
            depths=_padded([row.depths for row in rows], [0] * length),
            ends=_padded([row.ends for row in rows], own),
            asked=torch.tensor(list(asked)).T,
            picks=torch.tensor(
                [(asked[n, index], token, owner) for n, index, token, owner in picks]
            ).T,
            branching=any(row.branching for row in rows),
        )


def _padded(rows: list[list[int]], filling: Sequence[int]) -> Tensor:
    """Fill up each row at its end, from the same positions of `filling`."""
    return torch.tensor([[*row, *filling[len(row) :]] for row in rows])


class Plan(NamedTuple):
    """An exam prepared for one tokenizer: tokenised, packed into rows, batched."""

    batches: list[Batch]
    owners: Tensor  # (picks,): choices have the first numbers, texts the last
    choices: list[int]  # how many each question has
    texts: int  # how many


def likelihoods(
    subject: Subject,
    exam: "Exam",
    batch_size: int | None = None,
    *,
    progress: bool = True,
    chat: bool = False,
) -> Likelihoods:
    """Compute the log-likelihood of every choice and text of an exam.

    With `chat` the questions are asked through the chat template; texts are read as they are.
    """
    plan = _plan(subject, exam, batch_size, chat)
    with measuring(subject.model):
        nats = torch.cat(list(_surprises(subject, plan, progress))).cpu().double()  # (picks,)
    if nats.isnan().any():
        raise answers_nan(subject.name)
    ends = [0, *accumulate(plan.choices)]
    zeros = torch.zeros(ends[-1] + plan.texts, dtype=torch.double)  # (choices + texts,)
    sums = zeros.index_add(0, plan.owners, nats).tolist()  # over the tokens of each owner
    tokens = plan.owners.bincount(minlength=len(sums)).tolist()
    return Likelihoods(
        choices=tuple(tuple(-nats for nats in sums[start:end]) for start, end in pairwise(ends)),
        texts=tuple(zip(sums[ends[-1] :], tokens[ends[-1] :], strict=True)),
    )


# ---------------------------------------------------------------- the model's part


def _surprises(subject: Subject, plan: Plan, progress: bool) -> Iterator[Tensor]:
    """Run the batches, with a progress bar after two seconds that disappears at the end.

    The bar is for notebooks and terminals only: not for log files, not from background threads.
    """
    sharing = reads_trees(subject.model)
    hidden = not progress or threading.current_thread() is not threading.main_thread()
    total = sum(len(batch.tokens) for batch in plan.batches)
    name = f"Scoring {subject.name}"
    with tqdm(total=total, desc=name, delay=2, leave=False, disable=hidden or None) as bar:
        for batch in plan.batches:
            yield _surprise(subject.model, batch, sharing)
            bar.update(len(batch.tokens))


def _surprise(model: Any, batch: Batch, sharing: bool) -> Tensor:
    """Compute how unlikely the model finds each picked token, in nats: (picks,)."""
    device = next(model.parameters()).device
    tokens, asked = batch.tokens.to(device), batch.asked.to(device)
    which, targets, _ = batch.picks.to(device)
    # Padding comes last, where no token attends to it: plain rows need no real mask.
    reading = {"attention_mask": torch.ones_like(tokens)}  # (rows, length)
    if batch.branching:
        mask = tree_mask(batch.ends.to(device), model.dtype)  # (rows, 1, length, length)
        reading = {"attention_mask": mask, "position_ids": batch.depths.to(device)}
    with only_asked(model, asked) if sharing else nullcontext():
        logits = model(input_ids=tokens, use_cache=False, **reading).logits  # (asked, vocabulary)
    if logits.ndim == 3:  # (rows, length, vocabulary), after the virtual tokens of a tuned prompt
        logits = logits[:, -tokens.shape[1] :][tuple(asked)]
    nats: Tensor = -logits.float().log_softmax(-1)[which, targets]
    return nats


def tree_mask(ends: Tensor, dtype: torch.dtype) -> Tensor:
    """Let each token attend to itself and to its path back to the root."""
    indices = torch.arange(ends.shape[1], device=ends.device)  # (length,)
    seen = (indices <= indices[:, None]) & (indices[:, None] < ends[:, None, :])  # (rows, i, j)
    mask = torch.zeros(seen.shape, dtype=dtype, device=ends.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]  # (rows, 1, i, j)


@contextmanager
def only_asked(model: Any, asked: Tensor) -> Iterator[None]:
    """Give the output head only the positions whose predictions are needed."""
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(  # (rows, length, width) -> (asked, width)
        lambda _, hidden: (hidden[0][tuple(asked)],)
    )
    try:
        yield
    finally:
        hook.remove()


def reads_trees(model: Any) -> bool:
    """Check whether a model can read trees: its family can, and no setting of it forbids it."""
    config = model.config
    adapter = getattr(model, "active_peft_config", None)
    return (
        config.model_type in SHARING
        and config._attn_implementation in ("eager", "sdpa")
        and "sliding_attention" not in (getattr(config, "layer_types", None) or ())
        and not getattr(adapter, "is_prompt_learning", False)
    )


# ---------------------------------------------------------------- the tokenizer's part

# Tokenising takes a while, and a tuned copy has its base's tokenizer: an exam is prepared once for
# a whole training. A plan is freed together with its tokenizer.
_plans: WeakKeyDictionary[Any, dict[tuple[Any, ...], Plan]] = WeakKeyDictionary()


def _plan(subject: Subject, exam: "Exam", batch_size: int | None, chat: bool = False) -> Plan:
    """Return the plan for an exam, made once for each tokenizer."""
    sharing, room = reads_trees(subject.model), _room(subject)
    plans = _plans.setdefault(subject.tokenizer, {})
    template = str(subject.tokenizer.chat_template) if chat else None
    key = (exam.fingerprint, subject.context, sharing, room, batch_size, template)
    if key not in plans:
        questions = _tokenise(subject, exam, chat)
        plans[key] = _make_plan(subject, exam, questions, sharing, room, batch_size)
        for oldest in list(plans)[:-_PLANS_KEPT]:
            plans.pop(oldest, None)
    return plans[key]


def _room(subject: Subject) -> int:
    """Return how many tokens go into one forward pass."""
    vocabulary: int = subject.model.config.get_text_config().vocab_size
    return max(1, min(_TOKENS.get(subject.device.type, 1024), _LOGITS // vocabulary))


def _make_plan(
    subject: Subject,
    exam: "Exam",
    questions: Questions,
    sharing: bool,
    room: int,
    batch_size: int | None,
) -> Plan:
    """Pack a tokenised exam into rows, and batch the rows."""
    _check_lengths(subject, exam, questions)
    pairs = [(prompt, choice) for prompt, choices in questions for choice in choices]
    asked = [Reading(p + choice, len(p), owner) for owner, (p, choice) in enumerate(pairs)]
    texts = encode(subject.tokenizer, [text.text for text in exam.texts])
    windows = [_windows(text, n, subject.context) for n, text in enumerate(texts, len(asked))]
    rows = (pack(asked, sharing), pack(chain(*windows), sharing=False))
    batches = [batch for kind in rows for batch in _batches(kind, room, batch_size)]
    owners = torch.cat([batch.picks[2] for batch in batches])
    return Plan(batches, owners, [len(choices) for _, choices in questions], len(texts))


def _tokenise(subject: Subject, exam: "Exam", chat: bool) -> Questions:
    """Split each question into the tokens of its prompt and those of each choice.

    As in lm-evaluation-harness: prompt and choice are tokenised together, and the choice is what
    comes after as many tokens as the prompt alone has. White space at the prompt's end belongs to
    the choice. Through a template that is the line break after the assistant's name, and no space
    comes before the choice.
    """
    asked = [
        _asked(subject, number, question, chat) for number, question in enumerate(exam.questions)
    ]
    prompts = encode(subject.tokenizer, [text.rstrip() for text in asked])
    wholes = [
        f"{text}{'' if chat or question.joined else ' '}{choice}"
        for text, question in zip(asked, exam.questions, strict=True)
        for choice in question.choices
    ]
    tokens = iter(encode(subject.tokenizer, wholes))
    return [
        (prompt, [next(tokens)[len(prompt) :] for _ in question.choices])
        for prompt, question in zip(prompts, exam.questions, strict=True)
    ]


def _asked(subject: Subject, number: int, question: "Question", chat: bool) -> str:
    """Return the text of a question as the subject reads it."""
    try:
        return as_asked(subject, question, chat)
    except BadInput as error:
        raise BadInput(f"Question {number + 1}: {error}") from error


def _check_lengths(subject: Subject, exam: "Exam", questions: Questions) -> None:
    """Refuse questions that are longer than the context, because nothing is ever cut off."""
    context = subject.context
    for number, (prompt, choices) in enumerate(questions):
        length = len(prompt) + max(map(len, choices))
        opening = f"Question {number + 1} ({exam.questions[number].prompt[:40]!r})"
        if not prompt or not all(choices):
            raise BadInput(
                f"{opening}: for the tokenizer of {subject.name}, a choice adds no token to the "
                "prompt, so there is nothing to predict. Let the prompt end in a word or a colon."
            )
        if length > context + 1:  # the last token is predicted, never read
            raise BadInput(
                f"{opening} has {length} tokens with its longest choice, and {subject.name} reads "
                f"{context} at once. Shorten it, or take a model with a longer context."
            )


def _windows(tokens: list[int], owner: int, context: int) -> Iterator[Reading]:
    """Cut a text into windows, each of which begins with the last token of the one before.

    So every token except the first is predicted once, from the earlier tokens of its window.
    """
    for start in range(0, len(tokens) - 1, context):
        yield Reading(tokens[start : start + context + 1], 1, owner)


def _batches(rows: Iterable[Row], room: int, size: int | None) -> Iterator[Batch]:
    """Batch rows of similar length, the longest first: memory runs out at once or never."""
    left = sorted(rows, key=lambda row: -len(row.tokens))
    while left:
        count = size or max(1, room // len(left[0].tokens))
        yield Batch.of(left[:count])
        left = left[count:]
