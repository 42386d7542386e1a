"""Measure the peak memory of a fine-tuning, each in a process of its own.

    python benchmarks/memory.py [--models pocket random-124m] [--steps 3]

Resident memory, its peak over the whole life of the process, in MB; the imports alone and a bare
PyTorch loop of the same steps stand beside it. `fine_tune` is measured with short exams before
and after: how much a look takes does not depend on how many questions follow one another.
"""

import argparse
import subprocess
import sys
from pathlib import Path

WAYS = ("imports alone", "bare PyTorch loop", "fine_tune")
METHODS = ("full", "lora")


def peak() -> float:
    """Return the most memory that this process ever held, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def train(way: str, model: str, method: str, steps: int) -> None:
    """Do what is to be measured, and print the peak."""
    from train_overhead import bare, open_subject

    import caplab as cl
    from caplab.training.fine_tune import fine_tune
    from caplab.training.recipe import Recipe

    if way != "imports alone":
        subject = open_subject(model)
        recipe = Recipe(method=method, steps=steps, schedule="linear", alpha=16)
        exams = {"exam": cl.exam().sample(24), "task_exam": cl.exam("task").sample(24)}
        if way == "fine_tune":
            fine_tune(subject, recipe, every=steps, **exams)
        else:
            bare(subject, recipe)
    print(peak())


def measured(way: str, model: str, method: str, steps: int) -> float:
    """Run one case in a fresh process."""
    command = [sys.executable, __file__, "--case", way, model, method, "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{way}, {model}, {method} failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["pocket", "random-124m"])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        train(*given.case, steps=given.steps)
        return 0
    print("| model | method | " + " | ".join(WAYS) + " |")
    print("| --- " * (2 + len(WAYS)) + "|")
    for model in given.models:
        for method in METHODS:
            cells = [f"{measured(way, model, method, given.steps):,.0f} MB" for way in WAYS]
            print(f"| {model} | {method} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
