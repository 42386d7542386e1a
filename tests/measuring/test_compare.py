import math
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from functools import cache

import caplab.stats as stats
import numpy as np
import pytest
from scipy.stats import binom, binomtest

from caplab.measuring.compare import compare
from caplab.measuring.intervals import bootstrap, wilson
from caplab.measuring.power import items_needed, power
from caplab.measuring.scorecard import Scorecard
from caplab.support.errors import BadInput

CLASSICS = {"capitals": 60, "arithmetic": 60, "how-to": 40, "opposites": 40, "sounds": 32}


def card(margins, said=None, sizes=CLASSICS, subject="pocket", fingerprint="f00d"):
    """Make a scorecard from each item's log-odds of the right answer against the best wrong one."""
    said = np.full(len(margins), -0.2) if said is None else said
    answer = tuple(item % 4 for item in range(len(margins)))
    rows = []
    for margin, right, place in zip(margins, said, answer, strict=True):
        row = [right - margin - step for step in (0.0, 0.5, 1.0)]
        rows.append(tuple(map(float, (*row[:place], right, *row[place:]))))
    return Scorecard(
        subject=subject,
        exam="classics",
        fingerprint=fingerprint,
        capability=tuple(name for name, n in sizes.items() for _ in range(n)),
        answer=answer,
        loglikelihoods=tuple(rows),
        characters=((5, 5, 5, 5),) * len(margins),
    )


def known(rng, sizes=CLASSICS):
    """Margins of a base that knows its classics well."""
    return rng.normal(6, 2, sum(sizes.values())).clip(min=0.5)


def flipped(margins, items):
    """The same margins, with the answers to some items turned from right to wrong or back."""
    margins = np.array(margins)
    margins[items] *= -1
    return margins


def small(n, lost=0, gained=0, knew=None):
    """Before and after of one capability of n items: `knew` right, then some lost, some gained."""
    sizes, knew = {"capitals": n}, n - gained if knew is None else knew
    before = np.where(np.arange(n) < knew, 3.0, -3.0)
    after = flipped(before, [*range(lost), *range(knew, knew + gained)])
    return card(before, sizes=sizes), card(0.4 * after, sizes=sizes)  # less sure: no acquittal


# ---------------------------------------------------------------- the three verdicts


def test_an_untouched_copy_differs_by_exactly_nothing_and_held():
    base = card(known(np.random.default_rng(0)))
    for metric in stats.METRICS:
        report = compare(base, replace(base, subject="copy"), metric=metric)
        assert {row.change for row in report.rows} == {0.0}
        assert {row.verdict for row in report.rows} == {"HELD"}


def test_an_untouched_copy_held_on_the_smallest_exam_and_on_a_base_that_only_guesses():
    for n, knew in ((1, 1), (10, 8), (40, 10)):
        before, _ = small(n, knew=knew)
        assert compare(before, before).verdict == "HELD"


def test_one_destroyed_capability_regressed_and_the_others_held():
    rng = np.random.default_rng(1)
    margins = known(rng)
    after = margins + rng.normal(-0.1, 0.1, len(margins))
    after[60:120] = rng.normal(-1, 3, 60)
    report = compare(card(margins), card(after))
    assert report.regressed == ["arithmetic", "overall"]
    assert {row.verdict for row in report.capabilities if row.name != "arithmetic"} == {"HELD"}
    assert report.verdict == "REGRESSED"


def test_a_small_drop_on_a_small_exam_is_underpowered():
    report = compare(*small(10, lost=1))
    assert report.verdict == "UNDERPOWERED"
    assert "189 items" in report.overall.note  # the least that can exclude a drop beyond .02
    assert compare(*small(10, lost=10)).verdict == "REGRESSED"


