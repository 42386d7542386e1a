"""Time the default run of the Explorer, points and all, beside a bare loop of the same steps.

    python benchmarks/default_run.py [--model pocket] [--method full | lora] [--rounds 7]

60 steps of 8 rows, a point at the start, at the end and seven between, streamed. One process, the
two in turn; medians. The first run of a process also asks the base its exams, which later runs
remember; it is printed apart.
"""

import sys
import time
from statistics import median

import torch
from train_overhead import bare, common_recipe, measure, open_subject, options, table

import caplab as cl
from caplab.support.quiet import quiet
from caplab.training import examiner
from caplab.training.fine_tune import fine_tune
from caplab.training.recipe import Recipe
from caplab.training.run import Run


def streamed(subject: cl.Subject, recipe: Recipe, arrivals: list[list[float]]) -> Run:
    """Run the recipe and note down when each point arrived."""
    start, times = time.perf_counter(), []
    run = fine_tune(subject, recipe, on_point=lambda _: times.append(time.perf_counter() - start))
    arrivals.append(times)
    return run


def first_run(subject: cl.Subject, recipe: Recipe) -> float:
    """Time a run of a base that was never asked."""
    examiner._base_cards.clear()
    start = time.perf_counter()
    streamed(subject, recipe, [])
    return time.perf_counter() - start


def main() -> int:
    """Measure and print."""
    given = options(__doc__, steps=60)
    subject = open_subject(given.model)
    recipe = common_recipe(given)
    arrivals: list[list[float]] = []
    calls = {
        "bare PyTorch loop, never looked at": lambda: bare(subject, recipe),
        "fine_tune with its points and both scorecards": lambda: streamed(
            subject, recipe, arrivals
        ),
    }
    with quiet():
        measured = measure(calls, given.rounds)
        first = first_run(subject, recipe)
    points = [median(times) for times in zip(*arrivals[1:], strict=True)]
    print(f"{subject}; {recipe}; {torch.get_num_threads()} threads\n\n{table(measured)}\n")
    print(
        f"points: {len(points)}, arriving after " + ", ".join(f"{at:.2f}" for at in points) + " s"
    )
    print(f"a first run, which asks the base too: {first:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
