"""tqdm's progress bars, as text in notebooks too."""

import sys
from contextlib import AbstractContextManager
from typing import Any

from tqdm import std

from caplab.support.idle import in_kernel

__all__ = ["tqdm", "without_bars"]


class _Line(std.tqdm):  # type: ignore[misc]  # tqdm tells no types
    """A bar of text, of which a line in words stays: `100 of 100 steps in 00:18`."""

    def close(self) -> None:
        """Put the words in the place of the bar."""
        if not self.disable:
            unit = "" if self.unit == "it" else f" {self.unit}s"
            self.bar_format = f"{{desc}}{{n_fmt}} of {{total_fmt}}{unit} in {{elapsed}}"
        super().close()


def without_bars() -> AbstractContextManager[None]:
    """Clear the bars while something else is written, and draw them again after it."""
    found: AbstractContextManager[None] = std.tqdm.external_write_mode(file=sys.stdout)
    return found


def tqdm(**options: Any) -> std.tqdm:
    """Make a progress bar. In a notebook it is a line of text, which stays when the work is done.

    A widget would leave a gap when it closes, and the saved notebook would say that its model was
    not found.
    """
    if not in_kernel():
        return std.tqdm(**options)
    shown = not options.get("disable")  # None asks for a terminal, and a notebook is none
    return _Line(**options | {"file": sys.stdout, "leave": True, "disable": not shown})
