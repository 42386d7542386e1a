"""Tables that several claims start from: a row for each seed, a column for each learning rate."""

import pandas as pd

from caplab.study.atlas import Atlas
from caplab.support.text import format_number

BUDGET = 0.05  # of the classics: a smaller loss counts as none
TASK = 0.9  # the task accuracy at which recipes are matched
BUDGET_WORDS, TASK_WORDS = format_number(BUDGET), format_number(TASK)


def plain_sweep(atlas: Atlas, method: str) -> Atlas:
    """Return the runs of one method that differ in their learning rate and seed alone."""
    return atlas.sweeps("method").select(method=method)


def by_seed_and_rate(atlas: Atlas, name: str) -> pd.DataFrame:
    """Lay out what was measured: a row for each seed, a column for each learning rate."""
    return atlas.runs.pivot_table(index="seed", columns="learning_rate", values=name)


def shared_differences(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return the differences in all columns that both layouts have."""
    both = one.columns.intersection(other.columns)
    return one[both] - other[both]
