"""A long run on a big model is announced before it begins; no other run is."""

import time

import pytest
import tiny

from caplab.training import estimate as module
from caplab.training.estimate import RunEstimate, estimate_run
from caplab.training.fine_tune import fine_tune
from caplab.training.recipe import Recipe
from caplab.training.task_rows import open_task, tokens

TASK = [{"prompt": f"Say {word}:", "completion": f" {word}."} for word in ("hot", "cold", "dog")]
QUICK = Recipe(steps=2, batch_size=2)


@pytest.fixture
def who():
    return tiny.subject()


def expected(who, recipe):
    return estimate_run(who, recipe, tokens(open_task(TASK)[0], who), tiny.exam(), None)


def test_time_and_memory_grow(who, monkeypatch):
    monkeypatch.setattr(module, "_forward_seconds", lambda *_: 0.01)
    short, long = (expected(who, Recipe(steps=steps)).seconds for steps in (100, 1100))
    assert long - short == pytest.approx(1000 * 3 * 0.01, rel=0.1)
    full, lora = (expected(who, Recipe(method=m)) for m in ("full", "lora"))
    assert full.memory - lora.memory == 12 * who.parameters  # a gradient and two moments
    assert full.seconds > lora.seconds


def test_a_real_pass_is_timed(who, monkeypatch):
    seen = []
    who.model.register_forward_hook(lambda *_: seen.append(time.sleep(0.05)))
    slow = expected(who, QUICK.change(steps=100)).seconds
    assert len(seen) == 2
    assert slow > 100 * 3 * 0.05


def test_a_small_model_is_not_measured(who, capsys, monkeypatch):
    monkeypatch.setattr(module, "estimate_run", lambda *_: pytest.fail("it was measured"))
    fine_tune(who, QUICK, TASK, tiny.exam())
    assert capsys.readouterr().out == ""


def test_a_long_run_is_announced(who, capsys, monkeypatch):
    monkeypatch.setattr(module, "BIG", 1)
    monkeypatch.setattr(module, "LONG", 0.0)
    fine_tune(who, QUICK, TASK, tiny.exam())
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("gpt2, full, 2 steps of 2 rows: about ")
    assert "You can interrupt it" in line
    fine_tune(who, QUICK, TASK, tiny.exam(), on_point=lambda _: None)  # somebody else shows it
    assert capsys.readouterr().out == ""


def test_a_short_run_is_not_announced(who, capsys, monkeypatch):
    monkeypatch.setattr(module, "BIG", 1)
    fine_tune(who, QUICK, TASK, tiny.exam())
    assert capsys.readouterr().out == ""


def test_too_little_memory_is_announced(who, capsys, monkeypatch):
    monkeypatch.setattr(module, "BIG", 1)
    monkeypatch.setattr(module, "_free", lambda _: 1e8)
    fine_tune(who, QUICK, TASK, tiny.exam())
    said = capsys.readouterr().out
    assert 'Only 0.1 GB are free: method="lora" or a smaller batch_size needs less.' in said


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 seconds"), (200, "3 minutes"), (9000, "2.5 hours")]
)
def test_a_duration_in_its_own_unit(seconds, words):
    assert f"about {words} and 3.1 GB" in RunEstimate("gpt2", QUICK, seconds, 3.1e9, None).sentence
