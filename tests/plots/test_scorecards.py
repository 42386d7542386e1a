"""Pictures of one scorecard, and of two compared."""

from dataclasses import replace

import pytest
from drawings import card, words

from caplab import plots
from caplab.measuring.compare import compare
from caplab.measuring.policy import Policy


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
    (line,) = [line for line in right.lines if line.get_linestyle() == "--"]
    assert {*line.get_xdata()} == {-report.budget}


def test_each_row_has_its_own_budget_and_tier(base):
    rules = {"capitals": {"budget": 0.02, "tier": "must-keep"}, "how-to": {"budget": 0.3}}
    policy = Policy(capability=rules | {"sounds": {"tier": "advisory"}})
    picture = plots.before_after(compare(base, base, policy=policy))
    right = picture.axes[1]
    (line,) = [line for line in right.lines if line.get_linestyle() == "--"]
    corners = line.get_xydata().tolist()
    own = (0.02, 0.05, 0.3, 0.05, 0.05)
    assert [x for x, _ in corners] == [-budget for budget in own for _ in range(2)]
    assert all(
        low[1] <= y <= high[1]
        for y, low, high in zip(range(5), corners[::2], corners[1::2], strict=True)
    )
    assert right.get_xlim()[0] < -0.3
    shown = words(picture)
    assert {"capitals (60, must-keep)", "how-to (40)", "sounds (32, advisory)"} <= {*shown}
    assert [word for word in shown if word.startswith(".")].count(".30 ") == 1


def test_groups_and_tier_are_named_in_full(base):
    grouped = replace(base, group=tuple(f"{n // 4}" for n in range(192)))
    policy = Policy(capability={"capitals": {"tier": "must-keep"}})
    shown = words(plots.before_after(compare(grouped, grouped, policy=policy)))
    assert {"capitals (60 in 15 groups, must-keep)", "overall (192 in 48 groups)"} <= {*shown}


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
