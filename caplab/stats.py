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

import html
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from caplab.errors import BadInput, did_you_mean, real, refusing, require, shown
from caplab.exam import OVERALL, Scorecard, per_character
from caplab.files import read_sealed, write_sealed

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "METRICS",
    "Report",
    "Row",
    "bootstrap",
    "check_budget",
    "check_confidence",
    "check_options",
    "check_seed",
    "compare",
    "items_needed",
    "listed",
    "number",
    "power",
    "signed",
    "wilson",
]

METRICS = {
    "accuracy": "questions whose right answer is the likeliest choice (lm-eval's acc)",
    "accuracy_norm": "the same with log-likelihoods per character (lm-eval's acc_norm)",
    "share": "the right answer's share of the probability of all choices: accuracy, unrounded",
    "probability": "the right answer's own probability; its change is relative to the start",
}
REGRESSED, HELD, UNDERPOWERED = "REGRESSED", "HELD", "UNDERPOWERED"
STILL = 1e-4  # nats: what scoring itself moves by with batch size, device or library version
COLLAPSE = 0.1  # kept of a word's probability: with less, an answer is preferred, but not said
COLLAPSED = (
    "preferred, but no longer said: the right answers keep less than "
    f"{100 * COLLAPSE:.0f} % of their probability"
)
WORD = 5  # characters
FEWEST = 30  # items: with fewer, the probabilities seen say too little about those not seen
RESAMPLES = 4000
_LARGEST_EXAM = 100_000
_FIELDS = {"share": "share", "probability": "log_probability"}  # others count right answers
_FORMAT = "caplab report 1"
_SMALLEST = math.log(sys.float_info.min)  # stands for log(0), so that averages stay finite


# ---------------------------------------------------------------- the report


@dataclass(frozen=True)
class Row:
    """One capability, or all of them: before, after, the change with its interval, the verdict."""

    name: str
    n: int
    before: float
    after: float
    change: float
    low: float
    high: float
    p_value: float
    verdict: str
    note: str
    lost: int  # questions answered right before and wrong after
    gained: int
    kept: float  # what is left of the right answer's probability, typically (geometric mean)
    bootstrap_low: float  # the plain paired bootstrap, beside the interval that decides
    bootstrap_high: float


