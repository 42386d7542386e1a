"""What lessons call to teach: `predict`, `reveal`, `quiz`, `check`, `hint` and `claim`.

Each returns a plain value that can be read anywhere; in a notebook a widget is its front. Guesses
and hints are kept in the memory of the kernel and nowhere else: nothing is stored, nothing is sent.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from caplab.support.errors import BadInput, as_number, did_you_mean, require_type, short_repr
from caplab.support.text import format_number
from caplab.teaching.checks import Blank, Wrong, checks, filled
from caplab.teaching.lessons import QuizQuestion
from caplab.teaching.lessons import lesson as read_lesson

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

RIGHT, WRONG, BLANK = "Right", "Try again", "Not yet"
_COLOURS = {RIGHT: "#0b6e4f", WRONG: "#d55e00", BLANK: "#808080"}  # of a bar: any page will do
_BLUE = "#0072b2"
_VIEW = "application/vnd.jupyter.widget-view+json"
_EMPTY = "Nothing is filled in so far. Write your answer in place of `# your code here`."
_SOLUTION = "Open the worked solution of lesson {}: the first lines of this notebook link to it."
_BROKEN = "Your code stopped with {}: {}"


# ---------------------------------------------------------------- what is said


@dataclass(frozen=True)
class Note:
    """Something said to the learner: a word that sorts it, and the text."""

    kind: str
    text: str

    def __repr__(self) -> str:
        return f"{self.kind}: {self.text}"

    def _repr_html_(self) -> str:
        bar = _COLOURS.get(self.kind, _BLUE)
        style = f"border-left: 5px solid {bar}; padding: .3em .8em; margin: .3em 0"
        style += "; max-width: 46em; line-height: 1.45"
        return f'<div role="status" style="{style}"><b>{self.kind}.</b> {_rich(self.text)}</div>'


def _rich(text: str) -> str:
    """Write a text as HTML: `code`, **bold**, *stressed*, and paragraphs between empty lines."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text.strip(), quote=False))
    text = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)
    text = re.sub(r"(?<![\w*])\*(?=\S)([^*]+?)(?<=\S)\*(?!\w)", r"<i>\1</i>", text)
    return re.sub(r"\n\s*\n", "<br><br>", text)


def _line(text: str) -> str:
    """Write a text as one line."""
    return " ".join(text.split())


class _Front:
    """Show a widget in a notebook, and the same text wherever there is no front end."""

    def _widget(self) -> Any:
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        from IPython.display import display

        view = {"version_major": 2, "version_minor": 0, "model_id": self._widget().model_id}
        display({"text/plain": repr(self), _VIEW: view}, raw=True)  # type: ignore[no-untyped-call]


def _html(text: str = "") -> Any:
    import ipywidgets

    return ipywidgets.HTML(text)


def _column(*children: Any) -> Any:
    import ipywidgets

    return ipywidgets.VBox(list(children))


def _buttons(options: Sequence[str], choose: Callable[[int], object]) -> Any:
    """Make one button per option, of which none is pressed at first."""
    import ipywidgets

    wide = f"{max(4, 2 + 0.62 * max(map(len, options))):.1f}em"
    style = ipywidgets.ToggleButtonsStyle(button_width=wide)
    row = ipywidgets.ToggleButtons(options=list(options), value=None, style=style)
    row.observe(lambda change: change["new"] is not None and choose(change["new"]), "index")
    return row


def _button(text: str, press: Callable[[], object]) -> Any:
    import ipywidgets

    slim = {"width": "auto", "align_self": "flex-start"}  # as wide as its text
    button = ipywidgets.Button(description=text, layout=slim)
    button.on_click(lambda _: press())
    return button


# ---------------------------------------------------------------- predict and reveal