def test_a_drop_within_the_budget_is_no_regression_and_a_wider_budget_forgives_more():
    before, after = small(300, lost=30)
    assert compare(before, after, budget=0.05).verdict == "REGRESSED"
    assert compare(before, after, budget=0.1).verdict == "UNDERPOWERED"
    assert compare(before, after, budget=0.2).verdict == "HELD"


def test_every_verdict_says_on_which_side_of_the_budget_line_the_interval_lies():
    for lost in range(0, 200, 5):
        row = compare(*small(200, lost=lost), budget=0.2).overall
        expected = "HELD" if row.low >= -0.2 else "REGRESSED" if row.high < -0.2 else "UNDERPOWERED"
        assert row.verdict == expected


def test_interval_and_exact_test_never_contradict_each_other():
    for lost in range(0, 30, 2):
        for gained in range(0, 30 - lost, 3):
            row = compare(*small(30, lost, gained), budget=0).overall
            assert (row.low <= 0 <= row.high) == (row.p_value > 0.05)


def test_small_losses_of_probability_acquit_where_counting_answers_cannot():
    base = known(np.random.default_rng(2))
    report = compare(card(base), card(base - 0.05))
    assert report["sounds"].low < -0.1
    assert report["sounds"].verdict == "HELD"
    assert compare(card(base), card(base - 2.5))["sounds"].verdict == "UNDERPOWERED"


def test_probability_does_not_acquit_a_handful_of_items():
    sizes = {"capitals": stats.FEWEST - 1}
    base = known(np.random.default_rng(2), sizes)
    assert (
        compare(card(base, sizes=sizes), card(base - 0.01, sizes=sizes)).verdict == "UNDERPOWERED"
    )


def test_gains_of_probability_elsewhere_do_not_acquit_losses():
    """A model that grows surer of easy answers while hard ones slip away has lost something."""
    sizes, easy = {"a": 200}, np.arange(200) < 150
    before, after = np.where(easy, 1.0, 0.5), np.where(easy, 3.0, 0.1)
    after[-3:] = -0.1
    before, after = card(before, sizes=sizes), card(after, sizes=sizes)
    assert compare(before, after, metric="share").verdict == "HELD"
    assert compare(before, after).verdict == "UNDERPOWERED"


# ---------------------------------------------------------------- floors


def test_a_collapse_of_a_small_probability_does_not_pass_as_a_small_change():
    margins = known(np.random.default_rng(3))
    before = card(margins, said=np.full(len(margins), math.log(0.09)))
    after = card(margins, said=np.full(len(margins), math.log(0.0005)))
    row = compare(before, after, metric="probability").overall
    assert row.verdict == "REGRESSED"
    assert row.change == pytest.approx(0.0005 / 0.09 - 1)
    by_accuracy = compare(before, after).overall
    assert (by_accuracy.change, by_accuracy.verdict) == (0, "REGRESSED")
    assert "no longer said" in by_accuracy.note
    assert by_accuracy.kept == pytest.approx(0.0005 / 0.09)


def test_long_answers_are_not_called_collapsed_for_their_length():
    margins = known(np.random.default_rng(3))
    before, after = card(margins), card(margins, said=np.full(len(margins), -5.0))
    assert compare(before, after).verdict == "REGRESSED"
    sentences = {"characters": ((40, 40, 40, 40),) * len(margins)}
    assert compare(replace(before, **sentences), replace(after, **sentences)).verdict == "HELD"


def test_a_base_at_chance_has_nothing_to_lose():
    before, after = small(400, lost=1, gained=1, knew=104)
    row = compare(before, after, budget=0.2).overall
    assert row.low > -0.2
    assert row.verdict == "UNDERPOWERED"
    assert "never knew" in row.note


def test_an_answer_that_became_impossible_counts_as_a_loss():
    margins = known(np.random.default_rng(4))
    after = card(margins, said=np.full(len(margins), -math.inf))
    after = replace(after, loglikelihoods=tuple((-math.inf,) * 4 for _ in margins))
    for metric in stats.METRICS:
        assert compare(card(margins), after, metric=metric).verdict == "REGRESSED"


