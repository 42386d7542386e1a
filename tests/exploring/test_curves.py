"""The curves: their ends, and the names there."""

from itertools import pairwise

from panels import outcome, point, trained

from caplab.exploring.curves import _apart, draw_curves
from caplab.exploring.drawing import render
from caplab.exploring.state import Mix, Pin


def test_a_curve_ends_with_all_questions():
    sampled = trained(outcome=None, phase="training")
    assert "classics ≈ .48" in render(sampled), "a sample is never shown as if it were all"
    assert "classics .31" in render(trained(outcome=outcome(after=31)))


def test_the_ends_ask_all_questions():
    sampled = (point(0, 0.25, 1.0), point(30, 0.7, 0.8), point(60, 0.9, 0.6))
    ended = trained(points=sampled, base=(0.28, 0.97))
    levels = [(each.task_accuracy, each.classics_accuracy) for each in ended.seen]
    assert levels == [(0.28, 0.97), (0.7, 0.8), (0.93, 0.48)]
    assert ended.seen[-1].by_capability == ended.outcome.after.by_capability
    assert render(ended).count("cl-last cl-old") == 2 * 2, "both ends, on wide and narrow pages"
    running = trained(points=sampled[:2], outcome=None, base=(0.28, 0.97))
    assert running.seen[-1] == sampled[1]


def test_on_the_way_back_the_curves_say_whose_they_are():
    assert "steps to the tuned model" not in draw_curves(trained())
    back = trained(alpha=0.4, mixes={0.4: Mix(0.4, outcome(), ())})
    assert "steps to the tuned model" in draw_curves(back)


def test_a_pin_keeps_both_curves():
    pin = Pin(1, "full 2e-3", (0.9, 0.5), (point(0), point(60)))
    drawn = draw_curves(trained(pins=(pin,)))
    assert drawn.count("cl-mean cl-old") == drawn.count("cl-mean cl-new") == 1


def test_names_at_the_edge_do_not_overlap():
    for levels in ([100.0, 101.0, 99.0], [270.0, 275.0, 280.0], [10.0, 200.0]):
        moved = sorted(_apart(levels, 19, 280))
        assert all(low - high >= 19 for high, low in pairwise(moved))
        assert moved[-1] <= 280
