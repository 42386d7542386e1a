"""The register of the drill: every fault with what it proves, for `docs/reliability.md`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fault:
    """One thing that breaks, and the promise that holds all the same."""

    breaks: str
    promise: str
    test: str


FAULTS: list[Fault] = []


def fault(breaks: str, promise: str) -> Callable[[Any], Any]:
    """Enter a test into the register."""

    def enter(test: Any) -> Any:
        FAULTS.append(Fault(breaks, promise, f"{test.__module__}.py::{test.__name__}"))
        return test

    return enter
