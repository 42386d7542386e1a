"""A task may come as any table; what is trained on are its rows, or it is refused in words."""

import json
import resource
from itertools import repeat

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from bench import TASK
from datasets import Dataset, DatasetDict, IterableDataset
from drill import fault
from pyarrow import parquet

import caplab as cl
from caplab.support.errors import BadInput
from caplab.support.parquet import parquet_rows
from caplab.training.task_rows import open_task

TURNS = [{"role": "user", "content": "Say hot:"}, {"role": "assistant", "content": "hot."}]
CHATS = [{"messages": TURNS}, {"messages": TURNS[::-1] + TURNS}]


class Polars:
    """A table of another library, which offers its columns to Arrow; polars does so."""

    def __init__(self, rows):
        self.table = pa.Table.from_pylist(rows)

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)

    def __iter__(self):
        return iter(self.table.column_names)


def csv(rows, folder):
    """Write a CSV file, in which conversations are JSON."""
    cells = [
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items()}
        for row in rows
    ]
    pd.DataFrame(cells).to_csv(folder / "task.csv", index=False)
    return folder / "task.csv"


def as_parquet(rows, folder):
    """Write a Parquet file."""
    pd.DataFrame(rows).to_parquet(folder / "task.parquet")
    return folder / "task.parquet"


TABLES = {
    "pandas": lambda rows, _: pd.DataFrame(rows),
    "pandas with an odd index": lambda rows, _: pd.DataFrame(
        rows, index=[9, *range(len(rows) - 1)]
    ),
    "pandas with more columns": lambda rows, _: pd.DataFrame(rows).assign(
        id=1, mixed=[1, *["a"] * (len(rows) - 1)]
    ),
    "pandas read from Parquet": lambda rows, at: pd.read_parquet(as_parquet(rows, at)),
    "an Arrow table": lambda rows, _: pa.Table.from_pylist(rows),
    "an Arrow batch": lambda rows, _: pa.RecordBatch.from_pylist(rows),
    "an Arrow reader": lambda rows, _: pa.Table.from_pylist(rows).to_reader(),
    "polars": lambda rows, _: Polars(rows),
    "a Dataset": lambda rows, _: Dataset.from_list(rows),
    "a stream": lambda rows, _: IterableDataset.from_generator(lambda: iter(rows)),
    "a Parquet file": as_parquet,
    "the name of a Parquet file": lambda rows, at: str(as_parquet(rows, at)),
    "a CSV file": csv,
    "the name of a CSV file": lambda rows, at: str(csv(rows, at)),
    "a list": lambda rows, _: rows,
    "a generator": lambda rows, _: (row for row in rows),
}


@fault("a task in any kind of table", "its rows are trained on, and never its columns' names")
@pytest.mark.parametrize("rows", [TASK, CHATS], ids=["texts", "chats"])
@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_its_rows(kind, rows, tmp_path):
    train, test = open_task(TABLES[kind](rows, tmp_path))
    assert test is None
    assert [{key: row[key] for key in rows[0]} for row in train.to_list()] == rows


@fault("two tables as splits", "both are read")
@pytest.mark.parametrize(
    "splits",
    [
        dict,
        lambda **kinds: DatasetDict(
            {name: Dataset.from_pandas(table) for name, table in kinds.items()}
        ),
    ],
    ids=["dict", "DatasetDict"],
)
def test_splits_of_tables(splits):
    train, test = open_task(splits(train=pd.DataFrame(TASK), test=pd.DataFrame(TASK[:1])))
    assert (len(train), len(test)) == (len(TASK), 1)


@fault("a column of texts", "each is a text")
@pytest.mark.parametrize("kind", [pd.Series, pd.Index, np.array, tuple], ids=str)
def test_a_column_of_texts(kind):
    assert open_task(kind(["hot", "cold"]))[0]["text"] == ["hot", "cold"]


@fault("a table is trained on", "the model learns what its rows say, like a list of them")
def test_training_on_a_table(at):
    one = at.tune(task=pd.DataFrame(TASK))
    other = at.tune(task=TASK)
    assert one.final.loglikelihoods == other.final.loglikelihoods


