"""Mix old text into the task's rows: the caller's, the synthetic world's or the model's own."""

import random
import re
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import torch
from datasets import Dataset

from caplab.models.chat import (
    answer_alone,
    as_asked,
    encode,
    has_template,
    stop_tokens,
    user_opening,
)
from caplab.models.subject import Subject, measuring
from caplab.models.weights import digest
from caplab.questions import world
from caplab.questions.world2 import documents as world2
from caplab.support.errors import BadInput
from caplab.support.quiet import quiet
from caplab.training.recipe import Recipe, ReplaySource
from caplab.training.task_rows import Row, Rows, as_dataset, is_chat, tokens

__all__ = ["mixture", "old_texts", "own_words"]

_BLOCK = 64  # texts that a model writes in one batch
_TALKS = 16  # conversations in one batch: they take longer than texts
_LONGEST = 96  # tokens of a text that a model writes, at most; of a conversation, each turn


def mixture(rows: Dataset, recipe: Recipe, subject: Subject, old: Rows | None) -> Dataset:
    """Choose what the run will read: the task's rows alone, or mixed with old texts.

    Without replay the trainer repeats the task as often as needed. With replay all rows of the run
    are chosen here, so that the share of old texts is exact and no old text is read twice while
    there are enough of them. The trainer shuffles in both cases.
    """
    rng = random.Random(f"replay {recipe.seed}")
    if recipe.examples is not None and recipe.examples < len(rows):
        rows = rows.select(sorted(rng.sample(range(len(rows)), recipe.examples)))
    if not recipe.replay:
        return rows
    total = recipe.steps * recipe.batch_size
    replayed = round(recipe.replay * total)
    given = old_texts(subject, recipe.replay_source, old, replayed, recipe.seed)
    texts = tokens(given, subject, recipe.assistant_only and is_chat(given))
    marked = [{**row, "replayed": True} for row in islice(cycle(texts), replayed)]
    fresh = ({**row, "replayed": False} for row in _cycle(list(rows), rng))
    return Dataset.from_list([*islice(fresh, total - replayed), *marked])


def _cycle(rows: list[Row], rng: random.Random) -> Iterator[Row]:
    """Yield all rows again and again, each time in another order."""
    while True:
        yield from rng.sample(rows, len(rows))


def old_texts(
    subject: Subject, source: ReplaySource, old: Rows | None, count: int, seed: int
) -> Dataset:
    """Return the caller's old data, the model's pretraining text, or text of its own, as rows."""
    if source == "self":
        return as_dataset(own_words(subject, count, seed), "replay_data")
    if old is None:
        documents = list(islice(_pretraining_text(subject, seed), max(1, count)))
        return as_dataset(documents, "replay_data")
    given = as_dataset(old, "replay_data")
    chosen = random.Random(f"old texts {seed}").sample(
        range(len(given)), min(max(1, count), len(given))
    )
    return given.select(chosen)


def _pretraining_text(subject: Subject, seed: int) -> Iterator[str]:
    """Write on with the text of the model's own pretraining; other models get the first pocket's.

    For the second pocket, half of the facts that its exam asks are never in it.
    """
    if subject.name.partition(",")[0] == "pocket2":  # behind a comma: how it was tuned
        return world2.documents(seed, mentioned=True, anybody=True)
    return world.pretraining_documents(f"replay {seed}")


_written: dict[tuple[str, int, str], list[Any]] = {}


def own_words(subject: Subject, count: int, seed: int = 0) -> list[Any]:
    """Sample texts from the model without a prompt, for replay without the original data.

    The temperature is 1, which is the model's own distribution. The texts are kept: for the same
    weights and seed, only those that are missing are written.

    A model with a chat template writes conversations, `{"messages": [...]}`. It continues what the
    template writes before a user's turn, and so asks a question of its own (Xu et al. 2024, Magpie,
    arXiv 2406.08464); then it is asked that question, and answers.
    """
    tokenizer = subject.tokenizer
    opening = user_opening(tokenizer) if has_template(tokenizer) else ""
    texts = _written.setdefault((digest(subject.model), seed, opening), [])
    while len(texts) < count:
        generator = torch.Generator(subject.device).manual_seed(seed * 1_000_003 + len(texts))
        written = _converse(subject, generator, opening) if opening else _write(subject, generator)
        if not written:
            raise BadInput(f"{subject.name} writes empty texts only: give replay_data.")
        texts += written
    return texts[:count]


