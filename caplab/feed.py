"""What a run is fed: the task as rows of tokens, and old text mixed in among them.

The rows are those that TRL would make from the same task, token for token (a test compares them).
They are made here because TRL makes them anew for each trainer, with progress bars and cache files.
"""

import hashlib
import json
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sized
from functools import cache, lru_cache
from itertools import cycle, islice
from typing import Any, TypeAlias

import torch
from datasets import Dataset, DatasetDict

from caplab import world
from caplab.errors import BadInput, refusing, shown
from caplab.models import Subject, measuring
from caplab.recipe import Recipe
from caplab.rows import FORMATS, check_rows, is_file, read_rows, trimmed

__all__ = ["Rows", "Task", "digest", "mixture", "open_task", "own_words", "tokens"]

Row: TypeAlias = dict[str, list[int]]
Rows: TypeAlias = Dataset | Iterable[str] | Iterable[Mapping[str, Any]] | str | os.PathLike[str]
Task: TypeAlias = DatasetDict | Rows

_BLOCK = 64  # texts that a model writes side by side
_LONGEST = 96  # tokens of a text that a model writes


# ---------------------------------------------------------------- the task's rows


def open_task(task: Task | None) -> tuple[Dataset, Dataset | None]:
    """Return the training rows and, where there are some, the held-out rows of a task."""
    splits = _built_in() if task is None else task
    if not isinstance(splits, Mapping):
        return _dataset(splits, "The task"), None
    if "train" not in splits:
        raise BadInput(f"The task needs a split named 'train'; it has: {', '.join(splits)}.")
    train, test = splits["train"], splits.get("test")
    without = test is None or (isinstance(test, Sized) and not len(test))
    return (
        _dataset(train, "The task's training split"),
        None if without else _dataset(test, "The task's test split"),
    )


@cache
def _built_in() -> DatasetDict:
    return world.task()


def _dataset(rows: Rows, what: str) -> Dataset:
    """Take a `Dataset`, or make one of a JSONL file, of texts or of rows; refuse what is none."""
    if isinstance(rows, str | os.PathLike) and is_file(rows):
        return _table(read_rows(rows), os.fspath(rows))
    if isinstance(rows, str | bytes | os.PathLike):
        raise BadInput(
            f"{what} is a single text. Give a file (.jsonl), a list of texts or a datasets.Dataset."
        )
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise BadInput(f"{what} is {shown(rows)}. Give a list of rows, or Dataset.from_dict(...).")
    items = rows.to_list() if isinstance(rows, Dataset) else _rows(list(rows), what)
    if not items:
        raise BadInput(f"{what} is empty. It needs rows with the columns {FORMATS}.")
    columns = list(map(str, items[0]))
    if not ({"prompt", "completion"} <= set(columns) or {"text", "messages"} & set(columns)):
        raise BadInput(f"{what} has the columns {', '.join(columns)}. It needs {FORMATS}.")
    check_rows(items, what)
    return rows if isinstance(rows, Dataset) else _table(trimmed(items), what)


def _table(rows: list[dict[str, Any]], what: str) -> Dataset:
    """Make a dataset; its messages must be of one kind throughout, whatever else they carry."""
    with refusing(f"{what} does not fit into one table"):
        return Dataset.from_list(rows)


def _rows(items: list[Any], what: str) -> list[dict[str, Any]]:
    """Take texts, or rows; refuse a mixture and what is neither."""
    if all(isinstance(item, str) for item in items):
        return [{"text": item} for item in items]
    if all(isinstance(item, Mapping) for item in items):
        return [dict(item) for item in items]
    kinds = ", ".join(sorted({type(item).__name__ for item in items}))
    raise BadInput(f"{what} holds {kinds}. Give texts, or rows with the columns {FORMATS}.")


def tokens(rows: Dataset, subject: Subject) -> Dataset:
    """Turn rows into `input_ids` and `labels`; made once for each tokenizer and content."""
    content = json.dumps(rows.to_dict(), default=str)
    return _tokens(content, subject.tokenizer, subject.context)


@lru_cache(maxsize=16)
def _tokens(content: str, tokenizer: Any, context: int) -> Dataset:
    """Cut rows to the model's context and drop those of which nothing is left to learn."""
    columns = json.loads(content)
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    cut = [{key: ids[:context] for key, ids in _row(row, tokenizer).items()} for row in rows]
    learnable = [row for row in cut if any(label != -100 for label in row["labels"][1:])]
    if not learnable:
        raise BadInput(
            f"Nothing is left to learn: no row has a word to predict within {context} tokens, "
            "which is what the model reads at once. Shorten the prompts."
        )
    return Dataset.from_list(learnable)


def _row(row: Mapping[str, Any], tokenizer: Any) -> Row:
    """Tokenise one row as TRL does; of a prompt and its completion the completion is learned."""
    if "prompt" not in row or "completion" not in row:
        ids = _ids(row["messages"] if "messages" in row else row["text"], tokenizer, end=True)
        return {"input_ids": ids, "labels": ids}
    prompt, completion = row["prompt"], row["completion"]
    asked = _ids(prompt, tokenizer, prompt=True)
    ids = _ids(prompt + completion, tokenizer, end=True)
    start = _common(asked, ids)
    return {"input_ids": ids, "labels": [-100] * start + ids[start:]}


