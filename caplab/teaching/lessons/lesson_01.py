"""The checks of lesson 01: an exam, leaks into it, and its size."""

from typing import Any

from caplab.measuring.power import items_needed
from caplab.questions.exam import Exam, Question
from caplab.teaching.checks import exercise, expect, filled

__all__ = ["check_01_1", "check_01_2", "check_01_3"]


@exercise("01_1")
def check_01_1(exam: Any) -> str:
    """Ask for an exam of four different questions about two capabilities."""
    expect(
        not isinstance(exam, Question | list | tuple),
        "These are questions, but no exam yet. Put them into one: `cl.Exam([...], name='mine')`.",
    )
    expect(isinstance(exam, Exam), "`mine` should be an exam: `cl.Exam([question, ...])`.")
    asked = {question.prompt for question in exam.questions}
    expect(len(asked) == len(exam), "Two of your questions have the same prompt. Ask it once.")
    expect(len(exam) >= 4, f"A good start. You have {len(exam)} so far; four are asked for.")
    expect(
        len(exam.capabilities) >= 2,
        f"All your questions are about {exam.capabilities[0]}. Add another capability: damage "
        "is rarely spread evenly.",
    )
    return (
        f"An exam of {len(exam)} questions about {len(exam.capabilities)} capabilities. It is a "
        "beginning: look at how long its intervals are when you score it."
    )


_TEXTS = ["Customer: How do I\nreset my PHONE?\nAgent: Click here.", "Question: What is 3+4?"]
_TRIES = (  # a prompt, whether it is a leak, and what to say if that is not recognised
    (
        "Question: What is 9+9?",
        False,
        "You report a question that is in no training text. Keep only those that occur in one.",
    ),
    ("Question: What is 3+4?", True, "A prompt that was copied exactly was missed."),
    (
        "Question: What is 3+4? And then add 5.\nAnswer:",
        False,
        "You report a long prompt because it contains a short text. Reverse the test: does the "
        "text contain the prompt?",
    ),
    (
        "customer:  how do I reset my phone?\nAgent:",
        True,
        "Exact copies are found, but one with other capitals and spaces was missed. Make both "
        "sides the same in case and spaces before you compare.",
    ),
)


def _exam(*prompts: str) -> Exam:
    return Exam(tuple(Question("any", prompt, ("yes", "no"), 0) for prompt in prompts))


@exercise("01_2")
def check_01_2(leaks: Any) -> str:
    """Try the function on exact copies, careless copies and clean prompts."""
    expect(callable(leaks), "Give the function itself: `leaks`, without brackets after it.")
    found = filled(leaks(_exam(*(prompt for prompt, *_ in _TRIES)), _TEXTS))
    expect(
        isinstance(found, list | tuple) and all(isinstance(one, Question) for one in found),
        f"Return a list of the leaked questions, not {_kind(found)}: then one can read them.",
    )
    for prompt, leaked, slip in _TRIES:
        expect(bool(leaks(_exam(prompt), _TEXTS)) == leaked, slip)
    return "It finds exact and careless copies, and leaves the clean ones. Run it on your own data."


def _kind(found: Any) -> str:
    """Describe what was returned instead of questions."""
    if isinstance(found, bool | int):
        return "a number"
    return "their prompts" if found and isinstance(next(iter(found)), str) else "something else"


@exercise("01_3")
def check_01_3(planned: Any) -> str:
    """Recognise which part of the plan was left out."""
    plan: dict[str, Any] = {"drop": 0.15, "power": 0.9, "budget": 0.05, "capabilities": 2}
    expect(
        isinstance(planned, int),
        "`cl.items_needed` returns a whole number of questions: store that one in `planned`.",
    )
    slips: dict[str, tuple[Any, str]] = {
        "capabilities": (1, "You planned for one capability. Two are judged: `capabilities=2`."),
        "power": (0.8, "That is enough in four of five cases. Nine of ten is `power=0.9`."),
        "budget": (0.02, "You planned with a budget of .02. Here it is .05: `budget=0.05`."),
    }
    for name, (value, slip) in slips.items():
        expect(planned != items_needed(**(plan | {name: value})), slip)
    needed = items_needed(**plan)
    expect(planned != 2 * needed, "That is the whole exam. How many does *each* capability need?")
    expect(
        planned == needed,
        "Not this number. The true drop comes first; then `power`, `budget` and `capabilities`.",
    )
    return f"{needed} questions for each capability, {2 * needed} in all: a day of writing, once."
