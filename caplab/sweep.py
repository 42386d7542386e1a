"""Run many recipes, on this machine or on a cluster, and keep every run that ended.

joblib spreads the runs, so the engine is whatever joblib is told: processes of this machine, or a
Dask cluster inside `joblib.parallel_config(backend="dask")`. Each run is computed by one thread,
wherever it runs: that is how several share a machine's cores without waiting for one another, and
why the engine does not change the numbers.
"""

import ctypes
import hashlib
import json
import os
import platform
import sys
import tomllib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import joblib
from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]

import caplab
from caplab.atlas import Atlas
from caplab.errors import BadInput, refusing, require, shown
from caplab.exam import Scorecard, exam
from caplab.feed import digest
from caplab.files import as_path, read_text, write_atomically
from caplab.models import Subject, cores, load, one_thread
from caplab.recipe import Recipe
from caplab.run import Run
from caplab.tuning import fine_tune

__all__ = ["Forecast", "forecast", "grid", "on_dask", "read_grid", "sweep"]

Recipes = Recipe | Iterable[Recipe]
Model = str | os.PathLike[str] | Subject

_FORMAT = 1  # of a stored run; goes up when the same recipe would give other numbers
_PATIENCE = 2.0  # seconds before the progress bar appears
_PATIENCE_FOR_DASK = 10  # seconds until a scheduler must have answered
_TRIM, _MAP, _LARGE = -1, -3, 1 << 25  # of malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD; 32 MB
_LIVES = 2  # workers that a recipe may lose before it is tried alone


def sweep(
    recipes: Recipes,
    subject: Model = "pocket",
    *,
    n_jobs: int | None = None,
    store: str | os.PathLike[str] | None = None,
    every: int | None = None,
) -> Atlas:
    """Run every recipe on a subject and gather the runs in an `Atlas`.

    `n_jobs` processes share the work: one per core if it is left out, one in all on a GPU. `every`
    counts the steps between two points, as in `fine_tune`. With a folder as `store` each run is
    kept there as soon as it ends; the same call goes on where an earlier one was broken off.

    A recipe that fails is listed in `atlas.failed`, with the reason, and the others go on; the next
    sweep tries it again. What a dying worker had in its hands is done again.
    """
    wanted = _checked(recipes, n_jobs, every)
    with _bench(subject, every) as bench, _folder(store) as folder:
        shelf = _Shelf(Path(folder), bench)
        failed = _fill(shelf, bench, wanted, n_jobs, kept=store is not None)
        records = [record for recipe in wanted if (record := shelf.find(recipe))]
        return Atlas.of(records, _about(bench), failed)


def grid(**axes: Any) -> list[Recipe]:
    """Combine every value with every other: `grid(learning_rate=[1e-4, 1e-3], seed=range(5))`.

    A value is a single one or a list of them; the last name given changes fastest.
    """
    values = [_values(name, given) for name, given in axes.items()]
    return [Recipe(**dict(zip(axes, chosen, strict=True))) for chosen in product(*values)]


def _values(name: str, given: Any) -> list[Any]:
    """Return an axis as a list; a tuple of layers is one value, not several."""
    single = isinstance(given, str) or not isinstance(given, Iterable)
    values = [given] if single or (name, type(given)) == ("target_modules", tuple) else list(given)
    if not values:
        raise BadInput(f"{name} has no value to try: the list is empty.")
    return values


def _checked(recipes: Recipes, n_jobs: int | None, every: int | None) -> list[Recipe]:
    """Refuse at the door what would fail in every worker; keep one of equal recipes."""
    require(recipes, (Recipe, Iterable), "A sweep takes Recipes, such as grid(...) makes")
    given = [recipes] if isinstance(recipes, Recipe) else list(recipes)
    if strangers := [recipe for recipe in given if not isinstance(recipe, Recipe)]:
        raise BadInput(
            f"A sweep takes Recipes, such as grid(...) makes, not {shown(strangers[0])}."
        )
    if not given:
        raise BadInput("There is no recipe to run: the list is empty.")
    if n_jobs is not None and (type(n_jobs) is not int or n_jobs == 0):
        raise BadInput(f"n_jobs counts processes, and -1 means all cores; it is {shown(n_jobs)}.")
    if every is not None and (type(every) is not int or every < 1):
        raise BadInput(f"every counts the steps from one point to the next, not {shown(every)}.")
    return list(dict.fromkeys(given))


@contextmanager
def _folder(store: str | os.PathLike[str] | None) -> Iterator[str]:
    """Give the store's folder, or one that is gone afterwards."""
    if store is not None:
        yield str(as_path(store))
        return
    with TemporaryDirectory() as folder:
        yield folder


# ---------------------------------------------------------------- one run


