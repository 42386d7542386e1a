"""Load modules in a notebook while nobody waits: between two cells, one module after the other."""

import asyncio
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from typing import Any

__all__ = ["in_kernel", "load_when_idle"]

_REST = 0.2  # seconds between two modules, in which a cell that was asked for begins


def in_kernel() -> bool:
    """Check whether this is the kernel of a notebook; only there IPython has a kernel."""
    ipython: Any = sys.modules.get("IPython.core.getipython")
    return getattr(ipython and ipython.get_ipython(), "kernel", None) is not None


def load_when_idle(names: Iterable[str]) -> None:
    """Load modules while the learner reads; without a notebook's kernel, do nothing.

    It happens in the main thread, never beside a cell: two threads that import at the same time may
    find a module half made. A cell waits for one module at most.
    """
    if not in_kernel():
        return
    with suppress(RuntimeError):  # no cell is running
        loop = asyncio.get_running_loop()
        loop.call_later(_REST, _load_first, loop, list(names))


def _load_first(loop: asyncio.AbstractEventLoop, names: list[str]) -> None:
    if names:
        with suppress(Exception):  # the cell that needs it will say what is wrong
            import_module(names[0])
        loop.call_later(_REST, _load_first, loop, names[1:])
