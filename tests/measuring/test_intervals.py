import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import binomtest

from caplab.measuring.intervals import (
    bootstrap,
    mean_interval,
    mean_p,
    sign_flip_p,
    tails,
    wilson,
)
from caplab.support.errors import BadInput


def reweighed(values, extra, tail, draws=400_000):
    """Gaffke's end by simulation: weights that are exponential, one extra value at the edge."""
    rng, values = np.random.default_rng(0), np.append(values, extra)
    weights = rng.exponential(size=(draws, len(values)))
    means = weights @ values / weights.sum(axis=1)
    return np.quantile(means, tail)


@pytest.mark.parametrize(
    "values",
    [
        [-1, 0, 0, 0, 1, 0, 0, 0],
        [-0.25, -0.5, 0, 0, 0.75, -1] * 3,
        np.random.default_rng(1).uniform(-1, 1, 20),
    ],
)
def test_ends_are_those_of_the_definition(values):
    low, high = mean_interval(values, 0.05)
    assert low == pytest.approx(reweighed(values, -1, 0.025), abs=4e-3)
    assert high == pytest.approx(reweighed(values, 1, 0.975), abs=4e-3)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 7, 1e-3])
@pytest.mark.parametrize(("lost", "n"), [(0, 40), (3, 72), (40, 100), (7, 2000)])
def test_losses_alone_give_clopper_and_pearson(alpha, lost, n):
    low, _ = mean_interval([-1] * lost + [0] * (n - lost), alpha)
    expected = binomtest(lost, n).proportion_ci(1 - alpha, method="exact").high
    assert low == pytest.approx(-expected, abs=1e-6)


def test_the_p_value_is_mcnemars():
    for lost, gained in ((9, 0), (9, 2), (5, 5), (1, 0)):
        p = mean_p([-1] * lost + [1] * gained + [0] * 20)
        assert p == pytest.approx(binomtest(gained, lost + gained).pvalue, abs=1e-4)
    assert mean_p([0.0] * 10) == 1


def test_the_edges_are_sound():
    for value in (-1.0, 0.0, 1.0):
        low, high = mean_interval([value] * 5, 0.05)
        assert -1 <= low <= value <= high <= 1
    assert mean_interval([0.0], 0.05) == pytest.approx((-0.975, 0.975))


def test_more_groups_narrow_it():
    widths = [np.diff(mean_interval([-1, 0, 1, 0] * n, 0.05))[0] for n in (1, 10, 100, 20_000)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(2 * 1.96 * math.sqrt(0.5 / 80_000), rel=0.01)


def test_tails_decide_as_the_interval_does():
    counts = [[lost, 100 - lost - 3, 3] for lost in range(0, 40, 3)]
    below, above = tails([-1, 0, 1], counts, -0.1)
    for (lost, same, gained), under, over in zip(counts, below, above, strict=True):
        low, high = mean_interval([-1] * lost + [0] * same + [1] * gained, 0.05)
        assert (low >= -0.1) == (under <= 0.025)
        assert (high < -0.1) == (over < 0.025)


def test_bootstrap_agrees_with_student():
    values = np.random.default_rng(6).normal(size=200)
    reach = 1.972 * values.std(ddof=1) / math.sqrt(200)
    expected = (values.mean() - reach, values.mean() + reach)
    assert bootstrap(values) == pytest.approx(expected, abs=0.02)
    assert bootstrap(values, seed=1) != bootstrap(values) == bootstrap(values)


def test_the_bootstrap_of_log_ratios_covers():
    rng = np.random.default_rng(12)
    true, covered = -0.3, 0
    for _ in range(300):
        low, high = bootstrap(rng.normal(true, 0.8, 24), resamples=1000)
        covered += low <= true <= high
    assert covered / 300 >= 0.92


def test_signs_flip_reproducibly():
    values = np.random.default_rng(2).normal(0.3, 1, 60)
    assert sign_flip_p(values) == sign_flip_p(values)
    assert sign_flip_p(values + 1) < 0.001
    assert sign_flip_p(np.zeros(9)) == 1


def test_many_thousand_groups_need_little_memory():
    values = np.random.default_rng(6).normal(size=20_000).clip(-1, 1)
    tracemalloc.start()
    bootstrap(values, resamples=400)
    mean_interval(np.sign(values), 0.05)
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()


def test_wilson_agrees_with_scipy():
    for successes, n, level in ((0, 10, 0.95), (9, 10, 0.95), (60, 60, 0.99), (7, 24, 0.9)):
        ends = binomtest(successes, n).proportion_ci(level, method="wilson")
        assert wilson(successes, n, level) == pytest.approx((ends.low, ends.high), abs=1e-12)


def test_nothing_to_resample_is_refused():
    with pytest.raises(BadInput, match="no differences"):
        bootstrap([])
