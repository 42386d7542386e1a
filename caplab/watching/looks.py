"""One look of a guard at the model in training, and the crossing that several of them make."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from caplab.measuring.report import REGRESSED, Report
from caplab.measuring.scorecard import Scorecard, as_columns

__all__ = ["WITHIN", "Check", "crossing", "nothing_said"]

WITHIN = "every row within its budget on the questions asked"


@dataclass(frozen=True)
class Check:
    """One look at the model in training."""

    step: int
    report: Report
    seconds: float
    diverged: bool = False

    @property
    def verdict(self) -> str:
        """Say REGRESSED, HELD or UNDERPOWERED."""
        return REGRESSED if self.diverged else self.report.verdict

    @property
    def within_budget(self) -> bool:
        """Tell whether a rollback may return here: each row lost no more than its budget.

        On the questions asked, that is: it does not mean HELD.
        """
        within = all(row.within_budget for row in self.report.deciding)
        return within and self.verdict != REGRESSED

    @property
    def sentence(self) -> str:
        """Say the result in one line."""
        if self.diverged:
            return "the model answers with NaN, its weights have diverged: REGRESSED"
        return self.report.sentence

    @property
    def row(self) -> dict[str, Any]:
        """Return a line of the table of all looks."""
        plain = {name.removeprefix("guard/"): value for name, value in self.values.items()}
        low, high = self.report.overall.low, self.report.overall.high
        found = {"step": self.step, "verdict": self.verdict, **plain}
        return found | {"low": low, "high": high, "seconds": self.seconds}

    @property
    def values(self) -> dict[str, float]:
        """Return what goes into the Trainer's log, and from there to TensorBoard and others."""
        report = self.report
        whole = {report.metric: report.overall.after, "change": report.overall.change}
        whole["regressed"] = self.verdict == REGRESSED
        taken = (*whole, "step", "verdict", "low", "high", "seconds")  # columns of to_pandas()
        levels = as_columns({row.name: row.after for row in report.capabilities}, taken) | whole
        return {f"guard/{name}": float(value) for name, value in levels.items()}


def crossing(checks: Sequence[Check], patience: int, *, last: bool) -> int | None:
    """Return the step at which the latest looks crossed the budget, if they did.

    More than `patience` in a row say REGRESSED; or one does, and it is the last or sees NaN.
    """
    streak = list(takewhile(lambda check: check.verdict == REGRESSED, reversed(checks)))
    if streak and (len(streak) > patience or last or streak[0].diverged):
        return streak[-1].step
    return None


def nothing_said(card: Scorecard) -> Scorecard:
    """Return the answers of a model that answers nothing any more, in place of these."""
    nothing = tuple((-math.inf,) * len(row) for row in card.loglikelihoods)
    return replace(card, loglikelihoods=nothing, text_losses=())
