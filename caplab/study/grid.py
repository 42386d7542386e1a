"""Which recipes a sweep runs: every combination of some values, from a call or a TOML file."""

import math
import os
import tomllib
from collections.abc import Iterable
from itertools import islice, product
from typing import Any

from caplab.support.errors import BadInput, explaining_failure, is_count, require_type, short_repr
from caplab.support.files import read_text
from caplab.training.recipe import Recipe

__all__ = ["grid", "read_grid"]

MOST_RECIPES = 100_000  # of a sweep: at ten seconds each, twelve days
Recipes = Recipe | Iterable[Recipe]
_SETTINGS = ("every", "task", "exam", "task_exam", "questions")  # of a sweep, not of its recipes


def grid(**axes: Any) -> list[Recipe]:
    """Combine every value with every other: `grid(learning_rate=[1e-4, 1e-3], seed=range(5))`.

    A value is a single one or a list of them; the last name given changes fastest.
    """
    values = [_values(name, given) for name, given in axes.items()]
    _check_size(math.prod(map(len, values)))
    return [Recipe(**dict(zip(axes, chosen, strict=True))) for chosen in product(*values)]


def _values(name: str, given: Any) -> list[Any]:
    """Return the values of a field as a list; a tuple of layers is one value, not several."""
    single = isinstance(given, str) or not isinstance(given, Iterable)
    if single or (name, type(given)) == ("target_modules", tuple):
        return [given]
    values = list(islice(given, MOST_RECIPES + 1))  # it may never end
    if not values:
        raise BadInput(f"{name} has no value to try: the list is empty.")
    return values


def _check_size(count: int) -> None:
    """Refuse a grid that no machine could run, before its recipes are made."""
    if count > MOST_RECIPES:
        raise BadInput(
            f"The grid has {count:,} recipes or more; a sweep takes {MOST_RECIPES:,} at most. "
            "Give fewer values, or several grids of a few axes each."
        )


def checked_recipes(recipes: Recipes, n_jobs: int | None, every: int | None) -> list[Recipe]:
    """Refuse what would fail in every worker, before any starts; drop equal recipes."""
    require_type(recipes, (Recipe, Iterable), "A sweep takes Recipes, such as grid(...) makes")
    given = [recipes] if isinstance(recipes, Recipe) else list(islice(recipes, MOST_RECIPES + 1))
    _check_size(len(given))
    if strangers := [recipe for recipe in given if not isinstance(recipe, Recipe)]:
        raise BadInput(
            f"A sweep takes Recipes, such as grid(...) makes, not {short_repr(strangers[0])}."
        )
    if not given:
        raise BadInput("There is no recipe to run: the list is empty.")
    if n_jobs is not None and (type(n_jobs) is not int or n_jobs == 0):
        raise BadInput(
            f"n_jobs counts processes, and -1 means all cores; it is {short_repr(n_jobs)}."
        )
    if every is not None and not is_count(every, 1):
        raise BadInput(
            f"every counts the steps from one point to the next, not {short_repr(every)}."
        )
    return list(dict.fromkeys(given))


def read_grid(path: str | os.PathLike[str]) -> tuple[list[Recipe], dict[str, Any]]:
    """Read recipes from a TOML file, and what else it tells `sweep`; see docs/sweeps.md.

    Fields at the top hold for all recipes; each `[[grid]]` is combined by itself.
    """
    text = read_text(path, "grid")
    with explaining_failure(f"{os.fspath(path)!r} is not a grid"):
        common = tomllib.loads(text)
    parts = common.pop("grid", [{}])
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise BadInput(f"{os.fspath(path)!r}: write [[grid]], with double brackets, above a grid.")
    settings = {name: common.pop(name) for name in _SETTINGS if name in common}
    try:
        recipes: list[Recipe] = []
        for part in parts:
            recipes += grid(**(common | part))
            _check_size(len(recipes))
        return checked_recipes(recipes, None, settings.get("every")), settings
    except BadInput as error:
        raise BadInput(f"{os.fspath(path)!r}: {error}") from error
