"""Rows of task data in TRL's formats: read from JSONL, and checked all at once.

A row holds `prompt` and `completion`, or `messages`, or `text`; where it holds several, the first
of these counts. Prompt and completion may be texts or chat messages, both of one kind.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from caplab.errors import BadInput, shown
from caplab.files import from_json, read_text

__all__ = ["FORMATS", "check_rows", "is_file", "read_rows", "trimmed"]

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
        yield f"this is not a JSON object but {shown(row)}"
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
