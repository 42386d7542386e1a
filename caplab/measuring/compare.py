"""Compare two scorecards item by item, and plan exams that are large enough to tell.

One picture decides everything: the interval of the change, and the budget line below zero.

- **REGRESSED**: the whole interval lies below the budget line, so the drop is real *and* larger
  than what was allowed.
- **HELD**: the whole interval lies above the budget line, so a larger drop is excluded.
- **UNDERPOWERED**: the interval crosses the line. Too few items to tell: no news is not good news.

**Interval.** For right/wrong metrics Tango's score interval for paired proportions: unlike a
bootstrap it keeps an honest width where no answer changed (0 lost of 40 still allows a drop
of .09). For `share` and `probability` the paired bootstrap. The p-value is the exact McNemar
test, or its twin for continuous values, the paired sign-flip test. Where the test is not
significant the interval is widened to touch zero, so that the two never contradict each other.

**Correction.** Capabilities are read together, so theirs are Bonferroni's simultaneous
intervals and p-values (Holm's test finds a little more, but has no intervals to show). The
overall row is the one question asked beforehand and stands alone. REGRESSED uses only the
upper end of a two-sided interval, so both families together stay within `1 - confidence`,
under no change and also at a drop of exactly the budget.

**Accuracy convicts, probability may acquit.** Counting right and wrong takes hundreds of items
to exclude a drop of .02. So a row is HELD, too, when the answers seen stayed within the budget
and the right answers surely kept their share of the probability but for the budget (each loss
relative to its share, gains not counted; 30 items or more). This presumes that unseen
questions move like those seen: a rare question that collapses alone escapes a small exam.
And where no log-likelihood moved, nothing did.

**Floors.** A base that is not clearly above chance has nothing to lose: UNDERPOWERED, with a
note. Right answers that still rank first but surely keep less than a tenth of their
probability (per five characters, so that long answers count alike) are REGRESSED: the model
would no longer say them. And `probability` is judged by its ratio: .09 -> .0005 is a loss of
99 %, not "only .09".

**Only right and wrong.** Of written answers (see `lm_eval`) no probabilities are known: a choice
between 0 and -inf. Those are counted and nothing else, and nobody guesses them right by chance.
"""

import math
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from caplab.measuring.intervals import (
    bootstrap,
    check_confidence,
    mcnemar_test,
    score_interval,
    sign_flip_test,
    z_value,
)
from caplab.measuring.report import HELD, REGRESSED, UNDERPOWERED, Report, Row
from caplab.measuring.scorecard import Scorecard, per_character
from caplab.questions.exam import OVERALL
from caplab.support.errors import BadInput, as_number, did_you_mean, require_type, short_repr
from caplab.support.text import format_number

__all__ = ["METRICS", "check_budget", "check_options", "check_seed", "compare"]

METRICS = {
    "accuracy": "questions whose right answer is the likeliest choice (lm-eval's acc)",
    "accuracy_norm": "the same with log-likelihoods per character (lm-eval's acc_norm)",
    "share": "the right answer's share of the probability of all choices: accuracy, unrounded",
    "probability": "the right answer's own probability; its change is relative to the start",
}
STILL = 1e-4  # nats: what scoring itself moves by with batch size, device or library version
COLLAPSE = 0.1  # kept of a word's probability: with less, an answer is preferred, but not said
COLLAPSED = (
    "preferred, but no longer said: the right answers keep less than "
    f"{100 * COLLAPSE:.0f} % of their probability"
)
WORD = 5  # characters
FEWEST = 30  # items: with fewer, the probabilities seen say too little about those not seen
_FIELDS = {"share": "share", "probability": "log_probability"}  # others count right answers
_SMALLEST = math.log(sys.float_info.min)  # stands for log(0), so that averages stay finite


# ---------------------------------------------------------------- the comparison


