"""Capability Regression Lab: see, measure and prevent what a model forgets in fine-tuning.

    import caplab as cl

    base = cl.load("pocket")
    before = cl.score(base, cl.exam())

Importing the package is instant: a public name is fetched from its module when it is first used,
and PyTorch is loaded then, not before. CONTRIBUTING.md says what is in which folder.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from caplab.support import __version__ as __version__

if TYPE_CHECKING:  # the same names once more, for editors and mypy; a test compares the two lists
    from caplab import plots as plots
    from caplab.exploring.panel import explorer as explorer
    from caplab.measuring.compare import compare as compare
    from caplab.measuring.intervals import wilson as wilson
    from caplab.measuring.lm_eval import exam_from_lm_eval as exam_from_lm_eval
    from caplab.measuring.lm_eval import scorecard_from_lm_eval as scorecard_from_lm_eval
    from caplab.measuring.policy import Policy as Policy
    from caplab.measuring.power import items_needed as items_needed
    from caplab.measuring.report import Report as Report
    from caplab.measuring.score import score as score
    from caplab.measuring.scorecard import Scorecard as Scorecard
    from caplab.models.load import load as load
    from caplab.models.subject import Subject as Subject
    from caplab.questions import world as world
    from caplab.questions.exam import Exam as Exam
    from caplab.questions.exam import Question as Question
    from caplab.questions.exam import Text as Text
    from caplab.questions.exam import exam as exam
    from caplab.questions.tasks import task as task
    from caplab.study import charts as charts
    from caplab.study import claims as claims
    from caplab.study.atlas import Atlas as Atlas
    from caplab.study.atlas import atlas as atlas
    from caplab.study.grid import grid as grid
    from caplab.study.league import league as league
    from caplab.study.sweep import sweep as sweep
    from caplab.teaching.classroom import check as check
    from caplab.teaching.classroom import claim as claim
    from caplab.teaching.classroom import hint as hint
    from caplab.teaching.classroom import quiz as quiz
    from caplab.teaching.guesses import predict as predict
    from caplab.teaching.guesses import reveal as reveal
    from caplab.teaching.progress import progress as progress
    from caplab.training import remedies as remedies
    from caplab.training.fine_tune import fine_tune as fine_tune
    from caplab.training.in_turn import InTurn as InTurn
    from caplab.training.in_turn import train_in_turn as train_in_turn
    from caplab.training.recipe import Recipe as Recipe
    from caplab.training.run import Point as Point
    from caplab.training.run import Run as Run
    from caplab.watching.gate import gate as gate
    from caplab.watching.guard import RegressionGuard as RegressionGuard

# How long a thread spins before it sleeps. Spinning long takes time from the other kernels on the
# same cores; without spinning a training of pocket takes twice as long, because its threads wait
# for one another at each layer and waking up takes longer than the work. Measured in
# docs/classroom.md. OpenMP on Linux reads it when PyTorch loads. No result depends on it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

_MODULES = {  # each public name and where it is defined
    "Atlas": "study.atlas",
    "Exam": "questions.exam",
    "InTurn": "training.in_turn",
    "Point": "training.run",
    "Policy": "measuring.policy",
    "Question": "questions.exam",
    "Recipe": "training.recipe",
    "RegressionGuard": "watching.guard",
    "Report": "measuring.report",
    "Run": "training.run",
    "Scorecard": "measuring.scorecard",
    "Subject": "models.subject",
    "Text": "questions.exam",
    "atlas": "study.atlas",
    "charts": "study.charts",
    "check": "teaching.classroom",
    "claim": "teaching.classroom",
    "claims": "study.claims",
    "compare": "measuring.compare",
    "exam": "questions.exam",
    "exam_from_lm_eval": "measuring.lm_eval",
    "explorer": "exploring.panel",
    "fine_tune": "training.fine_tune",
    "gate": "watching.gate",
    "grid": "study.grid",
    "league": "study.league",
    "hint": "teaching.classroom",
    "items_needed": "measuring.power",
    "load": "models.load",
    "plots": "plots",
    "predict": "teaching.guesses",
    "progress": "teaching.progress",
    "quiz": "teaching.classroom",
    "remedies": "training.remedies",
    "reveal": "teaching.guesses",
    "score": "measuring.score",
    "scorecard_from_lm_eval": "measuring.lm_eval",
    "sweep": "study.sweep",
    "task": "questions.tasks",
    "train_in_turn": "training.in_turn",
    "wilson": "measuring.intervals",
    "world": "questions.world",
}

# What the cells after `load` use, in steps of half a second at most on two cores.
_READ_AHEAD = (
    *("pandas", "datasets", "transformers.trainer_utils", "trl.trainer.sft_trainer"),
    *("caplab.training.fine_tune", "caplab.exploring.panel", "caplab.plots"),
    *("scipy.stats", "caplab.study.atlas"),
)

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Fetch a public name from its module, once; `cl.plots` and its like are modules themselves."""
    if name not in _MODULES:
        raise AttributeError(f"caplab has no {name!r}; it offers {', '.join(__all__)}")
    try:
        module = import_module(f"caplab.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        where = "in the project's folder run: python lab.py"
        raise ImportError(f"{error.name} is not installed in this Python; {where}") from error
    value = globals()[name] = getattr(module, name, module)
    if name == "load":  # a lesson begins with it, and the learner reads on
        from caplab.support.idle import load_when_idle

        load_when_idle(_READ_AHEAD)
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not, so that Tab completes them."""
    return [*__all__, "__version__"]
