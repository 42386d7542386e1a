"""Run many recipes, on this machine or on a cluster, and keep every run that ended.

joblib distributes the runs, so they go wherever joblib is told: to processes of this machine, or to
a Dask cluster inside `joblib.parallel_config(backend="dask")`. Each run is computed by one thread,
wherever that is: so several runs share a machine's cores without waiting for one another, and the
numbers do not depend on the backend.
"""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import joblib

from caplab.study.atlas import Atlas
from caplab.study.grid import Recipes, checked_recipes
from caplab.study.job import Job, Source
from caplab.study.store import RunStore
from caplab.study.workers import (
    Model,
    SweepSetup,
    Workers,
    attempt_run,
    count_workers,
    prepared_setup,
)
from caplab.support import __version__
from caplab.support.bars import tqdm
from caplab.support.files import as_path
from caplab.support.safe_text import line_text
from caplab.training.recipe import Recipe

__all__ = ["SweepEstimate", "estimate_sweep", "sweep"]
_PATIENCE = 2.0  # seconds before the progress bar appears


def sweep(
    recipes: Recipes,
    subject: Model = "pocket",
    *,
    n_jobs: int | None = None,
    store: str | os.PathLike[str] | None = None,
    every: int | None = None,
    task: Source | None = None,
    exam: Source | None = None,
    task_exam: Source | None = None,
    questions: int | None = None,
) -> Atlas:
    """Run every recipe on a subject and gather the runs in an `Atlas`.

    `n_jobs` processes share the work; by default one per core, or a single one on a GPU. `every`
    counts the steps between two points, as in `fine_tune`. With a folder as `store` each run is
    kept there as soon as it ends, and the same call later resumes an interrupted sweep.

    `task`, `exam` and `task_exam` are built-in names or files, by default customer service and the
    exams that go with `pocket`. With `questions` a run answers only a sample of the exam.

    A recipe that fails is listed in `atlas.failed`, with the reason, and the others go on; the next
    sweep tries it again. If a worker process dies, the runs it was given are repeated.
    """
    wanted = checked_recipes(recipes, n_jobs, every)
    job = Job.of(task, exam, task_exam, questions)
    with prepared_setup(subject, every, job) as setup, _folder(store) as folder:
        runs = RunStore(Path(folder), setup.circumstances)
        failed = _fill(runs, setup, wanted, n_jobs, kept=store is not None)
        records = [record for recipe in wanted if (record := runs.find(recipe))]
        return Atlas.of(records, _provenance(setup), failed)


@contextmanager
def _folder(store: str | os.PathLike[str] | None) -> Iterator[str]:
    """Yield the folder of the store; without a store, a temporary one."""
    if store is not None:
        yield str(as_path(store))
        return
    with TemporaryDirectory() as folder:
        yield folder


def _provenance(setup: SweepSetup) -> dict[str, Any]:
    """Record which subject was tuned, with which versions, on which machine, and when."""
    names = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy")
    return {
        "subject": setup.name,
        "job": asdict(setup.job),
        **setup.circumstances,
        "versions": {"caplab": __version__} | {name: version(name) for name in names},
        "machine": f"{_processor_name()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor_name() -> str:
    """Return the model name of the processor; on Linux `platform` knows its architecture only."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# ---------------------------------------------------------------- many runs


def _fill(
    runs: RunStore, setup: SweepSetup, wanted: list[Recipe], n_jobs: int | None, *, kept: bool
) -> dict[Recipe, str]:
    """Run what the store lacks; return the recipes that failed, with their reasons."""
    runs.make()
    missing = [recipe for recipe in wanted if runs.find(recipe) is None]
    known = {"desc": "sweep", "unit": "run", "total": len(wanted)}
    known |= {"initial": len(wanted) - len(missing), "delay": _PATIENCE, "leave": False}
    # Without smoothing the bar divides by the mean over all runs: single ones differ too much.
    with tqdm(**known, smoothing=0) as bar:
        workers = Workers(runs, setup, n_jobs or count_workers(setup), bar)
        try:
            workers.work(missing)
        except KeyboardInterrupt:
            where = f"are kept in {runs.folder.parent}; the same call goes on from there"
            advice = where if kept else "were made and none is kept: give a folder as store"
            stopped = f"Stopped: {bar.n} of {bar.total} runs {advice}."
            print(line_text(stopped), file=sys.stderr)
            raise
    return workers.failed


# ---------------------------------------------------------------- before it begins


@dataclass(frozen=True)
class SweepEstimate:
    """How many runs a sweep will make, and how long they will take."""

    runs: int
    stored: int
    workers: int
    seconds: float

    def __str__(self) -> str:
        stored = f", {self.stored} of them stored already" if self.stored else ""
        minutes = f"{self.seconds / 60:.0f} minutes" if self.seconds > 90 else "a minute or two"
        where = "1 process" if self.workers == 1 else f"{self.workers} processes"
        return f"{self.runs} runs{stored}: about {minutes} in {where}"


def estimate_sweep(
    recipes: Recipes,
    subject: Model = "pocket",
    *,
    n_jobs: int | None = None,
    store: str | os.PathLike[str] | None = None,
    every: int | None = None,
    task: Source | None = None,
    exam: Source | None = None,
    task_exam: Source | None = None,
    questions: int | None = None,
) -> SweepEstimate:
    """Estimate how many runs a sweep would make and how long they take, by a few short runs."""
    wanted = checked_recipes(recipes, n_jobs, every)
    job = Job.of(task, exam, task_exam, questions)
    with prepared_setup(subject, every, job) as setup, _folder(store) as folder:
        runs = RunStore(Path(folder), setup.circumstances)
        missing = [recipe for recipe in wanted if runs.find(recipe) is None]
        workers = joblib.effective_n_jobs(n_jobs) if n_jobs else count_workers(setup)
        pace = {method: _Pace(setup, method) for method in {r.method for r in missing}}
        seconds = sum(pace[recipe.method].seconds(recipe) for recipe in missing) / workers
    return SweepEstimate(len(wanted), len(wanted) - len(missing), workers, seconds)


class _Pace:
    """How long the runs of a method take: a fixed start, and a time for each step."""

    SHORT, LONG = 5, 15

    def __init__(self, setup: SweepSetup, method: Any) -> None:
        recipe = Recipe(method=method, learning_rate=0.0, steps=self.SHORT)
        attempt_run(
            setup, recipe
        )  # not timed: the first run also loads the model and scores the base
        short, long = (_seconds_of(setup, recipe.change(steps=n)) for n in (self.SHORT, self.LONG))
        self._step = max(0.0, long - short) / (self.LONG - self.SHORT)
        self._start = max(0.0, short - self.SHORT * self._step)

    def seconds(self, recipe: Recipe) -> float:
        """Estimate how long a recipe will take; a step takes as long as its batch is large."""
        return self._start + self._step * recipe.steps * recipe.batch_size / Recipe.batch_size


def _seconds_of(setup: SweepSetup, recipe: Recipe) -> float:
    start = perf_counter()
    setup.run(recipe)
    return perf_counter() - start
