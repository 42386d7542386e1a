"""`Finding`: the result of measuring a claim, with the sentence and whether the advice holds.

A claim may range over conditions, such as several learning rates. It holds only if it holds in each
of them, and it does not hold if it certainly fails in one: a mean may hide its opposite. The
intervals are over seeds. They are corrected for the claims of one family, which are asked together;
where a condition is to convict the claim, also for the number of conditions. To say that all
conditions agree needs no such correction, because each of them has to pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from math import isfinite
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from caplab.study.seeds import interval
from caplab.support.errors import BadInput
from caplab.support.tables import html_table
from caplab.support.text import format_number, format_signed, join_words

__all__ = ["Condition", "Finding", "Findings", "as_claim"]

Seeds: TypeAlias = Mapping[int, float] | pd.Series  # a value for each seed


@dataclass(frozen=True)
class Condition:
    """What was measured in one condition, such as at one learning rate."""

    name: str
    value: float
    low: float
    high: float
    holds: bool | None


@dataclass(frozen=True)
class Finding:
    """What the atlas says about one claim; `value` is the mean over the conditions."""

    name: str
    advice: str
    statement: str
    value: float
    low: float
    high: float
    unit: str
    holds: bool | None
    sources: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()
    seeds: int = 0

    @property
    def verdict(self) -> str:
        """Say in a word whether the advice holds."""
        return {True: "holds", False: "does not hold", None: "undecided"}[self.holds]

    @property
    def measured(self) -> str:
        """Write the value with its interval; of several conditions, their mean."""
        if not isfinite(self.value):
            return "not measured"
        mean = f", mean of {len(self.conditions)} conditions" if len(self.conditions) > 1 else ""
        return f"{self._written(self)} {self.unit}{mean}"

    def _written(self, found: "Finding | Condition") -> str:
        """Write a value with its interval over the seeds."""
        write = format_number if self.unit in _NO_CHANGES else format_signed
        if not isfinite(found.low):
            return write(found.value)
        over = f"{write(found.low)} to {write(found.high)} over {self.seeds} seeds"
        return f"{write(found.value)} ({over})"

    @property
    def by_condition(self) -> list[str]:
        """Write every condition on a line, where there are several."""
        several = self.conditions if len(self.conditions) > 1 else ()
        return [f"{condition.name}: {self._written(condition)}" for condition in several]

    def __repr__(self) -> str:
        lines = [f"{self.verdict}: {self.advice}", f"  found: {self.statement}"]
        lines += [f"  measured: {self.measured}", *(f"    {line}" for line in self.by_condition)]
        return "\n".join([*lines, f"  sources: {'; '.join(self.sources)}"])

    def _repr_html_(self) -> str:
        rows = [("advice", self.advice), ("found", self.statement), ("measured", self.measured)]
        rows += [("", line) for line in self.by_condition]
        rows += [("verdict", self.verdict), ("sources", "; ".join(self.sources))]
        return html_table(rows)


class Findings(list[Finding]):
    """Findings that show themselves as a table."""

    def __repr__(self) -> str:
        # The verdict is about the advice, so the advice stands beside it.
        lines = (
            f"[{f.verdict:^13}] {f.advice}\n{'':16}found: {f.statement}\n"
            f"{'':16}{f.name}: {f.measured}"
            for f in self
        )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [[f.advice, f.verdict, f.statement, f.measured] for f in self]
        return html_table(rows, ["advice", "verdict", "found", "measured"])


@dataclass(frozen=True)
class Evidence:
    """What was measured, seed by seed, and how to say it.

    The advice holds where the whole interval lies above `above`, and fails where it lies below.
    Of a table, each row is a seed and each column a condition, whose name completes the sentence:
    "at 1e-3".
    """

    seeds: Seeds | pd.DataFrame
    unit: str
    above: float
    holds: str
    fails: str
    note: str = ""


Runs: TypeAlias = Any  # what a claim is measured on: an Atlas, or a table of runs
Measure: TypeAlias = Callable[[Runs], Evidence]
Claim: TypeAlias = Callable[[Runs], Finding]
_MOST_NAMED = 6  # conditions that a sentence names; more are counted
_NO_CHANGES = ("times", "rank correlation", "of the pairs")  # units of values without a sign


def as_claim(advice: str, *sources: str, family: int = 1) -> Callable[[Measure], Claim]:
    """Turn a function that measures a piece of advice on runs into a claim.

    `family` counts the claims that are asked together: their intervals are corrected for it.
    """

    def decorate(measure: Measure) -> Claim:
        @wraps(measure)
        def claim(runs: Runs) -> Finding:
            try:
                evidence = measure(runs)
            except BadInput as missing:  # there are too few runs for this claim
                evidence = Evidence({}, "", 0, "", "", str(missing).rstrip("."))
            return _judged(measure.__name__, advice, evidence, sources, family)

        return claim

    return decorate


def _judged(
    name: str, advice: str, evidence: Evidence, sources: tuple[str, ...], family: int
) -> Finding:
    """Say what the intervals over seeds show."""
    table = _complete(evidence.seeds)
    conditions = tuple(_condition(table[column], evidence, table, family) for column in table)
    value, low, high = interval(table.mean(axis=1), 1 - 0.05 / family)
    verdicts = {condition.holds for condition in conditions}
    holds = False if False in verdicts else True if verdicts == {True} else None
    said = _sentence(advice, evidence, conditions, holds)
    statement = f"{said.rstrip('.')}{evidence.note and f' ({evidence.note})'}."
    measured = (value, low, high, evidence.unit, holds)
    return Finding(name, advice, statement, *measured, sources, conditions, len(table))


def _complete(seeds: Seeds | pd.DataFrame) -> pd.DataFrame:
    """Return a row for each seed; none if a value is missing: the others are no fair sample."""
    table = seeds if isinstance(seeds, pd.DataFrame) else pd.Series(seeds, dtype=float).to_frame("")
    whole = len(table) and np.isfinite(table.to_numpy(float)).all()
    return table if whole else table.iloc[:0, :0]


def _condition(seeds: pd.Series, evidence: Evidence, table: pd.DataFrame, family: int) -> Condition:
    """Judge one condition: every one must pass, but one of many may fail by luck."""
    value, low, high = interval(seeds, 1 - 0.05 / family)
    convicting = interval(seeds, 1 - 0.05 / (family * table.shape[1]))[2]
    holds = True if low > evidence.above else False if convicting < evidence.above else None
    return Condition(str(seeds.name), value, low, high, holds)


def _sentence(
    advice: str, evidence: Evidence, conditions: tuple[Condition, ...], holds: bool | None
) -> str:
    """Say where the advice holds, where it fails, and where the seeds do not decide."""
    if not conditions:
        return f"This atlas cannot tell: {_lower_first(advice)}"
    if len({condition.holds for condition in conditions}) == 1 and holds is not None:
        names = [condition.name for condition in conditions]
        return _said_at(evidence.holds if holds else evidence.fails, names, len(names))
    if all(condition.holds is None for condition in conditions):
        return f"These seeds do not decide it: {_lower_first(advice)}"
    words: dict[bool | None, str] = {True: evidence.holds, False: evidence.fails}
    words[None] = "These seeds do not decide it"
    parts: list[str] = []
    for verdict in (True, False, None):
        if some := [condition.name for condition in conditions if condition.holds is verdict]:
            said = words[verdict] if not parts else _lower_first(words[verdict])
            parts.append(_said_at(said, some, len(conditions)))
    return "; ".join(parts)


def _said_at(words: str, names: list[str], of: int) -> str:
    """Add to a sentence the conditions it speaks of; a claim without any has none to name."""
    if names == [""]:
        return words
    if len(names) > _MOST_NAMED:
        return f"{words} in {len(names)} of {of} conditions"
    first = names[0].split()[0]
    shared = all(name.split()[0] == first for name in names)
    rest = [name.removeprefix(f"{first} ") if shared else name for name in names[1:]]
    return f"{words} {join_words([names[0], *rest])}"


def _lower_first(text: str) -> str:
    """Lower the first letter, so that a sentence can follow a colon; names keep their capital."""
    is_name = any(letter.isupper() for letter in text.split()[0][1:])
    return text if is_name else text[0].lower() + text[1:]
