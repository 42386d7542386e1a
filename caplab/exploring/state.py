"""What a panel shows, as plain values: the presets, what was seen, and the state of a moment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """One experiment: its title, what to try, the controls that it needs, where they start."""

    title: str
    advice: str
    controls: tuple[str, ...]
    recipe: Recipe
    guards: bool = False  # a RegressionGuard watches the training
    walks: bool = False  # from the tuned model back to the base, after the training


# ---------------------------------------------------------------- what was seen


@dataclass(frozen=True)
class Band:
    """What the atlas knows of a setting: mean, low and high over its seeds, step by step."""

    steps: tuple[int, ...]
    task: tuple[tuple[float, float, float], ...]
    classics: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the whole exam's answers, before and after."""

    task: float | None
    before: Scorecard
    after: Scorecard
    report: Report  # the two compared, with the budget that the slider shows

    @property
    def place(self) -> Place | None:
        """Return where it stands on the plane."""
        return None if self.task is None else (self.task, self.after.accuracy)


@dataclass(frozen=True)
class Answer:
    """What the base answers to a question, and what the model in training does."""

    question: str
    before: str
    after: str | None = None
    right: str | None = None  # where the exam knows it

    @property
    def fate(self) -> str:
        """Tell what became of the answer: kept, lost or changed; nothing where none is there."""
        if self.after is None:
            return ""
        if self.after == self.before or self._says(self.after):
            return "kept"
        return "lost" if self._says(self.before) else "changed"

    def _says(self, answer: str) -> bool:
        """Tell whether an answer ends with the right one, however it begins."""
        if self.right is None:
            return False
        ending = rf"(?<!\w){re.escape(_bare(self.right))}$"
        return re.search(ending, _bare(answer)) is not None


def _bare(text: str) -> str:
    return text.lower().rstrip(". ")


@dataclass(frozen=True)
class Mix:
    """A model on the way from the base to the tuned one."""

    alpha: float
    outcome: Outcome
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Watched:
    """What a guard did: since when it saw too much lost, when it acted, where it went back to."""

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
    answers: tuple[Answer, ...] = ()
    pins: tuple[Pin, ...] = ()
    guess: Place | None = None
    predicting: bool = False
    detailed: bool = False

    @property
    def veiled(self) -> bool:
        """Tell whether the answer is hidden, because the learner is still guessing."""
        return self.predicting and not self.points

    @property
    def busy(self) -> bool:
        """Tell whether a training is on its way."""
        return self.phase in ("training", "stopping")

    @property
    def mix(self) -> Mix | None:
        """Return the model that the interpolation slider points at."""
        return self.mixes.get(self.alpha)

    @property
    def shown(self) -> Outcome | None:
        """Return the outcome that the sentence speaks of."""
        return self.mix.outcome if self.mix else self.outcome

    @property
    def place(self) -> Place | None:
        """Return where the newest model stands on the plane."""
        if self.shown:
            return self.shown.place
        return place(self.points[-1]) if self.points else None


def place(point: Point) -> Place | None:
    """Return where a point stands on the plane."""
    if point.task_accuracy is None:
        return None
    return point.task_accuracy, point.classics_accuracy
