"""What earlier runs of a setting did: the atlas, indexed so that a slider can look things up."""

from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from caplab.exploring.state import Band, Place
from caplab.support.errors import BadInput
from caplab.training.recipe import Recipe

if TYPE_CHECKING:
    from caplab.study.atlas import Atlas

__all__ = ["AtlasBands", "bands_of", "shipped_atlas"]

Curve = list[list[float]]  # rows of step, task accuracy and classics accuracy


class AtlasBands:
    """The bands of an atlas by setting; the seed and fields that a method ignores do not count."""

    def __init__(self, atlas: "Atlas") -> None:
        first = atlas.runs.iloc[0]
        accuracies = ["task_accuracy", "classics_accuracy"]
        task, classics = (float(first[f"base_{name}"]) for name in accuracies)
        self.base: Place = task, classics
        self._runs: dict[Any, list[tuple[Recipe, str]]] = defaultdict(list)
        for recipe, name in zip(atlas.recipes, atlas.runs["hash"], strict=True):
            self._runs[_setting(recipe)].append((recipe, name))
        points = atlas.points.set_index("hash")[["step", *accuracies]]
        self._curves: dict[str, Curve] = {
            str(name): rows.to_numpy().tolist() for name, rows in points.groupby(level=0)
        }

    def of(self, recipe: Recipe) -> dict[str, Any]:
        """Return the band of a setting, or None, and the number of seeds behind it."""
        runs = [
            (other, name)
            for other, name in self._runs.get(_setting(recipe), ())
            # With a constant rate a long run begins as a short one does.
            if other.steps == recipe.steps
            or (other.schedule == "constant" and other.steps > recipe.steps)
        ]
        curves = [self._curves[name] for _, name in runs]
        band = _band(curves, recipe.steps) if curves else None
        return {"band": band, "seeds": len({other.seed for other, _ in runs})}


def _setting(recipe: Recipe) -> Any:
    """Return what decides a run apart from its seed and length."""
    from caplab.study.atlas_rows import key_without_seed

    return key_without_seed(recipe)


def _band(curves: list[Curve], last: int) -> Band:
    """Pool the curves of several seeds: mean, lowest and highest at each step up to the last."""
    task: dict[int, list[float]] = defaultdict(list)
    classics: dict[int, list[float]] = defaultdict(list)
    for step, learned, kept in (point for curve in curves for point in curve):
        if step <= last:
            task[int(step)].append(learned)
            classics[int(step)].append(kept)
    steps = tuple(sorted(task))
    return Band(
        steps,
        tuple(_spread(task[step]) for step in steps),
        tuple(_spread(classics[step]) for step in steps),
    )


def _spread(values: list[float]) -> tuple[float, float, float]:
    return sum(values) / len(values), min(values), max(values)


def shipped_atlas(subject: str) -> "Atlas | None":
    """Return the course's atlas, if it is about this subject."""
    try:
        from caplab.study.atlas import atlas

        found = atlas()
    except (ImportError, BadInput):
        return None
    return found if found.about.get("subject") == subject else None


@lru_cache(maxsize=4)
def bands_of(atlas: "Atlas") -> AtlasBands:
    """Index an atlas once for all panels."""
    return AtlasBands(atlas)
