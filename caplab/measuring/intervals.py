"""Intervals and tests of what was counted.

**The mean of bounded differences**, one per group of questions, gets Gaffke's interval (2005): let
chance reweigh the groups, as a Bayesian bootstrap does, but add one group that came out as badly as
a group can. The low end is the mean that falls short of the truth in all but `alpha / 2` of the
weightings; the high end is its mirror image. It assumes nothing but independent groups and the
bounds -1 and 1. Where each group is lost or kept it is Clopper and Pearson's interval, and at zero
the exact McNemar test. That it errs at most as often as it says, for any distribution, was long a
conjecture without a known exception (Phan et al. 2021, arXiv 2106.03163); a proof is announced
(Vlassis and Thomas 2026, arXiv 2607.08415). `benchmarks/verdicts.py` measures it where the lab uses
it: Tango's score interval, Student's t on groups and bootstraps all break the promise there.

**Numbers.** The weights are exponential variables, divided by their sum, so the chance that a
weighted mean stays below a given one is that of `sum c_j Gamma(n_j) > 0`. Its integral (Gil-Pelaez)
runs through the saddlepoint and turns along the steepest descent, where few points suffice.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

from caplab.measuring.policy import check_confidence
from caplab.support.errors import BadInput, as_number, short_repr

__all__ = ["bootstrap", "mean_interval", "mean_p", "sign_flip_p", "tails", "wilson"]

RESAMPLES = 4000
_STEP = 0.2  # between the points of the integral: errs by about 1e-6 of the chance
_FAR = 15.0  # standard deviations: where the path is upright again


def mean_interval(differences: Any, alpha: float) -> tuple[float, float]:
    """Return the `1 - alpha` interval (`alpha` up to .5) of the mean of values in [-1, 1]."""
    values = np.asarray(differences, dtype=float)
    return _least_mean(1 + values, alpha / 2) - 1, 1 - _least_mean(1 - values, alpha / 2)


def mean_p(differences: Any) -> float:
    """Return the p-value of a mean of zero: the largest `alpha` whose interval touches zero."""
    values = np.asarray(differences, dtype=float)
    return min(1.0, 2 * min(_chance_below(1 + side, 1.0) for side in (values, -values)))


def tails(levels: Any, counts: Any, change: float) -> tuple[Any, Any]:
    """Return the tails of `change`, below and above, per row of `counts` of groups per level.

    `low >= change` if the first is at most `alpha / 2`, `high < change` if the second is less.
    For planning: many outcomes at once. A tail of 1 stands for any above 1/e.
    """
    levels, counts = np.asarray(levels, dtype=float), np.asarray(counts, dtype=float)
    sides = []
    for sign in (1, -1):
        distances = np.append(0.0, 1 + sign * levels)
        padded = np.concatenate([np.ones((len(counts), 1)), counts], axis=1)
        sides.append(_chances_below(distances, padded, 1 + sign * change))
    return sides[0], sides[1]


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a share: honest for small n and for shares of 0 and 1.

    Scipy has it, too, but importing it would take longer than scoring the exam.
    """
    if not 0 <= as_number(successes) <= as_number(n) < math.inf or n < 1:
        counts = f"{short_repr(successes)} successes of {short_repr(n)}"
        raise BadInput(f"{counts}: give 0 <= successes <= n and n >= 1.")
    check_confidence(confidence)
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), successes / n
    centre = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


# ---------------------------------------------------------------- differences without bounds


