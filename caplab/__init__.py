"""Capability Regression Lab: see, measure and prevent what a model forgets in fine-tuning.

    import caplab as cl

    base = cl.load("pocket")
    before = cl.score(base, cl.exam())

Importing the package is instant: each name below is fetched from its module when first used, and
PyTorch is loaded then, not before.

Some names are both a function here and a module (`cl.exam` and `caplab/exam.py`). The function
wins: write `from caplab.exam import score` to reach into the module.
"""

import importlib
import os
import sys
import time
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caplab import charts, claims, plots, remedies, world
    from caplab.atlas import Atlas, atlas
    from caplab.classroom import check, claim, hint, predict, quiz, reveal
    from caplab.exam import Exam, Question, Scorecard, Text, exam, score
    from caplab.explorer import explorer
    from caplab.gate import gate
    from caplab.guard import RegressionGuard
    from caplab.lm_eval import exam_from_lm_eval, scorecard_from_lm_eval
    from caplab.models import Subject, load
    from caplab.recipe import Recipe
    from caplab.run import Point, Run
    from caplab.stats import Report, compare, items_needed, wilson
    from caplab.sweep import grid, sweep
    from caplab.tuning import fine_tune
    from caplab.world import task

__version__ = "0.1.0"

__all__ = [
    "Atlas",
    "Exam",
    "Point",
    "Question",
    "Recipe",
    "RegressionGuard",
    "Report",
    "Run",
    "Scorecard",
    "Subject",
    "Text",
    "atlas",
    "charts",
    "check",
    "claim",
    "claims",
    "compare",
    "exam",
    "exam_from_lm_eval",
    "explorer",
    "fine_tune",
    "gate",
    "grid",
    "hint",
    "items_needed",
    "load",
    "plots",
    "predict",
    "quiz",
    "remedies",
    "reveal",
    "score",
    "scorecard_from_lm_eval",
    "sweep",
    "task",
    "wilson",
    "world",
]

# How long a thread spins before it sleeps. Spinning long robs the other kernels on the same cores;
# not at all makes a training of pocket twice as long: its threads wait for one another at each
# layer, and waking up takes longer than the work. Measured in docs/classroom.md. OpenMP on Linux
# reads it when PyTorch loads. No result depends on it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

_NAMES = {
    "atlas": ["Atlas", "atlas"],
    "classroom": ["check", "claim", "hint", "predict", "quiz", "reveal"],
    "exam": ["Exam", "Question", "Scorecard", "Text", "exam", "score"],
    "explorer": ["explorer"],
    "gate": ["gate"],
    "guard": ["RegressionGuard"],
    "lm_eval": ["exam_from_lm_eval", "scorecard_from_lm_eval"],
    "models": ["Subject", "load"],
    "recipe": ["Recipe"],
    "run": ["Point", "Run"],
    "stats": ["Report", "compare", "items_needed", "wilson"],
    "sweep": ["grid", "sweep"],
    "tuning": ["fine_tune"],
    "world": ["task"],
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
_LOADS_FIRST = {"load": "torch", "score": "torch", "RegressionGuard": "torch"}
_LOADS_FIRST |= {"explorer": "torch", "fine_tune": "trl", "sweep": "trl"}
_TITLES = {"torch": "PyTorch", "trl": "TRL"}


def __getattr__(name: str) -> Any:
    """Fetch a public name from its module, once."""
    if name not in __all__:
        raise AttributeError(f"caplab has no {name!r}; it offers {', '.join(__all__)}")
    if name in _LOADS_FIRST:
        _load_library(_LOADS_FIRST[name])
    module = importlib.import_module(f"caplab.{_MODULE_OF.get(name, name)}")
    value = getattr(module, name) if name in _MODULE_OF else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not, so that Tab completes them."""
    return [*__all__, "__version__"]


def _load_library(name: str) -> None:
    """Import a big library, and say so in a terminal, where seconds of silence look like a fault.

    Not in notebooks and pipes: there the line would stay in the output, different each time.
    """
    watched = sys.stderr is not None and sys.stderr.isatty() and name not in sys.modules
    title = _TITLES.get(name, name)
    if watched:
        print(f"Loading {title} ... ", end="", file=sys.stderr, flush=True)
    start = time.perf_counter()
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        where = "in the project's folder run: python lab.py"
        raise ImportError(f"{title} is not installed in this Python; {where}") from error
    if watched:
        print(f"{time.perf_counter() - start:.1f} s", file=sys.stderr)


class _Package(ModuleType):
    """Keep `cl.exam` the function: importing caplab/exam.py would put the module in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
