"""Read, check and tokenise the rows of a task, token for token as TRL does it.

A row holds `prompt` and `completion`, or `messages`, or `text`; if it holds several of these, the
first counts. Prompt and completion are both texts or both lists of chat messages; such rows may
name the `tools` that the model can call. The rows are tokenised here because TRL repeats that for
each trainer, with progress bars and cache files.
"""

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from functools import cache, lru_cache
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from datasets import Dataset, DatasetDict

from caplab.models.chat import message_problems
from caplab.models.subject import Subject
from caplab.questions import world
from caplab.support.errors import BadInput, explaining_failure, list_problems, short_repr
from caplab.support.files import from_json, parse_rows, read_jsonl, read_text
from caplab.support.parquet import parquet_rows
from caplab.support.text import has_lone_surrogate
from caplab.training.chat_rows import ChatRows, TokenRow, learned

__all__ = ["Row", "Rows", "Task", "as_dataset", "is_chat", "open_task", "tokens"]

Row: TypeAlias = TokenRow
# Also a pandas DataFrame, a polars one, an Arrow table.
Rows: TypeAlias = Dataset | Iterable[str] | Iterable[Mapping[str, Any]] | str | os.PathLike[str]
Task: TypeAlias = DatasetDict | Rows


def open_task(task: Task | None) -> tuple[Dataset, Dataset | None]:
    """Return the training rows of a task and its held-out rows, or None without any."""
    splits = _built_in() if task is None else task
    if not isinstance(splits, Mapping):
        return as_dataset(splits, "The task"), None
    if "train" not in splits:
        raise BadInput(f"The task needs a split named 'train'; it has: {', '.join(splits)}.")
    train, test = splits["train"], splits.get("test")
    empty = test is None or (isinstance(test, Sized) and not len(test))
    return (
        as_dataset(train, "The task's training split"),
        None if empty else as_dataset(test, "The task's test split"),
    )


@cache
def _built_in() -> DatasetDict:
    return world.task()


def as_dataset(rows: Rows, what: str) -> Dataset:
    """Return a `Dataset` as it is, or make one from a file, a table, texts or rows.

    A table is a pandas DataFrame, or anything that gives its columns to Arrow, as polars does.
    """
    if _is_file(rows):
        return _table(_read_rows(Path(rows)), os.fspath(rows))  # type: ignore[arg-type]
    if isinstance(rows, str | bytes | os.PathLike) or hasattr(rows, "read"):
        raise BadInput(
            f"{what} is a single text or an open file. Give the path of a file "
            f"({', '.join(_FILES)}), a list of texts, a DataFrame or a datasets.Dataset."
        )
    rows = _table_rows(rows, what)
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise BadInput(
            f"{what} is {short_repr(rows)}. Give a list of rows, or Dataset.from_dict(...)."
        )
    items = rows.to_list() if isinstance(rows, Dataset) else _rows(_finite(rows, what), what)
    if not items:
        raise BadInput(f"{what} is empty. It needs rows with the columns {_FORMATS}.")
    columns = list(map(str, items[0]))
    if not ({"prompt", "completion"} <= set(columns) or {"text", "messages"} & set(columns)):
        raise BadInput(f"{what} has the columns {', '.join(columns)}. It needs {_FORMATS}.")
    _check_rows(items, what)
    return rows if isinstance(rows, Dataset) else _table(_trimmed(items), what)


def _table_rows(rows: Any, what: str) -> Any:
    """Return the rows of a table; anything else as it is.

    Iterated like a list, a DataFrame would give the names of its columns.
    """
    import pyarrow as pa

    with explaining_failure(f"{what} is a table that Arrow cannot read"):
        if (pandas := sys.modules.get("pandas")) and isinstance(rows, pandas.DataFrame):
            used = [name for name in rows.columns if name in _USED]
            rows = pa.Table.from_pandas(rows[used or list(rows.columns)], preserve_index=False)
        elif pandas and isinstance(rows, pandas.Series | pandas.Index):
            return rows.tolist()
        elif hasattr(rows, "__arrow_c_stream__") and not isinstance(rows, Dataset):
            rows = pa.table(rows)
        elif hasattr(rows, "__arrow_c_array__"):
            rows = pa.Table.from_batches([pa.record_batch(rows)])
        if not isinstance(rows, pa.Table):
            return rows
        if rows.num_rows * len(rows.column_names) == 0:
            raise BadInput(f"{what} is empty. It needs rows with the columns {_FORMATS}.")
        return [_plain_row(row) for row in rows.to_pylist()]