def _ids(text: Any, tokenizer: Any, *, end: bool = False, prompt: bool = False) -> list[int]:
    """Tokenise a text, closed by the end-of-text token, or a list of chat messages."""
    if isinstance(text, list):
        return _chat_ids(text, tokenizer, prompt)
    closing = tokenizer.eos_token or ""
    text += closing if end and not text.endswith(closing) else ""
    return list(tokenizer(text, verbose=False)["input_ids"])


def _chat_ids(messages: list[dict[str, str]], tokenizer: Any, prompt: bool) -> list[int]:
    """Tokenise a conversation by the model's own chat template."""
    if not tokenizer.chat_template:
        raise BadInput(
            "These rows are chat messages, and the tokenizer has no chat template to write them "
            "with. Give `prompt` and `completion` as texts, or take a model that was made for chat."
        )
    with refusing(f"The model's chat template refuses the conversation {messages!r:.80}"):
        return list(
            tokenizer.apply_chat_template(
                messages, tokenize=True, return_dict=True, add_generation_prompt=prompt
            )["input_ids"]
        )


def _common(one: list[int], other: list[int]) -> int:
    """Count the tokens that two rows share from the start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


# ---------------------------------------------------------------- replay


def mixture(rows: Dataset, recipe: Recipe, subject: Subject, old: Rows | None) -> Dataset:
    """Choose what the run will read: the task's rows alone, or so many old texts among them.

    Without replay the trainer walks through the task as often as it takes. With replay every row of
    the run is laid out here, so that the share of old texts is exact and none is read twice while
    there are enough. The trainer shuffles in both cases.
    """
    rng = random.Random(f"replay {recipe.seed}")
    if recipe.examples is not None and recipe.examples < len(rows):
        rows = rows.select(sorted(rng.sample(range(len(rows)), recipe.examples)))
    if not recipe.replay:
        return rows
    total = recipe.steps * recipe.batch_size
    replayed = round(recipe.replay * total)
    texts = tokens(_dataset(_old_texts(recipe, subject, old, replayed), "replay_data"), subject)
    marked = [{**row, "replayed": True} for row in islice(cycle(texts), replayed)]
    fresh = ({**row, "replayed": False} for row in _cycle(list(rows), rng))
    return Dataset.from_list([*islice(fresh, total - replayed), *marked])


def _cycle(rows: list[Row], rng: random.Random) -> Iterator[Row]:
    """Walk through the rows for ever, each time in another order."""
    while True:
        yield from rng.sample(rows, len(rows))


def _old_texts(recipe: Recipe, subject: Subject, old: Rows | None, count: int) -> Rows:
    """Take the caller's old data, or what the model was pretrained on, or what it says itself."""
    if recipe.replay_source == "self":
        return own_words(subject, count, recipe.seed)
    if old is None:
        return list(islice(world.pretraining_documents(f"replay {recipe.seed}"), max(1, count)))
    given = _dataset(old, "replay_data")
    chosen = random.Random(f"old texts {recipe.seed}").sample(
        range(len(given)), min(max(1, count), len(given))
    )
    return given.select(chosen)


_written: dict[tuple[str, int], list[str]] = {}


def own_words(subject: Subject, count: int, seed: int = 0) -> list[str]:
    """Let the model write texts from nothing, as it learned to: replay without the original data.

    Sampled at temperature 1, which is the model's own distribution, and kept: the same weights and
    seed are asked only for what they have not yet written.
    """
    texts = _written.setdefault((digest(subject.model), seed), [])
    while len(texts) < count:
        generator = torch.Generator(subject.device).manual_seed(seed * 1_000_003 + len(texts))
        written = [text for text in _write(subject, generator) if text.strip()]
        if not written:
            raise BadInput(f"{subject.name} ends each text before it begins: give replay_data.")
        texts += written
    return texts[:count]


def _write(subject: Subject, generator: torch.Generator) -> list[str]:
    """Write one block of texts."""
    ids = _sample(subject, generator, _BLOCK, min(_LONGEST, subject.context))
    return list(subject.tokenizer.batch_decode(ids, skip_special_tokens=True))


def _sample(subject: Subject, generator: torch.Generator, count: int, length: int) -> torch.Tensor:
    """Draw token after token, each from the model's own distribution."""
    tokenizer = subject.tokenizer
    end = tokenizer.eos_token_id
    start = next(i for i in (tokenizer.bos_token_id, end, tokenizer.pad_token_id) if i is not None)
    ids = torch.full((count, 1), start, device=subject.device)  # (texts, tokens so far)
    past, ended = None, torch.zeros_like(ids, dtype=torch.bool)
    with measuring(subject.model):
        while ids.shape[1] < length and not ended.all():
            read = {"input_ids": ids[:, -1:], "attention_mask": torch.ones_like(ids)}
            out = subject.model(**read, past_key_values=past, use_cache=True)
            chances = out.logits[:, -1].float().softmax(-1)  # (texts, vocabulary)
            drawn = torch.multinomial(chances, 1, generator=generator).masked_fill(ended, end or 0)
            ids, past, ended = (
                torch.cat([ids, drawn], 1),
                out.past_key_values,
                ended | (drawn == end),
            )
    return ids[:, 1:]


def digest(model: torch.nn.Module) -> str:
    """Name a model's weights: equal weights, equal name."""
    sha = hashlib.sha256()
    for weight in model.state_dict().values():
        sha.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()
