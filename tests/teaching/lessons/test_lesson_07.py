"""The checks of lesson 07 know the typical slips."""

from types import SimpleNamespace

import pytest
from answers import diagnoses

import caplab as cl
from caplab.measuring.scorecard import Scorecard
from caplab.models.subject import Subject
from caplab.teaching.lessons import lesson_07


def by(**words):
    """A decision by the codes' names: a0="ship", a1="stop" and so on."""
    return lambda code: words[f"a{code}"]


RIGHT = {"a0": "ship", "a1": "stop", "a2": "stop", "a3": "ask"}


def test_07_1_knows_every_wrong_decision():
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
def model(monkeypatch):
    """A model whose answers a test can set: of 200 questions so many lost, so many learned."""

    def make(lost, learned):
        subject = Subject(None, None, "tuned")
        taken[id(subject)] = {"classics": card(200, 200 - lost), "task": card(100, learned)}
        return subject

    taken = {}
    monkeypatch.setattr(lesson_07, "_answers", lambda subject, name: taken[id(subject)][name])
    return make


def card(n, right):
    nats = ((-0.5, -2.0),) * right + ((-2.5, -0.4),) * (n - right)
    names = ("capitals", "colours", "arithmetic", "how-to") * (n // 4)
    return Scorecard("base", "exam", "f00d", names, (0,) * n, nats, ((1, 1),) * n)


def test_07_3_judges_as_the_gate_does(model):
    base, right = model(lost=0, learned=28), model(lost=0, learned=97)
    wrong = [
        base,
        model(lost=0, learned=96),
        model(lost=60, learned=100),
        model(lost=8, learned=100),
        SimpleNamespace(steps=60),
    ]
    diagnoses("07_3", right=(base, right), wrong=[(base, mine) for mine in wrong])
    assert cl.check("07_3", (base, ...)).kind == "Not yet"


def test_07_3_takes_a_run_for_its_model(model):
    base, right = model(lost=0, learned=28), model(lost=0, learned=97)
    assert cl.check("07_3", (base, SimpleNamespace(subject=right))).kind == "Right"


def test_07_3_says_what_stands_in_the_way(model):
    """Each capability has 50 questions: four lost are one in each."""
    base = model(lost=0, learned=28)
    said = cl.check("07_3", (base, model(lost=4, learned=97))).text
    assert "seen to lose .02 of colours, where .00 is agreed" in said
    assert cl.check("07_3", (base, model(lost=2, learned=97))).kind == "Right"


def test_07_3_judges_by_the_policy_of_the_lesson(root, tmp_path):
    lesson = (root / "lessons" / "07_ship_or_stop.md").read_text("utf-8")
    written = lesson.partition('Path("policy.toml").write_text("""\\\n')[2].partition('"""')[0]
    (tmp_path / "policy.toml").write_text(written)
    assert cl.Policy.load(tmp_path / "policy.toml") == lesson_07.POLICY
