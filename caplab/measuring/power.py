"""Plan exams that are large enough to tell."""

from typing import Any

from caplab.measuring.compare import check_options
from caplab.measuring.intervals import mcnemar_test, score_statistic, z_value
from caplab.support.errors import BadInput, as_number, short_repr

__all__ = ["items_needed", "power"]
_LARGEST_EXAM = 100_000


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
    if not 0 < as_number(power) < 1:
        raise BadInput(
            f"power is {short_repr(power)}: give a probability between 0 and 1, such as .8."
        )
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


def _power(n: int, drop: float, budget: float, alpha: float, churn: float) -> float:
    import numpy as np
    from scipy.special import bdtrc
    from scipy.stats import binom

    lost, gained = np.meshgrid(_outcomes(n, churn + drop), _outcomes(n, churn), indexing="ij")
    flipped = lost + gained <= n
    lost, gained = lost[flipped], gained[flipped]
    chances = binom.pmf(lost, n, churn + drop)
    chances *= binom.pmf(gained, n - lost, churn / (1 - churn - drop))
    score = score_statistic(lost, gained, n, -budget)
    if drop < budget:
        return float(chances[score >= z_value(alpha)].sum())
    exact = (mcnemar_test(lost, gained) <= alpha) & (bdtrc(lost - 1, n, budget) <= alpha / 2)
    return float(chances[(score < -z_value(alpha)) & exact].sum())


def _outcomes(n: int, share: float) -> Any:
    """Return the counts of a binomial that are not absurdly improbable."""
    import numpy as np
    from scipy.stats import binom

    fewest, most = binom.ppf(1e-9, n, share), binom.isf(1e-9, n, share)
    return np.arange(max(fewest, 0.0), most + 1)


def _check_count(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise BadInput(f"{name} is {short_repr(value)}: give a whole number, at least one.")


def _check_plan(
    drop: float, budget: float, confidence: float, churn: float, capabilities: int
) -> None:
    check_options(budget, confidence, "accuracy")
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
