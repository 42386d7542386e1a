"""The task as rows of tokens: read, checked and tokenised, token for token as TRL does it.

A row holds `prompt` and `completion`, or `messages`, or `text`; where it holds several, the first
of these counts. Prompt and completion may be texts or chat messages, both of one kind. The rows are
made here because TRL makes them anew for each trainer, with progress bars and cache files.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from datasets import Dataset, DatasetDict

from caplab.models.subject import Subject
from caplab.questions import world
from caplab.support.errors import BadInput, explaining_failure, short_repr
from caplab.support.files import from_json, read_text

__all__ = [
    "FORMATS",
    "Rows",
    "Task",
    "check_rows",
    "is_file",
    "open_task",
    "read_rows",
    "tokens",
    "trimmed",
]

Row: TypeAlias = dict[str, list[int]]
Rows: TypeAlias = Dataset | Iterable[str] | Iterable[Mapping[str, Any]] | str | os.PathLike[str]
Task: TypeAlias = DatasetDict | Rows


def open_task(task: Task | None) -> tuple[Dataset, Dataset | None]:
    """Return the training rows and, where there are some, the held-out rows of a task."""
    splits = _built_in() if task is None else task
    if not isinstance(splits, Mapping):
        return as_dataset(splits, "The task"), None
    if "train" not in splits:
        raise BadInput(f"The task needs a split named 'train'; it has: {', '.join(splits)}.")
    train, test = splits["train"], splits.get("test")
    without = test is None or (isinstance(test, Sized) and not len(test))
    return (
        as_dataset(train, "The task's training split"),
        None if without else as_dataset(test, "The task's test split"),
    )


@cache
def _built_in() -> DatasetDict:
    return world.task()


def as_dataset(rows: Rows, what: str) -> Dataset:
    """Take a `Dataset`, or make one of a JSONL file, of texts or of rows; refuse what is none."""
    if isinstance(rows, str | os.PathLike) and is_file(rows):
        return _table(read_rows(rows), os.fspath(rows))
    if isinstance(rows, str | bytes | os.PathLike):
        raise BadInput(
            f"{what} is a single text. Give a file (.jsonl), a list of texts or a datasets.Dataset."
        )
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise BadInput(
            f"{what} is {short_repr(rows)}. Give a list of rows, or Dataset.from_dict(...)."
        )
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
    with explaining_failure(f"{what} does not fit into one table"):
        return Dataset.from_list(rows)


def _rows(items: list[Any], what: str) -> list[dict[str, Any]]:
    """Take texts, or rows; refuse a mixture and what is neither."""
    if all(isinstance(item, str) for item in items):
        return [{"text": item} for item in items]
    if all(isinstance(item, Mapping) for item in items):
        return [dict(item) for item in items]
    kinds = ", ".join(sorted({type(item).__name__ for item in items}))
    raise BadInput(f"{what} holds {kinds}. Give texts, or rows with the columns {FORMATS}.")


FORMATS = "`prompt` and `completion`, or `messages`, or `text`"
_COLUMNS = (("prompt", "completion"), ("messages",), ("text",))


def is_file(rows: Any) -> bool:
    """Tell the path of a JSONL file from a text."""
    return isinstance(rows, os.PathLike) or (isinstance(rows, str) and rows.endswith(".jsonl"))


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read a JSONL file with one row per line, and say of all malformed lines what is wrong."""
    lines = read_text(Path(path), "task file").split("\n")
    numbered = [(n, _parsed(line)) for n, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise BadInput(f"{path} is empty. It needs one row a line, with {FORMATS}.")
    _refuse(f"{path}", [(f"line {n}", row) for n, row in numbered])
    return trimmed([row for _, row in numbered])


def check_rows(rows: Iterable[Mapping[str, Any]], what: str) -> None:
    """Refuse rows that cannot be trained on, each by its number, counted from 0."""
    _refuse(what, [(f"row {n}", row) for n, row in enumerate(rows)])


def trimmed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep of sound rows what is trained on: a dataset bears no others of mixed kinds."""
    columns = _columns(rows[0])
    return [{column: row[column] for column in columns} for row in rows]


def _parsed(line: str) -> Any:
    """Read one line; what it is not, `_problems` will say."""
    try:
        return from_json(line)
    except BadInput as error:
        return error


def _refuse(what: str, rows: list[tuple[str, Any]]) -> None:
    """Say everything that is wrong, row by row."""
    first = next((columns for _, row in rows if (columns := _columns(row))), ())
    found = [f"  {where}: {fault}" for where, row in rows for fault in _problems(row, first)]
    if found:
        count = len({line.split(":")[0] for line in found})
        rows_are = "1 malformed row" if count == 1 else f"{count} malformed rows"
        raise BadInput("\n".join([f"{what} has {rows_are}:", *found, f"A row holds {FORMATS}."]))


def _columns(row: Any) -> tuple[str, ...]:
    """Tell in which format a row is; the empty tuple stands for none."""
    if not isinstance(row, Mapping):
        return ()
    return next((columns for columns in _COLUMNS if set(columns) <= row.keys()), ())


def _problems(row: Any, first: tuple[str, ...]) -> Iterator[str]:
    """Find everything that is wrong with one row."""
    columns = _columns(row)
    if isinstance(row, Exception):
        yield str(row)
    elif not isinstance(row, Mapping):
        yield f"this is not a JSON object but {short_repr(row)}"
    elif not columns:
        yield f"it holds {', '.join(map(str, row)) or 'nothing'}"
    elif columns != first:
        yield f"it holds {' and '.join(columns)}, and other rows {' and '.join(first)}"
    for column in columns:
        yield from _value_problems(column, row[column])
    if len({isinstance(row[column], str) for column in columns}) > 1:
        yield f"of {' and '.join(columns)} one is a text and the other is not"


def _value_problems(column: str, value: Any) -> Iterator[str]:
    """Find what is wrong with a text or with a conversation."""
    if isinstance(value, list):
        yield from _chat_problems(column, value)
    elif column == "messages" or not isinstance(value, str):
        kind = {"text": "a text", "messages": "a list of messages"}
        yield f"{column} must be {kind.get(column, 'a text or messages')}, not {value!r:.60}"
    elif column != "prompt" and not value.strip():
        yield f"{column} is empty"
    elif any("\ud800" <= letter <= "\udfff" for letter in value):
        yield f"{column} holds half a character ({value!a:.60})"


def _chat_problems(column: str, messages: list[Any]) -> Iterator[str]:
    if column == "text" or not messages:
        yield f"{column} is {'a list' if messages else 'empty'}"
        return
    for number, message in enumerate(messages):
        texts = message if isinstance(message, Mapping) else {}
        if not all(isinstance(texts.get(key), str) for key in ("role", "content")):
            yield f"message {number} of {column} needs a role and a content, both texts"


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
    with explaining_failure(f"The model's chat template refuses the conversation {messages!r:.80}"):
        return list(
            tokenizer.apply_chat_template(
                messages, tokenize=True, return_dict=True, add_generation_prompt=prompt
            )["input_ids"]
        )


def _common(one: list[int], other: list[int]) -> int:
    """Count the tokens that two rows share from the start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
