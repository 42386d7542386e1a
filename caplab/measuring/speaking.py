"""Let a subject answer questions in its own words, as fast as it can be done without a difference.

The likeliest token each time, as `generate(do_sample=False)` chooses it. Prompts of like length are
answered together, and a row ends as soon as its verdict is decided: what a model would say after
that changes nothing.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from caplab.measuring.likelihood import reads_trees
from caplab.measuring.prompts import read_prompts
from caplab.models.chat import answer_alone, as_asked, encode, stop_tokens, uses_chat
from caplab.models.subject import Subject, answers_nan, measuring
from caplab.models.weights import in_pieces
from caplab.questions.question import Question
from caplab.support.bars import tqdm
from caplab.support.errors import BadInput
from caplab.support.quiet import quiet
from caplab.support.safe_text import line_text

__all__ = ["MAX_NEW_TOKENS", "speak"]

MAX_NEW_TOKENS = 32  # of an answer, where neither the question nor the exam says otherwise
_MOST_ROWS = 256  # answered together; measured on pocket
_CACHE = 2**29  # bytes of keys and values at most
_STAY = 0.9  # of the rows: with fewer left, those that are done leave the batch


@dataclass
class _Row:
    """One answer in the making."""

    number: int  # of its question
    tokens: list[int]  # of the prompt
    limit: int  # new tokens at most
    verdict: Callable[[str], bool | None]  # on what was said so far; None: it goes on
    said: list[int] = field(default_factory=list)
    done: bool = False


def speak(
    subject: Subject,
    questions: Sequence[Question],
    *,
    chat: bool | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    early: bool = True,
    batch_size: int | None = None,
    progress: bool = True,
) -> list[str]:
    """Return what a subject answers to each spoken question; nothing for other questions.

    An answer ends where the model ends it, after `max_new_tokens`, or, if `early`, where no further
    word can change whether it meets the question's expectation.
    """
    through = uses_chat(subject, chat)
    answers = [""] * len(questions)
    rows = _rows(subject, questions, chat, max_new_tokens, early)
    stops = stop_tokens(subject, through) or [subject.tokenizer.eos_token_id]
    hidden = not progress or threading.current_thread() is not threading.main_thread()
    bar = tqdm(
        total=len(rows),
        desc=line_text(f"Listening to {subject.name}", 60),
        delay=2,
        leave=False,
        disable=hidden or None,
    )
    with bar, measuring(subject.model), _keys_shared(subject):
        for batch in _batches(subject, rows, batch_size):
            for row in _answered(subject, batch, {*stops}):
                answers[row.number] = answer_alone(subject, _text(subject, row.said), through)
                bar.update()
    return answers


# ---------------------------------------------------------------- what is asked


def _rows(
    subject: Subject,
    questions: Sequence[Question],
    chat: bool | None,
    max_new_tokens: int,
    early: bool,
) -> list[_Row]:
    """Tokenise the spoken questions; refuse those that leave no room for an answer."""
    spoken = [(number, each) for number, each in enumerate(questions) if each.expect]
    texts = [as_asked(subject, question, chat) for _, question in spoken]
    rows = []
    for (number, question), tokens in zip(spoken, encode(subject.tokenizer, texts), strict=True):
        room, opening = subject.context - len(tokens), f"({question.asked[:40]!r})"
        if not tokens:
            raise BadInput(f"Question {number + 1} {opening} is no token for {subject.name}.")
        if room < 1:
            raise BadInput(
                f"Question {number + 1} {opening} has {len(tokens)} tokens, and {subject.name} "
                f"reads {subject.context} at once: no room is left for an answer. Shorten it, or "
                "take a model with a longer context."
            )
        limit = min(room, question.max_new_tokens or max_new_tokens)
        verdict = question.expect.decided if early and question.expect else _undecided
        rows.append(_Row(number, tokens, limit, verdict))
    return rows


def _undecided(answer: str) -> None:
    """Let the model speak on."""


def _batches(subject: Subject, rows: list[_Row], size: int | None) -> Iterator[list[_Row]]:
    """Put prompts of like length together, the longest first: memory runs out at once or never."""
    left = sorted(rows, key=lambda row: (-len(row.tokens), -row.limit))
    together = reads_trees(subject.model)
    while left:
        longest = len(left[0].tokens) + max(row.limit for row in left[:_MOST_ROWS])
        fitting = _CACHE // (longest * _cached_bytes(subject.model)) if together else 1
        count = (size if together else None) or max(1, min(_MOST_ROWS, fitting))
        yield left[:count]
        left = left[count:]


def _cached_bytes(model: Any) -> int:
    """Count the bytes of keys and values that one token leaves behind."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * model.dtype.itemsize)


