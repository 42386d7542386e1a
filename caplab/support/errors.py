"""The error that public functions raise for bad input, and helpers to word its message."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from numbers import Real
from os import PathLike

from caplab.support.safe_text import log_text, shorten

__all__ = [
    "BadInput",
    "as_number",
    "did_you_mean",
    "explaining_failure",
    "is_count",
    "list_problems",
    "out_of_memory",
    "require_type",
    "short_repr",
    "within_memory",
]

_MAX_LENGTH = 80  # characters of a value in a message
_MOST_LISTED = 20  # problems in one message: what has thousands of them is wrong as a whole
_MAX_MESSAGE = 10_000  # characters of a message


class BadInput(ValueError):  # noqa: N818 - learners read the name: it says what came in
    """An input that the lab cannot use: what was wrong, the value given and what to do now.

    Messages quote what others wrote, so they are made safe for a terminal and a log, and bounded.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(log_text(shorten(str(message), _MAX_MESSAGE)))

    def _render_traceback_(self) -> list[str]:
        """Show only the message in a notebook: IPython calls this in place of its traceback."""
        return [f"{type(self).__name__}: {self}"]


def list_problems(problems: Sequence[str], *, indent: str = "  ") -> list[str]:
    """Return the first of many problems as lines of a message, and how many more there are."""
    lines = [f"{indent}{shorten(problem, 300)}" for problem in problems[:_MOST_LISTED]]
    more = len(problems) - len(lines)
    return [*lines, f"{indent}... and {more:,} more"] if more else lines


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """Suggest similar known names, to be appended to a message; empty if there are none."""
    near = get_close_matches(str(given), list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def short_repr(value: object) -> str:
    """Return the repr of any value, shortened for a message."""
    try:
        text = repr(str(value) if isinstance(value, PathLike) else value)
    except ValueError:  # Python refuses to print an int of thousands of digits
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."


def require_type(value: object, kind: type | tuple[type, ...], needed: str) -> None:
    """Refuse a value of another type: `require_type(card, Scorecard, "This takes a scorecard")`."""
    if not isinstance(value, kind):
        raise BadInput(f"{needed}, not {short_repr(value)}.")


def as_number(value: object) -> float:
    """Return a real number as a float, and NaN for anything else.

    A range check then refuses both at once: every comparison with NaN is false.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def is_count(value: object, least: int = 0) -> bool:
    """Check that a value is an int of at least `least`; True and 1.0 are not."""
    return type(value) is int and value >= least


def out_of_memory(error: BaseException) -> bool:
    """Check whether an error means that memory ran out: each library words it differently."""
    message = str(error).lower()
    signs = ("out of memory", "allocate memory", "bad_alloc")
    return isinstance(error, MemoryError) or any(sign in message for sign in signs)


@contextmanager
def within_memory(advice: str) -> Iterator[None]:
    """Turn an out-of-memory error of any library into one message with advice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise BadInput(f"Out of memory. {advice}") from error


@contextmanager
def explaining_failure(what: str) -> Iterator[None]:
    """Turn any error of a library into one sentence that begins with `what`."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"{what}: {reason[:300]}") from error
