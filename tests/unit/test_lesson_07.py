"""The checks of lesson 07 know the typical slips."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from answers import diagnoses

import caplab as cl
from caplab.exam import Scorecard
from caplab.run import Run


def by(**words):
    """A decision by the codes' names: a0="ship", a1="stop" and so on."""
    return lambda code: words[f"a{code}"]


RIGHT = {"a0": "ship", "a1": "stop", "a2": "stop", "a3": "ask"}


def test_07_1_knows_each_way_to_ship_too_much_or_too_little():
    wrong = [
        lambda code: code == 0,
        lambda code: "ship" if code != 1 else "stop",
        by(**RIGHT | {"a2": "ship"}),
        by(**RIGHT | {"a0": "ask"}),
        by(**RIGHT | {"a1": "ask"}),
        by(**RIGHT | {"a3": "stop"}),
        by(**RIGHT | {"a2": "ask"}),
        "ship",
    ]
    diagnoses("07_1", right=by(**RIGHT), wrong=wrong)


def within(table, allowed):
    return [row for row in table if row[2] <= allowed]


def test_07_2_knows_what_was_chosen_instead():
    wrong = [
        lambda table, allowed: max(table, key=lambda row: row[1])[0],
        lambda table, allowed: min(table, key=lambda row: row[2])[0],
        lambda table, allowed: max(within(table, allowed), key=lambda row: row[0])[0],
        lambda table, allowed: max(row[1] for row in within(table, allowed)),
        lambda table, allowed: max(within(table, allowed), key=lambda row: row[1]),
        lambda table, allowed: max(within(table, 0.03), key=lambda row: row[1])[0],
        lambda table, allowed: 0.4,
        0.4,
    ]
    diagnoses("07_2", right=choose, wrong=wrong)


def choose(table, allowed):
    return max(within(table, allowed), key=lambda row: (row[1], -row[0]), default=(0,))[0]


def test_07_2_knows_the_edge():
    def strict(table, allowed):
        return choose(table, allowed - 1e-9)

    assert "`<=`" in cl.check("07_2", strict).text


@pytest.fixture
def run():
    """A run whose answers a test can set: of 200 questions so many lost, of 10 so many learned."""

    def make(lost, learned, steps=60):
        before = card(200, 200)
        after = replace(card(200, 200 - lost), subject="tuned")
        made = object.__new__(Run)
        cards = {"before": before, "final": after}
        if learned is not None:
            cards["final_task"] = card(10, learned)
        facts = {"steps": steps, "cards": cards, "subject": None, "exam": None, "task_exam": None}
        for name, value in facts.items():
            object.__setattr__(made, name, value)
        return made

    return make


def card(n, right):
    nats = ((-0.5, -2.0),) * right + ((-2.5, -0.4),) * (n - right)
    names = ("things",) * n
    return Scorecard("base", "exam", "f00d", names, (0,) * n, nats, ((1, 1),) * n)


def test_07_3_judges_as_the_gate_does(run):
    wrong = [
        run(lost=0, learned=5),
        run(lost=60, learned=10),
        run(lost=8, learned=10),
        run(lost=0, learned=10, steps=500),
        run(lost=0, learned=None),
        SimpleNamespace(steps=60),
    ]
    diagnoses("07_3", right=run(lost=0, learned=10), wrong=wrong)
