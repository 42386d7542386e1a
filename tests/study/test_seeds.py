"""Intervals over seeds."""

import math

import numpy as np
import pytest
from scipy import stats

from caplab.study.seeds import bounded, interval


def test_the_interval_is_students():
    values = [0.1, 0.4, 0.2, 0.7]
    mean, low, high = interval(values)
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (mean, low, high) == pytest.approx((0.35, *expected))


def test_one_seed_has_no_interval():
    assert interval([0.3])[0] == 0.3
    assert all(map(math.isnan, interval([0.3])[1:]))


def test_no_seed_has_no_mean():
    assert all(map(math.isnan, (*interval([]), *interval([math.nan]))))


def test_differences_that_cancel_are_zero():
    assert interval([0.1 + 0.2 - 0.3] * 3) == (0, 0, 0)


def test_only_shares_are_clipped():
    low, high = bounded("classics_accuracy", -0.1, 1.1).values()
    assert (low, high) == (0, 1)
    assert list(bounded("kl", -0.1, 1.1).values()) == [-0.1, 1.1]
