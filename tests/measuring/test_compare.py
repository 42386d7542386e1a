import math
from dataclasses import replace

import numpy as np
import pytest
from answers_made import CLASSICS, card, flipped, known, pair, spoken
from scipy.stats import binom, binomtest

from caplab.measuring.compare import METRICS, compare
from caplab.measuring.policy import Policy
from caplab.support.errors import BadInput

COUNTED = ("accuracy", "accuracy_norm")


# ---------------------------------------------------------------- counting decides


@pytest.mark.parametrize(
    ("budget", "least"), [(0.02, (183, 277, 359)), (0.05, (72, 110, 142)), (0.1, (36, 54, 70))]
)
def test_least_groups_for_held(budget, least):
    for lost, n in enumerate(least):
        assert compare(*pair(n, lost), budget=budget).verdict == "HELD"
        assert compare(*pair(n - 1, lost), budget=budget).verdict == "UNDERPOWERED"


def test_an_identical_copy_is_no_evidence_on_a_small_exam():
    before, _ = pair(30)
    report = compare(before, replace(before, subject="copy"))
    assert (report.overall.change, report.verdict) == (0, "UNDERPOWERED")
    assert compare(card(np.ones(232)), card(np.ones(232))).verdict == "HELD"


def test_a_share_among_choices_acquits_nothing():
    before, after = pair(30)
    for metric in METRICS:
        assert compare(before, after, metric=metric).verdict != "HELD"
    for metric in ("share", "probability"):
        base, _ = pair(2000)
        large = compare(base, base, metric=metric)
        assert large.verdict == "UNDERPOWERED"
        assert "cannot acquit" in large.overall.note


def test_one_destroyed_capability_regressed():
    margins = known(np.random.default_rng(1))
    report = compare(card(margins), card(flipped(margins, range(60, 95))))
    assert report.regressed == ["arithmetic", "overall"]
    assert report["capitals"].verdict == "UNDERPOWERED"


def test_a_wider_budget_forgives_more():
    before, after = pair(300, lost=30)
    verdicts = [compare(before, after, budget=budget).verdict for budget in (0.05, 0.1, 0.2)]
    assert verdicts == ["REGRESSED", "UNDERPOWERED", "HELD"]


def test_the_verdict_follows_from_the_interval():
    for lost in range(0, 200, 5):
        row = compare(*pair(200, lost), budget=0.2).overall
        expected = "HELD" if row.low >= -0.2 else "UNDERPOWERED"
        assert row.verdict == ("REGRESSED" if row.joint_high < -0.2 else expected)


def test_the_default_budget_is_five_in_a_hundred():
    assert compare(*pair(80)).budget == 0.05


# ---------------------------------------------------------------- what is no longer said


def collapsed(count, n=60, kept=0.01):
    """All still preferred; some of the right answers keep a hundredth of their probability."""
    margins, sizes = np.full(n, 3.0), {"capitals": n}
    said = np.where(np.arange(n) < count, -0.2 + math.log(kept), -0.2)
    return card(margins, sizes=sizes), card(margins, said=said, sizes=sizes)


def test_answers_no_longer_said_convict():
    report = compare(*collapsed(20))
    assert report.overall.change == 0
    assert report.verdict == "REGRESSED"
    assert report.sentence.endswith("preferred, but no longer said: 20 of 60 in capitals")
    assert "20 of 60 right answers are preferred, but no longer said" in report.overall.note
    assert report.overall.collapsed == 20
    assert report.overall.by_collapse
    assert "REGRESSED*" in repr(report)
    assert "REGRESSED*</span>" in report._repr_html_()
    assert "* not by counting: too many right answers are no longer said" in repr(report)


def test_a_few_answers_no_longer_said_stand_in_the_way():
    report = compare(*collapsed(20, n=300))
    assert report.overall.low > -0.05
    assert (report.overall.verdict, report.verdict) == ("UNDERPOWERED", "UNDERPOWERED")
    assert "seen to lose .07" in report.sentence


