"""Read the rows of a Parquet file, but never more than fits: a small file can hold gigabytes."""

import os
from collections.abc import Iterator
from typing import Any

from caplab.support.errors import BadInput, explaining_failure
from caplab.support.files import as_path

__all__ = ["parquet_rows"]

_MOST_BYTES = 2**30  # of all rows, decoded
_MOST_VALUES = 100_000_000
_AT_ONCE = 1024  # rows
# Values that repeat the beginning of the one before can be stored in a few bytes each.
_PREFIXED = "DELTA_BYTE_ARRAY"


def parquet_rows(path: str | os.PathLike[str], kind: str) -> list[dict[str, Any]]:
    """Read all rows; refuse a file that would decode to more than a gigabyte."""
    from pyarrow import parquet

    found = as_path(path)
    if not found.is_file():
        raise BadInput(f"There is no {kind} {path}.")
    with explaining_failure(f"{path} is not a Parquet file"):
        columns = _columns(parquet.ParquetFile(found).metadata)
        stored = sum(column.total_uncompressed_size for column in columns)
        values = sum(column.num_values for column in columns)
        if stored > _MOST_BYTES or values > _MOST_VALUES:
            raise _too_large(path, f"{stored / 2**30:.1f} GB in {values:,} values")
        # Texts stay numbers of the few that are different, until it is known what they come to.
        texts = [column for column in columns if "BYTE_ARRAY" in column.physical_type]
        prefixed = [column for column in texts if _PREFIXED in column.encodings]
        plain = {column.path_in_schema for column in texts if column not in prefixed}
        file = parquet.ParquetFile(found, read_dictionary=sorted(plain))
        at_once = max(1, min(_AT_ONCE, 2**28 // max(1, stored))) if prefixed else _AT_ONCE
        batches = list(_bounded(file, path, at_once))
        return [row for batch in batches for row in batch.to_pylist()]


def _columns(about: Any) -> list[Any]:
    """List what a file says of each column of each group of rows."""
    groups = [about.row_group(n) for n in range(about.num_row_groups)]
    return [group.column(n) for group in groups for n in range(group.num_columns)]


def _bounded(file: Any, path: Any, at_once: int) -> Iterator[Any]:
    """Read some rows at a time, as long as all that was read is not too large."""
    decoded = 0
    for batch in file.iter_batches(at_once):
        decoded += sum(map(_decoded_size, batch.columns))
        if decoded > _MOST_BYTES:
            raise _too_large(path, "much more than it holds")
        yield batch


def _decoded_size(values: Any) -> int:
    """Count the bytes that a column takes once each value is written out."""
    from pyarrow import compute, types

    kind = values.type
    if types.is_dictionary(kind):
        lengths = compute.binary_length(values.dictionary)
        return int(compute.sum(lengths.take(values.indices)).as_py() or 0)
    if types.is_struct(kind):
        return sum(map(_decoded_size, values.flatten()))
    if types.is_list(kind) or types.is_large_list(kind):
        return int(values.nbytes) // 8 + _decoded_size(values.flatten())
    return int(values.nbytes)


def _too_large(path: Any, size: str) -> BadInput:
    return BadInput(
        f"{path} would unpack to {size}: more than {_MOST_BYTES >> 30} GB, or "
        f"{_MOST_VALUES:,} values, are never read. Split it."
    )