def _text(subject: Subject, tokens: list[int]) -> str:
    return str(subject.tokenizer.decode(tokens, skip_special_tokens=True))


# ---------------------------------------------------------------- the model's part

_SHARE_KEYS = "TRANSFORMERS_SDPA_FORCE_GQA"


@contextmanager
def _keys_shared(subject: Subject) -> Iterator[None]:
    """Let the heads that share their keys and values read them where they are.

    By default transformers copies them for each head and token. On a CPU the answers are the same
    numbers; elsewhere PyTorch would take a slower path.
    """
    if subject.device.type != "cpu" or _SHARE_KEYS in os.environ:
        yield
        return
    os.environ[_SHARE_KEYS] = "1"
    try:
        yield
    finally:
        os.environ.pop(_SHARE_KEYS, None)


def _answered(subject: Subject, rows: list[_Row], stops: set[int]) -> Iterator[_Row]:
    """Answer the prompts of a batch; yield each row when it is done."""
    if not reads_trees(subject.model):
        read = _reread if in_pieces(subject.model) else _generated
        yield read(subject, rows[0], stops)
        return
    room = max(row.limit for row in rows)
    logits, cache, mask, positions = read_prompts(subject, [row.tokens for row in rows], room)
    while True:
        best = logits.float().max(-1)  # of (rows, vocabulary)
        _check_finite(subject, best.values)
        for row, token in zip(rows, best.indices.tolist(), strict=True):
            if not row.done and _hear(subject, row, token, stops):
                yield row
        left = [n for n, row in enumerate(rows) if not row.done]
        if not left:
            return
        tokens, mask = best.indices[:, None], nn.functional.pad(mask, (0, 1), value=1)
        if len(left) <= _STAY * len(rows):
            kept = torch.tensor(left, device=subject.device)
            cache.batch_select_indices(kept)
            tokens, positions, mask = tokens[kept], positions[kept], mask[kept]
            rows = [rows[n] for n in left]
        logits = subject.model(
            input_ids=tokens,  # (rows, 1)
            attention_mask=mask,  # (rows, tokens so far)
            position_ids=positions,  # (rows, 1)
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        positions = positions + 1


def _hear(subject: Subject, row: _Row, token: int, stops: set[int]) -> bool:
    """Add a token to an answer; tell whether that was the last one that matters."""
    if token in stops:
        row.done = True
        return True
    row.said.append(token)
    row.done = len(row.said) >= row.limit
    if not row.done and row.verdict is not _undecided:
        # Half a character, of which the rest is still to come, is no text yet.
        row.done = row.verdict(_text(subject, row.said).rstrip("\ufffd")) is not None
    return row.done


def _check_finite(subject: Subject, best: Tensor) -> None:
    """Refuse the answers of a model whose weights have diverged."""
    if best.isnan().any():
        raise answers_nan(subject.name)


def _generated(subject: Subject, row: _Row, stops: set[int]) -> _Row:
    """Answer one prompt by `generate`: for models that padding on the left would disturb."""
    ids = torch.tensor([row.tokens], device=subject.device)  # (1, tokens)

    def checked(_: Tensor, scores: Tensor) -> Tensor:
        _check_finite(subject, scores.max(-1).values)
        return scores

    def enough(read: Tensor, _: Any, **more: Any) -> Tensor:
        return torch.tensor([_hear(subject, row, int(read[0, -1]), stops)], device=read.device)

    with quiet():
        subject.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,  # these three also where the model's own settings differ
            num_beams=1,
            repetition_penalty=1.0,
            max_new_tokens=row.limit,
            eos_token_id=None,
            pad_token_id=subject.tokenizer.pad_token_id,
            logits_processor=[checked],
            stopping_criteria=[enough],
        )
    return row


def _reread(subject: Subject, row: _Row, stops: set[int]) -> _Row:
    """Answer one prompt by reading all of it for each token: for weights that are in pieces.

    `generate` would go around the model's own call, by which the processes count forward passes.
    """
    while not row.done:
        ids = torch.tensor([row.tokens + row.said], device=subject.device)  # (1, tokens)
        read = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        best = subject.model(**read, use_cache=False).logits[0, -1].float().max(-1)
        _check_finite(subject, best.values)
        _hear(subject, row, int(best.indices), stops)
    return row