def test_probability_that_falls_less_is_no_collapse():
    assert compare(*collapsed(60, kept=0.11)).overall.collapsed == 0


def test_answers_the_base_would_not_have_said_are_left_out():
    """SmolLM2 gives a bare "Tokyo" .001: harmless changes of form move that tenfold."""
    margins, sizes = np.full(300, 3.0), {"capitals": 300}
    before = card(margins, said=np.full(300, math.log(0.001)), sizes=sizes)
    after = card(margins, said=np.full(300, math.log(0.00001)), sizes=sizes)
    assert compare(before, after).verdict == "HELD"


def test_the_whole_answer_counts_however_long():
    before, after = collapsed(60)
    long = {"characters": ((40, 40, 40, 40),) * 60}
    assert compare(replace(before, **long), replace(after, **long)).verdict == "REGRESSED"


def test_an_impossible_answer_counts_as_lost():
    margins = known(np.random.default_rng(4))
    after = replace(card(margins), loglikelihoods=tuple((-math.inf,) * 4 for _ in margins))
    for metric in METRICS:
        assert compare(card(margins), after, metric=metric).verdict == "REGRESSED"


# ---------------------------------------------------------------- said and chosen apart


def mixed(spoken_lost, chosen_lost=0, n=150):
    """Half of the questions say right or wrong only, the other half have choices."""
    sizes = {"capitals": n}
    old, new = spoken(np.ones(n), sizes), spoken(np.arange(n) >= spoken_lost, sizes)
    before, after = pair(n, chosen_lost)
    four = {"answer": before.answer, "characters": before.characters}
    assert four["answer"]

    def joined(one, other):
        fields = ("capability", "answer", "loglikelihoods", "characters")
        return replace(one, **{f: getattr(one, f) + getattr(other, f) for f in fields})

    return joined(old, before), joined(new, after)


def test_said_and_chosen_have_rows_of_their_own():
    report = compare(*mixed(0))
    names = ["capitals, said", "capitals, chosen", "overall, said", "overall, chosen"]
    assert [row.name for row in report.rows] == names
    assert report.overall.name == "overall, said"
    assert report.verdict == "HELD"


def test_a_loss_in_what_is_said_does_not_hide_behind_choices():
    report = compare(*mixed(9))
    assert report["overall, chosen"].verdict == "HELD"
    assert report["overall, said"].verdict == "UNDERPOWERED"
    assert report.verdict == "UNDERPOWERED"


def silenced(said_lost=0):
    """Choices whose right answers are no longer said, beside spoken questions, and without any."""
    before, after = mixed(said_lost)
    faint = [[nats - 5 for nats in row] for row in after.loglikelihoods[150:]]
    return before, replace(after, loglikelihoods=(*after.loglikelihoods[:150], *map(tuple, faint)))


def test_collapse_is_a_note_where_answers_are_heard():
    report = compare(*silenced())
    row = report["capitals, chosen"]
    assert row.collapsed == 150
    assert (row.verdict, report["overall, chosen"].verdict) == ("HELD", "HELD")
    assert row.note.endswith(
        "no longer said (under 10 % of their probability is left); what it "
        "says was asked, and decides"
    )
    assert report.verdict == "HELD"


def test_collapse_convicts_where_nobody_listens():
    before, after = silenced()
    names = ("sums",) * 150
    before, after = (replace(c, capability=c.capability[:150] + names) for c in (before, after))
    report = compare(before, after)
    assert report["capitals"].verdict == "HELD"
    assert report["sums"].verdict == "REGRESSED"
    assert report["overall, chosen"].verdict == "REGRESSED"


def test_what_is_said_convicts_alone():
    report = compare(*mixed(60))
    assert report["capitals, said"].verdict == "REGRESSED"
    assert report["capitals, chosen"].verdict == "HELD"
    assert report.verdict == "REGRESSED"


def test_cards_asked_differently_are_refused():
    before, after = pair(4)
    with pytest.raises(BadInput, match=r"was asked plainly, 'pocket' through its chat template"):
        compare(before, replace(after, asked="chat"))


