"""From two scorecards to numbers: what each question, and each group of them, gained or lost."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from caplab.measuring.intervals import bootstrap, mean_interval, mean_p, sign_flip_p, tails
from caplab.measuring.scorecard import Scorecard, per_character
from caplab.support.errors import BadInput

__all__ = [
    "COLLAPSE",
    "Evidence",
    "guessing_explains",
    "is_counted",
    "no_longer_said",
    "read_answers",
]

SAID = 0.5  # of the probability: an answer that has more than half is what a model says
COLLAPSE = 0.1  # kept of the whole answer's probability: with less, it is no longer said
_FIELDS = {"share": "share", "probability": "log_probability"}  # other metrics count right answers
_SMALLEST = math.log(sys.float_info.min)  # stands for log(0), so that averages stay finite
_MOST_GROUPS = 100_000  # in a plan


def is_counted(metric: str) -> bool:
    """Tell a metric that counts right answers from one that averages probabilities."""
    return metric not in _FIELDS


@dataclass(frozen=True)
class Evidence:
    """The questions of one row, answered before and after, and the numbers that decide about it."""

    old: Any  # structured arrays, one entry per question
    new: Any
    group: Any  # the number of each question's group, from 0 on
    metric: str
    budget: float
    alpha: float  # of this row alone
    family: int  # rows that are read together
    seed: int

    @property
    def groups(self) -> int:
        """Count the groups, which are the independent pieces of evidence."""
        return int(self.group.max()) + 1

    def by_group(self, values: Any) -> Any:
        """Average a value of each question within its group."""
        sizes = np.bincount(self.group)
        return np.bincount(self.group, weights=values) / sizes  # (groups,)

    @cached_property
    def collapsed(self) -> Any:
        """Tell which answers were surely said before, and keep less than a tenth of that.

        The probability is that of the whole answer. One that the base itself would hardly have said
        in these very words may move tenfold with any harmless change of form, and is left out.
        """
        return _collapsed(self.old, self.new)

    @cached_property
    def differences(self) -> Any:
        """Return the change of each group by the metric."""
        return self.by_group(self.new["value"] - self.old["value"])

    @cached_property
    def said_differences(self) -> Any:
        """Return the same where an answer that is no longer said counts as lost.

        Not in a capability of which answers are heard: what the model says is known there.
        """
        return self.by_group(self.new["right"] * ~self.silenced - self.old["right"])

    @property
    def silenced(self) -> Any:
        """Tell which answers are no longer said, as far as nobody listens to what is said."""
        return self.collapsed & (self.old["heard"] == 0)

    @cached_property
    def change(self) -> float:
        """Return the mean change over the groups."""
        return self._on_scale(self.differences.mean())

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Return the row's own interval."""
        return self._interval(self.differences, self.alpha)

    @cached_property
    def joint_interval(self) -> tuple[float, float]:
        """Return the interval that is corrected for all rows."""
        return self._interval(self.differences, self.alpha / self.family)

    @cached_property
    def said_high(self) -> float:
        """Return the corrected interval's high end, with what is no longer said as lost."""
        return mean_interval(self.said_differences, self.alpha / self.family)[1]

    @cached_property
    def said_low(self) -> float:
        """Return the row's own interval's low end, with what is no longer said as lost."""
        if not is_counted(self.metric):
            return self.interval[0]
        return mean_interval(self.said_differences, self.alpha)[0]

    @cached_property
    def p_value(self) -> float:
        """Return the p-value of no change, corrected for all rows."""
        if self.metric == "probability":  # which has no bounds
            return min(1.0, self.family * sign_flip_p(self.differences, self.seed))
        return min(1.0, self.family * mean_p(self.differences))

    @property
    def unknown(self) -> bool:
        """Tell whether guessing explains what the base answered."""
        right, chance = self.old["right"].sum(), self.old["chance"].mean()
        return guessing_explains(right, len(self.old), chance)

    @property
    def kept(self) -> float:
        """Return what is left of what was known: its probability, or else its right answers."""
        if self.old["graded"].any():
            lost = (self.new["right"] < self.old["right"]).sum()
            return float(1 - lost / max(1.0, float(self.old["right"].sum())))
        return math.exp((self.new["log_probability"] - self.old["log_probability"]).mean())

    def level(self, answers: Any) -> float:
        """Return the mean over groups on the metric's own scale."""
        mean = float(self.by_group(answers["value"]).mean())
        return math.exp(mean) if self.metric == "probability" else mean

    def more_groups(self, *, joint: bool) -> int | None:
        """Count the groups that are missing to a verdict, if more of them came out like these.

        To HELD where the change that was seen is within the budget, else to REGRESSED.
        """
        change = float(self.said_differences.mean())
        if not is_counted(self.metric) or not self.budget or abs(change + self.budget) < 1e-9:
            return None
        levels, counts = np.unique(self.said_differences, return_counts=True)
        held = change > -self.budget
        alpha = self.alpha / (self.family if joint and not held else 1)

        def decided(sizes: Any) -> Any:
            scaled = counts * (np.asarray(sizes)[:, None] / self.groups)  # (sizes, levels)
            below, above = tails(levels, scaled, -self.budget)
            return below <= alpha / 2 if held else above < alpha / 2

        sizes = np.unique(np.geomspace(self.groups, _MOST_GROUPS, 60).round())
        found = decided(sizes)
        if not found.any():
            return None
        first = int(found.argmax())
        between = np.arange(sizes[max(0, first - 1)], sizes[first] + 1)
        between = np.unique(np.linspace(between[0], between[-1], min(len(between), 60)).round())
        enough = between[int(decided(between).argmax())]
        return max(1, int(enough) - self.groups)

    def _interval(self, differences: Any, alpha: float) -> tuple[float, float]:
        if self.metric == "probability":
            low, high = bootstrap(differences, 1 - alpha, seed=self.seed)
            return self._on_scale(low), self._on_scale(high)
        return mean_interval(differences, alpha)

    def _on_scale(self, value: float) -> float:
        """Turn a mean of differences into a change: ratios were averaged as logarithms."""
        return math.expm1(value) if self.metric == "probability" else float(value)


