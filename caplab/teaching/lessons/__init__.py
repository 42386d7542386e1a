"""Read what a lesson asks: its quiz and its hints, from `lesson_NN.toml`."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from caplab.support.errors import BadInput, did_you_mean, short_repr

__all__ = ["Choice", "Lesson", "QuizQuestion", "lesson", "lessons"]


@dataclass(frozen=True)
class Choice:
    """One answer that a quiz offers, and the feedback on it."""

    text: str
    feedback: str
    right: bool = False


@dataclass(frozen=True)
class QuizQuestion:
    """One question of a quiz."""

    question: str
    hint: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Lesson:
    """The quiz of a lesson, the hints for each of its exercises, and its title."""

    quiz: tuple[QuizQuestion, ...]
    hints: dict[str, tuple[str, ...]]
    title: str = ""


def lessons() -> list[str]:
    """List the lessons with a quiz or exercises: `01`, `02` and so on."""
    names = (entry.name for entry in files(__package__).iterdir())
    return sorted(name[7:9] for name in names if name.endswith(".toml"))


def lesson(number: str) -> Lesson:
    """Read what a lesson asks."""
    known = lessons()
    if number not in known:
        hint = did_you_mean(number, known) or f" There are: {', '.join(known)}."
        raise BadInput(f"There is no lesson {short_repr(number)} with a quiz.{hint}")
    return _read(number)


@cache
def _read(number: str) -> Lesson:
    found = tomllib.loads((files(__package__) / f"lesson_{number}.toml").read_text("utf-8"))
    quiz = tuple(
        QuizQuestion(
            row["question"], row["hint"], tuple(Choice(**given) for given in row["choices"])
        )
        for row in found.get("quiz", [])
    )
    hints = {f"{number}_{name}": tuple(texts) for name, texts in found.get("hints", {}).items()}
    return Lesson(quiz, hints, found.get("title", ""))