def compare(
    before: Scorecard,
    after: Scorecard,
    *,
    budget: float = 0.02,
    confidence: float = 0.95,
    metric: str = "accuracy",
    seed: int = 0,
) -> Report:
    """Compare two scorecards of one exam, item by item, and judge every capability and the whole.

    `budget` is the drop you accept; for `metric` see `METRICS`. Each verdict follows from where the
    interval of the change lies, above the budget, below it or across it; the rules and their
    reasons stand at the head of this module.
    """
    check_options(budget, confidence, metric)
    check_seed(seed)
    budget, confidence = float(budget), float(confidence)  # of numpy's kinds not all are JSON's
    _check_same_exam(before, after)
    import numpy as np

    old, new, capability = _read(before, metric), _read(after, metric), np.array(before.capability)
    names = list(dict.fromkeys(before.capability))
    groups: list[tuple[str, Any, int]] = [(name, capability == name, len(names)) for name in names]
    groups.append((OVERALL, slice(None), 1))  # the whole is a family of its own
    rows = tuple(
        _row(name, _Evidence(old[items], new[items], metric, budget, 1 - confidence, family, seed))
        for name, items, family in groups
    )
    return Report(rows, budget, confidence, metric, before.subject, after.subject, before.exam)


# ---------------------------------------------------------------- from evidence to verdict


@dataclass(frozen=True)
class _Evidence:
    """One group of items, answered before and after, and the numbers that decide about it."""

    old: Any  # structured arrays, one entry per item
    new: Any
    metric: str
    budget: float
    alpha: float  # of the whole family
    family: int
    seed: int

    @property
    def n(self) -> int:
        return len(self.old)

    @property
    def counted(self) -> bool:
        return self.metric not in _FIELDS

    @cached_property
    def lost(self) -> int:
        return int((self.new["right"] < self.old["right"]).sum())

    @cached_property
    def gained(self) -> int:
        return int((self.new["right"] > self.old["right"]).sum())

    @cached_property
    def moved(self) -> Any:
        return self.new["value"] - self.old["value"]

    @cached_property
    def shifted(self) -> Any:
        return self.new["log_probability"] - self.old["log_probability"]

    @cached_property
    def change(self) -> float:
        return self.on_scale(self.moved.mean())

    @cached_property
    def p_value(self) -> float:
        """The exact test of no change, corrected for the size of the family."""
        if self.counted:
            return min(1.0, self.family * float(mcnemar_test(self.lost, self.gained)))
        return min(1.0, self.family * sign_flip_test(self.moved, self.seed))

    @cached_property
    def plain(self) -> tuple[float, float]:
        """The paired bootstrap interval of the change."""
        low, high = self.resampled(self.moved)
        return self.on_scale(low), self.on_scale(high)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The interval that decides; it touches zero where the exact test finds nothing."""
        low, high = self.plain
        if self.counted:
            low, high = score_interval(self.lost, self.gained, self.n, self.alpha / self.family)
        return (low, high) if self.p_value <= self.alpha else (min(low, 0.0), max(high, 0.0))

    @cached_property
    def graded(self) -> bool:
        """Whether there are items of which only right or wrong is known."""
        return bool(self.old["graded"].any())

    @property
    def still(self) -> bool:
        """Whether no answer moved by more than scoring itself does."""
        if self.graded:
            return False
        shares = self.new["share"] - self.old["share"]
        return bool((abs(self.shifted) <= STILL).all() and (abs(shares) <= STILL).all())

    @property
    def unknown(self) -> bool:
        """Whether guessing explains what the base answered."""
        from scipy.special import bdtrc

        right, chance = self.old["right"].sum(), self.old["chance"].mean()
        return float(bdtrc(right - 1, self.n, chance)) > 0.05

    @property
    def collapsed(self) -> bool:
        """Whether the right answers, known before, surely lost nearly all their probability."""
        if self.graded:
            return False
        per_word, limit = self.shifted / self.old["words"], math.log(COLLAPSE)
        return bool(per_word.mean() < limit and self.resampled(per_word)[1] < limit)

    @property
    def kept(self) -> float:
        """What is left of what was known: its probability, or else its right answers."""
        if self.graded:
            return 1 - self.lost / max(1.0, float(self.old["right"].sum()))
        return math.exp(self.shifted.mean())

    @property
    def share_held(self) -> bool:
        """Whether the right answers surely kept their share, but for the budget.

        Losses relative to the share, gains not counted: in simulations each more generous rule
        (absolute losses, net of gains, only of questions known before) passed true drops.
        """
        if self.graded:
            return False
        losses = (self.new["share"] / self.old["share"] - 1).clip(max=0)
        return self.n >= FEWEST and self.resampled(losses)[0] >= -self.budget

    def on_scale(self, value: float) -> float:
        """Turn a mean of differences into a change: ratios were averaged as logarithms."""
        return math.expm1(value) if self.metric == "probability" else float(value)

    def level(self, items: Any) -> float:
        """Return the mean on the metric's own scale."""
        mean = float(items["value"].mean())
        return math.exp(mean) if self.metric == "probability" else mean

    def resampled(self, differences: Any) -> tuple[float, float]:
        return bootstrap(differences, 1 - self.alpha / self.family, seed=self.seed)