def guessing_explains(right: float, questions: int, chance: float) -> bool:
    """Tell whether so many right answers are no surprise for one who guesses."""
    from scipy.special import bdtrc

    return float(bdtrc(right - 1, questions, chance)) > 0.05


def no_longer_said(before: Scorecard, after: Scorecard) -> list[bool]:
    """Tell of each question whether its right answer is preferred, but no longer said.

    Where a capability has spoken questions, their answers tell, and nothing is inferred.
    """
    old, new = (read_answers(card, "accuracy", before.kinds) for card in (before, after))
    return [bool(found) for found in _collapsed(old, new) & (old["heard"] == 0)]


def _collapsed(old: Any, new: Any) -> Any:
    said = old["log_probability"] > math.log(SAID)
    fallen = new["log_probability"] - old["log_probability"] < math.log(COLLAPSE)
    return said & fallen & (new["right"] > 0) & (old["graded"] == 0)


def read_answers(card: Scorecard, metric: str, kinds: Sequence[str]) -> Any:
    """Return one entry per question: was it right, and how probable was the right answer?"""
    normed = metric == "accuracy_norm"
    fields = ("right", "share", "log_probability", "chance", "graded", "heard", "value")
    answers = np.zeros(len(card.capability), dtype=[(field, float) for field in fields])
    scores, rights = _scores(card, normed), np.array(card.answer)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))  # (questions, choices)
    answers["right"] = card.correct_norm if normed else card.correct
    share = odds[np.arange(len(answers)), rights] / odds.sum(axis=1)
    answers["share"] = np.maximum(share, sys.float_info.min)
    right = [found[answer] for found, answer in zip(card.loglikelihoods, rights, strict=True)]
    answers["log_probability"] = np.maximum(right, _SMALLEST)
    answers["graded"] = [said == "said" for said in kinds]
    heard = {c for c, kind in zip(card.capability, kinds, strict=True) if kind == "said"}
    answers["heard"] = [capability in heard for capability in card.capability]
    answers["chance"] = [1 / len(found) for found in card.loglikelihoods]
    answers["chance"] *= 1 - answers["graded"]  # nobody guesses the right words
    answers["value"] = answers[_FIELDS.get(metric, "right")]
    return answers


def _scores(card: Scorecard, normed: bool) -> Any:
    """Return the choices' log-likelihoods as a table (questions, choices), short rows padded."""
    table = np.full((len(card.answer), max(map(len, card.loglikelihoods))), -np.inf)
    for number, scores in enumerate(card.loglikelihoods):
        finite = np.maximum(scores, _SMALLEST)
        rates = map(per_character, finite, card.characters[number]) if normed else finite
        table[number, : len(scores)] = list(rates)
    broken = np.isnan(table).any(axis=1)
    if broken.any():
        number = int(broken.argmax())
        raise BadInput(
            f"Item {number} ({card.capability[number]}) of {card.subject!r} has the "
            f"log-likelihoods {card.loglikelihoods[number]}, {broken.sum()} of {len(broken)} items "
            "have NaN: the model diverged or is damaged. Go back to weights from before and score "
            "those."
        )
    return table
