"""What lessons call to teach: `quiz`, `check`, `hint` and `claim`.

Each returns a plain value that prints anywhere; a notebook shows a widget for it. Hints are kept in
the kernel's memory only; what was solved is kept in one file (`progress`). Nothing is sent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from caplab.support.errors import (
    BadInput,
    did_you_mean,
    is_count,
    require_type,
    short_repr,
)
from caplab.teaching.checks import Blank, Wrong, checks, filled
from caplab.teaching.lessons import QuizQuestion
from caplab.teaching.lessons import lesson as read_lesson
from caplab.teaching.notes import (
    BLANK,
    RIGHT,
    WRONG,
    Front,
    Note,
    button,
    buttons,
    column,
    html,
    nothing,
    one_line,
    rich_text,
    row,
)
from caplab.teaching.progress import exercise_solved, question_answered

if TYPE_CHECKING:
    from caplab.models.subject import Subject
    from caplab.study.atlas import Atlas
    from caplab.study.findings import Finding

__all__ = [
    "Feedback",
    "Note",
    "Quiz",
    "check",
    "claim",
    "hint",
    "quiz",
]

_EMPTY = "Nothing is filled in yet. Write your answer in place of `# your code here`."
_SOLUTION = "Open the worked solution of lesson {}: the first lines of this notebook link to it."
_BROKEN = "Your code stopped with {}: {}"


# ---------------------------------------------------------------- quiz


_ANSWERED: dict[tuple[str, str], str] = {}  # by lesson and question: the last answer


@dataclass(frozen=True)
class Quiz(Front):
    """The questions at the end of a lesson, with feedback on every answer."""

    lesson: str
    questions: tuple[QuizQuestion, ...]

    def answer(self, letter: str, question: int = 1) -> Note:
        """Answer a question by a letter, as a click does."""
        asked = self.questions[_number(question, self.questions) - 1]
        letters = _letters(asked)
        if letter not in letters:
            raise BadInput(f"The answers are {', '.join(letters)}; you gave {short_repr(letter)}.")
        _ANSWERED[self.lesson, asked.question] = letter
        said = _feedback(asked, letter)
        if said.kind == RIGHT:
            question_answered(self.lesson, read_lesson(self.lesson).quiz.index(asked) + 1)
        return said

    def _widget(self, keep: Callable[[], None] = nothing) -> Any:
        numbers = range(1, len(self.questions) + 1)
        return column(*(self._asked(number, keep) for number in numbers))

    def _saved(self) -> str:
        return "".join(self._saved_question(n, asked) for n, asked in enumerate(self.questions, 1))

    def _saved_question(self, number: int, asked: QuizQuestion) -> str:
        """Write a question, and the learner's last answer with its feedback."""
        before, text = _ANSWERED.get((self.lesson, asked.question)), _question_html(number, asked)
        if before not in _letters(asked):
            return text
        return f"{text}<p>Your answer: {before}</p>{_feedback(asked, before)._repr_html_()}"

    def _asked(self, number: int, keep: Callable[[], None]) -> Any:
        """Build one question: its text, a button for each answer, the feedback, a hint."""
        asked, said = self.questions[number - 1], html()
        letters = _letters(asked)
        before = _ANSWERED.get((self.lesson, asked.question))

        def answer(at: int) -> None:
            said.value = self.answer(letters[at], number)._repr_html_()
            keep()

        def help_out() -> None:
            said.value = Note("Hint", asked.hint)._repr_html_()

        pressed = None
        if before in letters:
            pressed = letters.index(before)
            answer(pressed)
        pairs = zip(letters, asked.choices, strict=True)
        whole = [f"{letter}: {one_line(choice.text)}" for letter, choice in pairs]
        choices = row(buttons(letters, answer, pressed, whole), button("Hint", help_out))
        return column(html(_question_html(number, asked)), choices, said)

    def __repr__(self) -> str:
        return "\n\n".join(_question_text(n, asked) for n, asked in enumerate(self.questions, 1))


def _number(question: int, questions: Sequence[Any]) -> int:
    """Check the number of a question, counted from 1."""
    if not is_count(question, 1) or question > len(questions):
        raise BadInput(f"The questions are 1 to {len(questions)}, not {short_repr(question)}.")
    return question


def _feedback(asked: QuizQuestion, letter: str) -> Note:
    given = asked.choices[_letters(asked).index(letter)]
    return Note(RIGHT if given.right else WRONG, given.feedback)


def _letters(asked: QuizQuestion) -> list[str]:
    return [chr(ord("A") + at) for at in range(len(asked.choices))]


def _question_html(number: int, asked: QuizQuestion) -> str:
    choices = zip(_letters(asked), asked.choices, strict=True)
    rows = "".join(
        f'<div style="margin-left: 1em"><b>{letter}</b>&ensp;{rich_text(choice.text)}</div>'
        for letter, choice in choices
    )
    style = "max-width: 46em; line-height: 1.45; margin-top: .8em"
    return f'<div style="{style}"><b>{number}.</b> {rich_text(asked.question)}{rows}</div>'


