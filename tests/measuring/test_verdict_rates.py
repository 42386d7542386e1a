"""The promise about wrong verdicts, as `benchmarks/verdicts.py --quick` measures it."""

import importlib
from dataclasses import replace

import pytest

from caplab.measuring import compare as comparing
from caplab.measuring.evidence import Evidence
from caplab.measuring.report import HELD, UNDERPOWERED
from caplab.measuring.scorecard import Scorecard


@pytest.fixture
def benchmark(root, monkeypatch):
    """The benchmark, which is a script beside the package."""
    monkeypatch.syspath_prepend(root / "benchmarks")
    return importlib.import_module("verdicts")


@pytest.fixture
def breaches(benchmark):
    """Measure both errors of exams whose capabilities all lose exactly their budget."""
    exams, rates = map(importlib.import_module, ("simulated_exams", "verdict_rates"))

    def measure(copies=1, number=1000, **damage):
        judge, part = benchmark.Judge(), exams.Part(**damage)
        found = judge.simulate(exams.Design((part,) * copies, part.budget), number)
        held = rates.Rate(rates.FALSE_HELD, "", "", found.share(rates.first_held), len(found))
        return benchmark.breaches([rates.at_budget(found, "", ""), held], judge)

    return measure


def test_the_promise_is_kept(benchmark):
    judge = benchmark.Judge()
    rates = list(benchmark.quick_rates(judge, benchmark.QUICK))
    assert benchmark.breaches(rates, judge) == []
    assert {rate.table for rate in rates} == {"false HELD", "false REGRESSED"}
    assert judge.checked >= len({rate.where for rate in rates})


def test_a_share_that_acquits_is_noticed(breaches, monkeypatch):
    few = {"groups": 30, "loss": 0.02, "budget": 0.02}
    assert not breaches(**few)
    judged = comparing._judge

    def acquit(evidence):
        verdict, note = judged(evidence)
        share = (evidence.new["share"] - evidence.old["share"]).mean()
        return HELD if verdict == UNDERPOWERED and share > -evidence.budget else verdict, note

    monkeypatch.setattr(comparing, "_judge", acquit)
    assert "false HELD" in breaches(**few)[0]


def test_phrasings_taken_for_facts_are_noticed(breaches, monkeypatch):
    groups = {"groups": 40, "sizes": (4,), "loss": 0.1, "together": 1.0, "budget": 0.1}
    assert not breaches(**groups)
    alone = property(lambda card: [f"item {number}" for number in range(len(card.answer))])
    monkeypatch.setattr(Scorecard, "groups", alone)
    held, regressed = sorted(breaches(**groups))[:2]
    assert "false HELD" in held
    assert "false REGRESSED" in regressed


def test_uncorrected_convictions_are_noticed(breaches, monkeypatch):
    many = {"copies": 8, "groups": 20, "loss": 0.05, "churn": 0.2}
    assert not breaches(number=300, **many)

    def uncorrected(*given):
        return replace(Evidence(*given), family=1)

    monkeypatch.setattr(comparing, "Evidence", uncorrected)
    assert "false REGRESSED" in breaches(number=300, **many)[0]


def test_what_was_remembered_is_checked(breaches, monkeypatch):
    def fickle(*given):
        found = Evidence(*given)
        return replace(found, alpha=found.alpha * (1 + found.new["right"][0]) / 2)

    monkeypatch.setattr(comparing, "Evidence", fickle)
    assert "judged directly" in breaches(groups=72, loss=0.05)[-1]