def _plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """Read a row of a table, in which an empty cell is a key that is not there.

    A table without lists, such as CSV, holds messages as their JSON.
    """
    made = {key: value for key, value in row.items() if value is not None or key not in _USED}
    for key in _USED:
        value = made.get(key)
        if key in ("messages", "tools") and isinstance(value, str) and value.startswith("["):
            made[key] = from_json(value)
        if isinstance(made.get(key), list):
            made[key] = [_without_none(turn) for turn in made[key]]
    return made


def _without_none(turn: Any) -> Any:
    """Leave out what a turn lacks: in a table all turns have the same keys."""
    if not isinstance(turn, Mapping):
        return turn
    return {key: value for key, value in turn.items() if value is not None}


def _finite(rows: Iterable[Any], what: str) -> list[Any]:
    """Collect the rows of a list or a stream; refuse one that never ends."""
    items = list(islice(rows, _MOST_ROWS + 1))
    if len(items) > _MOST_ROWS:
        raise BadInput(f"{what} has more than {_MOST_ROWS:,} rows, or never ends. Give fewer.")
    return items


def _table(rows: list[dict[str, Any]], what: str) -> Dataset:
    """Make a dataset; the messages may carry more than needed, but of the same types throughout."""
    # Calls of tools have arguments of many types: such rows are kept as JSON.
    calls = any("tools" in row or _has_calls(row) for row in rows)
    with explaining_failure(f"{what} does not fit into one table"):
        return Dataset.from_list(rows, on_mixed_types="use_json" if calls else None)


def _has_calls(row: Mapping[str, Any]) -> bool:
    """Check whether a row holds chat messages of which one calls a tool."""
    turns = (turn for value in row.values() if isinstance(value, list) for turn in value)
    return any(isinstance(turn, Mapping) and turn.get("tool_calls") for turn in turns)


def _rows(items: list[Any], what: str) -> list[dict[str, Any]]:
    """Turn texts or mappings into rows; refuse a mixture of both, and anything else."""
    if all(isinstance(item, str) for item in items):
        return [{"text": item} for item in items]
    if all(isinstance(item, Mapping) for item in items):
        return [dict(item) for item in items]
    kinds = ", ".join(sorted({type(item).__name__ for item in items}))
    raise BadInput(f"{what} holds {kinds}. Give texts, or rows with the columns {_FORMATS}.")


_FORMATS = "`prompt` and `completion`, or `messages`, or `text`"
_TABLES = (".parquet", ".csv")
_FILES = (".jsonl", *_TABLES)
_USED = ("prompt", "completion", "messages", "text", "tools")
_MOST_ROWS = 1_000_000
_COLUMNS = (("prompt", "completion"), ("messages",), ("text",))


def _is_file(rows: Any) -> bool:
    """Tell whether the rows are given as the path of a file."""
    return isinstance(rows, os.PathLike) or (isinstance(rows, str) and rows.endswith(_FILES))


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a file with one row per line, and name every malformed one in one refusal."""
    formats: list[tuple[str, ...]] = []  # of the rows so far; the first decides for all

    def parse(row: Any) -> Any:
        if columns := _columns(row):
            formats.append(columns)
        if problems := list(_problems(row, formats[0] if formats else ())):
            raise BadInput("; ".join(problems))
        return row

    advice = f"A row holds {_FORMATS}."
    if path.suffix in _TABLES:
        table = enumerate(_read_table(path))
        rows = parse_rows(
            path, table, lambda row: parse(_plain_row(row)), unit="row", advice=advice
        )
    else:
        rows = read_jsonl(path, "task file", parse, advice=advice)
    if not rows:
        raise BadInput(f"{path} is empty. It needs one row per line, with {_FORMATS}.")
    return _trimmed(rows)


def _read_table(path: Path) -> list[dict[str, Any]]:
    """Read a Parquet or CSV file; in CSV every cell is a text, and an empty one is not there."""
    if path.suffix == ".parquet":
        return parquet_rows(path, "task file")
    text = read_text(path, "task file")
    with explaining_failure(f"{path} is not a CSV file"):
        reader = csv.DictReader(StringIO(text, newline=""), strict=True)
        rows = [*reader]
        if any(None in row for row in rows):
            raise ValueError("a row has more cells than there are columns")
        return [{key: cell or None for key, cell in row.items()} for row in rows]


def _check_rows(rows: Sequence[Any], what: str) -> None:
    """Refuse rows that cannot be trained on, and say what is wrong with each of them."""
    first = next((columns for row in rows if (columns := _columns(row))), ())
    found = {n: list(_problems(row, first)) for n, row in enumerate(rows)}
    lines = [f"row {n}: {problem}" for n, problems in found.items() for problem in problems]
    if lines:
        bad = sum(map(bool, found.values()))
        rows_are = "1 malformed row" if bad == 1 else f"{bad} malformed rows"
        lines = [f"{what} has {rows_are}:", *list_problems(lines), f"A row holds {_FORMATS}."]
        raise BadInput("\n".join(lines))


def _trimmed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the columns that are trained on; others of mixed types would not fit into a dataset."""
    columns = _columns(rows[0])
    columns += ("tools",) if any(row.get("tools") for row in rows) else ()
    return [{column: row.get(column) for column in columns} for row in rows]


