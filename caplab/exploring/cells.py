"""Which panel belongs to a notebook's cell: run again, the cell shows it as the learner left it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

__all__ = ["kept_in_cell"]

Panel = TypeVar("Panel")


@dataclass
class _Cell:
    """What a cell showed: in the execution before, and so far in this one."""

    execution: Any = None
    before: list[tuple[Any, Any]] = field(default_factory=list)  # (what was asked for, the panel)
    shown: list[tuple[Any, Any]] = field(default_factory=list)


_CELLS: dict[str, _Cell] = {}


def kept_in_cell(asked: Any, make: Callable[[], Panel]) -> Panel:
    """Return the panel that this cell showed when it asked for the same, or make one.

    A click into a panel selects its cell, and the next Shift+Enter runs it again. Without this,
    pins, settings and the run would be gone. Where a front end does not name its cells, every call
    makes a panel.
    """
    name, execution = _running_cell()
    if name is None:
        return make()
    cell = _CELLS.setdefault(name, _Cell())
    if cell.execution != execution:
        cell.execution, cell.before, cell.shown = execution, cell.shown, []
    earlier = cell.before[len(cell.shown) : len(cell.shown) + 1]
    panel: Panel = earlier[0][1] if earlier and earlier[0][0] == asked else make()
    cell.shown.append((asked, panel))
    return panel


def _running_cell() -> tuple[str | None, Any]:
    """Return the name that the front end gave the running cell, and this execution of it."""
    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    message = shell.get_parent() if hasattr(shell, "get_parent") else {}
    name = message.get("metadata", {}).get("cellId")
    return (name if isinstance(name, str) else None), message.get("header", {}).get("msg_id")
