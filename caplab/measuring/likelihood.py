"""Compute how likely a model finds each choice and each text of an exam: the engine of `score`.

Questions are the branches of a tree (see `trees`), and what begins alike is read once: the prompt
of four choices, or the first words of many prompts. The model reads each choice as if nothing but
the prompt came before it. What a whole family of questions begins with, such as the system turn of
a chat template, is read once for all its trees. The output head, the largest layer of a small
model, computes only the positions that a choice needs.

This needs a model that respects a four-dimensional attention mask and given position ids. The
families in `SHARING` do: a test compares each with the definition. All other models read one
sequence per row, which is right for every causal language model.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate, chain, groupby, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache

from caplab.measuring.trees import Batch, Reading, Row, families, pack, tree_mask
from caplab.models.chat import as_asked, encode
from caplab.models.subject import Subject, answers_nan, measuring
from caplab.models.weights import input_device
from caplab.support.bars import tqdm
from caplab.support.errors import BadInput
from caplab.support.safe_text import line_text

if TYPE_CHECKING:
    from caplab.questions.exam import Exam, Question

__all__ = [
    "SHARING",
    "Likelihoods",
    "likelihoods",
    "only_asked",
    "reads_trees",
]

SHARING = frozenset({"gpt2", "gpt_neox", "llama", "opt", "qwen2", "qwen3"})
_TOKENS = {"cpu": 1024, "mps": 4096, "cuda": 16384}  # in one forward pass; measured on a CPU only
_LOGITS = 2**26  # computed at once at most: 256 MB
_PRECISE = 2**24  # of them made into probabilities at once, in full precision: 64 MB
_WIDER = 4  # times the tokens of a forward pass may be attended to, what was read before included
_PLANS_KEPT = 16  # for each tokenizer


Questions: TypeAlias = list[tuple[list[int], list[list[int]]]]  # prompts, each with its choices


class Likelihoods(NamedTuple):
    """The log-likelihood of each choice of each question; nats and tokens of each text."""

    choices: tuple[tuple[float, ...], ...]
    texts: tuple[tuple[float, int], ...]


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
    name = line_text(f"Scoring {subject.name}", 60)
    with tqdm(total=total, desc=name, delay=2, leave=False, disable=hidden or None) as bar:
        for beginning, batches in groupby(plan.batches, lambda batch: batch.beginning):
            read = _begin(subject.model, beginning)
            for batch in batches:
                yield _surprise(subject.model, batch, sharing, read)
                bar.update(len(batch.tokens))


class _Beginning(DynamicCache):
    """Keys and values of what all rows begin with: read in one row, and never added to."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values with the beginning before them, for each row."""
        read: Any = self.layers[layer_idx]
        rows = (len(key_states), -1, -1, -1)  # (rows, heads, tokens, width)
        keys = torch.cat([read.keys.expand(rows), key_states], 2)
        return keys, torch.cat([read.values.expand(rows), value_states], 2)


def _begin(model: Any, tokens: tuple[int, ...]) -> _Beginning | None:
    """Read what the rows of some batches begin with, if anything."""
    if not tokens:
        return None
    ids = torch.tensor([tokens], device=input_device(model))  # (1, tokens)
    with only_asked(model, torch.zeros(2, 1, dtype=torch.long)):  # no prediction is needed
        read = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True)
    beginning = _Beginning()
    beginning.layers = read.past_key_values.layers
    return beginning


