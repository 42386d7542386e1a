"""Write and register the checks of exercises, one module `lessons/lesson_NN.py` per lesson.

A check is a function that takes the learner's answer and returns what to say when it is right:

    @exercise("01_1")
    def check_01_1(answer: Any) -> str:
        expect(isinstance(answer, int), "Give a whole number: how many questions are right.")
        expect(answer == 3, "Count again: the answers stand in `card.correct`.")
        return "Three of three."

The learner reads the message of the first `expect` that fails, so their order matters.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from caplab.teaching.lessons import lesson

__all__ = ["Blank", "ExerciseCheck", "Wrong", "checks", "exercise", "expect", "filled"]

ExerciseCheck = Callable[[Any], str]
_CHECKS: dict[str, ExerciseCheck] = {}


class Blank(Exception):  # noqa: N818 - not an error: the learner has not begun
    """Signal that an exercise is still empty."""


class Wrong(Exception):  # noqa: N818 - not an error: it carries a diagnosis
    """Carry what is wrong with an answer."""


def exercise(name: str) -> Callable[[ExerciseCheck], ExerciseCheck]:
    """Register a function as the check of an exercise: `01_2` is the second of lesson 01."""

    def register(check: ExerciseCheck) -> ExerciseCheck:
        _CHECKS[name] = check
        return check

    return register


def expect(holds: bool, otherwise: str) -> None:
    """End a check with a diagnosis unless a condition holds."""
    if not holds:
        raise Wrong(otherwise)


def filled(answer: Any) -> Any:
    """Return the answer; end the check with "not yet" if it is still blank.

    An unfilled gap holds `...`, and a function with an unfilled gap returns None.
    """
    if answer is None or answer is Ellipsis:
        raise Blank
    return answer


def checks(number: str) -> dict[str, ExerciseCheck]:
    """Load a lesson's checks, by exercise."""
    if lesson(number).hints:
        import_module(f"caplab.teaching.lessons.lesson_{number}")
    return {name: check for name, check in _CHECKS.items() if name.startswith(f"{number}_")}
