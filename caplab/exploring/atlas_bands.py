"""What earlier runs say of a setting: the atlas, laid out so that a slider can look things up."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from caplab.exploring.state import Band, Place
from caplab.training.recipe import Recipe

if TYPE_CHECKING:
    from caplab.study.atlas import Atlas

__all__ = ["Outlook"]


class Outlook:
    """An atlas by settings; whatever the seed, and what a method does not use, does not count."""

    def __init__(self, atlas: "Atlas") -> None:
        first = atlas.runs.iloc[0]
        self.base: Place = float(first["base_task"]), float(first["base_classics"])
        self._runs: dict[Recipe, list[tuple[Recipe, str]]] = defaultdict(list)
        for recipe, name in zip(atlas.recipes, atlas.runs["hash"], strict=True):
            self._runs[_setting(recipe)].append((recipe, name))
        levels = ["step", "task_accuracy", "classics_accuracy"]
        self._ways: dict[str, list[list[float]]] = {
            str(name): rows.to_numpy().tolist()
            for name, rows in atlas.points.set_index("hash")[levels].groupby(level=0)
        }

    def of(self, recipe: Recipe) -> dict[str, Any]:
        """Return the band of a setting, and over how many seeds; nothing where there is none."""
        runs = [
            (other, name)
            for other, name in self._runs.get(_setting(recipe), ())
            if other.steps == recipe.steps
            or (other.schedule == "constant" and other.steps > recipe.steps)
        ]
        ways = [self._ways[name] for _, name in runs]
        band = _band(ways, recipe.steps) if ways else None
        return {"band": band, "seeds": len({other.seed for other, _ in runs})}


def _setting(recipe: Recipe) -> Recipe:
    """Return the recipe without what makes no difference to what it shows on the whole."""
    blank = Recipe()
    idle = ["seed", "steps"]
    idle += ["rank", "alpha", "target_modules", "dropout"] if recipe.method == "full" else []
    idle += [] if recipe.replay else ["replay_source"]
    return recipe.change(**{name: getattr(blank, name) for name in idle})


def _band(ways: list[list[list[float]]], last: int) -> Band:
    """Gather the ways of several seeds: mean, lowest and highest at each step."""
    task: dict[int, list[float]] = defaultdict(list)
    classics: dict[int, list[float]] = defaultdict(list)
    for step, learned, kept in (point for way in ways for point in way):
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
