"""What lessons call to teach: `predict`, `reveal`, `quiz`, `check`, `hint` and `claim`.

Each returns a plain value that prints anywhere; a notebook shows a widget for it. Guesses and hints
are kept in the kernel's memory only: nothing is saved, nothing is sent.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from caplab.support.errors import (
    BadInput,
    as_number,
    did_you_mean,
    is_count,
    require_type,
    short_repr,
)
from caplab.support.text import format_number
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
    one_line,
    rich_text,
)
from caplab.teaching.progress import exercise_solved, question_answered

if TYPE_CHECKING:
    from caplab.models.subject import Subject
    from caplab.study.atlas import Atlas
    from caplab.study.findings import Finding

__all__ = [
    "Feedback",
    "Guess",
    "Note",
    "Quiz",
    "check",
    "claim",
    "hint",
    "predict",
    "quiz",
    "reveal",
]

_EMPTY = "Nothing is filled in yet. Write your answer in place of `# your code here`."
_SOLUTION = "Open the worked solution of lesson {}: the first lines of this notebook link to it."
_BROKEN = "Your code stopped with {}: {}"


# ---------------------------------------------------------------- predict and reveal


@dataclass
class Guess(Front):
    """A question asked before an experiment, and the learner's guess."""

    question: str
    options: Sequence[Any]
    value: Any = None
    result: Any = None

    @property
    def slides(self) -> bool:
        """Tell whether the guess is a number between two ends, chosen with a slider."""
        return isinstance(self.options, tuple)

    def commit(self, value: Any) -> None:
        """Keep a guess; once the result is known it is too late."""
        if self.result is None:
            self.value = value

    def _widget(self) -> Any:
        said = html(f"<b>Your guess.</b> {rich_text(self.question)}")
        answer = html("" if self.value is None else f"Noted: {_told(self.value)}.")

        def commit(value: Any) -> None:
            late = self.result is not None
            self.commit(value)
            answer.value = (
                "The result is already known." if late else f"Noted: {_told(self.value)}."
            )

        return column(said, self._asked(commit), answer)

    def _asked(self, commit: Callable[[Any], None]) -> Any:
        if not self.slides:
            pressed = None if self.value is None else list(self.options).index(self.value)
            told = [*map(_told, self.options)]
            return buttons(told, lambda at: commit(self.options[at]), pressed)
        import ipywidgets

        low, high = self.options
        whole = isinstance(low, int) and isinstance(high, int)
        kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        step = 1 if whole else (high - low) / 100
        middle = (low + high) // 2 if whole else (low + high) / 2
        start = middle if self.value is None else self.value
        slider = kind(value=start, min=low, max=high, step=step, continuous_update=False)
        return ipywidgets.HBox([slider, button("This is my guess", lambda: commit(slider.value))])

    def __repr__(self) -> str:
        between = " to " if self.slides else ", "
        return f"Your guess: {one_line(self.question)} ({between.join(map(_told, self.options))})"


_GUESSES: dict[str, Guess] = {}


def predict(question: str, options: Sequence[Any], *, key: str) -> Guess:
    """Ask the learner for a guess before the experiment; `reveal` shows it beside the result.

    `options` is a list or a range of choices; a tuple of two numbers is a slider between them.
    Asked again before the result is known, the same question keeps the guess: a click into the cell
    selects it, and the next Shift+Enter runs it again.
    """
    for text, what in ((question, "A question"), (key, "A key")):
        require_type(text, str, f"{what} is a string")
    slides = isinstance(options, tuple)
    if slides and not (
        len(options) == 2 and -math.inf < as_number(options[0]) < as_number(options[1]) < math.inf
    ):
        wanted = "A slider needs two ends, the lower one first, as in (0, 1)"
        raise BadInput(f"{wanted}, not {short_repr(options)}. Give choices as a list.")
    if not isinstance(options, Sequence) or isinstance(options, str) or len(options) < 2:
        raise BadInput(f"A guess needs a list of at least two options, not {short_repr(options)}.")
    asked, before = Guess(question, options if slides else list(options)), _GUESSES.get(key)
    open_still = before is not None and before.result is None
    if not (open_still and replace(before, value=None) == asked):  # type: ignore[type-var]
        _GUESSES[key] = asked
    return _GUESSES[key]


def reveal(key: str, result: Any) -> Note:
    """Show a guess beside the result; a result of `None` means that it did not happen."""
    require_type(key, str, "A key is a string")
    if result is None or result != result:  # NaN: for example a share of nothing
        return Note("Result", "There is none this time: it did not happen.")
    guess = _GUESSES.get(key)
    if guess is not None and guess.slides and math.isnan(as_number(result)):
        raise BadInput(f"The guess {key!r} is a number, but the result is {short_repr(result)}.")
    if guess is None or guess.value is None:
        if guess:
            guess.result = result
        return Note("Result", f"{_told(result)}. You made no guess this time.")
    guess.result = result
    return Note("Result", f"{_told(result)}. Your guess: {_told(guess.value)}. {_verdict(guess)}")


def _verdict(guess: Guess) -> str:
    """Say how close a guess was."""
    if not guess.slides:
        exact, close = str(guess.value) == str(guess.result), False
    else:
        low, high = guess.options
        off = abs(guess.value - guess.result) / (high - low)
        exact, close = off <= 0.02, off <= 0.1
    if exact:
        return "You saw it coming."
    return "Close." if close else "What made the difference? Look for the reason."


def _told(value: Any) -> str:
    """Write a result as the course does: shares without a leading zero."""
    return format_number(value) if isinstance(value, float) else str(value)


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
        given = asked.choices[letters.index(letter)]
        _ANSWERED[self.lesson, asked.question] = letter
        if given.right:
            question_answered(self.lesson, read_lesson(self.lesson).quiz.index(asked) + 1)
        return Note(RIGHT if given.right else WRONG, given.feedback)

    def _widget(self) -> Any:
        return column(*(self._asked(number) for number in range(1, len(self.questions) + 1)))

    def _asked(self, number: int) -> Any:
        """Build one question: its text, a button for each answer, the feedback, a hint."""
        asked, said = self.questions[number - 1], html()
        letters = _letters(asked)
        before = _ANSWERED.get((self.lesson, asked.question))

        def answer(at: int) -> None:
            said.value = self.answer(letters[at], number)._repr_html_()

        def help_out() -> None:
            said.value = Note("Hint", asked.hint)._repr_html_()

        import ipywidgets

        pressed = None
        if before in letters:
            pressed = letters.index(before)
            answer(pressed)
        row = ipywidgets.HBox([buttons(letters, answer, pressed), button("Hint", help_out)])
        return column(html(_question_html(number, asked)), row, said)

    def __repr__(self) -> str:
        return "\n\n".join(_question_text(n, asked) for n, asked in enumerate(self.questions, 1))


def _number(question: int, questions: Sequence[Any]) -> int:
    """Check the number of a question, counted from 1."""
    if not is_count(question, 1) or question > len(questions):
        raise BadInput(f"The questions are 1 to {len(questions)}, not {short_repr(question)}.")
    return question


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

    def _widget(self) -> Any:
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
