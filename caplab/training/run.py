"""The `Run`: what happened in a fine-tuning, with its points, scorecards and tuned subject."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from caplab.measuring.score import score
from caplab.measuring.scorecard import Scorecard, as_columns
from caplab.models.load import load_trained
from caplab.models.subject import Subject
from caplab.models.weights import merged_copy
from caplab.questions.exam import Exam
from caplab.support.errors import BadInput, explaining_failure, short_repr
from caplab.support.files import as_path, draft_inside, make_folder, read_sealed, write_sealed
from caplab.support.quiet import quiet
from caplab.support.safe_text import html_text, line_text
from caplab.support.text import format_number
from caplab.support.typed import checked_fields, from_fields
from caplab.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Point", "Run"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measurement during a run: the task and the old capabilities after so many steps.

    `task_loss` is the mean training loss since the previous point; it is None at step 0 and where
    only old texts were read. `kl` is how far the model has moved from its base on the task's
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

    The points ask the same sample of each exam every time; the scorecards answer all questions.
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
        """Return the base's answers to the exam on the task; None without one."""
        return self.cards.get("before_task")

    @property
    def final(self) -> Scorecard:
        """Return the tuned subject's answers to the exam on the classics."""
        card = self._final("final", self.exam)
        if card is None:
            why = self.trouble or "It was ended early, and loaded without its weights."
            raise BadInput(f"This run has no final scorecard. {why}")
        return card

    @property
    def final_task(self) -> Scorecard | None:
        """Return the tuned subject's answers to the exam on the task; None without one."""
        return self._final("final_task", self.task_exam)

    def _final(self, name: str, exam: Exam | None) -> Scorecard | None:
        """Return a final scorecard; a run that was ended early is scored only when asked for it."""
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
        """Write the run into a folder; with `weights` also the model, or for LoRA the adapter.

        A folder with a `run.json` is complete. An older run in it stays until this one is whole.
        """
        path = make_folder(folder)
        _check_folder(path)
        files = ["run.json", *(f"{name}.json" for name in _CARDS)]
        with draft_inside(path, [*files, "weights"]) as draft:
            for name in _CARDS:
                # A diverged model cannot answer: only its points and its base's cards are saved.
                card = self.cards.get(name) if self.trouble else getattr(self, name)
                if card:
                    card.save(draft / f"{name}.json")
            if weights:
                self._save_weights(draft / "weights")
            write_sealed(draft / "run.json", self._facts())
            for name in files:  # the rights of an older run are kept
                if (path / name).exists() and (draft / name).exists():
                    shutil.copymode(path / name, draft / name)
        return path

    def _save_weights(self, folder: Path) -> None:
        if self.subject is None:
            raise BadInput("This run was loaded without weights, so there are none to save.")
        model = _complete(self.subject.model)
        adapter = hasattr(model, "peft_config")
        # PEFT would ask the hub whether the vocabulary has grown; a recipe never changes it.
        options = {"save_embedding_layers": False} if adapter else {}
        with quiet(), explaining_failure(f"The weights cannot be saved in {str(folder)!r}"):
            model.save_pretrained(folder, **options)
            self.subject.tokenizer.save_pretrained(folder)

    def _facts(self) -> dict[str, Any]:
        """Return the content of run.json."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        points = [asdict(point) for point in self.points]
        return {"recipe": json.loads(self.recipe.to_json()), "points": points} | plain

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote, and the subject if its weights were saved."""
        path = as_path(folder)
        if not (path / "run.json").is_file():
            raise BadInput(f"{str(path)!r} holds no complete run: there is no run.json in it.")
        facts = read_sealed(path / "run.json", "run")
        files = [path / f"{name}.json" for name in _CARDS]
        cards = {file.stem: Scorecard.load(file) for file in files if file.is_file()}
        if "before" not in cards:
            raise BadInput(f"{str(path)!r} holds no complete run: there is no before.json in it.")
        with explaining_failure(f"{path / 'run.json'} is not a run of this version of caplab"):
            recipe = Recipe.from_json(json.dumps(facts.pop("recipe", None)))
            points = [from_fields(Point, point) for point in _listed(facts.pop("points", None))]
            plain = checked_fields(cls, facts, only=frozenset(_PLAIN))
            _check_points(points)
            weights = path / "weights"
            subject = load_trained(weights) if weights.is_dir() else None
            return cls(recipe=recipe, points=points, cards=cards, subject=subject, **plain)

    # ---------------------------------------------------------------- in words

    def __repr__(self) -> str:
        return line_text(" | ".join(f"{name}: {value}" for name, value in self._summary().items()))

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html_text(name)}</th><td>{html_text(value)}</td></tr>"
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
        """Write an accuracy before and after, on the whole exam if it was asked: .25 to .98."""
        if after in self.cards:
            levels = [self.cards[name].accuracy for name in (before, after)]
        else:
            levels = [getattr(self.points[index], measured) for index in (0, -1)]
        return "not measured" if None in levels else " to ".join(map(format_number, levels))


_CARDS = ("before", "before_task", "final", "final_task")
_APART = ("recipe", "points", "subject", "exam", "task_exam", "cards")  # not plain JSON
_PLAIN = [field.name for field in fields(Run) if field.name not in _APART]


def _listed(points: Any) -> list[Any]:
    """Refuse a run without points."""
    if not isinstance(points, list) or not points:
        raise BadInput(f"its points are {short_repr(points)}, not a list of at least one")
    return points


def _check_points(points: Sequence[Point]) -> None:
    """Refuse points that no run can have."""
    for point in points:
        shares = (point.task_accuracy, point.classics_accuracy, *point.by_capability.values())
        if point.step < 0 or any(share is not None and not 0 <= share <= 1 for share in shares):
            raise BadInput(
                f"its point after {short_repr(point.step)} steps has values that cannot be"
            )


def _complete(model: Any) -> Any:
    """Return a model that can be loaded again: an adapter whose base is not on disk is merged."""
    adapters = getattr(model, "peft_config", {})
    if all(adapter.base_model_name_or_path for adapter in adapters.values()):
        return model
    return merged_copy(model)


def _check_folder(folder: Path) -> None:
    """Refuse a folder whose `weights` belong to something else: saving would delete them."""
    ours = any((folder / name).is_file() for name in ("run.json", "before.json"))
    if (folder / "weights").exists() and not ours:
        raise BadInput(
            f"{folder / 'weights'} does not belong to a run, and saving would delete it. "
            "Give another folder."
        )