@dataclass(frozen=True, repr=False)
class Report:
    """Two scorecards compared: one row per capability, and the overall row last."""

    rows: tuple[Row, ...]
    budget: float
    confidence: float
    metric: str
    before: str
    after: str
    exam: str

    @property
    def overall(self) -> Row:
        """Return the row over all questions."""
        return self.rows[-1]

    @property
    def capabilities(self) -> tuple[Row, ...]:
        """Return the rows of the single capabilities."""
        return self.rows[:-1]

    @property
    def regressed(self) -> list[str]:
        """Name the rows that regressed: empty unless the verdict is REGRESSED."""
        return [row.name for row in self.rows if row.verdict == REGRESSED]

    @property
    def verdict(self) -> str:
        """Judge the whole: REGRESSED if any row is, else what the overall row says."""
        return REGRESSED if self.regressed else self.overall.verdict

    @property
    def sentence(self) -> str:
        """Say the finding in one line."""
        found = [f"{verdict} in {listed(names)}" for verdict, names in self._by_verdict() if names]
        if len(found) > 1:
            found[-1] = found[-1].split()[0] + " elsewhere"
        details = found if len(found) > 1 else []
        return "; ".join([f"{self.levels}: {self.verdict} ({self.words(self.overall)})", *details])

    @property
    def levels(self) -> str:
        """Say where the whole is and was: `classics .48, was .97`."""
        what = self.exam if self.metric == "accuracy" else f"{self.metric} on {self.exam}"
        return f"{what} {number(self.overall.after)}, was {number(self.overall.before)}"

    @property
    def conditions(self) -> str:
        """Say what was compared with what, and by which rules."""
        joint = f", joint over {len(self.capabilities)} capabilities" * (len(self.capabilities) > 1)
        return (
            f"{self.before} -> {self.after}; {self.metric}; budget {number(self.budget)}; "
            f"{100 * self.confidence:.4g} % intervals{joint}"
        )

    def words(self, row: Row) -> str:
        """Say how a row changed: `-.49, 95 % from -.55 to -.42`."""
        change, level = self.written(row.change), f"{100 * self.confidence:.4g} %"
        return f"{change}, {level} from {self.written(row.low)} to {self.written(row.high)}"

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        names = [row.name for row in self.rows]
        hint = did_you_mean(name, names) or f" It has {listed(names)}."
        raise BadInput(f"This report has no row {shown(name)}.{hint}")

    def show(self) -> None:
        """Display the table in a notebook; print it elsewhere."""
        ipython = sys.modules.get("IPython")
        if ipython and ipython.get_ipython():
            from IPython.display import display

            display(self)  # type: ignore[no-untyped-call]
        else:
            print(self)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table with one line per row."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as JSON, all of it or nothing."""
        write_sealed(path, {"format": _FORMAT, **asdict(self)}, allow_nan=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Report":
        """Read a report that `save` wrote."""
        data = read_sealed(path, "report")
        with refusing(f"{os.fspath(path)} is not a report"):
            if data.pop("format", None) != _FORMAT:
                raise BadInput(f"{os.fspath(path)} is not a report of this version of caplab.")
            return cls(**{**data, "rows": tuple(Row(**row) for row in data["rows"])})

    def written(self, value: float) -> str:
        """Write a change as this metric is read: `-.49`, or `-99 %` of where it started."""
        if self.metric != "probability":
            return signed(value)
        return f"{100 * value:+.{1 if -1 < value < -0.99 else 0}f} %"

    def _by_verdict(self) -> list[tuple[str, list[str]]]:
        return [
            (verdict, [row.name for row in self.capabilities if row.verdict == verdict])
            for verdict in (REGRESSED, UNDERPOWERED, HELD)
        ]

    def __repr__(self) -> str:
        return "\n".join([*_text_table(self), "", self.sentence, *_notes(self), self.conditions])

    def _repr_html_(self) -> str:
        return _html_table(self)


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


def bootstrap(
    differences: Any, confidence: float = 0.95, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the paired bootstrap interval of the mean of item-by-item differences.

    The percentiles are moved outward to those that match Student's t (Hesterberg's "expanded
    percentile"), because plain ones are too narrow for a few dozen items. Where all differences
    are equal it has no width at all: that is the method, not certainty.
    """
    import numpy as np

    values, rng = np.asarray(differences, dtype=float), np.random.default_rng(seed)
    n = len(values)
    if n == 0:
        raise BadInput("There are no differences to resample: give one per item.")
    picks = (rng.integers(n, size=(k, n), dtype=np.int32) for k in _batches(resamples, n))
    means = np.concatenate([values[batch].mean(axis=1) for batch in picks])
    tail = _expanded_tail((1 - confidence) / 2, n)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a share: honest for small n and for shares of 0 and 1.

    Scipy has it, too, but importing it would take longer than scoring the exam.
    """
    if not 0 <= real(successes) <= real(n) < math.inf or n < 1:
        counts = f"{shown(successes)} successes of {shown(n)}"
        raise BadInput(f"{counts}: give 0 <= successes <= n and n >= 1.")
    check_confidence(confidence)
    z, share = _z(1 - confidence), successes / n
    centre = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


# ---------------------------------------------------------------- planning an exam


def power(
    n: int,
    drop: float,
    *,
    budget: float = 0.02,
    confidence: float = 0.95,
    churn: float = 0.02,
    capabilities: int = 1,
) -> float:
    """Return how probably `n` items per capability lead to the right verdict on a true `drop`.

    Right is REGRESSED for a drop beyond the budget, HELD for a smaller one. `churn` is the share
    of questions that harmless training turns from wrong to right, and as many the other way.
    Exact, over all outcomes of counting answers; that probabilities may acquit is not counted on.
    """
    _check_plan(drop, budget, confidence, churn, capabilities)
    _check_count("n", n)
    return _power(n, drop, budget, (1 - confidence) / capabilities, churn)


def items_needed(
    drop: float,
    power: float = 0.8,
    *,
    budget: float = 0.02,
    confidence: float = 0.95,
    churn: float = 0.02,
    capabilities: int = 1,
) -> int:
    """Return how many items per capability lead to the right verdict with probability `power`.

    `items_needed(0.1)` plans an exam that calls a true drop of .1 REGRESSED four times in five,
    `items_needed(0)` one that calls harmless training HELD.
    """
    _check_plan(drop, budget, confidence, churn, capabilities)
    if not 0 < real(power) < 1:
        raise BadInput(f"power is {shown(power)}: give a probability between 0 and 1, such as .8.")
    alpha = (1 - confidence) / capabilities
    few, enough = 0, 8
    while _power(enough, drop, budget, alpha, churn) < power:
        few, enough = enough, 2 * enough
        if enough > _LARGEST_EXAM:
            raise BadInput(
                f"More than {_LARGEST_EXAM} items: plan for a drop further from {budget}."
            )
    while enough - few > 1:
        middle = (few + enough) // 2
        reached = _power(middle, drop, budget, alpha, churn) >= power
        few, enough = (few, middle) if reached else (middle, enough)
    return enough


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
            return min(1.0, self.family * float(_mcnemar_test(self.lost, self.gained)))
        return min(1.0, self.family * _sign_flip_test(self.moved, self.seed))

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
            low, high = _score_interval(self.lost, self.gained, self.n, self.alpha / self.family)
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
    levels = f"{number(right)}, chance {number(chance)}"
    return f"the base never knew this, or too few items show it ({levels}): nothing to lose"


def _underpowered_note(evidence: _Evidence) -> str:
    """Say how many items would do, at the least."""
    z, budget = _z(evidence.alpha / evidence.family), evidence.budget
    needed = math.ceil(z * z * (1 - budget) / budget) if budget else math.inf
    if not evidence.counted or evidence.n >= needed:
        return "the interval crosses the budget line: more items would narrow it"
    if not budget:
        return "no exam can exclude every drop: allow a budget above 0"
    return f"to exclude a drop beyond {number(budget)} by counting takes {needed} items or more"


# ---------------------------------------------------------------- the statistics


def _score_statistic(lost: Any, gained: Any, n: int, change: float) -> Any:
    """Return Tango's score statistic (1998): how far the counts are from a true `change`.

    The nuisance parameter, the share of items that flip, is estimated under that very change.
    """
    a = 2 * n
    b = (2 * n - gained + lost) * change - gained - lost
    c = -lost * change * (1 - change)
    flips = (abs(b * b - 4 * a * c) ** 0.5 - b) / (2 * a)
    variance = n * (2 * flips + change * (1 - change))
    return (gained - lost - n * change) / (variance + sys.float_info.min) ** 0.5


def _score_interval(lost: int, gained: int, n: int, alpha: float) -> tuple[float, float]:
    """Return all changes that the score test does not reject.

    Where nearly all flips go one way, the score test rejects a little too often; so no end comes
    nearer to zero than the exact (Clopper-Pearson) bound on the losses or on the gains alone.
    """
    z, seen = _z(alpha), (gained - lost) / n
    high = _boundary(lambda change: _score_statistic(lost, gained, n, change) > -z, seen, 1.0)
    low = _boundary(lambda change: _score_statistic(lost, gained, n, change) < z, seen, -1.0)
    return min(low, _fewest(gained, n, alpha)), max(high, -_fewest(lost, n, alpha))


def _fewest(count: int, n: int, alpha: float) -> float:
    """Return the smallest rate that explains a count of `count` in `n`, or more."""
    from scipy.special import betaincinv

    return float(betaincinv(count, n - count + 1, alpha / 2)) if count else 0.0


def _boundary(accepted: Callable[[float], bool], inside: float, outside: float) -> float:
    """Find by halving where `accepted` ends between a point inside and one outside."""
    for _ in range(50):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if accepted(middle) else (inside, middle)
    return (inside + outside) / 2


def _mcnemar_test(lost: Any, gained: Any) -> Any:
    """Return the exact two-sided p-value: is a flip as often a loss as a gain?"""
    import numpy as np
    from scipy.special import bdtr

    return np.minimum(1.0, 2 * bdtr(np.minimum(lost, gained), np.add(lost, gained), 0.5))


def _sign_flip_test(differences: Any, seed: int) -> float:
    """Return the p-value of "before and after could be swapped in any item"."""
    import numpy as np

    rng, n, seen = np.random.default_rng(seed), len(differences), abs(differences.sum())
    signs = (rng.integers(2, size=(k, n), dtype=np.int8) for k in _batches(RESAMPLES, n))
    sums = np.concatenate([(2.0 * batch - 1.0) @ differences for batch in signs])
    return float((1 + (abs(sums) >= seen * (1 - 1e-9)).sum()) / (1 + RESAMPLES))


def _batches(resamples: int, n: int) -> Iterator[int]:
    """Split the resamples so that exams of many thousand items fit into memory."""
    most = max(1, 2_000_000 // n)
    for start in range(0, resamples, most):
        yield min(most, resamples - start)


def _expanded_tail(tail: float, n: int) -> float:
    from scipy.special import ndtr, stdtrit

    return float(ndtr(stdtrit(n - 1, tail) * math.sqrt(n / (n - 1)))) if n > 1 else tail


def _z(alpha: float) -> float:
    return NormalDist().inv_cdf(1 - alpha / 2)


def _power(n: int, drop: float, budget: float, alpha: float, churn: float) -> float:
    import numpy as np
    from scipy.special import bdtrc
    from scipy.stats import binom

    lost, gained = np.meshgrid(_outcomes(n, churn + drop), _outcomes(n, churn), indexing="ij")
    flipped = lost + gained <= n
    lost, gained = lost[flipped], gained[flipped]
    chances = binom.pmf(lost, n, churn + drop)
    chances *= binom.pmf(gained, n - lost, churn / (1 - churn - drop))
    score = _score_statistic(lost, gained, n, -budget)
    if drop < budget:
        return float(chances[score >= _z(alpha)].sum())
    exact = (_mcnemar_test(lost, gained) <= alpha) & (bdtrc(lost - 1, n, budget) <= alpha / 2)
    return float(chances[(score < -_z(alpha)) & exact].sum())


def _outcomes(n: int, share: float) -> Any:
    """Return the counts of a binomial that are not absurdly improbable."""
    import numpy as np
    from scipy.stats import binom

    fewest, most = binom.ppf(1e-9, n, share), binom.isf(1e-9, n, share)
    return np.arange(max(fewest, 0.0), most + 1)


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
            f"metric is {shown(metric)}. Choose one of {known}.{did_you_mean(metric, METRICS)}"
        )
    check_budget(budget)
    check_confidence(confidence)


def check_budget(budget: float) -> None:
    """Refuse what is no drop that one could accept."""
    if not 0 <= real(budget) < 1:
        raise BadInput(
            f"budget is {shown(budget)}: give the drop you accept, a share from 0 up to 1, "
            "such as .02."
        )


def check_confidence(confidence: float) -> None:
    """Refuse what no interval is made for."""
    if not 0.5 <= real(confidence) < 1:
        raise BadInput(
            f"confidence is {shown(confidence)}: give a share from .5 up to 1, such as .95."
        )


def check_seed(seed: int) -> None:
    """Refuse what no random numbers start from."""
    if type(seed) is not int or seed < 0:
        raise BadInput(f"seed is {shown(seed)}: give a whole number from 0 on.")


def _check_count(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise BadInput(f"{name} is {shown(value)}: give a whole number, at least one.")


def _check_same_exam(before: Scorecard, after: Scorecard) -> None:
    for card in (before, after):
        require(card, Scorecard, "compare needs two scorecards, such as score(...)")
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


def _check_plan(
    drop: float, budget: float, confidence: float, churn: float, capabilities: int
) -> None:
    check_options(budget, confidence, "accuracy")
    if not (real(drop) >= 0 and real(churn) >= 0 and drop + 2 * churn < 1):
        raise BadInput(
            f"drop is {shown(drop)}, churn {shown(churn)}: give shares of 0 or more with "
            "drop + 2 churn below 1."
        )
    if drop == budget:
        raise BadInput(
            f"A drop of exactly the budget ({budget}) is neither REGRESSED nor HELD, however many "
            "items there are: plan for a larger drop, or for 0."
        )
    _check_count("capabilities", capabilities)


# ---------------------------------------------------------------- words and tables


def number(value: float, digits: int = 2) -> str:
    """Write a share without its leading zero; what is not 0 or 1 is never rounded to it."""
    value += 0.0  # no -.00
    text = f"{value:.{digits}f}"
    if 0 < abs(value) < 10**-digits:
        text = f"{value:.1g}"
    elif abs(value) < 1 <= abs(float(text)):
        text = f"{int(1000 * value) / 1000}"  # cut, not rounded
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def signed(value: float) -> str:
    """Write a change with its sign, small ones with one digit more: `-.49`, `-.033`."""
    text = number(value, digits=2 if abs(value) >= 0.1 or value == 0 else 3)
    return f"+{text}" if value > 0 else text


def listed(names: list[str]) -> str:
    """Join names as a sentence does: `a, b and c`."""
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), *names[-1:]])


