"""Tables that several claims start from: a row for each seed, a column for each learning rate."""

import pandas as pd

from caplab.study.atlas import Atlas
from caplab.support.errors import BadInput
from caplab.support.text import format_number, format_rate

BUDGET = 0.05  # of the classics: a smaller loss counts as none
TASK = 0.9  # the task accuracy at which recipes are matched
LEARNED = 0.7  # a run that reached less has hardly learned the task
BUDGET_WORDS, TASK_WORDS = format_number(BUDGET), format_number(TASK)


def plain_sweep(atlas: Atlas, method: str) -> Atlas:
    """Return the runs of one method that differ in their learning rate and seed alone."""
    return atlas.sweeps("method").select(method=method)


def by_seed_and_rate(atlas: Atlas, name: str) -> pd.DataFrame:
    """Lay out what was measured: a row for each seed, a column for each learning rate."""
    return atlas.runs.pivot_table(index="seed", columns="learning_rate", values=name)


def learned_by_both(one: Atlas, other: Atlas) -> list[float]:
    """List the rates at which both have learned the task: elsewhere one has only just begun."""
    means = [by_seed_and_rate(part, "task_accuracy").mean() for part in (one, other)]
    rates = [
        float(rate)
        for rate in means[0].index.intersection(means[1].index)
        if min(mean[rate] for mean in means) >= LEARNED
    ]
    if not rates:
        raise BadInput(f"There is no rate at which both reach task {format_number(LEARNED)}.")
    return rates


def at_each_rate(levels: pd.DataFrame) -> pd.DataFrame:
    """Name the columns of a layout by rates as conditions of a claim."""
    return levels.rename(columns=lambda rate: f"at {format_rate(rate)}")


def shared_differences(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return the differences in all columns that both layouts have."""
    both = one.columns.intersection(other.columns)
    return one[both] - other[both]