# ---------------------------------------------------------------- the numbers behind them


def test_score_interval_agrees_with_a_published_example():
    """Airway data of Bentur et al., interval of Tango (1998) in Fagerland et al. (2014)."""
    assert stats._score_interval(7, 1, 21, 0.05) == pytest.approx((-0.517, -0.026), abs=5e-4)


def test_score_interval_keeps_its_width_where_a_bootstrap_has_none():
    row = compare(*small(40)).overall
    assert (row.bootstrap_low, row.bootstrap_high) == (0, 0)
    assert row.low == pytest.approx(-0.0876, abs=1e-4)


def test_p_value_is_the_exact_mcnemar_test_corrected_for_the_number_of_capabilities():
    margins = known(np.random.default_rng(5))
    report = compare(card(margins), card(flipped(margins, range(9))))
    exact = binomtest(9, 9).pvalue
    assert report["capitals"].p_value == pytest.approx(5 * exact)
    assert report.overall.p_value == pytest.approx(exact)
    assert report["sounds"].p_value == 1


def test_bootstrap_agrees_with_student_on_well_behaved_differences():
    values = np.random.default_rng(6).normal(size=200)
    reach = 1.972 * values.std(ddof=1) / math.sqrt(200)
    expected = (values.mean() - reach, values.mean() + reach)
    assert bootstrap(values) == pytest.approx(expected, abs=0.02)
    assert bootstrap(values, seed=1) != bootstrap(values) == bootstrap(values)


def test_exams_of_many_thousand_items_need_little_memory():
    values = np.random.default_rng(6).normal(size=20_000)
    tracemalloc.start()
    bootstrap(values, resamples=400)
    stats._sign_flip_test(values, seed=0)
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()


def test_swapping_before_and_after_mirrors_the_report():
    rng = np.random.default_rng(7)
    before, after = card(known(rng) - 4), card(known(rng) - 5)
    there, back = compare(before, after), compare(after, before)
    for row, mirrored in zip(there.rows, back.rows, strict=True):
        assert (row.low, row.high) == pytest.approx((-mirrored.high, -mirrored.low))
        assert (row.change, row.lost) == (-mirrored.change, mirrored.gained)


def test_the_order_of_items_changes_nothing():
    rng = np.random.default_rng(8)
    before, after = card(known(rng)), card(known(rng) - 3)
    order = rng.permutation(len(before.answer))

    def shuffled(one):
        fields = ("capability", "answer", "loglikelihoods", "characters")
        return replace(one, **{f: tuple(getattr(one, f)[i] for i in order) for f in fields})

    report, other = compare(before, after), compare(shuffled(before), shuffled(after))
    for name in CLASSICS:
        assert other[name].low == pytest.approx(report[name].low)
        assert other[name].verdict == report[name].verdict


def test_probability_is_compared_as_a_ratio_and_share_on_the_scale_of_accuracy():
    margins = known(np.random.default_rng(9))
    before, after = card(margins), card(margins, said=np.full(len(margins), -0.2 + math.log(0.5)))
    row = compare(before, after, metric="probability").overall
    assert (row.before, row.change) == pytest.approx((math.exp(-0.2), -0.5))
    assert compare(before, after, metric="share").overall.change == pytest.approx(0)


def test_accuracy_norm_divides_by_the_length_of_the_choices():
    before, after = small(30, lost=0)
    stretched = replace(after, characters=((1, 100, 100, 100),) * 30)
    after = replace(stretched, answer=(0,) * 30)
    before = replace(before, answer=(0,) * 30, characters=stretched.characters)
    assert compare(before, after, metric="accuracy_norm").overall.after == np.mean(
        after.correct_norm
    )


# ---------------------------------------------------------------- do the rates hold?