@dataclass
class Guess(_Front):
    """A question put before an experiment, and what the learner expects."""

    question: str
    options: Sequence[Any]
    value: Any = None
    result: Any = None

    @property
    def slides(self) -> bool:
        """Tell whether any number between two may be guessed."""
        return isinstance(self.options, tuple)

    def commit(self, value: Any) -> None:
        """Keep a guess, until the result is known."""
        if self.result is None:
            self.value = value

    def _widget(self) -> Any:
        said = _html(f"<b>Your guess.</b> {_rich(self.question)}")
        answer = _html()

        def commit(value: Any) -> None:
            late = self.result is not None
            self.commit(value)
            answer.value = "The result is out already." if late else f"Noted: {_told(self.value)}."

        return _column(said, self._asked(commit), answer)

    def _asked(self, commit: Callable[[Any], None]) -> Any:
        if not self.slides:
            return _buttons([*map(_told, self.options)], lambda at: commit(self.options[at]))
        import ipywidgets

        low, high = self.options
        whole = isinstance(low, int) and isinstance(high, int)
        kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        step = 1 if whole else (high - low) / 100
        start = (low + high) // 2 if whole else (low + high) / 2
        slider = kind(value=start, min=low, max=high, step=step, continuous_update=False)
        return ipywidgets.HBox([slider, _button("This is my guess", lambda: commit(slider.value))])

    def __repr__(self) -> str:
        between = " to " if self.slides else ", "
        return f"Your guess: {_line(self.question)} ({between.join(map(_told, self.options))})"


_GUESSES: dict[str, Guess] = {}


def predict(question: str, options: Sequence[Any], *, key: str) -> Guess:
    """Ask the learner for a guess before the experiment: `reveal` shows it beside the result.

    `options` is a list or a range of choices; a tuple of two numbers is a slider between them.
    """
    for text, what in ((question, "A question"), (key, "A key")):
        require_type(text, str, f"{what} is a text")
    slides = isinstance(options, tuple)
    if slides and not (
        len(options) == 2 and -math.inf < as_number(options[0]) < as_number(options[1]) < math.inf
    ):
        wanted = "A slider has two ends, the lower first, as in (0, 1)"
        raise BadInput(f"{wanted}, not {short_repr(options)}. Choices: a list.")
    if not isinstance(options, Sequence) or isinstance(options, str) or len(options) < 2:
        raise BadInput(f"A guess needs a list of two options or more, not {short_repr(options)}.")
    _GUESSES[key] = Guess(question, options if slides else list(options))
    return _GUESSES[key]


def reveal(key: str, result: Any) -> Note:
    """Show a guess and what came out, side by side; `None` is what never happened."""
    require_type(key, str, "A key is a text")
    if result is None or result != result:  # NaN: a share of nothing, say
        return Note("Result", "There is none this time: it did not happen.")
    guess = _GUESSES.get(key)
    if guess is not None and guess.slides and math.isnan(as_number(result)):
        raise BadInput(f"The guess {key!r} was a number, and the result is {short_repr(result)}.")
    if guess is None or guess.value is None:
        if guess:
            guess.result = result
        return Note("Result", f"{_told(result)}. You made no guess this time.")
    guess.result = result
    return Note("Result", f"{_told(result)}. Your guess: {_told(guess.value)}. {_verdict(guess)}")


def _verdict(guess: Guess) -> str:
    """Say how near a guess came."""
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


@dataclass(frozen=True)
class Quiz(_Front):
    """The questions at the end of a lesson, each with something to say to every answer."""

    lesson: str
    questions: tuple[QuizQuestion, ...]

    def answer(self, letter: str, question: int = 1) -> Note:
        """Answer a question by its letter, as a click does."""
        asked = self.questions[_place(question, self.questions) - 1]
        letters = _letters(asked)
        if letter not in letters:
            raise BadInput(f"The answers are {', '.join(letters)}; you gave {short_repr(letter)}.")
        given = asked.choices[letters.index(letter)]
        return Note(RIGHT if given.right else WRONG, given.feedback)

    def _widget(self) -> Any:
        return _column(*(self._asked(place) for place in range(1, len(self.questions) + 1)))

    def _asked(self, place: int) -> Any:
        """Build one question: its text, a button for each answer, what is said, a hint."""
        asked, said = self.questions[place - 1], _html()
        letters = _letters(asked)

        def answer(at: int) -> None:
            said.value = self.answer(letters[at], place)._repr_html_()

        def help_out() -> None:
            said.value = Note("Hint", asked.hint)._repr_html_()

        import ipywidgets

        buttons = ipywidgets.HBox([_buttons(letters, answer), _button("Hint", help_out)])
        return _column(_html(_question_html(place, asked)), buttons, said)

    def __repr__(self) -> str:
        return "\n\n".join(_question_text(n, asked) for n, asked in enumerate(self.questions, 1))


