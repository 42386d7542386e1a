"""What the explorables show agrees with the package."""

import json

import pytest
import web_data

import caplab as cl
from caplab.measuring.power import power
from caplab.models.weights import digest


@pytest.fixture(scope="module")
def sure() -> dict:
    return web_data.sure()


@pytest.mark.parametrize("budget", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("groups", [30, 150])
def test_the_chances_are_those_of_power(sure, groups, budget):
    at = sure["budgets"].index(budget) * len(sure["groups"]) + sure["groups"].index(groups)
    for loss, (held, regressed) in zip(sure["losses"], sure["chances"][at], strict=True):
        if loss == budget:
            continue
        right = held if loss < budget else regressed
        assert right == pytest.approx(power(groups, loss, budget=budget, churn=0.02), abs=2e-4)


def test_no_verdict_breaks_the_promise(sure):
    for at, row in enumerate(sure["chances"]):
        budget = sure["budgets"][at // len(sure["groups"])]
        for loss, (held, regressed) in zip(sure["losses"], row, strict=True):
            assert loss <= budget or held <= 0.025
            assert loss > budget or regressed <= 0.025


def test_the_intervals_are_those_of_a_report(sure):
    seen = sure["intervals"][sure["groups"].index(100)][sure["losses"].index(0.1)]
    assert (seen["lost"], seen["gained"]) == (12, 2)
    assert seen["low"] < -0.1 < seen["high"]


def test_the_answers_are_of_the_shipped_model():
    """After a new pocket: python tools/record_answers.py."""
    recorded = json.loads(web_data.ANSWERS.read_text("utf-8"))
    assert recorded["weights"] == digest(cl.load("pocket").model)


def test_recorded_answers_are_what_the_model_says():
    recorded = json.loads(web_data.ANSWERS.read_text("utf-8"))
    base, asked = cl.load("pocket"), recorded["questions"][1]["asked"]
    first = recorded["runs"][0]["answers"][0][1]
    assert base.ask(asked) == recorded["said"][first]


def test_a_high_rate_loses_more_answers_than_a_low_one():
    recorded = json.loads(web_data.ANSWERS.read_text("utf-8"))

    def lost(run):
        pairs = zip(run["answers"][-1], recorded["questions"], strict=True)
        return sum(answer not in question["right"] for answer, question in pairs)

    plain = [lost(run) for run in recorded["runs"] if not run["replay"]]
    assert plain[0] < plain[-1]