def outcomes(n, loss, gain):
    """All counts of lost and gained that can matter, with their probabilities."""
    lost, gained = np.meshgrid(stats._outcomes(n, loss), stats._outcomes(n, gain), indexing="ij")
    lost, gained = lost[lost + gained <= n], gained[lost + gained <= n]
    return lost, gained, binom.pmf(lost, n, loss) * binom.pmf(gained, n - lost, gain / (1 - loss))


@pytest.mark.parametrize("n", [24, 64, 260])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
def test_intervals_cover_the_true_change(n, alpha):
    """Exactly, over all outcomes: never far below the stated level, and above it on average."""
    covered = []
    for drop in (0, 0.02, 0.05, 0.3):
        for gain in (0, 0.01, 0.05):
            lost, gained, chances = outcomes(n, gain + drop, gain)
            likely = chances > 1e-7
            pairs = zip(lost[likely], gained[likely], chances[likely], strict=True)
            covered.append(sum(chance for *pair, chance in pairs if covers(*pair, n, alpha, -drop)))
    assert min(covered) >= 1 - alpha - 0.007
    assert np.mean(covered) >= 1 - alpha


def covers(lost, gained, n, alpha, change):
    low, high = interval(int(lost), int(gained), n, alpha)
    return low <= change <= high


interval = cache(stats._score_interval)


@pytest.mark.parametrize("n", [24, 64, 260])
@pytest.mark.parametrize("drop", [0, 0.02])
@pytest.mark.parametrize("gain", [0, 0.02, 0.1])
def test_false_alarms_stay_within_the_stated_level(n, drop, gain):
    """Many exams of 6 capabilities, n items each: at no change, and at exactly the budget."""
    rng = np.random.default_rng(0)
    lost = rng.binomial(n, gain + drop, size=(6, 20_000))
    gained = rng.binomial(n - lost, gain / (1 - gain - drop))
    alarms = convicted(lost, gained, n, 0.05 / 6).any(axis=0)
    alarms |= convicted(lost.sum(axis=0), gained.sum(axis=0), 6 * n, 0.05)
    assert alarms.mean() <= 0.05


def convicted(lost, gained, n, alpha):
    """Whether these counts are REGRESSED at a budget of .02: what `compare` says, for many."""
    pairs, places = np.unique(np.stack([lost, gained]).reshape(2, -1), axis=1, return_inverse=True)
    highs = [interval(int(a), int(b), n, alpha)[1] for a, b in pairs.T]
    significant = stats._mcnemar_test(*pairs) <= alpha
    return ((np.array(highs) < -0.02) & significant)[places].reshape(lost.shape)


def harmless(rng, margins, churn):
    """What a training that changes nothing on average does: some answers flip, either way."""
    return margins + rng.normal(0, churn, len(margins))


def test_compare_raises_no_more_false_alarms_than_stated_even_without_a_budget():
    rng = np.random.default_rng(10)
    alarms, trials = 0, 60
    for _ in range(trials):
        margins = rng.normal(1, 2, sum(CLASSICS.values()))  # a shaky base: every tenth answer flips
        before, after = harmless(rng, margins, 0.5), harmless(rng, margins, 0.5)
        alarms += compare(card(before), card(after), budget=0).verdict == "REGRESSED"
    assert alarms <= binom.isf(0.01, trials, 0.05)


@pytest.mark.parametrize("n", [24, 64])
def test_probability_seldom_acquits_a_true_drop_beyond_the_budget(n):
    """Margins of all items slip alike, until just over .02 of the answers are lost."""
    rng, sizes = np.random.default_rng(11), {"a": n}
    held = 0
    for _ in range(120):
        margins = rng.normal(6, 2, n)
        slipped = margins - rng.normal(1.3, 1.3, n)  # P(margin < 0) rises from .001 to .025
        held += compare(card(margins, sizes=sizes), card(slipped, sizes=sizes)).verdict == "HELD"
    assert held / 120 <= 0.05


