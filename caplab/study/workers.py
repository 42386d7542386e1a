"""Run recipes in worker processes, here or on a cluster, and go on when one of them dies."""

import ctypes
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import joblib

from caplab.measuring.scorecard import Scorecard
from caplab.models.load import load
from caplab.models.subject import Subject
from caplab.models.weights import digest, without_adapter
from caplab.questions.exam import OVERALL, Exam
from caplab.study.job import SERVICE, Job
from caplab.study.store import RunStore, recipe_of
from caplab.support.errors import BadInput, explaining_failure
from caplab.support.machine import cores, one_thread
from caplab.training.fine_tune import fine_tune
from caplab.training.recipe import Recipe
from caplab.training.run import Run

__all__ = ["on_dask"]
Model = str | os.PathLike[str] | Subject

_FORMAT = 1  # of a stored run; goes up when the same recipe would give other numbers
_PATIENCE_FOR_DASK = 10  # seconds until a scheduler must have answered
_TRIM, _MAP, _LARGE = -1, -3, 1 << 25  # of malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD; 32 MB
MENTIONED = {"mentioned", "not mentioned"}  # tags: do texts for replay state the fact?
_LIVES = 2  # deaths of a worker that a recipe may be present at before it is tried alone


@dataclass(frozen=True)
class SweepSetup:
    """What a worker needs besides the recipe: which model, which job, how often to look."""

    model: str
    name: str
    weights: str  # their digest: a worker that loads other weights under this name refuses
    device: str
    dtype: str
    every: int | None
    job: Job = SERVICE

    @classmethod
    def of(
        cls, model: str, every: int | None, name: str = "", job: Job = SERVICE, **where: Any
    ) -> "SweepSetup":
        """Load the model once here, to record what the workers have to find."""
        subject = load(model, **where)
        dtype = str(next(subject.model.parameters()).dtype).removeprefix("torch.")
        weights = digest(subject.model)
        return cls(model, name or subject.name, weights, str(subject.device), dtype, every, job)

    def run(self, recipe: Recipe) -> dict[str, Any]:
        """Run a recipe, and return the record that is kept of it."""
        with one_thread():
            given = self.job.settings() | {"every": self.every}
            run = fine_tune(_open(self), recipe, on_point=lambda _: None, **given)
        if run.stopped and not run.trouble:
            raise KeyboardInterrupt  # fine_tune returned the part that it had: no whole run
        return _record(run, self.job.exams[0])

    @property
    def circumstances(self) -> dict[str, Any]:
        """Return what decides the numbers of a run besides its recipe."""
        known = {"weights": self.weights, "dtype": self.dtype, "every": self.every}
        return known | {"format": _FORMAT} | self.job.circumstances()


@contextmanager
def prepared_setup(subject: Model, every: int | None, job: Job = SERVICE) -> Iterator[SweepSetup]:
    """Save a subject that is in memory, so that workers can load it; name any other."""
    if not isinstance(subject, Subject):
        name = os.fspath(subject) if isinstance(subject, os.PathLike) else subject
        if name == "pocket":  # workers may lack the variable that replaces it, so read it here
            name = os.environ.get("CAPLAB_MODEL", name)
        yield SweepSetup.of(name, every, job=job)
        return
    with TemporaryDirectory() as folder:
        without_adapter(subject.model).save_pretrained(folder)
        subject.tokenizer.save_pretrained(folder)
        where = {"device": subject.device, "dtype": next(subject.model.parameters()).dtype}
        yield SweepSetup.of(folder, every, subject.name, job, **where)


@lru_cache(maxsize=1)
def _open(setup: SweepSetup) -> Subject:
    """Load the subject, once in each process."""
    _keep_memory()
    subject = load(setup.model, device=setup.device, dtype=setup.dtype)
    if digest(subject.model) != setup.weights:
        raise BadInput(
            f"{setup.name} has other weights in this process than where the sweep began. "
            "Give every worker the same model: a folder that all can read, or a name on the hub."
        )
    return subject


def _keep_memory() -> None:
    """Let glibc keep the memory that a step frees: the next step allocates the same again.

    Dask starts its workers with a variable that makes glibc return it to the system each time; a
    training took 1.6 times as long that way.
    """
    allocator = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if allocator and "MALLOC_TRIM_THRESHOLD_" in os.environ:
        allocator(_TRIM, _LARGE)
        allocator(_MAP, _LARGE)


def _record(run: Run, asked: Exam) -> dict[str, Any]:
    """Record a run: its points, and its scores on the whole exams before and after."""
    return {
        "recipe": json.loads(run.recipe.to_json()),
        "points": [asdict(point) for point in run.points],
        "before": _levels(run.cards, "before", asked),
        "after": _levels(run.cards, "final", asked) if "final" in run.cards else None,
        "replay_fraction": run.replay_fraction,
        "trainable_parameters": run.trainable_parameters,
        "seconds": run.seconds,
        "trouble": run.trouble,
    }


def _levels(cards: Mapping[str, Scorecard], when: str, asked: Exam) -> dict[str, float]:
    """Return the scores of a pair of scorecards, under the names that stored runs use."""
    classics, task = cards[when], cards[f"{when}_task"]
    levels = {"task": task.accuracy, "classics": classics.accuracy, "smooth": classics.smooth}
    levels |= {"language_loss": classics.language_loss} | classics.by_capability
    levels |= {f"task, {kind}": level for kind, level in _by_kind(task).items()}
    return levels | _by_kind(classics) | _parts(classics, asked)


