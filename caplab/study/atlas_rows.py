"""Turn recipes and runs into the rows of an atlas, and rows back into recipes."""

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pandas as pd

from caplab.support.errors import as_number
from caplab.training.recipe import Recipe
from caplab.training.run import Point

FIELDS = [field.name for field in fields(Recipe)]
LORA_FIELDS = ["rank", "alpha", "target_modules", "dropout", "variant"]
LEVELS = ["task_accuracy", "classics_accuracy", "smooth", "language_loss", "kl"]
NO_RUNS = ["hash", *FIELDS, *LEVELS, "base_task_accuracy", "base_classics_accuracy"]
NO_RUNS += ["seconds", "trouble"]  # the columns of an atlas without a single run

# Stored runs and the first atlas files use short names; tables call an accuracy an accuracy.
FULL_NAMES = {"task": "task_accuracy", "classics": "classics_accuracy"}


def full_names(levels: Mapping[str, Any]) -> dict[str, Any]:
    """Name what a scorecard of a stored run came to as the tables do."""
    return {FULL_NAMES.get(name, name): value for name, value in levels.items()}


# ---------------------------------------------------------------- recipes


def recipe_row(recipe: Recipe) -> dict[str, Any]:
    """Write a recipe as columns."""
    values = asdict(recipe)
    if not isinstance(recipe.target_modules, str):
        values["target_modules"] = ",".join(recipe.target_modules)
    return {"hash": recipe.hash, **values}


def recipe_from(row: Mapping[str, Any]) -> Recipe:
    """Read a recipe back from its columns."""
    values: dict[str, Any] = {n: None if pd.isna(row[n]) else row[n] for n in FIELDS}
    if values["target_modules"] not in ("all-linear", "attention", "mlp"):
        values["target_modules"] = tuple(values["target_modules"].split(","))
    if values["examples"] is not None:
        values["examples"] = int(values["examples"])  # a column with gaps holds floats
    values["assistant_only"] = bool(values["assistant_only"])
    return Recipe(**values)


def with_all_fields(table: pd.DataFrame) -> pd.DataFrame:
    """Add the fields that recipes did not have when a table was made, at their defaults."""
    missing = {name: value for name, value in recipe_row(Recipe()).items() if name not in table}
    return table.assign(**missing)


# ---------------------------------------------------------------- runs


def point_row(recipe: Recipe, point: Mapping[str, Any]) -> dict[str, Any]:
    """Write a point as a row; its learning rate is `rate`, because the recipe has one too."""
    plain: dict[str, Any] = {field.name: point[field.name] for field in fields(Point)}
    capabilities, rate = plain.pop("by_capability"), plain.pop("learning_rate")
    return {**recipe_row(recipe), **plain, "rate": rate, **capabilities}


def run_row(recipe: Recipe, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write the end of a run as a row; a run that diverged has NaN for every level."""
    before = full_names(record["before"])
    after = full_names(record["after"] or dict.fromkeys(record["before"], math.nan))
    row = recipe_row(recipe) | {name: after[name] for name in LEVELS if name != "kl"}
    # No scorecard knows the KL: it is measured at the last point.
    row["kl"] = record["points"][-1]["kl"] if record["after"] else math.nan
    row |= {f"base_{name}": before[name] for name in ("task_accuracy", "classics_accuracy")}
    row |= {name: value for name, value in after.items() if name not in LEVELS}
    rest = ("replay_fraction", "trainable_parameters", "seconds", "trouble")
    return row | {name: record[name] for name in rest}


# ---------------------------------------------------------------- likeness


def has_value(column: pd.Series, value: Any) -> Any:
    """Tell where a column has a value; rates need not agree in their last digits."""
    if value is None or value != value:
        return column.isna().to_numpy()
    if isinstance(value, str | tuple):
        text = value if isinstance(value, str) else ",".join(value)
        return (column == text).to_numpy()
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(float)
    return np.isclose(numbers, as_number(value), rtol=1e-6, atol=0)


def key_without_seed(recipe: Recipe) -> tuple[Any, ...]:
    """Return what decides a run apart from its seed and length; unused fields do not count."""
    unused = {"hash", "seed", "steps", *(LORA_FIELDS if recipe.method == "full" else ())}
    unused |= set() if recipe.replay else {"replay_source"}
    unused |= set() if recipe.anchor else {"anchor_strength", "anchor_data"}
    values = recipe_row(recipe) | {"learning_rate": f"{recipe.learning_rate:.6g}"}
    return tuple(value for name, value in values.items() if name not in unused)


def distance(one: Recipe, other: Recipe) -> float:
    """Measure how unlike two recipes are: first by the kinds that differ, then by how much.

    The weights order what a learner would call near: another method is another experiment, twice
    the learning rate a neighbour.
    """

    def doublings(name: str, least: float) -> float:
        values = [max(least, getattr(recipe, name)) for recipe in (one, other)]
        return abs(math.log2(values[0] / values[1]))

    kinds = {"method": 50.0, "anchor": 10.0, "loss": 10.0, "optimizer": 10.0, "variant": 5.0}
    kinds |= {"target_modules": 5.0, "schedule": 5.0, "replay_source": 3.0, "average": 10.0}
    apart = sum(w for name, w in kinds.items() if getattr(one, name) != getattr(other, name))
    apart += 2 * doublings("learning_rate", 1e-9)
    apart += doublings("rank", 1) + doublings("alpha", 1) + doublings("steps", 1)
    apart += 8 * (bool(one.replay) != bool(other.replay)) + 10 * abs(one.replay - other.replay)
    same = ("batch_size", "warmup", "weight_decay", "dropout", "examples")
    return apart + sum(5.0 for name in same if getattr(one, name) != getattr(other, name))
