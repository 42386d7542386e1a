"""What a panel shows, as plain values: the presets, what was seen, and the state of a moment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from caplab.exam import Scorecard
from caplab.recipe import Recipe
from caplab.run import Point
from caplab.stats import Report

__all__ = [
    "COURSE",
    "PRESETS",
    "STOPS",
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


# The course trains at a constant rate: 40 steps are then the beginning of 100, in the atlas too.
COURSE = Recipe(learning_rate=2e-3, steps=60, schedule="constant", rank=8, alpha=32)

PRESETS = {
    "first_look": Preset(
        "First look: what does it forget?",
        "Move the learning rate. When you let go, a small GPT-2 is trained before your eyes.",
        ("learning_rate", "steps"),
        COURSE,
    ),
    "full_vs_lora": Preset(
        "Full fine-tuning or LoRA?",
        "Train with one method and pin it. Switch, and move the rate until the task is as good.",
        ("method", "learning_rate", "rank"),
        COURSE.change(learning_rate=1e-3),
    ),
    "learning_rate": Preset(
        "How fast is too fast?",
        "Find the largest learning rate, or the last step, that stays above the budget line.",
        ("learning_rate", "steps", "seed", "budget"),
        COURSE.change(learning_rate=1e-3),
    ),
    "replay": Preset(
        "A little of the old among the new",
        "Pin a run without replay. Then mix in old texts: how few are enough?",
        ("replay", "replay_source", "learning_rate"),
        COURSE,
    ),
    "guard": Preset(
        "A guard that watches",
        "Give the guard a budget and something to do when it is crossed; then let it watch.",
        ("action", "budget", "learning_rate"),
        COURSE,
        guards=True,
    ),
    "interpolate": Preset(
        "Halfway back",
        "Press Run. Then walk from the base to the tuned model: nothing is trained any more.",
        ("alpha", "method", "learning_rate", "budget"),
        COURSE,
        walks=True,
    ),
}

# Where each slider stops; those of the recipe are the atlas's, so that each has an answer at once.
STOPS: dict[str, tuple[float, ...]] = {
    "learning_rate": (1e-5, 3e-5, 1e-4, 3e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2),
    "steps": (20, 40, 60, 80, 100),
    "rank": (1, 2, 4, 8, 16, 32),
    "seed": (0, 1, 2, 3, 4),
    "replay": (0.0, 0.01, 0.05, 0.1, 0.25, 0.5),
    "budget": (0.01, 0.02, 0.05, 0.1, 0.2),
    "alpha": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
}


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
