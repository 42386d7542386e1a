"""The one error that the lab raises at its doors, and the sentences that go with it."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from numbers import Real
from os import PathLike

__all__ = [
    "BadInput",
    "as_number",
    "did_you_mean",
    "explaining_failure",
    "is_count",
    "out_of_memory",
    "require_type",
    "short_repr",
    "within_memory",
]

_LONGEST = 80  # characters of a value in a sentence


class BadInput(ValueError):  # noqa: N818 - it names what came in, and a learner reads it first
    """Tell what was wrong, which value was given and what to do now."""

    def _render_traceback_(self) -> list[str]:
        """Show the message alone in a notebook: IPython asks for this before the traceback."""
        return [f"{type(self).__name__}: {self}"]


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """Offer the known names that are near, as the end of a sentence; nothing where none is."""
    near = get_close_matches(str(given), list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def short_repr(value: object) -> str:
    """Write what was given into a sentence: in short, whatever it is."""
    try:
        text = repr(str(value) if isinstance(value, PathLike) else value)
    except ValueError:  # Python does not write out a number of thousands of digits
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def require_type(value: object, kind: type | tuple[type, ...], needed: str) -> None:
    """Refuse what is of another kind: `require(card, Scorecard, "This takes a scorecard")`."""
    if not isinstance(value, kind):
        raise BadInput(f"{needed}, not {short_repr(value)}.")


def as_number(value: object) -> float:
    """Return a number as a float, and NaN for whatever is none: no comparison lets that pass."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def is_count(value: object, least: int = 0) -> bool:
    """Tell a whole number that is large enough; True and 1.0 are none."""
    return type(value) is int and value >= least


def out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out: each library and device says so in another way."""
    said = str(error).lower()
    signs = ("out of memory", "allocate memory", "bad_alloc")
    return isinstance(error, MemoryError) or any(sign in said for sign in signs)


@contextmanager
def within_memory(advice: str) -> Iterator[None]:
    """Say in plain words that memory ran out, whichever library noticed it first."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise BadInput(f"Out of memory. {advice}") from error


@contextmanager
def explaining_failure(what: str) -> Iterator[None]:
    """Turn a library's failure on a broken file into one sentence."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"{what}: {reason[:300]}") from error
