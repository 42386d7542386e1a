"""Keep the tables of an atlas in one Parquet file, and read files of every format so far.

A row of the file is a point. The columns of its run are repeated on each, with `end_` before their
names: compressed, the repetition takes no room.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from caplab.study.atlas_rows import FIELDS, FULL_NAMES, full_names, with_all_fields
from caplab.support.errors import BadInput, explaining_failure
from caplab.support.files import as_path, draft_for

_END, _META = "end_", b"caplab"
_FORMAT = 2  # 1: the columns of runs were called task, classics, base_task and base_classics


def write_atlas(path: str | os.PathLike[str], tables: Mapping[str, Any]) -> Path:
    """Write `points`, `runs`, `about` and `failed` into one file, whole or not at all."""
    from pyarrow import parquet

    target, checked = as_path(path), {"compression": "zstd", "write_page_checksum": True}
    with explaining_failure(f"{target} cannot be written"), draft_for(target) as draft:
        parquet.write_table(_as_one_table(tables), draft, **checked)
    return target


def is_atlas(path: Path) -> bool:
    """Tell whether a file is an atlas, by its metadata."""
    from pyarrow import parquet

    try:
        return _META in (parquet.read_metadata(path).metadata or {})
    except Exception:  # of whatever kind: it is something else
        return False


def _as_one_table(tables: Mapping[str, Any]) -> Any:
    """Join points and runs; what is no table goes into the metadata, as JSON."""
    import pyarrow

    ends = tables["runs"].drop(columns=FIELDS).set_index("hash").add_prefix(_END)
    frame = tables["points"].join(ends, on="hash")
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    extra = {"format": _FORMAT, "about": tables["about"]}
    extra["failed"] = tables["failed"].to_dict("records")
    text = json.dumps(extra, default=lambda number: number.item())  # JSON has no numbers of numpy
    return table.replace_schema_metadata(table.schema.metadata | {_META: text.encode()})


def read_atlas(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `write_atlas` wrote, now or in an earlier version."""
    from pyarrow import parquet

    file = as_path(path)
    if not file.is_file():
        raise BadInput(f"There is no atlas {os.fspath(path)!r}.")
    with explaining_failure(f"{os.fspath(path)!r} is not an atlas"):
        table = parquet.read_table(file, page_checksum_verification=True)
        if _META not in (table.schema.metadata or {}):
            raise ValueError("no sweep of the lab wrote it")
        extra = json.loads(table.schema.metadata[_META])
        if extra.get("format", 1) > _FORMAT:  # the first format had no number
            raise BadInput(
                f"{os.fspath(path)!r} is an atlas of format {extra['format']}, and this version "
                f"of caplab reads {_FORMAT} and earlier: install a newer one."
            )
        return _as_tables(table.to_pandas(), extra)


def _as_tables(frame: pd.DataFrame, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Take apart what `_as_one_table` joined, and bring the names up to date."""
    ends = [name for name in frame.columns if name.startswith(_END)]
    frame = with_all_fields(frame)
    runs = frame.drop_duplicates("hash")[["hash", *FIELDS, *ends]].reset_index(drop=True)
    runs = runs.rename(columns=lambda name: name.removeprefix(_END))
    about = extra["about"]
    if extra.get("format", 1) == 1:
        base = {f"base_{old}": f"base_{new}" for old, new in FULL_NAMES.items()}
        runs = runs.rename(columns=FULL_NAMES | base)
        about |= {"base": full_names(about["base"])} if "base" in about else {}
    failed = pd.DataFrame(extra["failed"], columns=["hash", *FIELDS, "reason"])
    return {"points": frame.drop(columns=ends), "runs": runs, "about": about, "failed": failed}
