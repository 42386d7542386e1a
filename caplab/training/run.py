"""What happened in a fine-tuning: the points along the way, both scorecards, the tuned subject."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from caplab.measuring.score import score
from caplab.measuring.scorecard import Scorecard, as_columns
from caplab.models.load import load
from caplab.models.subject import Subject
from caplab.models.weights import merged_copy
from caplab.questions.exam import Exam
from caplab.support.errors import BadInput, explaining_failure
from caplab.support.files import as_path, make_folder, read_sealed, remove, write_sealed
from caplab.support.quiet import quiet
from caplab.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Point", "Run"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One look at a run: how the task and the old capabilities stand after so many steps.

    `task_loss` is the mean loss in training since the point before; there is none at step 0, nor
    where only old texts were read. `kl` is how far the model has moved from its base on the task's
    held-out text, in nats per token. What could not be measured is None.
    """

    step: int
    task_loss: float | None
    task_accuracy: float | None
    classics_accuracy: float
    by_capability: Mapping[str, float]
    smooth: float
    language_loss: float | None
    kl: float
    learning_rate: float
    elapsed: float


@dataclass(kw_only=True, repr=False)
class Run:
    """What happened when a recipe was tried on a subject.

    The points ask a sample of the exams, at every look the same; the scorecards answer all of them.
    """

    recipe: Recipe
    points: list[Point]
    subject: Subject | None
    base: str
    steps: int
    base_digest: str = ""  # of the weights that the run began from
    stopped: bool = False
    trouble: str | None = None
    replay_fraction: float = 0.0
    trainable_parameters: int = 0
    total_parameters: int = 0
    seconds: float = 0.0
    device: str = "cpu"
    versions: dict[str, str] = field(default_factory=dict)
    exam: Exam | None = None
    task_exam: Exam | None = None
    cards: dict[str, Scorecard] = field(default_factory=dict)

    @property
    def before(self) -> Scorecard:
        """Return the base's answers to the exam on the classics."""
        return self.cards["before"]

    @property
    def before_task(self) -> Scorecard | None:
        """Return the base's answers to the exam on the task, where there is one."""
        return self.cards.get("before_task")

    @property
    def final(self) -> Scorecard:
        """Return the tuned subject's answers to the exam on the classics."""
        card = self._final("final", self.exam)
        if card is None:
            why = self.trouble or "It was cut short, and loaded without its weights."
            raise BadInput(f"This run has no final scorecard. {why}")
        return card

    @property
    def final_task(self) -> Scorecard | None:
        """Return the tuned subject's answers to the exam on the task, where there is one."""
        return self._final("final_task", self.task_exam)

    def _final(self, name: str, exam: Exam | None) -> Scorecard | None:
        """Score a run that was cut short when somebody asks: who stops a run is in a hurry."""
        if name not in self.cards and self.subject and exam:
            self.cards[name] = score(self.subject, exam)
        return self.cards.get(name)

    def to_pandas(self) -> "pd.DataFrame":
        """Return the points as a table, one row each, with a column for each capability."""
        import pandas as pd

        rows = [asdict(point) for point in self.points]
        return pd.DataFrame([row | as_columns(row.pop("by_capability"), row) for row in rows])

    # ---------------------------------------------------------------- on disk

    def save(self, folder: str | os.PathLike[str], weights: bool = False) -> Path:
        """Write the run into a folder; with `weights` the model, or the adapter alone for LoRA.

        `run.json` comes last and is moved into place whole: a folder that has it is complete.
        """
        path = make_folder(folder)
        _check_place(path)
        remove(path / "run.json")
        for name in _CARDS:
            remove(path / f"{name}.json")
            # A diverged model cannot answer; its points and its base's scorecards are kept.
            card = self.cards.get(name) if self.trouble else getattr(self, name)
            if card:
                card.save(path / f"{name}.json")
        shutil.rmtree(path / "weights", ignore_errors=True)
        if weights:
            self._save_weights(path / "weights")
        write_sealed(path / "run.json", self._facts())
        return path

    def _save_weights(self, folder: Path) -> None:
        if self.subject is None:
            raise BadInput("This run was loaded without weights, so there are none to save.")
        model = _complete(self.subject.model)
        adapter = hasattr(model, "peft_config")
        # PEFT would ask the hub whether the vocabulary has grown; a recipe never lets it grow.
        options = {"save_embedding_layers": False} if adapter else {}
        with quiet(), explaining_failure(f"The weights cannot be saved in {str(folder)!r}"):
            model.save_pretrained(folder, **options)
            self.subject.tokenizer.save_pretrained(folder)

    def _facts(self) -> dict[str, Any]:
        """Return what run.json says."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        points = [asdict(point) for point in self.points]
        return {"recipe": json.loads(self.recipe.to_json()), "points": points} | plain

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; the subject too, if its weights are there."""
        path = as_path(folder)
        if not (path / "run.json").is_file():
            raise BadInput(f"{str(path)!r} holds no complete run: there is no run.json in it.")
        facts = read_sealed(path / "run.json", "run")
        cards = {card.stem: Scorecard.load(card) for card in _cards_in(path)}
        if "before" not in cards:
            raise BadInput(f"{str(path)!r} holds no complete run: there is no before.json in it.")
        with explaining_failure(f"{path / 'run.json'} is not a run of this version of caplab"):
            return cls(
                recipe=Recipe.from_json(json.dumps(facts.pop("recipe"))),
                points=[Point(**point) for point in facts.pop("points")],
                cards=cards,
                subject=load(path / "weights") if (path / "weights").is_dir() else None,
                **facts,
            )

    # ---------------------------------------------------------------- in words

    def __repr__(self) -> str:
        return " | ".join(f"{name}: {value}" for name, value in self._summary().items())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in self._summary().items()
        )
        return f"<table>{rows}</table>"

    def _summary(self) -> dict[str, str]:
        made = f"{self.steps} of {self.recipe.steps}" if self.stopped else f"{self.steps}"
        summary = {
            f"Run of {self.base}": repr(self.recipe),
            "steps": f"{made} in {self.seconds:.1f} s",
            "task": self._change("task_accuracy", "before_task", "final_task"),
            "classics": self._change("classics_accuracy", "before", "final"),
        }
        return summary | ({"trouble": self.trouble} if self.trouble else {})

    def _change(self, measured: str, before: str, after: str) -> str:
        """Write an accuracy's way, of the whole exam if it was asked: .25 to .98."""
        if after in self.cards:
            way = [self.cards[name].accuracy for name in (before, after)]
        else:
            way = [getattr(self.points[at], measured) for at in (0, -1)]
        return "not measured" if None in way else "{:.2f} to {:.2f}".format(*way)


_CARDS = ("before", "before_task", "final", "final_task")
_APART = ("recipe", "points", "subject", "exam", "task_exam", "cards")  # not plain JSON
_PLAIN = [field.name for field in fields(Run) if field.name not in _APART]


def _complete(model: Any) -> Any:
    """Return what can be loaded again: an adapter whose base lies nowhere is merged into it."""
    adapters = getattr(model, "peft_config", {})
    if all(adapter.base_model_name_or_path for adapter in adapters.values()):
        return model
    return merged_copy(model)


def _check_place(folder: Path) -> None:
    """Refuse a folder whose `weights` are somebody else's: a run's take their place."""
    ours = any((folder / name).is_file() for name in ("run.json", "before.json"))
    if (folder / "weights").exists() and not ours:
        raise BadInput(f"{folder / 'weights'} is not a run's, and would be lost: name another.")


def _cards_in(folder: Path) -> list[Path]:
    """List the scorecards of a saved run."""
    return [path for name in _CARDS if (path := folder / f"{name}.json").is_file()]
