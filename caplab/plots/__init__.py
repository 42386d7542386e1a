"""How does one result look? Figures of scorecards and runs, each with its finding as title."""

from caplab.plots.in_turn import in_turn
from caplab.plots.many_runs import kl, trade_off
from caplab.plots.picture import Picture
from caplab.plots.runs import looks, run
from caplab.plots.scorecards import before_after, scorecard
from caplab.support.colours import BUDGET, GUARD, INK, NEW, OLD, PAPER

__all__ = [
    "BUDGET",
    "GUARD",
    "INK",
    "NEW",
    "OLD",
    "PAPER",
    "Picture",
    "before_after",
    "in_turn",
    "kl",
    "looks",
    "run",
    "scorecard",
    "trade_off",
]