def _columns(row: Any) -> tuple[str, ...]:
    """Return the columns by which a row is read; the empty tuple where it has none of them."""
    if not isinstance(row, Mapping):
        return ()
    return next((columns for columns in _COLUMNS if set(columns) <= row.keys()), ())


def _problems(row: Any, first: tuple[str, ...]) -> Iterator[str]:
    """Find everything that is wrong with one row; the first row's columns are expected."""
    columns = _columns(row)
    if not isinstance(row, Mapping):
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
    """Find what is wrong with a text or a conversation."""
    if isinstance(value, list):
        yield from _chat_problems(column, value)
    elif column == "messages" or not isinstance(value, str):
        kind = {"text": "a text", "messages": "a list of messages"}
        yield f"{column} must be {kind.get(column, 'a text or messages')}, not {value!r:.60}"
    elif column != "prompt" and not value.strip():
        yield f"{column} is empty"
    elif has_lone_surrogate(value):
        yield f"{column} holds a lone surrogate, half a character ({value!a:.60})"


def _chat_problems(column: str, messages: list[Any]) -> Iterator[str]:
    """Find what is wrong with a list of chat messages."""
    if column == "text" or not messages:
        yield f"{column} is {'a list' if messages else 'empty'}"
    else:
        yield from message_problems(messages, column)


# ---------------------------------------------------------------- tokens


def tokens(rows: Dataset, subject: Subject, assistant_only: bool = False) -> Dataset:
    """Tokenise rows into `input_ids` and `labels`; done once for each tokenizer and content.

    Of chat messages every turn is learned; with `assistant_only` only the assistant's turns are.
    """
    content = json.dumps(rows.to_dict(), default=str)
    template = str(subject.tokenizer.chat_template)
    return _tokens(
        content, subject.tokenizer, subject.context, subject.name, template, assistant_only
    )


@lru_cache(maxsize=16)
def _tokens(
    content: str, tokenizer: Any, context: int, name: str, _template: str, assistant_only: bool
) -> Dataset:
    """Cut rows to the model's context, and drop those with nothing left to learn."""
    columns = json.loads(content)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    chat = ChatRows(tokenizer, name, assistant_only) if _is_conversation(rows[0]) else None
    if assistant_only and chat is None:
        raise BadInput(
            "assistant_only learns the assistant's turns of chat messages, and these rows are "
            "plain texts. Leave it out, or give `messages`."
        )
    made = (chat.row(row) if chat else _row(row, tokenizer) for row in rows)
    cut = [{key: ids[:context] for key, ids in row.items()} for row in made]
    # The first label is never predicted; -100 marks tokens that are read but not learned.
    learnable = [row for row in cut if any(label != -100 for label in row["labels"][1:])]
    if not learnable:
        raise BadInput(
            f"Nothing is left to learn: no row has a token to predict within the {context} tokens "
            "that the model reads at once. Shorten the prompts."
        )
    return Dataset.from_list(learnable)


def is_chat(rows: Dataset) -> bool:
    """Check whether rows are written as chat messages."""
    return _is_conversation(rows[0])


def _is_conversation(row: Mapping[str, Any]) -> bool:
    return all(isinstance(row[column], list) for column in _columns(row))


def _row(row: Mapping[str, Any], tokenizer: Any) -> Row:
    """Tokenise one row of texts as TRL does; with a prompt, only the completion is learned."""
    if "prompt" not in row or "completion" not in row:
        ids = _ids(row["text"], tokenizer, end=True)
        return {"input_ids": ids, "labels": ids}
    asked = _ids(row["prompt"], tokenizer)
    return learned(asked, _ids(row["prompt"] + row["completion"], tokenizer, end=True))


def _ids(text: str, tokenizer: Any, *, end: bool = False) -> list[int]:
    """Tokenise a text; `end` closes it by the end-of-text token."""
    closing = tokenizer.eos_token or ""
    text += closing if end and not text.endswith(closing) else ""
    return list(tokenizer(text, verbose=False)["input_ids"])
