"""Two models that answer bit for bit alike are hardly two: every form of the result says so."""

import json
from dataclasses import replace

import pytest
import tiny

import caplab as cl
from caplab.measuring.report import HELD, Report
from caplab.watching.gate import Decision


@pytest.fixture(scope="module")
def card():
    return cl.score(tiny.subject(), tiny.exam(), progress=False)


def changed(card):
    """The same answers, one of them different in its last digit."""
    first, *rest = card.loglikelihoods
    return replace(card, loglikelihoods=((first[0] - 1e-7, *first[1:]), *rest))


def test_equal_answers_warn_whatever_the_verdict(card):
    report = cl.compare(card, replace(card, subject="after"))
    assert report.warning.startswith("WARNING: after answered bit for bit like gpt2")
    assert report.warning in repr(report)
    assert "bit for bit" in report._repr_html_()
    assert "bit for bit" not in report.sentence


def test_the_last_digit_is_enough(card):
    for other in (changed(card), replace(card, text_losses=((1.0, 2), *card.text_losses[1:]))):
        report = cl.compare(card, other)
        assert report.warning == ""
        assert "bit for bit" not in repr(report) + report._repr_html_()


def test_spoken_answers_count_word_for_word():
    said = cl.score(tiny.subject(), tiny.SPOKEN, progress=False)
    other = replace(said, said=("something else", *said.said[1:]))
    assert cl.compare(said, said).warning
    assert not cl.compare(said, other).warning


def test_every_form_of_the_gate_says_so(card, tmp_path):
    alike = Decision(cl.compare(card, replace(card, subject="a|<b>")), card, card, None)
    differ = Decision(cl.compare(card, changed(card)), card, card, None)
    forms = ("json", "html", "markdown", "junit")
    for form in forms:
        for name, decision in (("alike", alike), ("differ", differ)):
            getattr(decision, f"save_{form}")(tmp_path / f"{name}.{form}")
        assert "bit for bit" in (tmp_path / f"alike.{form}").read_text()
        assert "bit for bit" not in (tmp_path / f"differ.{form}").read_text()
    assert "bit for bit" in repr(alike)
    assert json.loads((tmp_path / "alike.json").read_text())["warning"]


def test_it_is_saved_and_old_reports_still_load(card, tmp_path):
    report = cl.compare(card, card)
    report.save(tmp_path / "r.json")
    assert Report.load(tmp_path / "r.json") == report
    assert Report(**{k: v for k, v in vars(report).items() if k != "identical"}).warning == ""


def test_the_verdict_is_not_touched():
    asked = tuple(cl.Question("x", f"{n}?", ("a", "b"), 0) for n in range(240))
    card = cl.score(tiny.subject(), cl.Exam(asked), progress=False)
    right = replace(card, loglikelihoods=((-0.1, -3.0),) * 240)
    report = cl.compare(right, right)
    assert (report.verdict, bool(report.warning)) == (HELD, True)
