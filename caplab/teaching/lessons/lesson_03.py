"""The checks of lesson 03: what is left at a level of the task, and the best safe rate."""

from collections.abc import Callable
from typing import Any

from caplab.teaching.checks import exercise, expect, filled

__all__ = ["check_03_1", "check_03_2"]


def _table(**columns: list[float]) -> Any:
    import pandas as pd

    return pd.DataFrame(columns)


@exercise("03_1")
def check_03_1(left_at: Callable[[Any, float], Any]) -> str:
    """Ask for the classics at the first look that reaches the level."""
    expect(callable(left_at), "Give the function itself: `left_at`, without parentheses after it.")
    # The task falls back below the level once, and ends exactly on another.
    curve = _table(
        step=[0, 10, 20, 30],
        task_accuracy=[0.3, 0.8, 0.6, 0.9],
        classics_accuracy=[1.0, 0.7, 0.8, 0.6],
    )
    found = filled(left_at(curve, 0.7))
    expect(
        isinstance(found, int | float),
        f"Return one number, not a {type(found).__name__}: what is left of the classics.",
    )
    expect(found != 10, "This is the step. What is left of the classics at that look?")
    expect(found != 0.8, "This is the task. What is left of the classics at that look?")
    expect(found != 0.6, "This is the last look. Take the *first* one that reaches the level.")
    expect(found == 0.7, f"At level .7 the first look has .7 of the classics; you found {found}.")
    expect(left_at(curve, 0.9) == 0.6, "A task of exactly the level counts as reached: use `>=`.")
    expect(left_at(curve, 0.95) is None, "A level that is never reached has no answer: `None`.")
    return "This is a fair comparison: both runs are asked when they have learned the same."


@exercise("03_2")
def check_03_2(best_rate: Callable[[Any, float, float], Any]) -> str:
    """Ask for the rate that learns most among those within the budget."""
    expect(callable(best_rate), "Give the function itself: `best_rate`, without parentheses.")
    rates, kept = [1e-4, 3e-4, 1e-3, 3e-3], [0.98, 0.97, 0.96, 0.6]
    table = _table(learning_rate=rates, task_accuracy=[0.3, 0.9, 0.7, 1.0], classics_accuracy=kept)
    found = filled(best_rate(table, 1.0, 0.05))
    expect(
        not hasattr(found, "__len__"),
        f"Return one rate, a number. Your function returned {type(found).__name__}.",
    )
    expect(found != 1, "This is a row's number. Return the `learning_rate` of that row.")
    expect(found != 0.9, "This is the task's accuracy. Return the `learning_rate` of that row.")
    expect(found != 3e-3, "It learns most, but look at its classics: they are beyond the budget.")
    expect(found != 1e-4, "It keeps most, but it has hardly learned. Look for the best task.")
    expect(found != 1e-3, "The highest safe rate is not always the one that learned most.")
    expect(found == 3e-4, f"Right would be 3e-4; you found {found!r}.")
    exact = best_rate(
        _table(learning_rate=[1e-3], task_accuracy=[0.9], classics_accuracy=[0.75]), 1.0, 0.25
    )
    expect(exact == 1e-3, "A loss of exactly the budget is within it: use `<=`.")
    expect(best_rate(table, 1.1, 0.05) is None, "If no rate is safe, return `None`.")
    return "It learns as much as possible at a price that was agreed on before."