def test_written_answers_have_no_level_of_chance():
    sizes = {"capitals": 80}
    before, after = spoken(np.arange(80) < 8, sizes), spoken(np.arange(80) < 8, sizes)
    assert "never knew" not in compare(before, after).overall.note


# ---------------------------------------------------------------- groups


def test_phrasings_of_one_fact_are_one_piece_of_evidence():
    groups = [f"fact {n // 4}" for n in range(80)]
    alone, grouped = compare(*pair(80)), compare(*pair(80, group=groups))
    assert (alone.overall.groups, grouped.overall.groups) == (80, 20)
    assert (alone.verdict, grouped.verdict) == ("HELD", "UNDERPOWERED")


def test_groups_of_one_are_no_groups():
    plain, named = (
        compare(*pair(80, 2, 1)),
        compare(*pair(80, 2, 1, group=[str(n) for n in range(80)])),
    )
    assert plain == named


def test_a_row_weighs_groups_equally():
    groups = ["France"] * 9 + ["Spain"]
    row = compare(*pair(10, lost=9, group=groups), budget=0.5).overall
    assert (row.change, row.after) == (-0.5, 0.5)


def test_cards_with_different_groups_are_refused():
    before, after = pair(4)
    with pytest.raises(BadInput, match="different groups"):
        compare(before, replace(after, group=("a", "a", "b", "b")))


# ---------------------------------------------------------------- the whole


def test_to_convict_correct_to_acquit_do_not():
    report = compare(card(np.ones(232)), card(np.ones(232)))
    for row in report.rows:
        assert row.joint_low < row.low <= row.high < row.joint_high
    single = compare(*pair(80)).overall  # one capability is the whole: nothing to correct
    assert (single.joint_low, single.joint_high) == (single.low, single.high)
    both = compare(*mixed(0)).overall  # what is said and what is chosen: two
    assert -both.joint_low == pytest.approx(1 - 0.0125 ** (1 / 150), abs=1e-6)


def test_p_values_are_exact_and_corrected():
    margins = known(np.random.default_rng(5))
    report = compare(card(margins), card(flipped(margins, range(9))))
    exact = binomtest(9, 9).pvalue
    assert report["capitals"].p_value == pytest.approx(6 * exact, rel=1e-4)
    assert report["sounds"].p_value == 1


def test_interval_and_p_value_agree():
    for lost in range(0, 30, 3):
        for gained in range(0, 30 - lost, 4):
            row = compare(*pair(30, lost, gained), budget=0).overall
            assert (row.low <= 0 <= row.high) == (row.p_value > 0.05)


def refunds(lost, n=8, others=60):
    """Five capabilities are intact; the sixth is small and loses some."""
    sizes = dict.fromkeys("abcde", others) | {"refunds": n}
    margins, first = np.ones(5 * others + n), 5 * others
    after = flipped(margins, first + np.arange(lost))
    return card(margins, sizes=sizes), card(after, sizes=sizes)


def test_a_small_destroyed_capability_stops_the_whole():
    report = compare(*refunds(6), budget=0.05)
    assert report.overall.verdict == "HELD"
    assert report.verdict != "HELD"


def test_a_watched_capability_is_reported_as_not_excluded():
    report = compare(*refunds(0))
    assert report.verdict == "HELD"
    assert "not excluded: up to" in report.sentence
    assert ".37 of refunds" in report.sentence


def test_must_keep_has_to_be_held_itself():
    policy = Policy(capability={"refunds": {"tier": "must-keep"}})
    report = compare(*refunds(0), policy=policy)
    assert report.verdict == "UNDERPOWERED"
    assert "refunds: up to .37 may be gone (budget .05), 64 more groups would decide" in (
        report.sentence
    )
    assert compare(*refunds(0, n=72), policy=policy).verdict == "HELD"


def test_strict_makes_all_must_keep():
    assert compare(*refunds(0)).verdict == "HELD"
    assert compare(*refunds(0), strict=True).verdict == "UNDERPOWERED"