@dataclass(frozen=True)
class _Bench:
    """What a worker needs beside the recipe: which model, and how often to look."""

    model: str
    name: str
    weights: str  # their digest: a worker that finds others under this name refuses
    device: str
    dtype: str
    every: int | None

    @classmethod
    def of(cls, model: str, every: int | None, name: str = "", **where: Any) -> "_Bench":
        """Load the model once here, to know what the workers are to find."""
        subject = load(model, **where)
        dtype = str(next(subject.model.parameters()).dtype).removeprefix("torch.")
        weights = digest(subject.model)
        return cls(model, name or subject.name, weights, str(subject.device), dtype, every)

    def run(self, recipe: Recipe) -> dict[str, Any]:
        """Run a recipe, and return what is kept of it."""
        with one_thread():
            run = fine_tune(_open(self), recipe, every=self.every, on_point=lambda _: None)
        if run.stopped and not run.trouble:
            raise KeyboardInterrupt  # which fine_tune takes for a wish to see what there is
        return _record(run)

    @property
    def circumstances(self) -> dict[str, Any]:
        """Say what decides a run's numbers beside its recipe."""
        exams = {name: exam(name).fingerprint for name in ("classics", "task")}
        known = {"weights": self.weights, "dtype": self.dtype, "every": self.every}
        return known | {"exams": exams, "format": _FORMAT}


@contextmanager
def _bench(subject: Model, every: int | None) -> Iterator[_Bench]:
    """Put the subject where workers can load it."""
    if not isinstance(subject, Subject):
        name = os.fspath(subject) if isinstance(subject, os.PathLike) else subject
        # Workers may not have the variable, so it is read here.
        yield _Bench.of(os.environ.get("CAPLAB_MODEL", name) if name == "pocket" else name, every)
        return
    with TemporaryDirectory() as folder:
        _plain(subject).save_pretrained(folder)
        subject.tokenizer.save_pretrained(folder)
        where = {"device": subject.device, "dtype": next(subject.model.parameters()).dtype}
        yield _Bench.of(folder, every, subject.name, **where)


def _plain(subject: Subject) -> Any:
    """Return the model, a copy with its adapter merged if it has one."""
    merge = hasattr(subject.model, "merge_and_unload")
    return deepcopy(subject.model).merge_and_unload() if merge else subject.model


@lru_cache(maxsize=1)
def _open(bench: _Bench) -> Subject:
    """Load the subject, once in each process."""
    _keep_memory()
    subject = load(bench.model, device=bench.device, dtype=bench.dtype)
    if digest(subject.model) != bench.weights:
        raise BadInput(
            f"{bench.name} has other weights in this process than where the sweep began. "
            "Give every worker the same model: a folder that all can read, or a name on the hub."
        )
    return subject


def _keep_memory() -> None:
    """Let glibc keep what a step frees, for the next step takes it again.

    Dask starts its workers with a variable against that: a training took 1.6 times as long there.
    """
    allocator = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if allocator and "MALLOC_TRIM_THRESHOLD_" in os.environ:
        allocator(_TRIM, _LARGE)
        allocator(_MAP, _LARGE)


def _record(run: Run) -> dict[str, Any]:
    """Write down a run: its points, and what the whole exams said before and after."""
    return {
        "recipe": json.loads(run.recipe.to_json()),
        "points": [asdict(point) for point in run.points],
        "before": _levels(run.cards, "before"),
        "after": _levels(run.cards, "final") if "final" in run.cards else None,
        "replay_fraction": run.replay_fraction,
        "trainable_parameters": run.trainable_parameters,
        "seconds": run.seconds,
        "trouble": run.trouble,
    }


def _levels(cards: Mapping[str, Scorecard], when: str) -> dict[str, float]:
    """Return what two scorecards come to."""
    classics, task = cards[when], cards[f"{when}_task"]
    levels = {"task": task.accuracy, "classics": classics.accuracy, "smooth": classics.smooth}
    return levels | {"language_loss": classics.language_loss} | classics.by_capability


