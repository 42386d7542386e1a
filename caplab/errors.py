"""The one error that the lab raises at its doors, and the sentences that go with it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

__all__ = ["BadInput", "did_you_mean", "out_of_memory", "refusing"]


class BadInput(ValueError):  # noqa: N818 - it names what came in, and a learner reads it first
    """Tell what was wrong, which value was given and what to do now."""

    def _render_traceback_(self) -> list[str]:
        """Show the message alone in a notebook: IPython asks for this before the traceback."""
        return [f"{type(self).__name__}: {self}"]


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Offer the known names that are near, as the end of a sentence; nothing where none is."""
    near = get_close_matches(given, list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out: each library and device says so in another way."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in said or "allocate memory" in said


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn a library's failure on a broken file into one sentence."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"{what}: {reason[:300]}") from error