def _row(name: str, evidence: _Evidence) -> Row:
    """Put the numbers and the verdict of one group into a row."""
    verdict, note = _judge(evidence)
    return Row(
        name=name,
        n=evidence.n,
        before=evidence.level(evidence.old),
        after=evidence.level(evidence.new),
        change=evidence.change,
        low=evidence.interval[0],
        high=evidence.interval[1],
        p_value=evidence.p_value,
        verdict=verdict,
        note=note,
        lost=evidence.lost,
        gained=evidence.gained,
        kept=evidence.kept,
        bootstrap_low=evidence.plain[0],
        bootstrap_high=evidence.plain[1],
    )


def _judge(evidence: _Evidence) -> tuple[str, str]:
    """Apply the rules at the head of this module, the strongest first; return verdict and note."""
    budget, (low, high) = evidence.budget, evidence.interval
    if high < -budget:
        return REGRESSED, ""
    if evidence.still:
        return HELD, "nothing moved: the same log-likelihoods as before"
    if evidence.unknown:
        return UNDERPOWERED, _unknown_note(evidence)
    if evidence.collapsed:
        return REGRESSED, COLLAPSED
    if low >= -budget and (evidence.counted or evidence.n >= FEWEST):
        return HELD, ""
    if evidence.counted and evidence.change >= -budget and evidence.share_held:
        return HELD, "too few items to count, but the right answers keep their share of probability"
    return UNDERPOWERED, _underpowered_note(evidence)


def _unknown_note(evidence: _Evidence) -> str:
    right, chance = evidence.old["right"].mean(), evidence.old["chance"].mean()
    levels = f"{format_number(right)}, chance {format_number(chance)}"
    return f"the base never knew this, or too few items show it ({levels}): nothing to lose"


def _underpowered_note(evidence: _Evidence) -> str:
    """Say how many items would do, at the least."""
    z, budget = z_value(evidence.alpha / evidence.family), evidence.budget
    needed = math.ceil(z * z * (1 - budget) / budget) if budget else math.inf
    if not evidence.counted or evidence.n >= needed:
        return "the interval crosses the budget line: more items would narrow it"
    if not budget:
        return "no exam can exclude every drop: allow a budget above 0"
    return (
        f"to exclude a drop beyond {format_number(budget)} by counting takes {needed} items or more"
    )


# ---------------------------------------------------------------- from scorecards to numbers