def bootstrap(
    differences: Any, confidence: float = 0.95, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the paired bootstrap interval of the mean of differences, one per group.

    The percentiles are moved outward to those that match Student's t (Hesterberg's "expanded
    percentile"), because plain ones are too narrow for a few dozen groups. Where all differences
    are equal it has no width at all: that is the method, not certainty.
    """
    values, rng = np.asarray(differences, dtype=float), np.random.default_rng(seed)
    n = len(values)
    if n == 0:
        raise BadInput("There are no differences to resample: give one per group.")
    picks = (rng.integers(n, size=(k, n), dtype=np.int32) for k in _batches(resamples, n))
    means = np.concatenate([values[batch].mean(axis=1) for batch in picks])
    tail = _expanded_tail((1 - confidence) / 2, n)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def sign_flip_p(differences: Any, seed: int = 0) -> float:
    """Return the p-value of "before and after could be swapped in any group"."""
    from scipy.stats import permutation_test

    values = np.asarray(differences, dtype=float)
    if not values.any():
        return 1.0
    options: dict[str, Any] = {"permutation_type": "samples", "n_resamples": RESAMPLES}
    return float(permutation_test((values,), np.mean, rng=seed, **options).pvalue)


def _batches(resamples: int, n: int) -> Iterator[int]:
    """Split the resamples so that exams of many thousand groups fit into memory."""
    most = max(1, 2_000_000 // n)
    for start in range(0, resamples, most):
        yield min(most, resamples - start)


def _expanded_tail(tail: float, n: int) -> float:
    from scipy.special import ndtr, stdtrit

    return float(ndtr(stdtrit(n - 1, tail) * math.sqrt(n / (n - 1)))) if n > 1 else tail


# ---------------------------------------------------------------- the reweighed mean


def _least_mean(values: Any, tail: float) -> float:
    """Return Gaffke's low end of a mean of values from 0 on: it is missed with chance `tail`."""
    levels, counts = np.unique(np.append(values, 0.0), return_counts=True)
    return _least_mean_of(tuple(levels.tolist()), tuple(counts.tolist()), tail)


@lru_cache(maxsize=4096)  # the looks of a guard, and the rows of a report, repeat themselves
def _least_mean_of(levels: tuple[float, ...], counts: tuple[int, ...], tail: float) -> float:
    from scipy.special import betaincinv, ndtri

    if len(levels) == 1:
        return 0.0
    if len(levels) == 2:
        return float(levels[1] * betaincinv(counts[1], counts[0], tail))
    level, count = np.array(levels), np.array(counts, dtype=float)
    number, target = count.sum(), -ndtri(tail)
    spread = math.sqrt(count @ (level - count @ level / number) ** 2 / number)
    before, pull, miss = (0.0, 0.0), target / (spread * math.sqrt(number)), 1.0
    while abs(miss) > 1e-4:  # secants on a concave curve: four or five do, the last to 1e-7
        reached = -ndtri(_chance(_tilted(level, count, pull), count))
        miss = target - reached
        step = miss * (pull - before[0]) / (reached - before[1])
        before, pull = (pull, reached), max(pull + step, pull / 4)
    return float(count * _tilted(level, count, pull) @ level / number)


def _tilted(levels: Any, counts: Any, pull: float) -> Any:
    """Return the weights, 1 on average, that pull the mean down in the likeliest way."""
    weights = 1 / (1 + pull * levels)
    return weights * counts.sum() / (counts @ weights)


def _chance(tilted: Any, counts: Any) -> Any:
    """Return the chance that a random weighting pulls the mean down as far as `tilted` does."""
    excess, number = tilted - 1, counts.sum(axis=-1)
    height = np.exp((counts * np.log(tilted)).sum(axis=-1)) / np.pi
    spread = np.sqrt((counts * excess**2).sum(axis=-1))[..., None]
    excess = excess / spread
    bend = (counts * excess**3).sum(axis=-1)[..., None] / 3
    far = 5 + 16 / number.min() + math.log(max(1.0, 1 / spread.min()))  # so little is left there
    points = np.arange(_STEP / 2, far, _STEP)
    scale = spread / np.hypot(1, spread)
    up, pace = scale * np.sinh(points), scale * np.cosh(points) * _STEP
    turn = 1 + abs(bend) * up * (1 + up / _FAR)
    path = bend * up**2 / turn + 1j * up
    direction = bend * up * (2 + abs(bend) * up) / turn**2 + 1j
    factors, counts = 1 - excess[..., None, :] * path[..., None], counts[..., None]
    size, turns = np.log(abs(factors)) @ counts, np.angle(factors) @ counts
    terms = np.exp(-size - 1j * turns)[..., 0] / (spread + path)
    return height * (terms * direction * pace).imag.sum(axis=-1)


def _chance_below(values: Any, mean: float) -> float:
    levels, counts = np.unique(np.append(values, 0.0), return_counts=True)
    return float(_chances_below(levels, counts[None, :].astype(float), mean)[0])


def _chances_below(levels: Any, counts: Any, mean: float) -> Any:
    """Return per row of counts the chance that the reweighed mean is `mean` or less.

    It is 1/e or more where the mean itself is not above `mean` (Gruenbaum): returned as 1.
    """
    chances = np.ones(len(counts))
    gaps = mean - levels
    (open_,) = np.nonzero(counts @ gaps < -1e-12 * counts.sum(axis=1))
    if not mean > 0:
        chances[open_] = 0.0
        return chances
    for rows in np.array_split(open_, len(open_) // 2000 + 1):
        if len(rows):
            chances[rows] = _chance(_likeliest(gaps, counts[rows], mean), counts[rows])
    return chances


def _likeliest(gaps: Any, counts: Any, mean: float) -> Any:
    """Return per row of counts the likeliest weights whose mean is `mean`, by damped Newton."""
    pull = np.zeros((len(counts), 1))
    for _ in range(100):  # self-concordant: damped steps stay inside, then converge quadratically
        ratios = gaps / (1 - pull * gaps)
        first = (counts * ratios).sum(axis=1, keepdims=True)
        second = (counts * ratios**2).sum(axis=1, keepdims=True)
        decrement = abs(first) / np.sqrt(second)
        pull = pull - first / second / np.where(decrement < 0.25, 1, 1 + decrement)
        if (decrement < 1e-9).all():
            break
    return 1 / (1 - pull * gaps)
