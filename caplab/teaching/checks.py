"""What the lessons ask: quizzes and hints in `lesson_NN.toml`, checks in `lesson_NN.py`.

A check is a function that takes the learner's answer and returns what to say when it is right:

    @exercise("01_1")
    def check_01_1(answer: Any) -> str:
        expect(isinstance(answer, int), "Give a whole number: how many questions are right.")
        expect(answer == 3, "Count again: the answers stand in `card.correct`.")
        return "Three of three."

Its first `expect` that fails is what the learner reads. The order is the order of the diagnosis.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from caplab.teaching.lessons import lesson

__all__ = ["Blank", "ExerciseCheck", "Wrong", "checks", "exercise", "expect", "filled"]

ExerciseCheck = Callable[[Any], str]
_CHECKS: dict[str, ExerciseCheck] = {}


class Blank(Exception):  # noqa: N818 - it is no error: the learner has not begun
    """Tell that an exercise is still empty."""


class Wrong(Exception):  # noqa: N818 - it is no error: it carries a diagnosis
    """Tell what is wrong with an answer."""


def exercise(name: str) -> Callable[[ExerciseCheck], ExerciseCheck]:
    """Register a function as the check of an exercise: `01_2` is the second of lesson 01."""

    def register(check: ExerciseCheck) -> ExerciseCheck:
        _CHECKS[name] = check
        return check

    return register


def expect(holds: bool, otherwise: str) -> None:
    """End a check with a diagnosis unless something holds."""
    if not holds:
        raise Wrong(otherwise)


def filled(answer: Any) -> Any:
    """Return what was given; end the check with "not yet" where there is nothing.

    A gap holds `...`, and a function with a gap returns None.
    """
    if answer is None or answer is Ellipsis:
        raise Blank
    return answer


def checks(number: str) -> dict[str, ExerciseCheck]:
    """Return a lesson's checks by exercise."""
    if lesson(number).hints:
        import_module(f"caplab.teaching.lessons.lesson_{number}")
    return {name: check for name, check in _CHECKS.items() if name.startswith(f"{number}_")}