def _by_kind(card: Scorecard) -> dict[str, float]:
    """Return what was said and what was chosen apart, where an exam asks both."""
    return card.by_kind if len(card.by_kind) > 1 else {}


def _parts(card: Scorecard, asked: Exam) -> dict[str, float]:
    """Return the levels of an exam's parts: rows that have both kinds, and what replay mentions."""
    both = len(card.by_kind) > 1
    parts = {name: items for name, _, _, items in card.parts if ", " in name and name != OVERALL}
    parts = {name: items for name, items in parts.items() if not name.startswith(f"{OVERALL}, ")}
    for number, (question, kind) in enumerate(zip(asked.questions, card.kinds, strict=True)):
        for tag in set(question.tags) & MENTIONED:
            parts.setdefault(f"{tag}, {kind}" if both else tag, []).append(number)
    return {name: mean(card.correct[n] for n in items) for name, items in parts.items()}


def attempt_run(setup: SweepSetup, recipe: Recipe) -> dict[str, Any]:
    """Run a recipe in a worker; return a failure as a reason, because the other recipes go on."""
    try:
        return setup.run(recipe)
    except Exception as error:
        kind = "" if isinstance(error, BadInput) else f"{type(error).__name__}: "
        return {"recipe": json.loads(recipe.to_json()), "reason": f"{kind}{error}"}


def count_workers(setup: SweepSetup) -> int:
    """Return as many processes as joblib was told, or one per core, or one on a GPU."""
    told = int(joblib.effective_n_jobs())
    return told if told > 1 else cores() if setup.device == "cpu" else 1


class Workers:
    """Run recipes through joblib, and go on when a worker dies.

    When a worker dies, joblib breaks off all that it was given, and cannot tell which recipe the
    worker had. So all of them are suspects, and are tried again together with the rest: most were
    there by chance, and being there by chance twice is rare. A recipe that was there twice is tried
    alone. If a worker dies of it then, the recipe is to blame, and is given up.
    """

    def __init__(self, runs: RunStore, setup: SweepSetup, workers: int, bar: Any) -> None:
        self.failed: dict[Recipe, str] = {}
        self._store, self._setup, self._workers, self._bar = runs, setup, workers, bar
        self._left: dict[Recipe, None] = {}  # a set that keeps its order
        self._suspects: set[Recipe] = set()  # given to joblib, and not back yet
        self._deaths: Counter[Recipe] = Counter()  # how often each was a suspect

    def work(self, recipes: list[Recipe]) -> None:
        """Run every recipe until it has ended or failed."""
        self._left = dict.fromkeys(recipes)
        while self._left:
            together = [recipe for recipe in self._left if self._deaths[recipe] < _LIVES]
            self._suspects.clear()
            try:
                # Those that are tried alone come last: the others are safe by then.
                self._run(together or [next(iter(self._left))])
            except _deadly():
                self._deaths.update(self._suspects)
                if not together:
                    (guilty,) = self._suspects
                    reason = f"its worker died {self._deaths[guilty]} times, at last working alone"
                    self._finish(guilty, f"{reason}: too little memory?")

    def _run(self, recipes: list[Recipe]) -> None:
        """Run recipes side by side, and keep each record as it arrives."""
        workers = min(self._workers, len(recipes))
        # Unordered, and in batches of one: a run must not wait unsaved for an earlier one.
        parallel = joblib.Parallel(workers, return_as="generator_unordered", batch_size=1)
        tasks = (
            joblib.delayed(attempt_run)(self._setup, recipe)
            for recipe in self._noting_suspects(recipes)
        )
        for record in parallel(tasks):
            recipe, reason = recipe_of(record), record.get("reason")
            if reason is None:
                self._store.keep(record)
            self._suspects.discard(recipe)
            self._finish(recipe, reason)

    def _noting_suspects(self, recipes: list[Recipe]) -> Iterator[Recipe]:
        """Note which recipes joblib takes: it takes a few more than there are workers."""
        for recipe in recipes:
            self._suspects.add(recipe)
            yield recipe

    def _finish(self, recipe: Recipe, reason: str | None) -> None:
        """Cross a recipe off the list; with a reason, as one that failed."""
        if reason is not None:
            self.failed[recipe] = reason
        self._left.pop(recipe, None)
        self._bar.update()


def _deadly() -> tuple[type[BaseException], ...]:
    """Return the errors that say a worker died; Dask's counts only where Dask is in use."""
    dask = sys.modules.get("distributed")
    return (BrokenExecutor, *([dask.KilledWorker] if dask else []))


@contextmanager
def on_dask(address: str | None) -> Iterator[None]:
    """Let joblib use the Dask cluster at an address; without an address, change nothing."""
    if address is None:
        yield
        return
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise BadInput('Dask is not installed: pip install "caplab[cluster]".') from error
    with explaining_failure(f"No Dask scheduler answers at {address}"):
        client: Any = Client(address, timeout=_PATIENCE_FOR_DASK)  # type: ignore[no-untyped-call]
    with client, joblib.parallel_config(backend="dask", wait_for_workers_timeout=30):
        yield