def _about(bench: _Bench) -> dict[str, Any]:
    """Say what was run, by what and when."""
    names = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy")
    return {
        "subject": bench.name,
        **bench.circumstances,
        "versions": {"caplab": caplab.__version__} | {name: version(name) for name in names},
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    """Name the processor: only Linux needs to be asked in a way of its own."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _attempt(bench: _Bench, recipe: Recipe) -> dict[str, Any]:
    """Run a recipe in a worker; what fails comes back as a reason, for the others go on."""
    try:
        return bench.run(recipe)
    except Exception as error:
        kind = "" if isinstance(error, BadInput) else f"{type(error).__name__}: "
        return {"recipe": json.loads(recipe.to_json()), "reason": f"{kind}{error}"}


# ---------------------------------------------------------------- what is kept


class _Shelf:
    """One file for each run that ended, in a folder for each set of circumstances."""

    def __init__(self, store: Path, bench: _Bench) -> None:
        self.folder = store / _checksum(json.dumps(bench.circumstances, sort_keys=True))[:12]

    def make(self) -> None:
        """Make the folder, before anything is computed that could not be kept."""
        with refusing(f"The store {str(self.folder.parent)!r} cannot be used"):
            self.folder.mkdir(parents=True, exist_ok=True)

    def keep(self, record: dict[str, Any]) -> None:
        """Write a run whole or not at all."""
        body = json.dumps(record)
        write_atomically(self._path(_recipe(record)), f"{_checksum(body)}\n{body}")

    def find(self, recipe: Recipe) -> dict[str, Any] | None:
        """Return a recipe's run; a file that is damaged is set aside, and the run is missing."""
        path = self._path(recipe)
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
        checksum, _, body = text.partition("\n")
        record: dict[str, Any] = json.loads(body) if checksum == _checksum(body) else {}
        if record and _recipe(record) == recipe:  # another's file may have been given this name
            return record
        aside = path.with_suffix(".damaged")
        with suppress(FileNotFoundError):  # who shares the store was quicker
            os.replace(path, aside)
        warnings.warn(
            f"{path} is damaged: it is set aside as {aside.name}, and the run is made again.",
            stacklevel=2,
        )
        return None

    def _path(self, recipe: Recipe) -> Path:
        return self.folder / f"{recipe.hash}.json"


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _recipe(record: dict[str, Any]) -> Recipe:
    return Recipe.from_json(json.dumps(record["recipe"]))


# ---------------------------------------------------------------- many runs


def _fill(
    shelf: _Shelf, bench: _Bench, wanted: list[Recipe], n_jobs: int | None, *, kept: bool
) -> dict[Recipe, str]:
    """Run what the shelf lacks; return the recipes that failed, with their reasons."""
    shelf.make()
    missing = [recipe for recipe in wanted if shelf.find(recipe) is None]
    with _progress(len(wanted), len(missing)) as bar:
        crew = _Crew(shelf, bench, n_jobs or _workers(bench), bar)
        try:
            crew.work(missing)
        except KeyboardInterrupt:
            where = f"are kept in {shelf.folder.parent}; the same call goes on from there"
            advice = where if kept else "were made and none is kept: give a folder as store"
            print(f"Stopped: {bar.n} of {bar.total} runs {advice}.", file=sys.stderr)
            raise
    return crew.failed


def _workers(bench: _Bench) -> int:
    """Count the processes: what joblib was told, else one per core, or one on a GPU."""
    told = int(joblib.effective_n_jobs())
    return told if told > 1 else cores() if bench.device == "cpu" else 1


def _progress(total: int, missing: int) -> Any:
    """Show how far the sweep is; the mean over all runs tells the time left best."""
    known = {"desc": "sweep", "unit": "run", "total": total, "initial": total - missing}
    return tqdm(**known, smoothing=0, delay=_PATIENCE, leave=False)


class _Crew:
    """Run recipes through joblib, and go on when a worker dies.

    Nobody can tell which of the recipes in hand killed a worker. All of them are tried again with
    the others. Who was there twice works alone from then on; if that worker dies as well, the
    recipe is to blame.
    """

    def __init__(self, shelf: _Shelf, bench: _Bench, workers: int, bar: Any) -> None:
        self.failed: dict[Recipe, str] = {}
        self._shelf, self._bench, self._workers, self._bar = shelf, bench, workers, bar
        self._left: dict[Recipe, None] = {}  # a set that keeps its order
        self._in_hand: set[Recipe] = set()
        self._deaths: Counter[Recipe] = Counter()

    def work(self, recipes: list[Recipe]) -> None:
        """Run every recipe until it has ended or failed."""
        self._left = dict.fromkeys(recipes)
        while self._left:
            together = [recipe for recipe in self._left if self._deaths[recipe] < _LIVES]
            self._in_hand.clear()
            try:
                self._run(together or [next(iter(self._left))])
            except _deadly():
                self._deaths.update(self._in_hand)
                if not together:
                    self._give_up(*self._in_hand)

    def _run(self, recipes: list[Recipe]) -> None:
        workers = min(self._workers, len(recipes))
        parallel = joblib.Parallel(workers, return_as="generator_unordered", batch_size=1)
        tasks = (joblib.delayed(_attempt)(self._bench, recipe) for recipe in self._hand(recipes))
        for record in parallel(tasks):
            self._put_away(record)

    def _hand(self, recipes: list[Recipe]) -> Iterator[Recipe]:
        """Note down what joblib takes, a few more than there are workers."""
        for recipe in recipes:
            self._in_hand.add(recipe)
            yield recipe

    def _put_away(self, record: dict[str, Any]) -> None:
        recipe = _recipe(record)
        if "reason" in record:
            self.failed[recipe] = record["reason"]
        else:
            self._shelf.keep(record)
        self._in_hand.discard(recipe)
        self._left.pop(recipe, None)
        self._bar.update()

    def _give_up(self, recipe: Recipe) -> None:
        reason = f"its worker died {self._deaths[recipe]} times, at last working alone"
        self.failed[recipe] = f"{reason}: too little memory?"
        self._left.pop(recipe)
        self._bar.update()


def _deadly() -> tuple[type[BaseException], ...]:
    """Name the errors that say a worker died; Dask's is known only where Dask is in use."""
    dask = sys.modules.get("distributed")
    return (BrokenExecutor, *([dask.KilledWorker] if dask else []))


@contextmanager
def on_dask(address: str | None) -> Iterator[None]:
    """Let joblib run on the Dask cluster at an address; without one, where it did."""
    if address is None:
        yield
        return
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise BadInput('Dask is not installed: pip install "caplab[cluster]".') from error
    with refusing(f"No Dask scheduler answers at {address}"):
        client: Any = Client(address, timeout=_PATIENCE_FOR_DASK)  # type: ignore[no-untyped-call]
    with client, joblib.parallel_config(backend="dask", wait_for_workers_timeout=30):
        yield


# ---------------------------------------------------------------- before it begins


@dataclass(frozen=True)
class Forecast:
    """How much a sweep will be, and how long it will take."""

    runs: int
    stored: int
    workers: int
    seconds: float

    def __str__(self) -> str:
        stored = f", {self.stored} of them stored already" if self.stored else ""
        minutes = f"{self.seconds / 60:.0f} minutes" if self.seconds > 90 else "a minute or two"
        where = "1 process" if self.workers == 1 else f"{self.workers} processes"
        return f"{self.runs} runs{stored}: about {minutes} in {where}"


def forecast(
    recipes: Recipes,
    subject: Model = "pocket",
    *,
    n_jobs: int | None = None,
    store: str | os.PathLike[str] | None = None,
    every: int | None = None,
) -> Forecast:
    """Say how many runs a sweep would be and how long it would take, by a few short runs here."""
    wanted = _checked(recipes, n_jobs, every)
    with _bench(subject, every) as bench, _folder(store) as folder:
        shelf = _Shelf(Path(folder), bench)
        missing = [recipe for recipe in wanted if shelf.find(recipe) is None]
        workers = joblib.effective_n_jobs(n_jobs) if n_jobs else _workers(bench)
        pace = {method: _Pace(bench, method) for method in {r.method for r in missing}}
        seconds = sum(pace[recipe.method].seconds(recipe) for recipe in missing) / workers
    return Forecast(len(wanted), len(wanted) - len(missing), workers, seconds)


class _Pace:
    """How long a method's runs take: a start, and so much for each step with its points."""

    SHORT, LONG = 5, 15

    def __init__(self, bench: _Bench, method: Any) -> None:
        recipe = Recipe(method=method, learning_rate=0.0, steps=self.SHORT)
        _attempt(bench, recipe)  # the first run of a process also loads and asks the base
        short, long = (_timed(bench, recipe.change(steps=n)) for n in (self.SHORT, self.LONG))
        self._step = max(0.0, long - short) / (self.LONG - self.SHORT)
        self._start = max(0.0, short - self.SHORT * self._step)

    def seconds(self, recipe: Recipe) -> float:
        """Return how long a recipe will take."""
        return self._start + self._step * recipe.steps * recipe.batch_size / Recipe.batch_size


def _timed(bench: _Bench, recipe: Recipe) -> float:
    start = perf_counter()
    bench.run(recipe)
    return perf_counter() - start


# ---------------------------------------------------------------- grids in files


def read_grid(path: str | os.PathLike[str]) -> tuple[list[Recipe], int | None]:
    """Read the recipes of a TOML grid, and every how many steps to look; see docs/sweeps.md.

    A field at the top holds for all; each `[[grid]]` is combined for itself.
    """
    text = read_text(path, "grid")
    with refusing(f"{os.fspath(path)!r} is not a grid"):
        common = tomllib.loads(text)
    parts = common.pop("grid", [{}])
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise BadInput(f"{os.fspath(path)!r}: write [[grid]], with double brackets, above a grid.")
    every = common.pop("every", None)
    try:
        recipes = [recipe for part in parts for recipe in grid(**(common | part))]
        return _checked(recipes, None, every), every
    except BadInput as error:
        raise BadInput(f"{os.fspath(path)!r}: {error}") from error