def _place(question: int, questions: Sequence[Any]) -> int:
    """Take the number of a question, counted from 1."""
    if type(question) is not int or not 1 <= question <= len(questions):
        raise BadInput(f"The questions are 1 to {len(questions)}, not {short_repr(question)}.")
    return question


def _letters(asked: QuizQuestion) -> list[str]:
    return [chr(ord("A") + at) for at in range(len(asked.choices))]


def _question_html(place: int, asked: QuizQuestion) -> str:
    choices = zip(_letters(asked), asked.choices, strict=True)
    rows = "".join(
        f'<div style="margin-left: 1em"><b>{letter}</b>&ensp;{_rich(choice.text)}</div>'
        for letter, choice in choices
    )
    style = "max-width: 46em; line-height: 1.45; margin-top: .8em"
    return f'<div style="{style}"><b>{place}.</b> {_rich(asked.question)}{rows}</div>'


def _question_text(place: int, asked: QuizQuestion) -> str:
    choices = zip(_letters(asked), asked.choices, strict=True)
    lines = [f"   {letter}  {_line(choice.text)}" for letter, choice in choices]
    return "\n".join([f"{place}. {_line(asked.question)}", *lines])


def quiz(lesson: str, question: int | None = None) -> Quiz:
    """Ask what a lesson asks at its end, or one question of it, counted from 1."""
    questions = read_lesson(lesson).quiz
    if question is None:
        return Quiz(lesson, questions)
    place = _place(question, questions)
    return Quiz(lesson, questions[place - 1 : place])


# ---------------------------------------------------------------- exercises


@dataclass(frozen=True, repr=False)
class Feedback(_Front, Note):
    """What a check says about an answer; unless it is right, with a button for hints."""

    exercise: str = field(kw_only=True)

    @property
    def right(self) -> bool:
        """Tell whether the exercise is solved."""
        return self.kind == RIGHT

    def _ipython_display_(self) -> None:
        if not self.right:
            return super()._ipython_display_()
        from IPython.display import display

        said = {"text/plain": repr(self), "text/html": self._repr_html_()}
        display(said, raw=True)  # type: ignore[no-untyped-call]

    def _widget(self) -> Any:
        hints = _html()

        def more() -> None:
            hints.value += hint(self.exercise)._repr_html_()

        return _column(_html(self._repr_html_()), _button("Hint", more), hints)


_HINTS_GIVEN: dict[str, int] = {}


def check(exercise: str, answer: Any) -> Feedback:
    """Look at the answer to an exercise, and say what is missing."""
    require_type(exercise, str, 'An exercise is named by a text, such as "01_1"')
    diagnose = _exercise(exercise, checks(exercise[:2]))
    try:
        kind, text = RIGHT, diagnose(filled(answer))
    except Blank:
        kind, text = BLANK, _EMPTY
    except Wrong as wrong:
        kind, text = WRONG, str(wrong)
    except Exception as error:  # the learner's own code, which may stop in any way
        kind, text = WRONG, _BROKEN.format(type(error).__name__, _line(str(error)))
    return Feedback(kind, text, exercise=exercise)


def hint(exercise: str) -> Note:
    """Give the next hint for an exercise, and after the last one say where its solution is."""
    require_type(exercise, str, 'An exercise is named by a text, such as "01_1"')
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
    """State what was measured, and stop if the measurement no longer says so.

    A name, such as `higher_rate_forgets_more`, is a claim about the atlas. It is shown as found;
    a lesson that builds on the verdict gives it as `holds`: True, False, or None for undecided. A
    sentence states what the lesson has measured itself, and `holds` says whether it is true. On
    another subject than pocket a claim is reported, never enforced: there it is a question.
    """
    require_type(what, str, "A claim is a name or a sentence")
    if not what.isidentifier():
        if holds is ...:
            raise BadInput(f"What does the measurement say? Give holds=...: {short_repr(what)}")
        return _live_claim(what, bool(holds), subject)
    from caplab.study import claims

    finding = claims.measure(what, atlas)
    if holds is not ... and finding.holds is not holds and _is_pocket(atlas):
        raise AssertionError(f"The lesson builds on another finding than this: {finding!r}")
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
