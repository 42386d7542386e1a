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
Paths = dict[Any, dict[int, list[Place]]]  # by group and seed


def check_task(task: float) -> None:
    """Refuse what is no accuracy to be matched at."""
    if not 0 <= as_number(task) <= 1:
        raise BadInput(
            f"task is {short_repr(task)}: give a task accuracy from 0 to 1, such as 0.9."
        )


def matched(ways: Paths, task: float, by: str) -> pd.DataFrame:
    """Pool the seeds of what each group keeps at a task accuracy."""
    rows = []
    for group, values in kept_at(ways, task).items():
        mean, low, high = interval(values) if values.notna().all() else [math.nan] * 3
        row = {by: group, "task": task, "classics": mean, **bounded("classics", low, high)}
        rows.append(row | {"n": int(values.notna().sum()), "seeds": len(values)})
    return pd.DataFrame(rows)


def kept_at(ways: Paths, task: float) -> pd.DataFrame:
    kept = {group: {s: _kept(way, task) for s, way in of.items()} for group, of in ways.items()}
    return pd.DataFrame(kept).sort_index()


def _kept(way: Sequence[Place], target: float) -> float:
    """Return the most of the classics that a way keeps where it passes a task accuracy."""
    kept = []
    for (x0, y0), (x1, y1) in pairwise(way):
        if min(x0, x1) <= target <= max(x0, x1):
            kept.append(max(y0, y1) if x0 == x1 else y0 + (y1 - y0) * (target - x0) / (x1 - x0))
    return max(kept, default=math.nan)
