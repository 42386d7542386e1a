"""The checks of lesson 00: asking a model, and counting an exam."""

from typing import Any

from caplab.questions.exam import Exam, Question
from caplab.teaching.checks import exercise, expect, filled

__all__ = ["check_00_1", "check_00_2"]


@exercise("00_1")
def check_00_1(answer: Any) -> str:
    """Ask for the model's own answer to a new question."""
    expect(
        isinstance(answer, str),
        "`answer` should be what the model said: the text that `base.ask(...)` returns.",
    )
    expect(bool(answer.strip()), "An empty text is no answer. What did you ask?")
    expect(
        not answer.strip().endswith("?"),
        "This is the question. Hand it to the model: `base.ask(...)` returns its answer.",
    )
    expect("Paris" not in answer, "Paris belongs to the question above. Ask for Japan now.")
    if "Tokyo" in answer:
        return "Tokyo. The model has this fact in its weights."
    return f"You asked, and the model said {answer!r}. The capital is Tokyo: it does not know that."


@exercise("00_2")
def check_00_2(sizes: Any) -> str:
    """Try the function on a small exam, and recognise other counts."""
    expect(callable(sizes), "Give the function itself: `sizes`, without brackets after it.")
    names = ("capitals", "sounds", "sounds")
    asked = ("What?", "Who barks?", "Who sings?")
    questions = tuple(
        Question(name, prompt, ("yes", "no"), 0) for name, prompt in zip(names, asked, strict=True)
    )
    found = filled(sizes(Exam(questions)))
    expect(found != 3, "That is the whole exam. Count each capability on its own.")
    expect(
        isinstance(found, dict),
        "Return a dictionary, so that each number has its name: `{name: number, ...}`.",
    )
    expect(
        set(found) == {"capitals", "sounds"},
        "The keys should be the names in `exam.capabilities`, each once.",
    )
    expect(
        all(isinstance(number, int) for number in found.values()),
        "You return the parts of the exam. `len` counts the questions in a part.",
    )
    expect(
        found == {"capitals": 1, "sounds": 2},
        "The names are right, the numbers are not. Count `exam.subset(name)`, not the whole exam.",
    )
    return "Now you know how much each row of a scorecard rests on."