_COLUMNS = ["capability", "n", "before", "after", "change", "interval"]
_COLUMNS += ["lost", "gained", "kept", "p", "verdict"]


def _cells(report: Report, row: Row) -> list[str]:
    p = "<.001" if row.p_value < 0.001 else f"{row.p_value:.3f}".removeprefix("0")
    change, low, high = (report.written(value) for value in (row.change, row.low, row.high))
    levels, interval = [number(row.before), number(row.after), change], f"{low} to {high}"
    counts = [str(row.lost), str(row.gained), number(row.kept), p, row.verdict]
    return [row.name, str(row.n), *levels, interval, *counts]


def _text_table(report: Report) -> list[str]:
    """Align the cells: words to the left, numbers to the right."""
    lines = [_COLUMNS, *(_cells(report, row) for row in report.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    words = (0, len(_COLUMNS) - 1)
    return [
        "  ".join(
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _notes(report: Report) -> list[str]:
    """Say each note once, behind the names of all rows that it is about."""
    notes = dict.fromkeys(row.note for row in report.rows if row.note)
    return [f"{listed([r.name for r in report.rows if r.note == note])}: {note}" for note in notes]


_BADGES = {REGRESSED: "#b3261e", HELD: "#1b7a56", UNDERPOWERED: "#666"}  # white text reads on each


def _html_table(report: Report) -> str:
    """Write the table for a notebook; colours are inherited, so that dark themes work."""
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    rows = "".join(_html_row(report, row) for row in report.rows)
    notes = "".join(f"<div>{html.escape(note)}</div>" for note in _notes(report))
    return (
        f"<div><b>{html.escape(report.sentence)}</b>"
        '<table style="margin:.5em 0;color:inherit;font:inherit">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        f'<div style="opacity:.75">{notes}{html.escape(report.conditions)}</div></div>'
    )


def _html_row(report: Report, row: Row) -> str:
    name, *numbers, verdict = map(html.escape, _cells(report, row))
    badge = f"background:{_BADGES[row.verdict]};color:#fff;padding:.1em .5em;border-radius:.6em"
    right = '<td style="text-align:right;padding:.2em .6em">'
    cells = "".join(f"{right}{number}</td>" for number in numbers)
    return (
        f'<tr title="{html.escape(row.note)}"><th style="text-align:left">{name}</th>{cells}'
        f'<td style="text-align:left"><span style="{badge}">{verdict}</span></td></tr>'
    )
