"""The checks of lesson 02 know the typical slips."""

import pandas as pd
import pytest
from answers import diagnoses

import caplab as cl
from caplab.teaching.lessons import lesson_02


def summed(term):
    return lambda layers, rank: sum(term(i, o, rank) for i, o in layers)


def test_02_1_recognises_other_counts():
    wrong = [
        summed(lambda i, o, rank: i * o),
        summed(lambda i, o, rank: rank * i * o),
        summed(lambda i, o, rank: rank * i),
        summed(lambda i, o, rank: rank * o),
        summed(lambda i, o, rank: i + o),
        lambda layers, rank: rank * sum(layers[0]),
        lambda layers, rank: rank * sum(layers[-1]),
        lambda layers, rank: 294_912,
        294_912,
    ]
    diagnoses("02_1", right=summed(lambda i, o, rank: rank * (i + o)), wrong=wrong)


def test_02_1_waits_for_a_return_value():
    assert cl.check("02_1", lambda layers, rank: None).kind == "Not yet"


@pytest.fixture
def rates(monkeypatch):
    rows = [(1e-4, 0.3, 0.99), (3e-3, 0.5, 0.95), (5e-3, 0.85, 0.9), (7e-3, 0.9, 0.8)]
    rows.append((1e-2, 0.95, 0.6))
    table = pd.DataFrame(rows, columns=["learning_rate", "task_accuracy", "classics_accuracy"])
    monkeypatch.setattr(lesson_02, "_rates", lambda: table)


def test_02_2_wants_the_best_rate_that_learns(rates):
    diagnoses("02_2", right=5e-3, wrong=["5e-3", 2, 1e-4, 7e-3, 1e-2])


def test_02_2_takes_a_computed_number(rates):
    good = lesson_02._rates().query("task_accuracy >= 0.8")
    best = good.loc[good["classics_accuracy"].idxmax(), "learning_rate"]
    assert cl.check("02_2", best).right
