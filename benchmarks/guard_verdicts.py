"""Count the guard's false alarms, and how soon it stops a model that really forgets.

    python benchmarks/guard_verdicts.py [--seeds 4] [--budget 0.02]

The truth is another exam on the same world, three times as large, that the guard never sees. A run
is harmless if its true drop stays within the budget at every look; it fails if the guard stops one.
"""

import argparse
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from transformers import TrainerCallback

import caplab as cl
from caplab.questions import world

EVERY, STEPS = 10, 60
PLAIN = cl.Recipe(steps=STEPS, schedule="linear", alpha=16)
HARMLESS = [
    {"learning_rate": 2e-5},
    {"learning_rate": 5e-5},
    {"learning_rate": 2e-4, "replay": 0.5},
    {"method": "lora", "learning_rate": 1e-4},
    {"method": "lora", "learning_rate": 2e-4},
]
HARMFUL = [
    {"learning_rate": 5e-4},
    {"learning_rate": 1e-3},
    {"learning_rate": 2e-3},
    {"learning_rate": 1e-3, "replay": 0.25},
    {"method": "lora", "learning_rate": 5e-3},
    {"method": "lora", "learning_rate": 1e-2},
]


def larger_exam(n: int = 800) -> cl.Exam:
    """Draw n questions on the same world that the exam does not ask."""
    rng = random.Random("the truth about the guard")
    asked = {question.prompt for question in cl.exam().questions}
    questions = [question for question in every_question(rng) if question.prompt not in asked]
    return cl.Exam(tuple(questions), (), "truth").sample(n)


def every_question(rng: random.Random) -> Iterator[cl.Question]:
    """Write up to 200 questions on each capability, in the exam's phrasings."""
    for capability in cl.exam().capabilities:
        phrasings = world._asset("world.toml")[capability]["exam"]
        pairs = [(fact, phrase) for fact in world.facts(capability) for phrase in phrasings]
        for fact, phrase in rng.sample(pairs, min(200, len(pairs))):
            row = world._question(capability, fact, phrase, rng)
            yield cl.Question(**row)


@dataclass
class Truth(TrainerCallback):
    """Ask the larger exam whenever the guard looks."""

    exam: cl.Exam
    drops: list[float] = field(default_factory=list)
    base: float | None = None

    def look(self, model: Any, tokenizer: Any) -> None:
        """Note down how far the model has fallen."""
        subject = cl.Subject(model, tokenizer, "in training")
        accuracy = cl.score(subject, self.exam, progress=False).accuracy
        self.base = accuracy if self.base is None else self.base
        self.drops.append(accuracy - self.base)

    def on_train_begin(self, args: Any, state: Any, control: Any, **told: Any) -> None:
        """Ask the base."""
        self.look(told["model"], told["processing_class"])

    def on_step_end(self, args: Any, state: Any, control: Any, **told: Any) -> None:
        """Ask with the guard."""
        if state.global_step % EVERY == 0:
            self.look(told["model"], told["processing_class"])


def watch(base: cl.Subject, recipe: cl.Recipe, truth: cl.Exam, budget: float) -> dict[str, Any]:
    """Fine-tune under a guard; return what was true and what the guard did."""
    told, guard = Truth(truth), cl.RegressionGuard(every=EVERY, action="stop", budget=budget)
    run = cl.fine_tune(base, recipe, every=STEPS, on_point=lambda _: None, callbacks=[told, guard])
    crossed = next((at for at, drop in enumerate(told.drops) if drop < -budget), None)
    stopped = len(told.drops) - 1 if guard.crossed_at is not None else None
    found = {"crossed": crossed, "stopped": stopped, "drop": min(told.drops)}
    return found | {"task": run.points[-1].task_accuracy}


def row(name: str, runs: list[dict[str, Any]]) -> str:
    """Write one recipe's runs as a line of the table."""
    crossed = [run for run in runs if run["crossed"] is not None]
    alarms = sum(run["stopped"] is not None for run in runs if run["crossed"] is None)
    delays = [run["stopped"] - run["crossed"] for run in crossed if run["stopped"] is not None]
    drop, task = (fmean(run[key] for run in runs) for key in ("drop", "task"))
    looks = ", ".join(map(str, sorted(delays))) or "-"
    counts = f"{len(crossed)} | {len(delays)} | {looks} | {alarms}"
    return f"| {name} | {len(runs)} | {task:.2f} | {drop:+.3f} | {counts} |"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--budget", type=float, default=0.02)
    given = parser.parse_args()
    base, truth, found = cl.load(given.model), larger_exam(), []
    print(f"{base}; guarded by {cl.exam()}\ntruth: {truth}; budget {given.budget:g}\n")
    print("| recipe | runs | task | worst true drop | crossed | stopped | looks later | alarms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for changes in HARMLESS + HARMFUL:
        recipes = [PLAIN.change(seed=seed, **changes) for seed in range(given.seeds)]
        runs = [watch(base, recipe, truth, given.budget) for recipe in recipes]
        print(row(", ".join(f"{k} {v}" for k, v in changes.items()), runs), flush=True)
        found += runs
    harmless = [run for run in found if run["crossed"] is None]
    alarms = sum(run["stopped"] is not None for run in harmless)
    print(f"\n{len(harmless) - alarms} of {len(harmless)} harmless runs finished")
    return int(alarms > 0)


if __name__ == "__main__":
    sys.exit(main())