def test_advisory_never_decides():
    policy = Policy(capability={"refunds": {"tier": "advisory"}})
    lost = refunds(9, n=9, others=80)
    report = compare(*lost, policy=policy)
    assert report["refunds"].verdict == "REGRESSED"
    assert (report.regressed, report.verdict) == ([], "HELD")
    assert compare(*lost).verdict == "REGRESSED"


def test_a_capability_may_have_its_own_budget():
    before, after = refunds(4, n=60)
    generous = Policy(capability={"refunds": {"budget": 0.3}})
    assert compare(before, after).verdict == "UNDERPOWERED"
    assert compare(before, after, policy=generous).verdict == "HELD"


def test_more_groups_would_decide():
    row = compare(*pair(50)).overall
    assert row.more_groups == 22
    losing = compare(*pair(20, lost=3)).overall
    assert losing.verdict == "UNDERPOWERED"
    more = losing.more_groups
    assert compare(*pair(20 + more, lost=round(3 * (20 + more) / 20))).verdict == "REGRESSED"
    assert compare(*pair(40, lost=2)).overall.more_groups is None  # exactly the budget


# ---------------------------------------------------------------- floors and other metrics


def test_a_base_at_chance_has_nothing_to_lose():
    row = compare(*pair(400, lost=1, gained=1, knew=104), budget=0.2).overall
    assert row.low > -0.2
    assert row.verdict == "UNDERPOWERED"
    assert "never knew" in row.note


def test_a_collapse_of_probability_is_a_ratio():
    margins = known(np.random.default_rng(3))
    before = card(margins, said=np.full(len(margins), math.log(0.09)))
    after = card(margins, said=np.full(len(margins), math.log(0.0005)))
    row = compare(before, after, metric="probability").overall
    assert row.verdict == "REGRESSED"
    assert row.change == pytest.approx(0.0005 / 0.09 - 1)
    assert compare(before, after).overall.kept == pytest.approx(0.0005 / 0.09)


def test_share_is_on_the_scale_of_accuracy():
    margins = known(np.random.default_rng(9))
    before, after = card(margins), card(margins, said=np.full(len(margins), -0.2 + math.log(0.5)))
    row = compare(before, after, metric="probability").overall
    assert (row.before, row.change) == pytest.approx((math.exp(-0.2), -0.5))
    assert compare(before, after, metric="share").overall.change == pytest.approx(0)


def test_accuracy_norm_divides_by_length():
    before, after = pair(30)
    sizes = {"answer": (0,) * 30, "characters": ((1, 100, 100, 100),) * 30}
    before, after = replace(before, **sizes), replace(after, **sizes)
    row = compare(before, after, metric="accuracy_norm").overall
    assert row.after == np.mean(after.correct_norm)


def test_swapping_before_and_after_mirrors():
    rng = np.random.default_rng(7)
    before, after = card(known(rng) - 4), card(known(rng) - 5)
    there, back = compare(before, after), compare(after, before)
    for row, mirrored in zip(there.rows, back.rows, strict=True):
        assert (row.low, row.high) == pytest.approx((-mirrored.high, -mirrored.low))
        assert (row.change, row.lost) == pytest.approx((-mirrored.change, mirrored.gained))


def test_the_order_of_items_changes_nothing():
    rng = np.random.default_rng(8)
    groups = [f"{n // 3}" for n in range(232)]
    before, after = card(known(rng), group=groups), card(known(rng) - 3, group=groups)
    order = rng.permutation(232)

    def shuffled(one):
        fields = ("capability", "answer", "loglikelihoods", "characters", "group")
        return replace(one, **{f: tuple(getattr(one, f)[i] for i in order) for f in fields})

    report, other = compare(before, after), compare(shuffled(before), shuffled(after))
    for name in CLASSICS:
        assert other[name].low == pytest.approx(report[name].low)
        assert other[name].verdict == report[name].verdict


# ---------------------------------------------------------------- do the rates hold?


