"""What a panel shows, as plain values: presets, what was measured, and the present state."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from caplab.measuring.report import Report
from caplab.measuring.scorecard import Scorecard
from caplab.training.recipe import Recipe
from caplab.training.run import Point

__all__ = [
    "Answer",
    "Band",
    "Mix",
    "Outcome",
    "Phase",
    "Pin",
    "Place",
    "Preset",
    "State",
    "Watched",
    "place",
]

Place: TypeAlias = tuple[float, float]  # on the plane: task accuracy, classics accuracy
Action: TypeAlias = Literal["warn", "stop", "rollback"]
Phase: TypeAlias = Literal["ready", "training", "stopping", "walking", "done", "stopped", "failed"]


# ---------------------------------------------------------------- presets


@dataclass(frozen=True)
class Preset:
    """One experiment: its title, its advice, the controls that it needs, and where they start."""

    title: str
    advice: str
    controls: tuple[str, ...]
    recipe: Recipe
    guards: bool = False  # a RegressionGuard watches the training
    walks: bool = False  # after the training, models between base and tuned are asked too


# ---------------------------------------------------------------- what was measured


@dataclass(frozen=True)
class Band:
    """What the runs of a setting in the atlas did: mean, low and high over seeds at each step."""

    steps: tuple[int, ...]
    task: tuple[tuple[float, float, float], ...]
    classics: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the whole exam's answers, before and after."""

    task: float | None
    before: Scorecard
    after: Scorecard
    report: Report  # of both scorecards, judged by some budget: see `judged`

    @property
    def place(self) -> Place | None:
        """Return its place on the plane, if the task was asked."""
        return None if self.task is None else (self.task, self.after.accuracy)


@dataclass(frozen=True)
class Answer:
    """What the base answers to a question, and what the model in training answers."""

    question: str
    before: str
    after: str | None = None
    right: str | None = None  # the word of a right answer, if the world's facts hold it

    @property
    def fate(self) -> str:
        """Say whether the answer was kept, lost or changed; nothing if it was not asked again."""
        if self.after is None:
            return ""
        if self.after == self.before or self._says(self.after):
            return "kept"
        return "lost" if self._says(self.before) else "changed"

    def _says(self, answer: str) -> bool:
        """Look for the right word in an answer, as lesson 00 does."""
        if self.right is None:
            return False
        word = rf"(?<!\w){re.escape(self.right.lower().rstrip('. '))}(?!\w)"
        return re.search(word, answer.lower()) is not None


@dataclass(frozen=True)
class Mix:
    """A model between the base (alpha 0) and the tuned one (alpha 1)."""

    alpha: float
    outcome: Outcome
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Watched:
    """What a guard did, by steps: when the budget was crossed, when it acted, what it restored."""

    action: str
    crossed_at: int | None = None
    acted_at: int | None = None
    restored: int | None = None


@dataclass(frozen=True)
class Pin:
    """A run that stays on the plane, with its number."""

    number: int
    name: str
    place: Place
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything that a panel shows at one moment."""

    preset: Preset
    recipe: Recipe
    subject: str = "pocket"
    budget: float = 0.05
    action: Action = "stop"
    every: int = 10  # steps from one look of the guard to the next
    alpha: float = 1.0
    phase: Phase = "ready"
    message: str = ""
    base: Place | None = None
    band: Band | None = None
    seeds: int = 0
    trained: Recipe | None = None  # what the points belong to
    points: tuple[Point, ...] = ()
    outcome: Outcome | None = None
    guard: Watched | None = None
    mixes: Mapping[float, Mix] = field(default_factory=dict)
    questions: tuple[str, ...] = ()  # those that `answers` will answer
    answers: tuple[Answer, ...] = ()
    pins: tuple[Pin, ...] = ()
    guess: Place | None = None
    predicting: bool = False
    detailed: bool = False

    @property
    def veiled(self) -> bool:
        """Check whether the answer is hidden because the learner is still guessing."""
        return self.predicting and not self.points

    @property
    def busy(self) -> bool:
        """Check whether a training goes on."""
        return self.phase in ("training", "stopping")

    @property
    def seen(self) -> tuple[Point, ...]:
        """Return the points; those at the ends tell of all questions, once these were asked."""
        if not self.points:
            return ()
        first, last = self.points[0], self.points[-1]
        if self.base:
            first = replace(first, task_accuracy=self.base[0], classics_accuracy=self.base[1])
        if self.outcome:
            start, end = self.outcome.before, self.outcome.after
            first = replace(first, by_capability=start.by_capability)
            last = replace(last, by_capability=end.by_capability, task_accuracy=self.outcome.task)
            last = replace(last, classics_accuracy=end.accuracy)
        return (first, *self.points[1:-1], last) if len(self.points) > 1 else (first,)

    @property
    def mix(self) -> Mix | None:
        """Return the model that the slider between base and tuned selects."""
        return self.mixes.get(self.alpha)

    @property
    def shown(self) -> Outcome | None:
        """Return the outcome that the headline reports."""
        return self.mix.outcome if self.mix else self.outcome

    @property
    def place(self) -> Place | None:
        """Return the place of the newest model on the plane."""
        if self.shown:
            return self.shown.place
        return place(self.points[-1]) if self.points else None


def place(point: Point) -> Place | None:
    """Return the place of a point on the plane, if the task was asked."""
    if point.task_accuracy is None:
        return None
    return point.task_accuracy, point.classics_accuracy
