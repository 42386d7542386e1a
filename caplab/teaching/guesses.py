"""`predict` and `reveal`: the learner's guess before an experiment, and beside its result.

A guess is kept in the kernel's memory only: nothing is saved but what the notebook shows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from caplab.support.errors import BadInput, as_number, require_type, short_repr
from caplab.support.safe_text import html_text
from caplab.support.text import format_number
from caplab.teaching.notes import (
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

__all__ = ["Guess", "predict", "reveal"]


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

    def _widget(self, keep: Callable[[], None] = nothing) -> Any:
        said = html(f"<b>Your guess.</b> {rich_text(self.question)}")
        answer = html(self._noted())

        def commit(value: Any) -> None:
            late = self.result is not None
            self.commit(value)
            answer.value = "The result is already known." if late else self._noted()
            keep()

        return column(said, self._asked(commit), answer)

    def _noted(self) -> str:
        return "" if self.value is None else f"Noted: {html_text(_told(self.value))}."

    def _saved(self) -> str:
        noted = self._noted() or f"You could choose: {html_text(self._offered())}."
        return f"<p><b>Your guess.</b> {rich_text(self.question)}<br>{noted}</p>"

    def _offered(self) -> str:
        return (" to " if self.slides else ", ").join(map(_told, self.options))

    def _asked(self, commit: Callable[[Any], None]) -> Any:
        if not self.slides:
            pressed = None if self.value is None else list(self.options).index(self.value)
            told = [*map(_told, self.options)]
            return buttons(told, lambda at: commit(self.options[at]), pressed)
        import ipywidgets

        stops = self._stops()
        start = stops[(len(stops) - 1) // 2] if self.value is None else self.value
        # A list of values, because a slider of numbers writes .5 as 0.50, unlike the course.
        slider = ipywidgets.SelectionSlider(
            options=[(_told(stop), stop) for stop in sorted({*stops, start})],
            value=start,
            description="my guess",
            tooltip="",
            continuous_update=False,
        )
        done = button("This is my guess", lambda: commit(slider.value))
        return row(slider, done)

    def _stops(self) -> list[Any]:
        """List the values of the slider: every whole number, or a hundred parts."""
        low, high = self.options
        if isinstance(low, int) and isinstance(high, int):
            return list(range(low, high + 1))
        return [round(low + (high - low) * part / 100, 6) for part in range(101)]

    def __repr__(self) -> str:
        return f"Your guess: {one_line(self.question)} ({self._offered()})"


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
