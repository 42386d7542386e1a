"""Intervals and tests of what was counted."""

import math
import sys
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Any

from caplab.support.errors import BadInput, as_number, short_repr

__all__ = ["bootstrap", "check_confidence", "wilson"]
RESAMPLES = 4000


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
    if not 0 <= as_number(successes) <= as_number(n) < math.inf or n < 1:
        counts = f"{short_repr(successes)} successes of {short_repr(n)}"
        raise BadInput(f"{counts}: give 0 <= successes <= n and n >= 1.")
    check_confidence(confidence)
    z, share = z_value(1 - confidence), successes / n
    centre = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


def score_statistic(lost: Any, gained: Any, n: int, change: float) -> Any:
    """Return Tango's score statistic (1998): how far the counts are from a true `change`.

    The nuisance parameter, the share of items that flip, is estimated under that very change.
    """
    a = 2 * n
    b = (2 * n - gained + lost) * change - gained - lost
    c = -lost * change * (1 - change)
    flips = (abs(b * b - 4 * a * c) ** 0.5 - b) / (2 * a)
    variance = n * (2 * flips + change * (1 - change))
    return (gained - lost - n * change) / (variance + sys.float_info.min) ** 0.5


def score_interval(lost: int, gained: int, n: int, alpha: float) -> tuple[float, float]:
    """Return all changes that the score test does not reject.

    Where nearly all flips go one way, the score test rejects a little too often; so no end comes
    nearer to zero than the exact (Clopper-Pearson) bound on the losses or on the gains alone.
    """
    z, seen = z_value(alpha), (gained - lost) / n
    high = _boundary(lambda change: score_statistic(lost, gained, n, change) > -z, seen, 1.0)
    low = _boundary(lambda change: score_statistic(lost, gained, n, change) < z, seen, -1.0)
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


def mcnemar_test(lost: Any, gained: Any) -> Any:
    """Return the exact two-sided p-value: is a flip as often a loss as a gain?"""
    import numpy as np
    from scipy.special import bdtr

    return np.minimum(1.0, 2 * bdtr(np.minimum(lost, gained), np.add(lost, gained), 0.5))


def sign_flip_test(differences: Any, seed: int) -> float:
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


def z_value(alpha: float) -> float:
    return NormalDist().inv_cdf(1 - alpha / 2)


def check_confidence(confidence: float) -> None:
    """Refuse what no interval is made for."""
    if not 0.5 <= as_number(confidence) < 1:
        raise BadInput(
            f"confidence is {short_repr(confidence)}: give a share from .5 up to 1, such as .95."
        )
