"""tqdm's progress bars, as text in notebooks too."""

import sys
from typing import Any

from tqdm import std

from caplab.support.idle import in_kernel

__all__ = ["tqdm"]


class _Line(std.tqdm):
    """A bar of text, of which a line in words stays: `100 of 100 steps in 00:18`."""

    def close(self) -> None:
        """Put the words in the place of the bar."""
        unit = "" if self.unit == "it" else f" {self.unit}s"
        self.bar_format = f"{{desc}}{{n_fmt}} of {{total_fmt}}{unit} in {{elapsed}}"
        super().close()


def tqdm(**options: Any) -> std.tqdm:
    """Make a progress bar. In a notebook it is a line of text, which stays when the work is done.

    A widget would leave a gap when it closes, and the saved notebook would say that its model was
    not found.
    """
    if not in_kernel():
        return std.tqdm(**options)
    shown = not options.get("disable")  # None asks for a terminal, and a notebook is none
    return _Line(**options | {"file": sys.stdout, "leave": True, "disable": not shown})
