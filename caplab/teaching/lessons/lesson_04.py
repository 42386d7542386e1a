"""The checks of lesson 04: a mixture with an exact share, and the smallest dose that holds."""

from collections.abc import Callable
from typing import Any

from caplab.teaching.checks import exercise, expect, filled

__all__ = ["check_04_1", "check_04_2"]


@exercise("04_1")
def check_04_1(mix: Callable[..., Any]) -> str:
    """Ask for a list of `total` rows in random order, an exact share of them old."""
    expect(callable(mix), "Give the function itself: `mix`, without parentheses after it.")
    new, old = [f"new {i}" for i in range(400)], [f"old {i}" for i in range(400)]
    rows = filled(mix(new, old, 0.25, 200))
    expect(isinstance(rows, list), f"Return a list of rows, not a {type(rows).__name__}.")
    _expect_counts(rows)
    expect(len(set(rows)) == 200, "Some rows come twice although there are enough: do not repeat.")
    fifty = sum(row.startswith("old") for row in rows[:100])
    expect(10 < fifty < 40, "Old and new rows stand apart: shuffle them, or batches are one-sided.")
    expect(len(mix(new, old, 0.0, 10)) == 10, "With a share of 0 all `total` rows are new.")
    return "Asked for and realised are now the same number."


def _expect_counts(rows: list[str]) -> None:
    """Recognise a share that was taken of the wrong total."""
    replayed = sum(row.startswith("old") for row in rows)
    fresh = len(rows) - replayed
    expect(
        replayed != 100,
        "The share was taken of all new rows. Take it of the `total` rows that you return.",
    )
    expect(
        not (fresh == 200 and replayed),
        "The old rows came on top of `total` new ones. They must take the place of new rows.",
    )
    expect(len(rows) == 200, f"For a total of 200 you returned {len(rows)} rows.")
    expect(replayed != 0, "No old row is in the mixture. A share is a part, such as .25 for 25 %.")
    expect(replayed != 150, "Old and new are swapped: `share` is the part that is old.")
    expect(replayed == 50, f"A share of .25 of 200 rows is 50 old ones; you have {replayed}.")


@exercise("04_2")
def check_04_2(smallest_dose: Callable[[Any, float, float], Any]) -> str:
    """Ask for the smallest dose whose whole interval is within the budget."""
    expect(callable(smallest_dose), "Give the function itself: `smallest_dose`, no parentheses.")
    doses = _doses()
    found = filled(smallest_dose(doses, 1.0, 0.0625))
    expect(not hasattr(found, "__len__"), f"Return one share, not a {type(found).__name__}.")
    expect(found not in (2, 3), "This is a row's number. Return the `replay` of that row.")
    expect(found != 0.05, "It holds on average, but not for certain: use the *lower end*.")
    expect(found != 0.5, "It holds, but it is not the smallest dose that does.")
    expect(found != 0, "That is the dose with the largest loss. Keep those *within* the budget.")
    expect(found != 0.25, "The dose before it holds too: a loss of exactly the budget counts.")
    expect(found == 0.1, f"Right would be .1; you found {found!r}.")
    expect(
        smallest_dose(doses, 1.125, 0.0625) is None,
        "If no dose holds, return `None`. (And compare with `start`, not with 1.)",
    )
    return "The smallest dose that certainly holds. A larger one would cost task accuracy."


def _doses() -> Any:
    import pandas as pd

    table = {
        "replay": [0.0, 0.05, 0.1, 0.25, 0.5],
        "classics_accuracy": [0.5, 0.95, 0.96, 0.97, 0.98],
    }
    return pd.DataFrame(table | {"classics_accuracy_low": [0.25, 0.875, 0.9375, 0.95, 0.96875]})
