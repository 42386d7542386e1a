"""What a claim comes to: a `Finding` says it in words, with its interval over the seeds."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from html import escape
from math import isfinite
from typing import TypeAlias

import numpy as np
import pandas as pd

from caplab.study.atlas import Atlas
from caplab.study.seeds import interval
from caplab.support.errors import BadInput
from caplab.support.text import format_number, format_signed

__all__ = ["Finding", "Findings", "register_claim"]

Seeds: TypeAlias = Mapping[int, float] | pd.Series  # a value for each seed


@dataclass(frozen=True)
class Finding:
    """What the atlas says about one claim."""

    name: str
    advice: str
    statement: str
    value: float
    low: float
    high: float
    unit: str
    holds: bool | None
    sources: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Say in a word whether the advice holds."""
        return {True: "holds", False: "does not hold", None: "undecided"}[self.holds]

    @property
    def measured(self) -> str:
        """Write the value with its interval."""
        write = format_number if self.unit in _LEVELS else format_signed
        ends = f" ({write(self.low)} to {write(self.high)})" if isfinite(self.low) else ""
        return f"{write(self.value)}{ends} {self.unit}" if isfinite(self.value) else "not measured"

    def __repr__(self) -> str:
        said = f"{self.verdict}: {self.statement}\n  measured: {self.measured}"
        return f"{said}\n  advice: {self.advice}\n  sources: {'; '.join(self.sources)}"

    def _repr_html_(self) -> str:
        rows = {"advice": self.advice, "found": self.statement, "measured": self.measured}
        rows |= {"verdict": self.verdict, "sources": "; ".join(self.sources)}
        return _html([[f"<b>{name}</b>", escape(text)] for name, text in rows.items()])


class Findings(list[Finding]):
    """Findings that show themselves as a table."""

    def __repr__(self) -> str:
        lines = [f"[{f.verdict:^13}] {f.statement}\n{'':16}{f.name}: {f.measured}" for f in self]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = [[f"<b>{name}</b>" for name in ("advice", "verdict", "found", "measured")]]
        rows = [[f.advice, f.verdict, f.statement, f.measured] for f in self]
        return _html(head + [[escape(cell) for cell in row] for row in rows])


@dataclass(frozen=True)
class Evidence:
    """What was measured, seed by seed, and how to say it.

    The advice holds where the whole interval lies above `above`, and fails where it lies below.
    """

    seeds: Seeds
    unit: str
    above: float
    holds: str
    fails: str
    note: str = ""


Measure = Callable[[Atlas], Evidence]
CLAIMS: dict[str, Callable[[Atlas], Finding]] = {}
_LEVELS = ("times", "rank correlation", "of the pairs")  # values that are no changes


def register_claim(advice: str, *sources: str) -> Callable[[Measure], Callable[[Atlas], Finding]]:
    """Make a claim of a function that measures its advice on an atlas."""

    def register(measure: Measure) -> Callable[[Atlas], Finding]:
        @wraps(measure)
        def found(atlas: Atlas) -> Finding:
            try:
                evidence = measure(atlas)
            except BadInput as missing:  # the atlas is too small for this claim
                evidence = Evidence({}, "", 0, "", "", str(missing).rstrip("."))
            return _judged(measure.__name__, advice, evidence, sources)

        CLAIMS[measure.__name__] = found
        return found

    return register


def _judged(name: str, advice: str, evidence: Evidence, sources: tuple[str, ...]) -> Finding:
    """Say what an interval over seeds shows."""
    value, low, high = interval(_finite(evidence.seeds))
    holds = True if low > evidence.above else False if high < evidence.above else None
    words = {True: evidence.holds, False: evidence.fails}
    undecided = f"These seeds do not decide it: {_small(advice)}"
    if not isfinite(value):
        undecided = f"This atlas cannot tell: {_small(advice)}"
    said = undecided if holds is None else words[holds]
    statement = f"{said.rstrip('.')}{evidence.note and f' ({evidence.note})'}."
    return Finding(name, advice, statement, value, low, high, evidence.unit, holds, sources)


def _finite(seeds: Seeds) -> list[float]:
    """Return the seeds' values; where one is missing, the others are no fair sample."""
    values = list(seeds.values()) if isinstance(seeds, Mapping) else list(seeds)
    return values if np.isfinite(values).all() else []


def _small(text: str) -> str:
    """Begin a sentence in the middle of another; names keep their capital."""
    named = any(letter.isupper() for letter in text.split()[0][1:])
    return text if named else text[0].lower() + text[1:]


def _html(rows: Iterable[Iterable[str]]) -> str:
    cell = '<td style="text-align: left">'
    lines = ("".join(f"{cell}{text}</td>" for text in row) for row in rows)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
