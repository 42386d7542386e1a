"""tqdm's progress bars, as text in notebooks too."""

import sys
from typing import Any

from tqdm import std

from caplab.support.idle import in_kernel

__all__ = ["tqdm"]


def tqdm(**options: Any) -> std.tqdm:
    """Make a progress bar. In a notebook it is a line of text, which stays when the work is done.

    A widget would leave a gap when it closes, and the saved notebook would say that its model was
    not found.
    """
    if in_kernel():
        shown = not options.get("disable")  # None asks for a terminal, and a notebook is none
        options |= {"file": sys.stdout, "leave": True, "disable": not shown}
    return std.tqdm(**options)
