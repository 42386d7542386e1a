"""How does one result look?

Every title states a finding, computed from the data.
"""

from caplab.plots.many_runs import kl, trade_off
from caplab.plots.picture import BUDGET, GUARD, INK, NEW, OLD, PAPER, Picture
from caplab.plots.runs import looks, run
from caplab.plots.scorecards import before_after, scorecard

__all__ = [
    "BUDGET",
    "GUARD",
    "INK",
    "NEW",
    "OLD",
    "PAPER",
    "Picture",
    "before_after",
    "kl",
    "looks",
    "run",
    "scorecard",
    "trade_off",
]
