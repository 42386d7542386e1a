"""Models of other families go through everything: load, score, tune, guard."""

import pytest
import tiny

from caplab.measuring.score import score
from caplab.models.load import load
from caplab.training.fine_tune import fine_tune
from caplab.training.recipe import Recipe
from caplab.watching.guard import RegressionGuard

FAMILIES = {"llama": "Llama", "qwen2": "Qwen2", "opt": "OPT", "gpt_neox": "GPT-NeoX"}
TASK = [{"prompt": f"Say {word}:", "completion": f" {word}."} for word in ("hot", "cold", "dog")]


@pytest.fixture(scope="module", params=FAMILIES)
def mine(request, tmp_path_factory):
    """A model of one family, saved and loaded from its folder, and the family's name."""
    who, path = tiny.subject(request.param), tmp_path_factory.mktemp(request.param) / "mine"
    who.model.save_pretrained(path)
    who.tokenizer.save_pretrained(path)
    return load(path), FAMILIES[request.param]


def test_it_loads_and_says_what_it_is(mine):
    who, family = mine
    assert f"parameters, {family}, 64-token context" in repr(who)
    assert isinstance(who.ask("A dog says", 3), str)


def test_it_is_scored_by_the_definition(mine):
    who, _ = mine
    found = score(who, tiny.exam()).loglikelihoods
    for ours, by_hand in zip(found, tiny.naive(who, tiny.exam()), strict=True):
        assert ours == pytest.approx(by_hand, abs=1e-4)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_is_tuned_under_guard_and_saved(mine, method, tmp_path):
    who, _ = mine
    guard = RegressionGuard(tiny.exam(), every=2, action="rollback")
    recipe = Recipe(method=method, learning_rate=1e-2, steps=4, batch_size=2)
    run = fine_tune(who, recipe, TASK, tiny.exam(), callbacks=[guard], on_point=lambda _: None)
    assert [check.step for check in guard.checks] == [0, 2, 4]
    assert run.before.loglikelihoods != run.final.loglikelihoods
    run.subject.model.save_pretrained(tmp_path / "tuned")
    who.tokenizer.save_pretrained(tmp_path / "tuned")
    again = score(load(tmp_path / "tuned"), tiny.exam()).loglikelihoods
    for ours, kept in zip(again, run.final.loglikelihoods, strict=True):
        assert ours == pytest.approx(kept, abs=1e-3)