def rates(n, loss, gain, budget):
    """Return how often one capability of n is called HELD and REGRESSED: exactly, by compare."""
    held = regressed = 0.0
    for lost in range(int(binom.isf(1e-7, n, loss + gain)) + 1):
        for gained in range(int(binom.isf(1e-7, n, gain)) + 1 if gain else 1):
            if lost + gained <= n:
                chance = binom.pmf(lost, n, loss + gain)
                chance *= binom.pmf(gained, n - lost, gain / (1 - loss - gain)) if gain else 1
                verdict = compare(*pair(n, lost, gained), budget=budget).verdict
                held += chance * (verdict == "HELD")
                regressed += chance * (verdict == "REGRESSED")
    return held, regressed


@pytest.mark.parametrize(("n", "budget"), [(30, 0.02), (60, 0.02), (80, 0.05), (60, 0.1)])
@pytest.mark.parametrize("gain", [0, 0.02])
def test_wrong_verdicts_are_rare(n, budget, gain):
    held, _ = rates(n, budget + 0.001, gain, budget)
    _, regressed = rates(n, budget, gain, budget)
    assert held <= 0.025
    assert regressed <= 0.025


def test_phrasings_raise_no_false_alarms():
    """15 facts in 4 phrasings that move together: 8.5 % once, by taking them for independent."""
    rng, groups = np.random.default_rng(0), [f"{n // 4}" for n in range(60)]
    alarms = 0
    for _ in range(200):
        moved = np.repeat(rng.choice([-1, 0, 1], 15, p=[0.1, 0.8, 0.1]), 4)  # (60,)
        before, after = np.where(moved > 0, -1.0, 1.0), np.where(moved < 0, -1.0, 1.0)
        sizes = {"capitals": 60}
        cards = [card(one, sizes=sizes, group=groups) for one in (before, after)]
        alarms += compare(*cards, budget=0).verdict == "REGRESSED"
    assert alarms <= binom.isf(0.001, 200, 0.025)


# ---------------------------------------------------------------- bad input


def test_different_exams_are_told_apart():
    one = card(np.ones(24), sizes={"capitals": 24})
    few = card(np.ones(23), sizes={"capitals": 23}, fingerprint="x")
    others = {
        "24 and 23 questions on capitals": few,
        "0 and 24 questions on sounds": card(np.ones(24), sizes={"sounds": 24}, fingerprint="x"),
        "not the same ones": replace(one, fingerprint="x"),
        "'classics' and 'task'": replace(one, exam="task", fingerprint="x"),
    }
    for difference, other in others.items():
        with pytest.raises(BadInput, match=difference):
            compare(one, other)


def test_a_diverged_model_is_named():
    one = card(np.ones(24), sizes={"capitals": 24})
    rows = list(one.loglikelihoods)
    rows[3] = (math.nan,) * 4
    with pytest.raises(BadInput, match=r"Item 3 \(capitals\) of 'broken'.*1 of 24"):
        compare(one, replace(one, subject="broken", loglikelihoods=tuple(rows)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": -0.1}, "budget is -0.1"),
        ({"budget": 2}, "budget is 2"),
        ({"budget": math.nan}, "budget is nan"),
        ({"confidence": 95}, "confidence is 95"),
        ({"metric": "acuracy"}, "Did you mean 'accuracy'"),
        ({"seed": -1}, "seed is -1"),
        ({"strict": "yes"}, "strict is True or False"),
        ({"policy": Policy(), "budget": 0.1}, "not both"),
        ({"policy": Policy(capability={"capitols": {}})}, "Did you mean 'capitals'"),
    ],
)
def test_odd_options_are_refused(options, message):
    one = card(np.ones(24), sizes={"capitals": 24})
    with pytest.raises(BadInput, match=message):
        compare(one, one, **options)


def test_nothing_to_compare_is_refused():
    with pytest.raises(BadInput, match=r"two scorecards.*0\.97"):
        compare(0.97, 0.48)
    with pytest.raises(BadInput, match="no questions"):
        card(np.ones(0), sizes={})
    reserved = card(np.ones(3), sizes={"overall": 3})
    with pytest.raises(BadInput, match="rename"):
        compare(reserved, reserved)
