"""States of the Explorer to look at, and what it takes to train in one."""

from dataclasses import replace

import tiny

from caplab.exploring.presets import COURSE, PRESETS
from caplab.exploring.state import Outcome, State
from caplab.measuring.compare import compare
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam, Question
from caplab.training.run import Point

TASK = [
    {"prompt": f"Customer: {wish}\nAgent:", "completion": f" Click {page}."}
    for wish, page in [("a pot", "Pots"), ("a shelf", "Shelves"), ("a dog", "Dogs")]
]


def point(step, task=0.5, classics=0.9, names=("capitals", "arithmetic")):
    return Point(
        step=step,
        task_loss=None,
        task_accuracy=task,
        classics_accuracy=classics,
        by_capability=dict.fromkeys(names, classics),
        smooth=0.5,
        language_loss=1.0,
        kl=0.1,
        learning_rate=1e-3,
        elapsed=0.1,
    )


def card(right, n=100, names=("capitals", "arithmetic")):
    """A scorecard with so many of n answers right, shared out evenly among capabilities."""
    good, bad = (-0.1, -3.0), (-3.0, -0.1)
    return Scorecard(
        subject="pretended",
        exam="classics",
        fingerprint="0",
        capability=tuple(names[at % len(names)] for at in range(n)),
        answer=(0,) * n,
        loglikelihoods=tuple(good if at < right else bad for at in range(n)),
        characters=((3, 3),) * n,
    )


def outcome(before=97, after=48, task=0.93, budget=0.05, names=("capitals", "arithmetic")):
    old, new = card(before, names=names), card(after, names=names)
    return Outcome(task, old, new, compare(old, new, budget=budget))


def state(preset="first_look", **changes):
    shown = State(preset=PRESETS[preset], recipe=PRESETS[preset].recipe)
    return replace(shown, **changes)


def trained(**changes):
    """A run that came to its end."""
    points = (point(0, 0.28, 0.97), point(30, 0.7, 0.8), point(60, 0.93, 0.48))
    ended = {"phase": "done", "points": points, "trained": COURSE, "outcome": outcome()}
    return state(**ended | {"base": (0.28, 0.97)} | changes)


def small(**options):
    """Return what `explorer` needs for trainings of a moment, in the foreground."""
    choices = tuple(row["completion"].strip() for row in TASK)
    asked = (Question("task", row["prompt"], choices, at) for at, row in enumerate(TASK))
    exams = {"exam": tiny.exam(), "task_exam": Exam(tuple(asked), (), "t"), "task": TASK}
    return {"subject": tiny.subject(), **exams, "threaded": False, "steps": 8, **options}
