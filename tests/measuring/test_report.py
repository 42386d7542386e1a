import math
from dataclasses import replace

import numpy as np
import pytest
from answers_made import CLASSICS, card, flipped, known, pair

from caplab.measuring.compare import compare
from caplab.measuring.policy import Policy
from caplab.measuring.report import Report
from caplab.support.errors import BadInput


@pytest.fixture
def report():
    margins = known(np.random.default_rng(1))
    after = flipped(margins, range(60, 95))
    return compare(card(margins), card(after, subject="pocket + full 1e-3"))


def test_the_sentence_tells_a_regression(report):
    words = "classics .85, was 1.00: REGRESSED (-.15, 95 % from -.20 to -.10)"
    assert report.sentence == f"{words}; REGRESSED in arithmetic; UNDERPOWERED elsewhere"


def test_the_sentence_tells_what_is_in_the_way():
    said = compare(*pair(50)).sentence
    assert said.startswith("classics 1.00, was 1.00: UNDERPOWERED")
    assert "overall: up to .07 may be gone (budget .05), 22 more groups would decide" in said


def test_how_much_may_be_gone():
    row = compare(*pair(100, lost=1)).overall
    assert row.possible_loss == -row.low == pytest.approx(0.0545, abs=1e-4)
    assert compare(*pair(100, gained=90, knew=10)).overall.possible_loss == 0


def test_the_table_is_aligned(report):
    lines = repr(report).splitlines()
    table = lines[: len(report.rows) + 1]
    assert {line.rfind("  ") for line in table} == {table[0].rfind("  ")}
    assert max(map(len, table)) <= 110
    assert report.sentence in lines


def test_a_head_is_aligned_as_its_cells(report):
    shown = report._repr_html_()
    assert '<th style="text-align:right;padding:.2em .6em">before</th>' in shown
    assert '<th style="text-align:left;padding:.2em .6em">verdict</th>' in shown
    assert "*" not in repr(report), "no row fell by what is no longer said"


def test_tiers_stand_in_the_table():
    policy = Policy(capability={"capitals": {"tier": "must-keep"}})
    assert "capitals (must-keep)" in repr(compare(*pair(10), policy=policy))


def test_show_prints_outside_notebooks(report, capsys):
    report.show()
    assert capsys.readouterr().out.strip() == repr(report).strip()


def test_names_are_shown_as_text():
    evil = '"><img onerror=alert(1)>'
    before = replace(card(np.ones(24), sizes={evil: 24}), subject=evil, exam=evil)
    shown = compare(before, before)._repr_html_()
    assert "<img" not in shown
    assert "&lt;img" in shown


def test_a_report_survives_the_disk(report, tmp_path):
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_a_failed_save_leaves_the_old(report, tmp_path):
    report.save(tmp_path / "report.json")
    with pytest.raises(ValueError, match="JSON"):
        replace(report, budget=math.nan).save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "caplab report 1"}', "\xff"])
def test_no_report_is_refused_by_name(text, tmp_path):
    path = tmp_path / "odd.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(BadInput, match=r"odd\.json"):
        Report.load(path)


def test_reports_of_version_0_1_are_judged_anew(report, tmp_path):
    from caplab.support.files import write_sealed

    write_sealed(tmp_path / "old.json", {"format": "caplab report 1", "rows": []})
    with pytest.raises(BadInput, match=r"compare\(before, after\)\.save"):
        Report.load(tmp_path / "old.json")


def test_rows_are_found_by_name(report):
    table = report.to_pandas()
    assert list(table.name) == [*CLASSICS, "overall"]
    assert table.change.tolist() == [row.change for row in report.rows]
    assert report["arithmetic"].lost == 35
    with pytest.raises(BadInput, match="capitals"):
        report["capital"]


def test_a_loss_of_exactly_the_budget_is_within_it():
    groups = [f"{n // 5}" for n in range(500)]
    after = np.ones(500)
    after[::20] = -1  # 25 of 500 answers, in as many groups of five
    cards = [card(one, sizes={"a": 500}, group=groups) for one in (np.ones(500), after)]
    row = compare(*cards).overall
    assert row.seen_loss != 0.05  # by the last bit
    assert row.within_budget
