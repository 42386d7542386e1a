import numpy as np
import pytest
from answers_made import pair
from scipy.stats import binom

from caplab.measuring.compare import compare
from caplab.measuring.power import items_needed, least_groups, power
from caplab.support.errors import BadInput


@pytest.mark.parametrize(("drop", "budget"), [(0.3, 0), (0.3, 0.1), (0.0, 0.4)])
def test_power_sums_what_compare_says(drop, budget):
    total, right = 0.0, "HELD" if drop < budget else "REGRESSED"
    for lost in range(13):
        for gained in range(13 - lost):
            chance = binom.pmf(lost, 12, 0.05 + drop)
            chance *= binom.pmf(gained, 12 - lost, 0.05 / (1 - 0.05 - drop))
            row = compare(*pair(12, lost, gained), budget=budget).overall
            verdict = "HELD" if row.low >= -budget else "REGRESSED" if row.high < -budget else ""
            total += chance * (verdict == right)
    assert power(12, drop, budget=budget, churn=0.05) == pytest.approx(total, abs=1e-6)


def test_planned_exams_deliver():
    rng = np.random.default_rng(13)
    for drop, churn, verdict in ((0.2, 0.02, "REGRESSED"), (0.0, 0.002, "HELD")):
        n = items_needed(drop, 0.8, churn=churn)
        promised = power(n, drop, churn=churn)
        flips = rng.multinomial(n, [churn + drop, churn, 1 - drop - 2 * churn], size=40)
        pairs = (pair(n, *map(int, counts[:2]), knew=n - 20) for counts in flips)
        delivered = np.mean([compare(*one).overall.verdict == verdict for one in pairs])
        assert delivered == pytest.approx(promised, abs=0.15)
        assert promised >= 0.8 > power(n - 1, drop, churn=churn)


def test_what_is_harder_needs_more():
    assert items_needed(0.15) > items_needed(0.3)
    assert items_needed(0.15, 0.95) > items_needed(0.15, 0.5)
    assert items_needed(0.15, capabilities=6) > items_needed(0.15)
    assert items_needed(0.15, confidence=0.99) > items_needed(0.15)


def test_without_churn_the_least_groups_do():
    assert items_needed(0, churn=0) == 72
    assert items_needed(0, churn=0, budget=0.02) == 183
    assert items_needed(0, churn=0, capabilities=6) == 72  # to acquit all, do not correct


def test_harmless_churn_is_held():
    assert power(150, 0, churn=0.01) == pytest.approx(0.87, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"drop": 0.05}, "exactly the budget"),
        ({"drop": -0.1}, "drop is -0.1"),
        ({"drop": 0.9, "churn": 0.1}, "below 1"),
        ({"drop": 0.1, "power": 1.2}, "power is 1.2"),
        ({"drop": 0.1, "capabilities": 0}, "capabilities is 0"),
        ({"drop": 0.0501}, "further from 0.05"),
    ],
)
def test_impossible_plans_are_refused(arguments, message):
    with pytest.raises(BadInput, match=message):
        items_needed(**arguments)


@pytest.mark.parametrize(("lost", "groups"), [(0, 72), (1, 110), (2, 142)])
def test_the_least_groups_are_those_of_compare(lost, groups):
    assert least_groups(lost) == groups
    assert compare(*pair(groups, lost)).overall.verdict == "HELD"
    assert compare(*pair(groups - 1, lost)).overall.verdict == "UNDERPOWERED"


def test_no_budget_needs_no_end_of_groups():
    with pytest.raises(BadInput, match="no number of groups"):
        least_groups(0, budget=0)