def _surprise(
    model: Any, batch: Batch, sharing: bool, beginning: _Beginning | None = None
) -> Tensor:
    """Compute how unlikely the model finds each picked token, in nats: (picks,)."""
    which, targets, _ = batch.picks
    nats, done = [], 0
    for logits in _logits(model, batch, sharing, beginning):  # (some of the asked, vocabulary)
        for part in torch.split(logits, max(1, _PRECISE // logits.shape[-1])):
            here = slice(*torch.searchsorted(which, torch.tensor([done, done + len(part)])))
            index = (which[here] - done).to(part.device), targets[here].to(part.device)
            nats.append(-part.float().log_softmax(-1)[index])
            done += len(part)
    return torch.cat(nats)


def _logits(
    model: Any, batch: Batch, sharing: bool, beginning: _Beginning | None
) -> Iterator[Tensor]:
    """Run a batch, and yield the logits of the asked positions: (some of the asked, vocabulary)."""
    device = input_device(model)
    tokens = batch.tokens.to(device)
    # Padding comes last, where no token attends to it: plain rows need no real mask.
    reading: dict[str, Any] = {"attention_mask": torch.ones_like(tokens)}  # (rows, length)
    if batch.branching or beginning:
        mask = tree_mask(batch.ends.to(device), model.dtype, len(batch.beginning))
        reading = {"attention_mask": mask, "position_ids": batch.depths.to(device)}
    reading |= {"past_key_values": beginning} if beginning else {"use_cache": False}
    head = model.get_output_embeddings()
    if not sharing:
        logits = model(input_ids=tokens, **reading).logits  # (rows, length, vocabulary)
        # A tuned prompt has virtual tokens before the row's own.
        yield from _asked_of(logits[:, -tokens.shape[1] :], batch.asked, logits.shape[-1])
    elif batch.asked.shape[1] <= _LOGITS // len(head.weight):
        with only_asked(model, batch.asked):
            logits = model(input_ids=tokens, **reading).logits
        # A compiled model takes no notice of hooks: (rows, length, vocabulary).
        yield logits if logits.ndim == 2 else logits[tuple(batch.asked.to(logits.device))]
    else:
        with _before_head(head) as hidden:
            model(input_ids=tokens, **reading)
        yield from map(head, _asked_of(hidden.pop(), batch.asked, len(head.weight)))


def _asked_of(values: Tensor, asked: Tensor, vocabulary: int) -> Iterator[Tensor]:
    """Yield the asked positions of (rows, length, any), as many as may have logits at once."""
    for part in torch.split(asked, max(1, _LOGITS // vocabulary), dim=1):
        yield values[tuple(part.to(values.device))]


@contextmanager
def _before_head(head: Any) -> Iterator[list[Tensor]]:
    """Keep what the output head is given; it computes the first position of each row alone."""
    kept: list[Tensor] = []

    def keep(hidden: Tensor) -> Tensor:
        kept.append(hidden)
        return hidden[:, :1]  # (rows, length, width) -> (rows, 1, width)

    with _changed_input(head, keep):
        yield kept


@contextmanager
def only_asked(model: Any, asked: Tensor) -> Iterator[None]:
    """Give the output head only the positions whose predictions are needed."""

    def pick(hidden: Tensor) -> Tensor:
        return hidden[tuple(asked.to(hidden.device))]  # (rows, length, width) -> (asked, width)

    with _changed_input(model.get_output_embeddings(), pick):
        yield


@contextmanager
def _changed_input(head: Any, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change what a layer is given; not in another thread, whose pass may be under way."""
    mine = threading.get_ident()

    def changed(_: Any, given: tuple[Tensor]) -> tuple[Tensor]:
        return (change(given[0]),) if threading.get_ident() == mine else given

    hook = head.register_forward_pre_hook(changed)
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
    batches = [
        *_choice_batches(asked, sharing, room, batch_size),
        *_batches(pack(chain(*windows), sharing=False), room, batch_size),
    ]
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


def _choice_batches(
    readings: list[Reading], sharing: bool, room: int, size: int | None
) -> Iterator[Batch]:
    """Batch prompts with their choices, those of a family together."""
    for common, family in families(sorted(readings), room) if sharing else [(0, readings)]:
        beginning = tuple(family[0].tokens[:common])
        rest = (Reading(tokens[common:], start - common, n) for tokens, start, n in family)
        yield from _batches(pack(rest, sharing), room, size, beginning)


def _batches(
    rows: Iterable[Row], room: int, size: int | None, beginning: tuple[int, ...] = ()
) -> Iterator[Batch]:
    """Batch rows of similar length, the longest first: memory runs out at once or never."""
    left = sorted(rows, key=lambda row: -len(row.tokens))
    while left:
        length = len(left[0].tokens)
        count = size or max(1, min(room // length, _WIDER * room // (length + len(beginning))))
        yield Batch.of(left[:count], beginning)
        left = left[count:]