def test_the_bootstrap_of_log_ratios_covers():
    rng = np.random.default_rng(12)
    true, covered = -0.3, 0
    for _ in range(300):
        low, high = bootstrap(rng.normal(true, 0.8, 24), resamples=1000)
        covered += low <= true <= high
    assert covered / 300 >= 0.92


# ---------------------------------------------------------------- planning


def test_planned_exams_deliver_the_power_they_promise():
    rng = np.random.default_rng(13)
    for drop, churn, verdict in ((0.2, 0.02, "REGRESSED"), (0.0, 0.002, "HELD")):
        n = items_needed(drop, 0.8, churn=churn)
        promised = power(n, drop, churn=churn)
        flips = rng.multinomial(n, [churn + drop, churn, 1 - drop - 2 * churn], size=40)
        pairs = (small(n, *map(int, counts[:2]), knew=n - 20) for counts in flips)
        delivered = np.mean([compare(*pair).overall.verdict == verdict for pair in pairs])
        assert delivered == pytest.approx(promised, abs=0.12)
        assert promised >= 0.8 > power(n - 1, drop, churn=churn)


@pytest.mark.parametrize(("drop", "budget"), [(0.3, 0), (0.3, 0.1), (0.0, 0.4)])
def test_power_is_what_compare_would_say_summed_over_all_outcomes(drop, budget):
    lost, gained, chances = outcomes(12, 0.05 + drop, 0.05)
    expected = "HELD" if drop < budget else "REGRESSED"
    total = 0.0
    for losses, gains, chance in zip(lost, gained, chances, strict=True):
        before, after = small(12, int(losses), int(gains))
        row = compare(before, after, budget=budget).overall
        verdict = "HELD" if row.low >= -budget else "REGRESSED" if row.high < -budget else ""
        total += chance * (verdict == expected)
    assert power(12, drop, budget=budget, churn=0.05) == pytest.approx(total, abs=1e-6)


def test_smaller_drops_surer_verdicts_and_more_capabilities_need_more_items():
    assert items_needed(0.1) > items_needed(0.2)
    assert items_needed(0.1, 0.95) > items_needed(0.1, 0.5)
    assert items_needed(0.1, capabilities=6) > items_needed(0.1)
    assert items_needed(0.1, confidence=0.99) > items_needed(0.1)
    assert items_needed(0, churn=0) == 189  # z²(1 - budget) / budget: not a single loss


def test_wilson_agrees_with_scipy():
    for successes, n, level in ((0, 10, 0.95), (9, 10, 0.95), (60, 60, 0.99), (7, 24, 0.9)):
        expected = binomtest(successes, n).proportion_ci(level, method="wilson")
        assert wilson(successes, n, level) == pytest.approx(
            (expected.low, expected.high), abs=1e-12
        )


# ---------------------------------------------------------------- what it looks like


@pytest.fixture
def report():
    margins = known(np.random.default_rng(1))
    after = flipped(margins, range(60, 95))
    return compare(card(margins), card(after, subject="pocket + full 1e-3"))


def test_the_sentence_names_levels_verdict_change_and_interval(report):
    words = "REGRESSED (-.15, 95 % from -.20 to -.11); REGRESSED in arithmetic; HELD elsewhere"
    assert report.sentence == f"classics .85, was 1.00: {words}"


def test_the_table_is_small_and_aligned(report):
    lines = repr(report).splitlines()
    table = lines[: len(report.rows) + 1]
    assert {line.rfind("  ") for line in table} == {table[0].rfind("  ")}
    assert max(map(len, table)) <= 100
    assert report.sentence in lines


def test_show_prints_outside_notebooks(report, capsys):
    report.show()
    assert capsys.readouterr().out.strip() == repr(report).strip()