def _question_text(number: int, asked: QuizQuestion) -> str:
    choices = zip(_letters(asked), asked.choices, strict=True)
    lines = [f"   {letter}  {one_line(choice.text)}" for letter, choice in choices]
    return "\n".join([f"{number}. {one_line(asked.question)}", *lines])


def quiz(lesson: str, question: int | None = None) -> Quiz:
    """Show the quiz of a lesson, or one of its questions, counted from 1."""
    questions = read_lesson(lesson).quiz
    if question is None:
        return Quiz(lesson, questions)
    number = _number(question, questions)
    return Quiz(lesson, questions[number - 1 : number])


# ---------------------------------------------------------------- exercises


@dataclass(frozen=True, repr=False)
class Feedback(Front, Note):
    """What a check says about an answer, with a button for hints unless it is right."""

    exercise: str = field(kw_only=True)

    @property
    def right(self) -> bool:
        """Tell whether the answer is right."""
        return self.kind == RIGHT

    def _ipython_display_(self) -> None:
        if not self.right:
            return super()._ipython_display_()
        from IPython.display import display

        said = {"text/plain": repr(self), "text/html": self._repr_html_()}
        display(said, raw=True)  # type: ignore[no-untyped-call]

    def _saved(self) -> str:
        return self._repr_html_()

    def _widget(self, keep: Callable[[], None] = nothing) -> Any:
        hints = html()

        def more() -> None:
            hints.value += hint(self.exercise)._repr_html_()

        return column(html(self._repr_html_()), button("Hint", more), hints)


_HINTS_GIVEN: dict[str, int] = {}


def check(exercise: str, answer: Any) -> Feedback:
    """Check the answer to an exercise, and say what is missing."""
    require_type(exercise, str, 'An exercise is named by a string such as "01_1"')
    diagnose = _exercise(exercise, checks(exercise[:2]))
    try:
        kind, text = RIGHT, diagnose(filled(answer))
        exercise_solved(exercise)
    except Blank:
        kind, text = BLANK, _EMPTY
    except Wrong as wrong:
        kind, text = WRONG, str(wrong)
    except Exception as error:  # the learner's own code may raise anything
        kind, text = WRONG, _BROKEN.format(type(error).__name__, one_line(str(error)))
    return Feedback(kind, text, exercise=exercise)


def hint(exercise: str) -> Note:
    """Show the next hint for an exercise; after the last one, where its solution is."""
    require_type(exercise, str, 'An exercise is named by a string such as "01_1"')
    hints = _exercise(exercise, read_lesson(exercise[:2]).hints)
    given = _HINTS_GIVEN.get(exercise, 0)
    if given == len(hints):
        return Note("Solution", _SOLUTION.format(exercise[:2]))
    _HINTS_GIVEN[exercise] = given + 1
    return Note(f"Hint {given + 1} of {len(hints)}", hints[given])


def _exercise(name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        hint = did_you_mean(name, known) or f" There are: {', '.join(known)}."
        raise BadInput(f"There is no exercise {name!r}.{hint}")
    return known[name]


# ---------------------------------------------------------------- claims


def claim(
    what: str,
    holds: Any = ...,
    *,
    subject: "Subject | None" = None,
    atlas: "Atlas | None" = None,
) -> "Finding | Note":
    """State a result, and stop if the measurement no longer supports it.

    A name, such as `higher_rate_forgets_more`, is a claim about the atlas. Its finding is shown; a
    lesson that depends on the verdict gives it as `holds`: True, False, or None for undecided. A
    sentence is a result that the lesson itself measured, and `holds` says whether it is true. On
    any subject other than pocket a claim is reported but never stops the lesson.
    """
    require_type(what, str, "A claim is a name or a sentence")
    if not what.isidentifier():
        if holds is ...:
            raise BadInput(f"Does this claim hold? Give holds=True or False: {short_repr(what)}")
        return _live_claim(what, bool(holds), subject)
    from caplab.study import claims

    finding = claims.measure(what, atlas)
    if holds is not ... and finding.holds is not holds and _is_pocket(atlas):
        raise AssertionError(f"The lesson depends on another verdict than this one: {finding!r}")
    return finding


def _is_pocket(atlas: "Atlas | None") -> bool:
    return atlas is None or atlas.about.get("subject") == "pocket"


def _live_claim(sentence: str, holds: bool, subject: "Subject | None") -> Note:
    name = getattr(subject, "name", subject) if subject else "pocket"
    if holds:
        return Note("Measured", f"{sentence} (on {name})")
    if name == "pocket":
        raise AssertionError(f"This claim of the course does not hold: {sentence}")
    return Note("Otherwise here", f"On {name} this does not hold: {sentence}")
