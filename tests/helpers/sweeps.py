"""Small sweeps: recipes that take a moment, and how two atlases or two stores compare."""

from pathlib import Path

import pandas as pd

from caplab.study.grid import grid

QUICK = grid(learning_rate=[1e-3, 1e-2], steps=2, batch_size=2, seed=range(2))
TWELVE = grid(learning_rate=[1e-3, 1e-2], steps=2, batch_size=2, seed=range(6))


def same_runs(one, other):
    """Compare two atlases bit for bit, apart from the time that runs took."""
    for table in ("runs", "points"):
        tables = [
            getattr(atlas, table).drop(columns=["seconds", "elapsed"], errors="ignore")
            for atlas in (one, other)
        ]
        pd.testing.assert_frame_equal(*tables)
    return True


def kept_runs(store):
    """Return the files of a store, with the times at which they were written."""
    return {path: path.stat().st_mtime_ns for path in Path(store).rglob("*.json")}
