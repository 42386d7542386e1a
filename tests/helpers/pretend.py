"""An atlas of runs that never happened, by a formula: many at once, and what is true is known."""

import json
import random
from math import exp, sqrt

from caplab.study.atlas import Atlas
from caplab.study.grid import grid, read_grid

BASE = {"task": 0.28, "classics": 0.98, "smooth": 0.9, "language_loss": 0.45}
CAPABILITIES = {"capitals": 1.3, "arithmetic": 0.5, "colours": 1.2}  # how fast each is lost
GRID = [
    *grid(
        method=["full", "lora"],
        learning_rate=[1e-4, 3e-4, 1e-3, 2e-3, 3e-3, 1e-2],
        steps=100,
        seed=range(3),
    )
]


def levels(recipe, step, forgets=1.0, noise=0.0):
    """What a run has reached: LoRA takes four times the rate, replay keeps."""
    pull = recipe.learning_rate * step / 0.2 / (4 if recipe.method == "lora" else 1)
    learned = 1 - exp(-6 * pull * (1 - recipe.replay / 2))
    lost = (1 - exp(-pull)) * forgets / (1 + 20 * recipe.replay)
    rng = random.Random(f"{recipe.hash} {step}")
    shake = lambda: noise * rng.uniform(-1, 1) * sqrt(min(pull, 1))  # noqa: E731
    found = {
        "task": min(1.0, BASE["task"] + 0.72 * learned + shake()),
        "classics": BASE["classics"] - lost + shake(),
        "smooth": BASE["smooth"] - 0.9 * lost,
        "language_loss": BASE["language_loss"] + 4 * lost,
    }
    parts = {name: max(0.0, 1 - speed * lost + shake()) for name, speed in CAPABILITIES.items()}
    return found, parts, 5 * lost


def point(recipe, step, **options):
    found, parts, kl = levels(recipe, step, **options)
    return {
        "step": step,
        "task_loss": None if step == 0 else 2 - found["task"],
        "task_accuracy": found["task"],
        "classics_accuracy": found["classics"],
        "by_capability": parts,
        "smooth": found["smooth"],
        "language_loss": found["language_loss"],
        "kl": kl,
        "learning_rate": recipe.learning_rate,
        "elapsed": 0.01 * step,
    }


def record(recipe, every=10, **options):
    start, end = (levels(recipe, step, **options) for step in (0, recipe.steps))
    return {
        "recipe": json.loads(recipe.to_json()),
        "points": [point(recipe, step, **options) for step in range(0, recipe.steps + 1, every)],
        "before": start[0] | start[1],
        "after": end[0] | end[1],
        "replay_fraction": recipe.replay,
        "trainable_parameters": 1000,
        "seconds": 1.5,
        "trouble": None,
    }


def atlas(recipes=GRID, **options):
    return Atlas.of([record(recipe, **options) for recipe in recipes], {"subject": "pretended"})


def course(root, **options):
    """The whole grid of the course."""
    return atlas(read_grid(root / "tools" / "atlas.toml")[0], **options)
