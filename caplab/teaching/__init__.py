"""What the lessons ask: quizzes and hints in `lesson_NN.toml`, checks in `lesson_NN.py`.

A check is a function that takes the learner's answer and returns what to say when it is right:

    @exercise("01_1")
    def check_01_1(answer: Any) -> str:
        expect(isinstance(answer, int), "Give a whole number: how many questions are right.")
        expect(answer == 3, "Count again: the answers stand in `card.correct`.")
        return "Three of three."

Its first `expect` that fails is what the learner reads. The order is the order of the diagnosis.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any

from caplab.errors import BadInput, did_you_mean, shown

__all__ = [
    "Blank",
    "Check",
    "Choice",
    "Lesson",
    "Question",
    "Wrong",
    "checks",
    "exercise",
    "expect",
    "filled",
    "lesson",
    "lessons",
]

Check = Callable[[Any], str]
_CHECKS: dict[str, Check] = {}


class Blank(Exception):  # noqa: N818 - it is no error: the learner has not begun
    """Tell that an exercise is still empty."""


class Wrong(Exception):  # noqa: N818 - it is no error: it carries a diagnosis
    """Tell what is wrong with an answer."""


def exercise(name: str) -> Callable[[Check], Check]:
    """Register a function as the check of an exercise: `01_2` is the second of lesson 01."""

    def register(check: Check) -> Check:
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


# ---------------------------------------------------------------- what a lesson brings


@dataclass(frozen=True)
class Choice:
    """One answer that a quiz offers, and what to say to whoever takes it."""

    text: str
    feedback: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """One question of a quiz."""

    question: str
    hint: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Lesson:
    """The quiz of a lesson, and the hints for each of its exercises."""

    quiz: tuple[Question, ...]
    hints: dict[str, tuple[str, ...]]


def lessons() -> list[str]:
    """Name the lessons that ask something: `01`, `02` and so on."""
    names = (entry.name for entry in files(__package__).iterdir())
    return sorted(name[7:9] for name in names if name.endswith(".toml"))


def lesson(number: str) -> Lesson:
    """Read what a lesson asks."""
    known = lessons()
    if number not in known:
        hint = did_you_mean(number, known) or f" There are: {', '.join(known)}."
        raise BadInput(f"No lesson {shown(number)} asks anything.{hint}")
    return _read(number)


@cache
def _read(number: str) -> Lesson:
    found = tomllib.loads((files(__package__) / f"lesson_{number}.toml").read_text("utf-8"))
    quiz = tuple(
        Question(row["question"], row["hint"], tuple(Choice(**given) for given in row["choices"]))
        for row in found.get("quiz", [])
    )
    hints = {f"{number}_{name}": tuple(texts) for name, texts in found.get("hints", {}).items()}
    return Lesson(quiz, hints)


def checks(number: str) -> dict[str, Check]:
    """Return a lesson's checks by exercise."""
    if lesson(number).hints:
        import_module(f"{__package__}.lesson_{number}")
    return {name: check for name, check in _CHECKS.items() if name.startswith(f"{number}_")}
