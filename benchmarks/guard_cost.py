"""Time a training with the guard beside the same training without it.

    python benchmarks/guard_cost.py [--model pocket] [--method full | lora] [--rounds 7]

The same steps in one process, in turn, with a look every 5, 10, 20 and 50 steps; medians. Then what
one look is made of. It fails if a guard that only watches changes a single bit of the weights.
"""

import sys
import time
from statistics import median

import torch
from train_overhead import common_recipe, measure, open_subject, options, same_weights, table
from transformers import TrainerCallback

import caplab as cl
from caplab.support.quiet import quiet
from caplab.training.recipe import Recipe
from caplab.training.task_rows import open_task, tokens
from caplab.training.trainer import make_trainer
from caplab.watching.guard import RegressionGuard
from caplab.watching.ranks import Ranks
from caplab.watching.snapshots import Snapshots

EVERY = (50, 20, 10, 5)


def train(subject: cl.Subject, recipe: Recipe, *callbacks: TrainerCallback) -> torch.nn.Module:
    """Train as `fine_tune` does, without its own looks."""
    trainer = make_trainer(subject, recipe, tokens(open_task(None)[0], subject), callbacks)
    trainer.train()
    return trainer.model


def guarded(subject: cl.Subject, recipe: Recipe, every: int) -> None:
    """Train under a guard that keeps weights for a rollback and never needs them."""
    guard = RegressionGuard(cl.exam(), every=every, action="rollback")
    train(subject, recipe, guard)
    assert guard.crossed_at is None, "the guard acted: this would not be the same training"


def unchanged(subject: cl.Subject, recipe: Recipe) -> bool:
    """Tell whether a guard that only watches leaves every bit as it is without it."""
    watched = train(subject, recipe, RegressionGuard(cl.exam(), every=1))
    return same_weights(watched, train(subject, recipe))


def parts(subject: cl.Subject, rounds: int) -> dict[str, float]:
    """Time the three parts of a look: the exam, the comparison, the weights kept for a rollback."""
    before = cl.score(subject, cl.exam())
    kept = Snapshots(subject.model, Ranks(subject.model), "", None)
    calls = {
        "score": lambda: cl.score(subject, cl.exam()),
        "compare": lambda: cl.compare(before, before),
        "snapshot": lambda: kept.keep(0, 0.0, good=True),
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: median(times) for name, times in taken.items()}


def main() -> int:
    """Measure, compare and print."""
    given = options(__doc__, steps=100)
    subject = open_subject(given.model)
    recipe = common_recipe(given)
    harmless = recipe.change(learning_rate=1e-6)
    calls = {"without a guard": lambda: train(subject, harmless)}
    for every in EVERY:
        calls[f"a look every {every} steps"] = lambda every=every: guarded(subject, harmless, every)
    with quiet():
        measured = measure(calls, given.rounds)
        one_look = parts(subject, given.rounds)
        same = unchanged(subject, recipe)
    shown = table(measured).replace("x bare", "x without")
    print(f"{subject}; {harmless}; {torch.get_num_threads()} threads; {cl.exam()}\n\n{shown}\n")
    print("one look: " + ", ".join(f"{name} {1e3 * s:.1f} ms" for name, s in one_look.items()))
    print(f"a guard that only watches leaves the weights as they were, bit for bit: {same}")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
