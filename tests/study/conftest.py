"""Atlases by a formula, and a model whose runs take a moment or no time at all."""

import json

import pretend
import pytest
import tiny
from sweeps import TWELVE

from caplab.study.atlas import atlas
from caplab.study.sweep import sweep
from caplab.study.workers import SweepSetup


@pytest.fixture(scope="session")
def made():
    return pretend.atlas(noise=0.02)


@pytest.fixture(scope="session")
def course(root):
    return pretend.course(root, noise=0.02)


@pytest.fixture(scope="session")
def shipped():
    return atlas()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A random model in a folder, as users have theirs."""
    folder = tmp_path_factory.mktemp("models") / "stand-in"
    who = tiny.subject(n_positions=128)
    who.model.save_pretrained(folder)
    who.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def undisturbed(model):
    """Twelve runs, one after the other in this process."""
    return sweep(TWELVE, model, n_jobs=1)


@pytest.fixture
def pretended(monkeypatch):
    """Runs that take no time; what was run, in order, is in the list."""
    done = []

    def run(setup, recipe):
        done.append(recipe)
        levels = {"task": 0.5, "classics": 0.9, "smooth": 0.5, "language_loss": 1.0}
        levels |= {"capitals": 1.0}
        point = {"step": 0, "task_loss": None, "task_accuracy": 0.5, "classics_accuracy": 0.9}
        point |= {"by_capability": {"capitals": 1.0}, "smooth": 0.5, "language_loss": 1.0}
        point |= {"kl": 0.0, "learning_rate": 0.1, "elapsed": 0.0}
        known = {"replay_fraction": 0.0, "trainable_parameters": 1, "seconds": 1.0, "trouble": None}
        plain = {"recipe": json.loads(recipe.to_json()), "points": [point]}
        return plain | {"before": levels, "after": levels} | known

    monkeypatch.setattr(SweepSetup, "run", run)
    return done
