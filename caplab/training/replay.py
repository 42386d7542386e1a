"""Mix old text into the task's rows: the caller's, the synthetic world's or the model's own."""

import random
from collections.abc import Iterator
from itertools import cycle, islice

import torch
from datasets import Dataset

from caplab.models.subject import Subject, measuring
from caplab.models.weights import digest
from caplab.questions import world
from caplab.support.errors import BadInput
from caplab.training.recipe import Recipe
from caplab.training.task_rows import Row, Rows, as_dataset, tokens

__all__ = ["mixture", "own_words"]

_BLOCK = 64  # texts that a model writes in one batch
_LONGEST = 96  # tokens of a text that a model writes, at most


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
    texts = tokens(as_dataset(_old_texts(recipe, subject, old, replayed), "replay_data"), subject)
    marked = [{**row, "replayed": True} for row in islice(cycle(texts), replayed)]
    fresh = ({**row, "replayed": False} for row in _cycle(list(rows), rng))
    return Dataset.from_list([*islice(fresh, total - replayed), *marked])


def _cycle(rows: list[Row], rng: random.Random) -> Iterator[Row]:
    """Yield all rows again and again, each time in another order."""
    while True:
        yield from rng.sample(rows, len(rows))


def _old_texts(recipe: Recipe, subject: Subject, old: Rows | None, count: int) -> Rows:
    """Return the caller's old data, the model's pretraining text, or text of its own."""
    if recipe.replay_source == "self":
        return own_words(subject, count, recipe.seed)
    if old is None:
        return list(islice(world.pretraining_documents(f"replay {recipe.seed}"), max(1, count)))
    given = as_dataset(old, "replay_data")
    chosen = random.Random(f"old texts {recipe.seed}").sample(
        range(len(given)), min(max(1, count), len(given))
    )
    return given.select(chosen)


_written: dict[tuple[str, int], list[str]] = {}


def own_words(subject: Subject, count: int, seed: int = 0) -> list[str]:
    """Sample texts from the model without a prompt, for replay without the original data.

    The temperature is 1, which is the model's own distribution. The texts are kept: for the same
    weights and seed, only those that are missing are written.
    """
    texts = _written.setdefault((digest(subject.model), seed), [])
    while len(texts) < count:
        generator = torch.Generator(subject.device).manual_seed(seed * 1_000_003 + len(texts))
        written = [text for text in _write(subject, generator) if text.strip()]
        if not written:
            raise BadInput(f"{subject.name} writes empty texts only: give replay_data.")
        texts += written
    return texts[:count]


def _write(subject: Subject, generator: torch.Generator) -> list[str]:
    """Write one batch of texts."""
    ids = _sample(subject, generator, _BLOCK, min(_LONGEST, subject.context))
    return list(subject.tokenizer.batch_decode(ids, skip_special_tokens=True))


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