def test_whatever_names_say_is_shown_as_text():
    evil = '"><img onerror=alert(1)>'
    before = replace(card(np.ones(24), sizes={evil: 24}), subject=evil, exam=evil)
    shown = compare(before, before)._repr_html_()
    assert "<img" not in shown
    assert "&lt;img" in shown


def test_a_report_survives_saving_and_loading(report, tmp_path):
    report.save(tmp_path / "report.json")
    assert stats.Report.load(tmp_path / "report.json") == report
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_a_failed_save_leaves_the_old_report(report, tmp_path):
    report.save(tmp_path / "report.json")
    with pytest.raises(ValueError, match="JSON"):
        replace(report, budget=math.nan).save(tmp_path / "report.json")
    assert stats.Report.load(tmp_path / "report.json") == report


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "caplab report 1"}', "\xff"])
def test_a_file_that_is_no_report_is_refused_by_name(text, tmp_path):
    path = tmp_path / "odd.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(BadInput, match=r"odd\.json"):
        stats.Report.load(path)


def test_rows_become_a_table_and_are_found_by_name(report):
    table = report.to_pandas()
    assert list(table.name) == [*CLASSICS, "overall"]
    assert table.change.tolist() == [row.change for row in report.rows]
    assert report["arithmetic"].lost == 35
    with pytest.raises(BadInput, match="capitals"):
        report["capital"]


def test_numbers_are_short_and_never_claim_more_than_they_know():
    shown = [stats.number(value) for value in (0, 0.48, 1, 0.9963, 0.0005, -0.0)]
    assert shown == [".00", ".48", "1.00", ".996", ".0005", ".00"]
    assert [stats.signed(value) for value in (-0.49, 0.033, 0, -1)] == [
        "-.49",
        "+.033",
        ".00",
        "-1.00",
    ]


# ---------------------------------------------------------------- bad input


def test_scorecards_of_different_exams_are_refused_and_told_apart():
    one = card(np.ones(24), sizes={"capitals": 24})
    others = {
        "24 and 23 questions on capitals": card(
            np.ones(23), sizes={"capitals": 23}, fingerprint="x"
        ),
        "0 and 24 questions on sounds": card(np.ones(24), sizes={"sounds": 24}, fingerprint="x"),
        "not the same ones": replace(one, fingerprint="x"),
        "'classics' and 'task'": replace(one, exam="task", fingerprint="x"),
    }
    for difference, other in others.items():
        with pytest.raises(BadInput, match=difference):
            compare(one, other)


def test_a_diverged_model_is_named_with_its_first_broken_item():
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
    ],
)
def test_options_out_of_range_are_refused_with_their_value(options, message):
    one = card(np.ones(24), sizes={"capitals": 24})
    with pytest.raises(BadInput, match=message):
        compare(one, one, **options)


def test_nothing_to_compare_is_said_so():
    with pytest.raises(BadInput, match=r"two scorecards.*0\.97"):
        compare(0.97, 0.48)
    with pytest.raises(BadInput, match="no questions"):
        card(np.ones(0), sizes={})
    with pytest.raises(BadInput, match="no differences"):
        bootstrap([])
    reserved = card(np.ones(3), sizes={"overall": 3})
    with pytest.raises(BadInput, match="rename"):
        compare(reserved, reserved)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"drop": 0.02}, "exactly the budget"),
        ({"drop": -0.1}, "drop is -0.1"),
        ({"drop": 0.9, "churn": 0.1}, "below 1"),
        ({"drop": 0.1, "power": 1.2}, "power is 1.2"),
        ({"drop": 0.1, "capabilities": 0}, "capabilities is 0"),
        ({"drop": 0.0201}, "further from 0.02"),
    ],
)
def test_plans_that_cannot_be_met_are_refused(arguments, message):
    with pytest.raises(BadInput, match=message):
        items_needed(**arguments)


def test_importing_the_module_loads_no_scientific_library():
    code = (
        "import sys, caplab.stats; print({'numpy', 'scipy', 'pandas', 'torch'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
