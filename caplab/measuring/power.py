"""Plan exams that are large enough: how often do so many groups lead to the right verdict?"""

from typing import Any

import numpy as np

from caplab.measuring.intervals import tails
from caplab.measuring.policy import BUDGET, CONFIDENCE, check_budget, check_confidence
from caplab.support.errors import BadInput, as_number, is_count, short_repr

__all__ = ["items_needed", "least_groups", "power"]

_LARGEST_EXAM = 100_000
_ABSURD = 1e-9  # outcomes that are rarer are left out


def power(
    n: int,
    drop: float,
    *,
    budget: float = BUDGET,
    confidence: float = CONFIDENCE,
    churn: float = 0.02,
    capabilities: int = 1,
) -> float:
    """Return how probably `n` groups per capability lead to the right verdict on a true `drop`.

    Right is REGRESSED for a drop beyond the budget, HELD for a smaller one. `churn` is the share
    of groups that harmless training turns from wrong to right, and as many the other way. Exact,
    over all outcomes of counting, for groups of one question each. Only REGRESSED is corrected for
    the number of `capabilities` (and the overall row beside them).
    """
    _check_plan(drop, budget, confidence, churn, capabilities)
    _check_count("n", n)
    return _power(n, drop, budget, _alpha(drop, budget, confidence, capabilities), churn)


def items_needed(
    drop: float,
    power: float = 0.8,
    *,
    budget: float = BUDGET,
    confidence: float = CONFIDENCE,
    churn: float = 0.02,
    capabilities: int = 1,
) -> int:
    """Return how many groups per capability lead to the right verdict with probability `power`.

    `items_needed(0.1)` plans an exam that calls a true drop of .1 REGRESSED in four of five cases
    (a power of 80 %), `items_needed(0)` one that calls harmless training HELD. A question without a
    group is a group of its own.
    """
    _check_plan(drop, budget, confidence, churn, capabilities)
    if not 0 < as_number(power) < 1:
        raise BadInput(
            f"power is {short_repr(power)}: give a probability between 0 and 1, such as .8."
        )
    alpha = _alpha(drop, budget, confidence, capabilities)
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


def least_groups(lost: int, *, budget: float = BUDGET, confidence: float = CONFIDENCE) -> int:
    """Return how many groups a row needs to be HELD if `lost` of them are lost and none gained."""
    check_budget(budget)
    check_confidence(confidence)
    if not budget:
        raise BadInput("budget is 0: no number of groups can exclude every loss.")
    few, enough = lost, max(8, 2 * lost)
    while not _is_held(lost, enough, budget, confidence):
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = (few + enough) // 2
        held = _is_held(lost, middle, budget, confidence)
        few, enough = (few, middle) if held else (middle, enough)
    return enough


def _is_held(lost: int, n: int, budget: float, confidence: float) -> bool:
    below, _ = tails([-1, 0], np.array([[lost, n - lost]]), -budget)
    return bool(below[0] <= (1 - confidence) / 2)


def _alpha(drop: float, budget: float, confidence: float, capabilities: int) -> float:
    """Return the error that the deciding interval allows: to convict it is shared by all rows."""
    rows = capabilities + 1 if capabilities > 1 else 1
    return (1 - confidence) / (rows if drop > budget else 1)


def _power(n: int, drop: float, budget: float, alpha: float, churn: float) -> float:
    """Add up the probabilities of all outcomes that lead to the right verdict."""
    from scipy.stats import binom

    lost, gained = np.meshgrid(_outcomes(n, churn + drop), _outcomes(n, churn), indexing="ij")
    possible = lost + gained <= n
    lost, gained = lost[possible], gained[possible]
    chances = binom.pmf(lost, n, churn + drop)
    chances *= binom.pmf(gained, n - lost, churn / (1 - churn - drop))
    counts = np.stack([lost, n - lost - gained, gained], axis=1)  # (outcomes, levels)
    below, above = tails([-1, 0, 1], counts, -budget)
    right = below <= alpha / 2 if drop < budget else above < alpha / 2
    return float(chances[right].sum())


def _outcomes(n: int, share: float) -> Any:
    """Return the counts of a binomial that are not absurdly improbable."""
    from scipy.stats import binom

    fewest, most = binom.ppf(_ABSURD, n, share), binom.isf(_ABSURD, n, share)
    return np.arange(max(fewest, 0.0), most + 1)


def _check_plan(
    drop: float, budget: float, confidence: float, churn: float, capabilities: int
) -> None:
    check_budget(budget)
    check_confidence(confidence)
    if not (as_number(drop) >= 0 and as_number(churn) >= 0 and drop + 2 * churn < 1):
        raise BadInput(
            f"drop is {short_repr(drop)}, churn {short_repr(churn)}: give shares of 0 or more with "
            "drop + 2 churn below 1."
        )
    if drop == budget:
        raise BadInput(
            f"A drop of exactly the budget ({budget}) is neither REGRESSED nor HELD, however many "
            "items there are: plan for a larger drop, or for 0."
        )
    _check_count("capabilities", capabilities)


def _check_count(name: str, value: int) -> None:
    if not is_count(value, 1):
        raise BadInput(f"{name} is {short_repr(value)}: give a whole number, at least one.")
