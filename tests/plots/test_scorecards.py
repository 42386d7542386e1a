"""Pictures of one scorecard, and of two compared."""

from dataclasses import replace

import pytest
from drawings import card, words

from caplab import plots
from caplab.measuring.compare import compare


def test_a_scorecard_shows_all_it_knows(base):
    picture = plots.scorecard(base)
    assert picture.finding == "pocket answers .96 of classics right; weakest: how-to, .95"
    shown = words(picture)
    assert {"capitals (60)", "overall (192)", "chance", ".96"} <= set(shown)
    (axes,) = picture.axes
    means = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert means == pytest.approx([*base.by_capability.values(), base.accuracy])


def test_chance_follows_the_choices():
    two = plots.scorecard(card([True] * 192, choices=2))
    segments = two.axes[0].collections[0].get_segments()
    assert segments[0][0][0] == 0.5


def test_equals_have_no_weakest():
    assert plots.scorecard(card([True] * 192)).finding == "pocket answers 1.00 of classics right"


def test_before_after_draws_the_report(report):
    left, right = plots.before_after(report).axes
    dots = [line.get_xdata()[0] for line in left.lines if line.get_marker() == "o"]
    assert dots == [level for row in report.rows for level in (row.before, row.after)]
    intervals = [tuple(line.get_xdata()) for line in right.lines if len(line.get_xdata()) == 2]
    assert {(row.low, row.high) for row in report.rows} <= set(intervals)
    assert {(row.joint_low, row.joint_high) for row in report.rows} <= set(intervals)
    assert (-report.budget, -report.budget) in intervals


def test_titles_come_from_the_data(base):
    some = card([i % 30 > 0 and i > 50 for i in range(192)])
    copy, lost, small = compare(base, base), compare(base, some), card([True] * 10, {"a": 10})
    few = compare(small, card([True] * 9 + [False], {"a": 10}))
    assert plots.before_after(copy).finding == "classics .96, was .96: HELD"
    assert plots.before_after(lost).finding == "classics .71, was .96: REGRESSED in capitals"
    many = compare(base, card([i % 30 > 0 and i % 2 > 0 for i in range(192)]))
    assert plots.before_after(many).finding.endswith("REGRESSED in 4 of 4 capabilities")
    assert plots.before_after(few).finding.endswith("too few groups to tell")


def test_collapse_has_a_star_and_a_footnote(base):
    """Each right answer is still preferred, and has become too unlikely to be said."""
    unlikely = tuple(tuple(nats - 4 for nats in row) for row in base.loglikelihoods)
    shown = words(plots.before_after(compare(base, replace(base, loglikelihoods=unlikely))))
    assert "REGRESSED*" in shown
    assert any("* preferred, but no longer said: " in text for text in shown)
    counted = words(plots.before_after(compare(base, card([False] * 192))))
    assert not any("*" in text for text in counted)


def test_odd_names_are_drawn_as_they_are():
    odd = card([True] * 192, {"$x_1": 60, "a^b$": 60, "<b>" * 30: 72}, subject="$\\frac{")
    assert plots.scorecard(odd).png()
    assert plots.before_after(compare(odd, odd)).png()
