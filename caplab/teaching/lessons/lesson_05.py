"""The checks of lesson 05: the rule of a guard, and a guard at work."""

from collections.abc import Callable
from typing import Any

from caplab.teaching.checks import exercise, expect, filled

__all__ = ["check_05_1", "check_05_2"]


@exercise("05_1")
def check_05_1(crossing: Callable[..., Any]) -> str:
    """Ask for the first of enough looks in a row beyond the budget."""
    expect(callable(crossing), "Give the function itself: `crossing`, without parentheses.")
    found = filled(crossing([1.0, 0.5, 1.0, 1.0, 0.5, 0.5, 0.5], 0.25))
    expect(
        isinstance(found, int) and not isinstance(found, bool),
        f"Return the number of a look, not a {type(found).__name__}.",
    )
    expect(found != 1, "Look 1 was a dip: the next look was sound again. Ask for looks in a row.")
    expect(found != 5, "At that look the guard is sure. The crossing *began* one look before.")
    expect(found != 6, "You go on counting after the crossing: return at the first one.")
    expect(found == 4, f"In the test the crossing begins at look 4; you found {found}.")
    slow = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    expect(
        crossing(slow, 0.25) == 3,
        "A slow loss counts as well: compare with the base, not with the look before.",
    )
    expect(crossing([1.0, 0.75, 0.75], 0.25) is None, "A loss of exactly the budget is allowed.")
    expect(crossing([1.0, 0.5, 0.5], 0.25, 2) is None, "`patience` 2 needs three looks in a row.")
    return "This is the guard's rule, apart from one thing: it also asks how sure it can be."


@exercise("05_2")
def check_05_2(guard: Any) -> str:
    """Ask for a guard with the wanted settings that has watched a training."""
    from caplab.watching.guard import RegressionGuard

    expect(
        isinstance(guard, RegressionGuard),
        f"Give the guard itself, not a {type(guard).__name__}: my_guard = cl.RegressionGuard(...).",
    )
    expect(guard.budget == 0.05, f"The budget is {guard.budget}; a drop of 5 % was asked for.")
    expect(guard.every == 5, f"It looks every {guard.every} steps; 5 was asked for.")
    expect(guard.action != "stop", "`stop` leaves the damaged weights. Which action restores them?")
    expect(guard.action == "rollback", f"`{guard.action}` does not change the weights.")
    expect(
        bool(guard.checks),
        "This guard has seen no training: give it to a trainer in `callbacks`, and call `train()`.",
    )
    looks = len(guard.checks)
    expect(looks > 1, "It has looked once, at the base alone. Let the training run for 20 steps.")
    return f"It has looked {looks} times. {_end(guard)}"


def _end(guard: Any) -> str:
    """Say what the guard saw and did."""
    if guard.crossed_at is None:
        return "It saw no crossing."
    return f"It saw a crossing at step {guard.crossed_at} and restored earlier weights."