def _read(card: Scorecard, metric: str) -> Any:
    """Return one entry per item: what was answered, and how probable the right answer was."""
    import numpy as np

    normed = metric == "accuracy_norm"
    fields = ("right", "share", "log_probability", "words", "chance", "graded", "value")
    items = np.zeros(len(card.capability), dtype=[(field, float) for field in fields])
    scores, answers = _scores(card, normed), np.array(card.answer)
    likeliest = scores.max(axis=1, keepdims=True)
    odds = np.exp(scores - likeliest)
    items["right"] = card.correct_norm if normed else card.correct
    share = odds[np.arange(len(items)), answers] / odds.sum(axis=1)
    items["share"] = np.maximum(share, sys.float_info.min)
    right = [scores[answer] for scores, answer in zip(card.loglikelihoods, answers, strict=True)]
    length = [sizes[answer] for sizes, answer in zip(card.characters, answers, strict=True)]
    items["log_probability"] = np.maximum(right, _SMALLEST)
    items["words"] = np.maximum(1.0, np.array(length) / WORD)
    items["graded"] = [set(row) == {0.0, -math.inf} for row in card.loglikelihoods]
    items["chance"] = [1 / len(row) for row in card.loglikelihoods]
    items["chance"] *= 1 - items["graded"]
    items["value"] = items[_FIELDS.get(metric, "right")]
    return items


def _scores(card: Scorecard, normed: bool) -> Any:
    """Return the choices' log-likelihoods as a table (items, choices), short rows padded."""
    import numpy as np

    table = np.full((len(card.answer), max(map(len, card.loglikelihoods))), -np.inf)
    for item, scores in enumerate(card.loglikelihoods):
        finite = np.maximum(scores, _SMALLEST)
        rates = map(per_character, finite, card.characters[item]) if normed else finite
        table[item, : len(scores)] = list(rates)
    broken = np.isnan(table).any(axis=1)
    if broken.any():
        item = int(broken.argmax())
        raise BadInput(
            f"Item {item} ({card.capability[item]}) of {card.subject!r} has the log-likelihoods "
            f"{card.loglikelihoods[item]}, {broken.sum()} of {len(broken)} items have NaN: "
            "the model diverged or is damaged. Go back to weights from before and score those."
        )
    return table


def check_options(budget: float, confidence: float, metric: str) -> None:
    """Refuse what `compare` cannot work with; a guard asks before hours of training, not after."""
    if metric not in list(METRICS):
        known = "; ".join(f"{name!r}: {meaning}" for name, meaning in METRICS.items())
        raise BadInput(
            f"metric is {short_repr(metric)}. Choose one of {known}.{did_you_mean(metric, METRICS)}"
        )
    check_budget(budget)
    check_confidence(confidence)


def check_budget(budget: float) -> None:
    """Refuse what is no drop that one could accept."""
    if not 0 <= as_number(budget) < 1:
        raise BadInput(
            f"budget is {short_repr(budget)}: give the drop you accept, a share from 0 up to 1, "
            "such as .02."
        )


def check_seed(seed: int) -> None:
    """Refuse what no random numbers start from."""
    if type(seed) is not int or seed < 0:
        raise BadInput(f"seed is {short_repr(seed)}: give a whole number from 0 on.")


def _check_same_exam(before: Scorecard, after: Scorecard) -> None:
    for card in (before, after):
        require_type(card, Scorecard, "compare needs two scorecards, such as score(...)")
    if OVERALL in before.capability:
        raise BadInput(f"A capability is called {OVERALL!r}, as the last row is: rename it.")
    same_items = before.capability == after.capability and before.answer == after.answer
    if before.fingerprint != after.fingerprint or not same_items:
        raise BadInput(
            f"These scorecards answer different exams: {_differences(before, after)}. "
            f"Score both {before.subject!r} and {after.subject!r} with the same exam."
        )


def _differences(before: Scorecard, after: Scorecard) -> str:
    """Name what differs between the exams behind two scorecards."""
    old, new = Counter(before.capability), Counter(after.capability)
    found = [f"{old[c]} and {new[c]} questions on {c}" for c in old | new if old[c] != new[c]]
    if before.exam != after.exam:
        found.insert(0, f"{before.exam!r} and {after.exam!r}")
    return ", ".join(found) or "as many questions on each capability, but not the same ones"
