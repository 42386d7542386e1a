"""Compare recipes fairly: what each keeps where it has learned the task equally well."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from caplab.study.seeds import bounded, interval
from caplab.support.errors import BadInput, as_number, short_repr

__all__ = ["check_task"]

Place = tuple[float, float]  # task accuracy, classics accuracy
Paths = dict[Any, dict[int, list[Place]]]  # by group and seed, from the base on


def check_task(task: float) -> None:
    """Refuse a level that is no accuracy."""
    if not 0 <= as_number(task) <= 1:
        raise BadInput(
            f"task is {short_repr(task)}: give a task accuracy from 0 to 1, such as 0.9."
        )


def matched(paths: Paths, task: float, by: str) -> pd.DataFrame:
    """Pool the seeds of what each group keeps at a task accuracy."""
    rows = []
    for group, values in kept_at(paths, task).items():
        mean, low, high = interval(values) if values.notna().all() else [math.nan] * 3
        row = {by: group, "task_accuracy": task, "classics_accuracy": mean}
        row |= bounded("classics_accuracy", low, high)
        rows.append(row | {"n": int(values.notna().sum()), "seeds": len(values)})
    return pd.DataFrame(rows)


def kept_at(paths: Paths, task: float) -> pd.DataFrame:
    """Return what is kept at a task accuracy: a row for each seed, a column for each group."""
    kept = {
        group: {seed: _kept(path, task) for seed, path in by_seed.items()}
        for group, by_seed in paths.items()
    }
    return pd.DataFrame(kept).sort_index()


def _kept(path: Sequence[Place], task: float) -> float:
    """Return the most of the classics that a path keeps where it passes a task accuracy."""
    kept = []
    for (x0, y0), (x1, y1) in pairwise(path):
        if min(x0, x1) <= task <= max(x0, x1):
            # A straight line between two runs; if both learned equally much, the better one.
            kept.append(max(y0, y1) if x0 == x1 else y0 + (y1 - y0) * (task - x0) / (x1 - x0))
    return max(kept, default=math.nan)