REFUSED = {
    "other columns": (
        lambda _: pd.DataFrame({"question": ["a"], "reply": ["b"]}),
        "question, reply",
    ),
    "no rows": (lambda _: pd.DataFrame(columns=["text"]), "is empty"),
    "no columns": (lambda _: pd.DataFrame(), "is empty"),
    "columns by number": (lambda _: pd.DataFrame([["a", "b"]]), "the columns 0, 1"),
    "an empty cell": (lambda _: pd.DataFrame({"text": ["a", None]}), "row 1"),
    "a number": (lambda _: pd.DataFrame({"text": [1.5]}), "text must be a text, not 1.5"),
    "a column twice": (
        lambda _: pd.DataFrame([["a", "b"]], columns=["text", "text"]),
        "text",
    ),
    "groups of a table": (lambda _: pd.DataFrame(TASK).groupby("prompt"), "tuple"),
    "a matrix": (lambda _: np.zeros((2, 2)), "ndarray"),
    "an open file": (lambda at: csv(TASK, at).open(), "an open file"),
    "a CSV file with too many cells": (
        lambda at: write(at, "text\na,b\n"),
        "more cells than there are columns",
    ),
    "an empty CSV file": (lambda at: write(at, "text\n"), "is empty"),
    "a CSV file of other columns": (lambda at: write(at, "a,b\n1,2\n"), "row 0: it holds a, b"),
    "a CSV file with an empty cell": (lambda at: write(at, "prompt,completion\na,\n"), "row 0"),
    "a CSV file with half a conversation": (lambda at: write(at, 'messages\n"[{"\n'), "not JSON"),
    "a CSV file that is not there": (lambda at: at / "no.csv", "There is no task file"),
    "a Parquet file that is not there": (lambda at: at / "no.parquet", "There is no task file"),
    "a Parquet file of other bytes": (
        lambda at: write(at, "PAR1", "task.parquet"),
        "is not a Parquet file",
    ),
    "a stream that never ends": (lambda _: repeat({"text": "a"}), "never ends"),
    "a folder": (lambda at: at, "cannot be read"),
    "another kind of file": (lambda _: "task.xlsx", "a single text"),
}


def write(folder, text, name="task.csv"):
    """Write a file."""
    (folder / name).write_text(text)
    return folder / name


@fault("a table that cannot be trained on", "it is refused in words")
@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused(kind, tmp_path):
    make, words = REFUSED[kind]
    with pytest.raises(BadInput) as refused:
        open_task(make(tmp_path))
    assert words in str(refused.value)


# ---------------------------------------------------------------- small files, large content

MEGABYTE = "x" * 1_000_000


def repeated(rows, column="prompt"):
    """A table in which one large value is meant again and again."""
    numbers = pa.array(np.zeros(rows, np.int32))
    return pa.table({column: pa.DictionaryArray.from_arrays(numbers, pa.array([MEGABYTE]))})


def nested(rows):
    """The same inside a conversation."""
    content = repeated(rows)["prompt"].combine_chunks()
    turns = pa.StructArray.from_arrays([content], ["content"])
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32))
    return pa.table({"messages": pa.ListArray.from_arrays(offsets, turns)})


BOMBS = {
    "one text 100,000 times": (lambda: repeated(100_000), {}),
    "inside a conversation": (lambda: nested(50_000), {}),
    "without a mark": (lambda: repeated(20_000), {"store_schema": False}),
    "200 million zeros": (lambda: pa.table({"answer": np.zeros(200_000_000, np.int8)}), {}),
}


@fault("a Parquet file of some kilobytes that would unpack to gigabytes", "refused, unread")
@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("door", [cl.exam, open_task], ids=["exam", "task"])
def test_a_bomb_does_not_go_off(door, kind, tmp_path):
    make, settings = BOMBS[kind]
    parquet.write_table(make(), tmp_path / "bomb.parquet", compression="zstd", **settings)
    assert (tmp_path / "bomb.parquet").stat().st_size < 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput, match="would unpack to"):
        door(tmp_path / "bomb.parquet")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 500_000, "kilobytes"


@fault("a Parquet file in which texts repeat", "it is read like any other")
def test_repeating_texts_are_read(tmp_path):
    rows = [{"text": "a" * 100, "n": n, "more": [{"b": "c"}]} for n in range(5_000)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert parquet_rows(tmp_path / "a.parquet", "file") == rows


@fault("texts that begin alike, stored by what they add", "refused where they would not fit")
def test_values_that_share_a_beginning(tmp_path, monkeypatch):
    table = pa.table({"text": [MEGABYTE + str(n) for n in range(30)]})
    settings = {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}
    parquet.write_table(table, tmp_path / "a.parquet", compression="zstd", **settings)
    assert len(parquet_rows(tmp_path / "a.parquet", "file")) == 30
    monkeypatch.setattr("caplab.support.parquet._MOST_BYTES", 20_000_000)
    with pytest.raises(BadInput, match="would unpack to much more than it holds"):
        parquet_rows(tmp_path / "a.parquet", "file")
