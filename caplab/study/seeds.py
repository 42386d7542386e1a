"""Pool several seeds: a mean, and the interval that Student's t puts around it.

The interval tells how a recipe fares with another seed, on the same questions.
"""

import math
from collections.abc import Iterable

import numpy as np
from scipy.stats import t as student

__all__ = ["bounded", "interval"]

SHARES = ["task_accuracy", "classics_accuracy", "smooth"]  # between 0 and 1, as their intervals


def interval(values: Iterable[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean over seeds and its interval; a single seed has no interval."""
    found = np.array([value for value in values if not math.isnan(value)])
    if not len(found):
        return math.nan, math.nan, math.nan
    mean = round(float(found.mean()), 12)  # no -1e-17 where differences cancel
    if len(found) == 1:
        return mean, math.nan, math.nan
    reach = float(
        student.ppf((1 + confidence) / 2, len(found) - 1) * found.std(ddof=1) / len(found) ** 0.5
    )
    return mean, mean - reach, mean + reach


def bounded(name: str, low: float, high: float) -> dict[str, float]:
    """Name an interval's ends, and clip those of a share to 0 and 1."""
    if name in SHARES:
        low, high = (float(np.clip(end, 0, 1)) for end in (low, high))
    return {f"{name}_low": low, f"{name}_high": high}