def _write(subject: Subject, generator: torch.Generator) -> list[Any]:
    """Write one batch of texts."""
    ids = _sample(subject, generator, _BLOCK, min(_LONGEST, subject.context))
    texts = subject.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [text for text in texts if text.strip()]


def _converse(subject: Subject, generator: torch.Generator, opening: str) -> list[Any]:
    """Write one batch of conversations: a question of the model's own, and its answer."""
    asked = [turn for turn in _turns(subject, generator, [opening] * _TALKS) if turn]
    answers = _turns(subject, generator, [as_asked(subject, question) for question in asked])
    talks = [
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        for question, answer in zip(asked, answers, strict=True)
        if answer
    ]
    return [{"messages": talk} for talk in talks]


def _turns(subject: Subject, generator: torch.Generator, before: list[str]) -> list[str]:
    """Let the model write one turn after each text; '' where it wrote none.

    A turn that did not end in time is cut after its last whole sentence.
    """
    if not before:
        return []
    tokenizer, stops = subject.tokenizer, set(stop_tokens(subject, chat=True))
    room = min(_LONGEST, subject.context // 2)
    ids = [prompt[room - subject.context :] for prompt in encode(tokenizer, before)]
    turns = []
    for written in _continue(subject, generator, ids, room).tolist():
        end = next((place for place, token in enumerate(written) if token in stops), None)
        text = tokenizer.decode(written[:end], skip_special_tokens=True)
        if end is None:
            text = "".join(re.findall(r"(?s).*[.!?](?=\s)", text))
        turns.append(answer_alone(subject, text, chat=True))
    return turns


def _continue(
    subject: Subject, generator: torch.Generator, ids: list[list[int]], room: int
) -> torch.Tensor:
    """Draw up to `room` tokens after each prompt, from the model's own distribution."""
    longest = max(map(len, ids))
    padding = [longest - len(prompt) for prompt in ids]  # on the left
    pad = subject.tokenizer.pad_token_id or 0
    read = [[pad] * empty + prompt for empty, prompt in zip(padding, ids, strict=True)]
    seen = [[0] * empty + [1] * (longest - empty) for empty in padding]
    with measuring(subject.model), quiet():
        torch.manual_seed(
            int(torch.randint(2**31, (1,), generator=generator, device=subject.device))
        )
        output: torch.Tensor = subject.model.generate(
            input_ids=torch.tensor(read, device=subject.device),  # (prompts, tokens)
            attention_mask=torch.tensor(seen, device=subject.device),
            do_sample=True,
            num_beams=1,
            temperature=1.0,  # these also where the model's own settings differ
            top_k=0,
            top_p=1.0,
            repetition_penalty=1.0,
            max_new_tokens=room,
            pad_token_id=pad,
            eos_token_id=stop_tokens(subject, chat=True) or None,
        )
    return output[:, longest:]


def _sample(subject: Subject, generator: torch.Generator, count: int, length: int) -> torch.Tensor:
    """Draw tokens one by one, each from the model's own distribution; (texts, tokens)."""
    tokenizer = subject.tokenizer
    end = tokenizer.eos_token_id
    start = next(i for i in (tokenizer.bos_token_id, end, tokenizer.pad_token_id) if i is not None)
    ids = torch.full((count, 1), start, device=subject.device)  # (texts, tokens so far)
    past, ended = None, torch.zeros_like(ids, dtype=torch.bool)  # ended: (texts, 1)
    with measuring(subject.model):
        while ids.shape[1] < length and not ended.all():
            read = {"input_ids": ids[:, -1:], "attention_mask": torch.ones_like(ids)}
            out = subject.model(**read, past_key_values=past, use_cache=True)
            chances = out.logits[:, -1].float().softmax(-1)  # (texts, vocabulary)
            drawn = torch.multinomial(chances, 1, generator=generator)  # (texts, 1)
            drawn = drawn.masked_fill(ended, end or 0)  # a text that has ended is padded
            ids, past = torch.cat([ids, drawn], 1), out.past_key_values
            ended = ended | (drawn == end)
    return ids[:, 1:]
