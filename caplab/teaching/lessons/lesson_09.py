"""The checks of lesson 09: backward transfer, and the exams that a gate forgets."""

from collections.abc import Callable
from typing import Any

from caplab.teaching.checks import exercise, expect, filled

__all__ = ["check_09_1", "check_09_2"]


@exercise("09_1")
def check_09_1(backward_transfer: Callable[..., Any]) -> str:
    """Ask for the mean change of the earlier jobs, each from the state that had learned it."""
    expect(callable(backward_transfer), "Give the function itself, without parentheses.")
    found = filled(backward_transfer(_levels()))
    expect(
        isinstance(found, float | int) and not isinstance(found, bool),
        f"Return one number, the mean change, not a {type(found).__name__}.",
    )
    expect(abs(found - 0.625) > 1e-9, "The sign is turned: a loss is negative, a gain positive.")
    expect(abs(found + 1.25) > 1e-9, "That is the sum over the jobs. Ask for their mean.")
    expect(
        abs(found + 0.5 / 3 * 2.5) > 1e-9,
        "The last job counts too in yours: nothing came after it, so leave it out.",
    )
    expect(
        abs(found + 0.5) > 1e-9,
        "You compare with the state one row earlier. Compare with the state in which the job had "
        "just been learned.",
    )
    expect(
        abs(found - 0.25) > 1e-9,
        "You compare with the base. A job is lost from where it stood when it had been learned.",
    )
    expect(
        abs(found + 0.625) < 1e-9,
        f"In the test it is -.625 over the two earlier jobs; you found {found:.3f}.",
    )
    return "Backward transfer: negative where later jobs cost earlier ones."


def _levels() -> Any:
    import pandas as pd

    return pd.DataFrame(
        {
            "classics": [1.0, 0.75, 0.5, 0.25],
            "a": [0.0, 1.0, 0.75, 0.25],
            "b": [0.0, 0.25, 0.75, 0.25],
            "c": [0.25, 0.25, 0.25, 1.0],
        },
        index=["base", "after a", "after b", "after c"],
    )


@exercise("09_2")
def check_09_2(missing: Callable[..., Any]) -> str:
    """Ask for every job but the newest."""
    expect(callable(missing), "Give the function itself: `missing`, without parentheses.")
    found = filled(missing(["a", "b", "c"]))
    expect(isinstance(found, list), f"Return a list of names, not a {type(found).__name__}.")
    expect("classics" not in found, "The classics are asked already.")
    expect("c" not in found, "The newest job has its exam already: ask which ones have none.")
    expect(found == ["a", "b"], f"After a, b and c it forgets a and b; you returned {found}.")
    expect(missing(["a"]) == [], "After the first job nothing is forgotten yet: an empty list.")
    return "Every job that is still shipped needs its exam in the gate."
