"""The curves: their ends, and the names there."""

from itertools import pairwise

from panels import outcome, trained

from caplab.exploring.curves import _apart
from caplab.exploring.drawing import render


def test_a_curve_ends_with_all_questions():
    sampled = trained(outcome=None, phase="training")
    assert "classics .48" in render(sampled)
    assert "classics .31" in render(trained(outcome=outcome(after=31)))


def test_names_at_the_edge_do_not_overlap():
    for levels in ([100.0, 101.0, 99.0], [270.0, 275.0, 280.0], [10.0, 200.0]):
        moved = sorted(_apart(levels, 19, 280))
        assert all(low - high >= 19 for high, low in pairwise(moved))
        assert moved[-1] <= 280
