"""`Finding`: the result of measuring a claim, with the sentence and whether the advice holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from math import isfinite
from typing import TypeAlias

import numpy as np
import pandas as pd

from caplab.study.atlas import Atlas
from caplab.study.seeds import interval
from caplab.support.errors import BadInput
from caplab.support.tables import html_table
from caplab.support.text import format_number, format_signed

__all__ = ["Finding", "Findings", "as_claim"]

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
        write = format_number if self.unit in _NO_CHANGES else format_signed
        ends = f" ({write(self.low)} to {write(self.high)})" if isfinite(self.low) else ""
        return f"{write(self.value)}{ends} {self.unit}" if isfinite(self.value) else "not measured"

    def __repr__(self) -> str:
        said = f"{self.verdict}: {self.statement}\n  measured: {self.measured}"
        return f"{said}\n  advice: {self.advice}\n  sources: {'; '.join(self.sources)}"

    def _repr_html_(self) -> str:
        rows = {"advice": self.advice, "found": self.statement, "measured": self.measured}
        rows |= {"verdict": self.verdict, "sources": "; ".join(self.sources)}
        return html_table(rows.items())


class Findings(list[Finding]):
    """Findings that show themselves as a table."""

    def __repr__(self) -> str:
        lines = [f"[{f.verdict:^13}] {f.statement}\n{'':16}{f.name}: {f.measured}" for f in self]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [[f.advice, f.verdict, f.statement, f.measured] for f in self]
        return html_table(rows, ["advice", "verdict", "found", "measured"])


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


Measure: TypeAlias = Callable[[Atlas], Evidence]
Claim: TypeAlias = Callable[[Atlas], Finding]
_NO_CHANGES = ("times", "rank correlation", "of the pairs")  # units of values without a sign


def as_claim(advice: str, *sources: str) -> Callable[[Measure], Claim]:
    """Turn a function that measures a piece of advice on an atlas into a claim."""

    def decorate(measure: Measure) -> Claim:
        @wraps(measure)
        def claim(atlas: Atlas) -> Finding:
            try:
                evidence = measure(atlas)
            except BadInput as missing:  # the atlas is too small for this claim
                evidence = Evidence({}, "", 0, "", "", str(missing).rstrip("."))
            return _judged(measure.__name__, advice, evidence, sources)

        return claim

    return decorate


def _judged(name: str, advice: str, evidence: Evidence, sources: tuple[str, ...]) -> Finding:
    """Say what an interval over seeds shows."""
    value, low, high = interval(_complete(evidence.seeds))
    holds = True if low > evidence.above else False if high < evidence.above else None
    words = {True: evidence.holds, False: evidence.fails}
    undecided = f"These seeds do not decide it: {_lower_first(advice)}"
    if not isfinite(value):
        undecided = f"This atlas cannot tell: {_lower_first(advice)}"
    said = undecided if holds is None else words[holds]
    statement = f"{said.rstrip('.')}{evidence.note and f' ({evidence.note})'}."
    return Finding(name, advice, statement, value, low, high, evidence.unit, holds, sources)


def _complete(seeds: Seeds) -> list[float]:
    """Return the seeds' values, or none if one is missing: the others are not a fair sample."""
    values = list(seeds.values()) if isinstance(seeds, Mapping) else list(seeds)
    return values if np.isfinite(values).all() else []


def _lower_first(text: str) -> str:
    """Lower the first letter, so that a sentence can follow a colon; names keep their capital."""
    is_name = any(letter.isupper() for letter in text.split()[0][1:])
    return text if is_name else text[0].lower() + text[1:]
