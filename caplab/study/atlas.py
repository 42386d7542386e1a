"""Many runs in one table: choose among them, pool their seeds, compare them fairly.

An interval is always over seeds: the mean of what single seeds gave, and the 95 % interval that
Student's t puts around it. It tells how a recipe fares with another seed, on the same questions.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from caplab.study.atlas_file import read_atlas, write_atlas
from caplab.study.atlas_rows import (
    FIELDS,
    LEVELS,
    LORA_FIELDS,
    NO_RUNS,
    distance,
    full_names,
    has_value,
    key_without_seed,
    point_row,
    recipe_from,
    recipe_row,
    run_row,
)
from caplab.study.matching import Paths, check_task, kept_at, matched
from caplab.study.seeds import bounded, interval
from caplab.support.errors import BadInput, as_number, did_you_mean, require_type, short_repr
from caplab.support.tables import html_table
from caplab.training.recipe import Recipe

__all__ = ["Atlas", "atlas"]


@dataclass(frozen=True, eq=False, repr=False)
class Atlas:
    """Runs of many recipes and seeds on one subject.

    `points` has a row for each look at a run (a sample of the questions), `runs` a row for each run
    (all questions, at its end), `failed` those that came to nothing, with the reason.
    """

    points: pd.DataFrame
    runs: pd.DataFrame
    about: dict[str, Any]
    failed: pd.DataFrame

    @classmethod
    def of(
        cls,
        records: Sequence[Mapping[str, Any]],
        about: Mapping[str, Any],
        failed: Mapping[Recipe, str] | None = None,
    ) -> Self:
        """Lay out in tables what `sweep` recorded of each run."""
        recipes = [Recipe.from_json(json.dumps(record["recipe"])) for record in records]
        pairs = list(zip(recipes, records, strict=True))
        points = [point_row(r, point) for r, record in pairs for point in record["points"]]
        base = {"base": full_names(records[0]["before"])} if records else {}
        return cls(
            pd.DataFrame(points, columns=None if points else ["hash", *FIELDS]),
            pd.DataFrame([run_row(*pair) for pair in pairs], columns=None if pairs else NO_RUNS),
            dict(about) | base,
            pd.DataFrame(
                [recipe_row(recipe) | {"reason": why} for recipe, why in (failed or {}).items()],
                columns=["hash", *FIELDS, "reason"],
            ),
        )

    # ---------------------------------------------------------------- choosing

    @property
    def recipes(self) -> list[Recipe]:
        """List the recipes, one for each run."""
        return [recipe_from(row) for row in self.runs[FIELDS].to_dict("records")]

    @property
    def seeds(self) -> list[int]:
        """List the seeds."""
        return sorted(map(int, self.runs["seed"].unique()))

    def select(self, **chosen: Any) -> "Atlas":
        """Keep the runs that fit: each field takes a value, a list of them, or a test of one."""
        kept = np.ones(len(self.runs), bool)
        for name, wanted in chosen.items():
            kept &= self._fits(name, wanted)
        if not kept.any():
            raise BadInput(f"No run of the atlas has {_in_words(chosen)} at once.")
        return self._keep(self.runs[kept])

    def _keep(self, runs: pd.DataFrame) -> "Atlas":
        """Keep some of the runs and their points."""
        points = self.points[self.points["hash"].isin(runs["hash"])].reset_index(drop=True)
        return Atlas(points, runs.reset_index(drop=True), self.about, self.failed)

    def _fits(self, name: str, wanted: Any) -> Any:
        """Tell for each run whether one of its columns is as wanted."""
        self._require_columns(name)
        column = self.runs[name]
        if callable(wanted):
            return np.array([bool(wanted(value)) for value in column])
        single = isinstance(wanted, str) or not isinstance(wanted, Iterable)
        values = [wanted] if single else wanted
        fits = np.logical_or.reduce([has_value(column, value) for value in values])
        if not fits.any():
            there = ", ".join(f"{value}" for value in sorted(set(column.dropna()))[:12])
            raise BadInput(f"No run of the atlas has {_in_words({name: wanted})}. It has: {there}.")
        return fits

    def _require_columns(self, *names: str) -> None:
        for name in names:
            if name not in list(self.runs.columns):
                near, known = did_you_mean(name, self.runs.columns), ", ".join(FIELDS)
                raise BadInput(f"The atlas has no {short_repr(name)}.{near} A recipe has: {known}.")

    def nearest(self, recipe: Recipe) -> Recipe:
        """Return the recipe of the atlas that is most like this one, with its seed if possible."""
        self._refuse_empty()
        require_type(recipe, Recipe, "An atlas is asked for a Recipe")
        found = min(self.recipes, key=lambda other: distance(recipe, other))
        return found.change(seed=recipe.seed if recipe.seed in self.seeds else found.seed)

    def _refuse_empty(self) -> None:
        if self.runs.empty:
            reasons = "; ".join(self.failed["reason"].unique()[:2])
            raise BadInput(f"This atlas holds no run.{reasons and f' What failed: {reasons}'}")

    # ---------------------------------------------------------------- pooling seeds

    def summary(self, by: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Return the mean over seeds of what each recipe reached, with its interval.

        `by` names the columns that tell the groups apart; by default, all fields that vary. A group
        must hold each seed once: if different recipes were pooled, their differences would look
        like chance.
        """
        self._refuse_empty()
        names = [by] if isinstance(by, str) else list(by or [])
        by = names or _varying(self.runs) or ["method"]
        self._require_columns(*by)
        rows = []
        for values, group in self.runs.groupby(by, sort=True, dropna=False):
            _refuse_mixed(group, by)
            rows.append(dict(zip(by, values, strict=True)) | _pooled(group, LEVELS))
        return pd.DataFrame(rows)

    def curve(self, recipe: Recipe) -> pd.DataFrame:
        """Return how a recipe's runs went, step by step: the mean over seeds, and its interval.

        With a constant learning rate a longer run answers for a shorter one: its first steps are
        the same. (With replay they are the same in kind: other old texts are drawn.)
        """
        rows = self.points[self.points["hash"].isin(self._runs_of(recipe))]
        rows = rows[rows["step"] <= recipe.steps]
        return pd.DataFrame(
            [{"step": step} | _pooled(group, LEVELS) for step, group in rows.groupby("step")]
        )

    def _runs_of(self, recipe: Recipe) -> list[str]:
        """Return the hashes of a recipe's runs, whatever their seed."""
        require_type(recipe, Recipe, "An atlas is asked for a Recipe")
        known = self._index.get(key_without_seed(recipe), {})
        as_long = [steps for steps in known if steps >= recipe.steps]
        cut = recipe.schedule == "constant" and as_long
        if recipe.steps not in known and not cut:
            raise BadInput(
                f"The atlas has no run of {recipe!r}. The nearest that it has: "
                f"{self.nearest(recipe).change(seed=0)!r}."
            )
        return known[recipe.steps if recipe.steps in known else min(as_long)]

    @cached_property
    def _index(self) -> dict[tuple[Any, ...], dict[int, list[str]]]:
        """Map what decides a run, apart from its seed, to the hashes of the runs of each length."""
        index: dict[tuple[Any, ...], dict[int, list[str]]] = {}
        for recipe, name in zip(self.recipes, self.runs["hash"], strict=True):
            index.setdefault(key_without_seed(recipe), {}).setdefault(recipe.steps, []).append(name)
        return index

    # ---------------------------------------------------------------- comparing fairly

    def matched(self, task: float = 0.9, by: str = "method") -> pd.DataFrame:
        """Return what is left of the classics where each group reaches one task accuracy.

        For each seed a path leads from the base through the runs of rising learning rates. The
        value is read off between the two runs on either side of the task accuracy; where the path
        passes it twice, the better pass counts. A group has no value unless every seed gets there:
        the seeds that do are not a fair sample.

        Other fields that vary within a group are held at the recipe's defaults.
        """
        check_task(task)
        return matched(self._paths(by), task, by)

    def kept_at(self, task: float, by: str = "method") -> pd.DataFrame:
        """Return what `matched` pools: a row for each seed, a column for each group."""
        check_task(task)
        return kept_at(self._paths(by), task)

    def frontier(self, by: str = "method") -> pd.DataFrame:
        """Return `matched` at every task accuracy that a group reaches in every seed."""
        paths, levels = self._paths(by), [round(0.02 * part, 2) for part in range(15, 51)]
        found = pd.concat([matched(paths, task, by) for task in levels], ignore_index=True)
        found = found.dropna(subset="classics_accuracy")
        return found.sort_values([by, "task_accuracy"], ignore_index=True)

    def _paths(self, by: str) -> Paths:
        """Return by group and seed the path from the base through the rising learning rates."""
        names = ["task_accuracy", "classics_accuracy"]
        runs = self.sweeps(by).runs.sort_values("learning_rate")
        paths: Paths = {}
        for (group, seed), rows in runs.groupby([by, "seed"], sort=True):
            start = tuple(rows[f"base_{name}"].iloc[0] for name in names)
            ends = rows[names].dropna(subset="task_accuracy").itertuples(index=False, name=None)
            paths.setdefault(group, {})[seed] = [start, *ends]
        return paths

    def sweeps(self, by: str = "method") -> "Atlas":
        """Keep one sweep of the learning rate for each group, the rest held at the defaults."""
        self._refuse_empty()
        self._require_columns(by)
        runs = self.select(method="lora").runs if by in LORA_FIELDS else self.runs
        held = pd.concat([_held(group, by) for _, group in runs.groupby(by)])
        return self._keep(self.runs[self.runs["hash"].isin(held["hash"])])

    def best(self, budget: float = 0.05) -> Recipe:
        """Return the recipe that learns most while its loss of classics stays within the budget.

        The whole interval over seeds has to stay within it. Of recipes that learn equally well, the
        one that keeps more is returned. The best of many looks better than it is: try it on fresh
        seeds before you rely on it.
        """
        if not 0 <= as_number(budget) < 1:
            raise BadInput(
                f"budget is {short_repr(budget)}: give the drop you accept, such as 0.05."
            )
        start = "base_classics_accuracy"
        pooled = self.summary([*(_varying(self.runs) or ["method"]), "steps", start])
        pooled = pooled.loc[:, ~pooled.columns.duplicated()]  # steps may vary themselves
        kept = pooled["classics_accuracy_low"].fillna(pooled["classics_accuracy"])
        worst = kept - pooled[start]
        within = pooled[worst >= -budget - 1e-9]
        if within.empty:
            raise BadInput(
                f"No recipe of the atlas stays within a budget of {budget}: the most careful one "
                f"loses {-worst.max():.3f}."
            )
        first = within.sort_values(["task_accuracy", "classics_accuracy"]).iloc[-1]
        fit = self.runs[_rows_like(self.runs, first)].sort_values("seed").iloc[0]
        return recipe_from(fit[FIELDS].to_dict())

    # ---------------------------------------------------------------- on disk

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything into one Parquet file, whole or not at all."""
        return write_atlas(path, vars(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote."""
        return cls(**read_atlas(path))

    # ---------------------------------------------------------------- in words

    def _facts(self) -> dict[str, str]:
        facts = {"subject": str(self.about.get("subject", "?")), "runs": f"{len(self.runs)}"}
        facts["points"] = f"{len(self.points)}"
        for name in [*_varying(self.runs), "seed"]:
            values = sorted(self.runs[name].dropna().unique())
            some = [f"{v:g}" if isinstance(v, float) else f"{v}" for v in values]
            facts[name] = ", ".join(some) if len(some) < 13 else f"{some[0]} to {some[-1]}"
        if len(self.failed):
            facts["failed"] = f"{len(self.failed)} recipes: see .failed"
        return facts

    def __repr__(self) -> str:
        facts = self._facts()
        lines = [f"Atlas of {facts.pop('subject')}"]
        return "\n".join([*lines, *(f"{name:>14}: {value}" for name, value in facts.items())])

    def _repr_html_(self) -> str:
        facts = self._facts()
        caption = f"Atlas of {facts.pop('subject')}"
        rows = [(name.replace("_", " "), value) for name, value in facts.items()]
        return html_table(rows, caption=caption)


def atlas(source: str | os.PathLike[str] | None = None) -> Atlas:
    """Open an atlas: the one that ships with the lab, or a file of your own."""
    return _shipped() if source is None else Atlas.load(source)


@cache
def _shipped() -> Atlas:
    """Read the shipped atlas, once."""
    path = Path(str(files("caplab") / "assets" / "atlas.parquet"))
    if not path.is_file():
        raise BadInput("The lab has no atlas yet: make it with python tools/build_atlas.py.")
    return Atlas.load(path)


# ---------------------------------------------------------------- pooling


def _pooled(group: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """Pool the seeds of one recipe; runs that diverged are NaN, and not counted in `n`."""
    row: dict[str, Any] = {"n": int(group["kl"].notna().sum())}
    for name in names:
        mean, low, high = interval(group[name].astype(float))
        row |= {name: mean} | bounded(name, low, high)
    return row


def _varying(runs: pd.DataFrame, held: Sequence[str] = ()) -> list[str]:
    """Name the fields, apart from the seed and those that are held, that differ among runs."""
    names = [name for name in FIELDS if name not in ("seed", *held)]
    return [name for name in names if runs[name].nunique(dropna=False) > 1]


def _refuse_mixed(group: pd.DataFrame, by: Sequence[str]) -> None:
    if group["seed"].duplicated().any():
        mixed = _varying(group, by)
        raise BadInput(
            f"Runs of one group differ in {', '.join(mixed)}, not in the seed alone. "
            f"Choose one value of it with select(...), or name it in by."
        )


def _rows_like(runs: pd.DataFrame, row: pd.Series) -> Any:
    """Tell which runs agree with a row in all fields that it has."""
    names = [name for name in FIELDS if name in row.index]
    return np.logical_and.reduce([has_value(runs[name], row[name]) for name in names])


def _held(group: pd.DataFrame, by: str) -> pd.DataFrame:
    """Keep the runs in which all but the learning rate and the seed is as in a default recipe."""
    defaults = recipe_row(Recipe())
    for name in _varying(group, [by, "learning_rate"]):
        as_default = has_value(group[name], defaults[name])
        if not as_default.any():
            values = ", ".join(map(str, sorted(group[name].unique())))
            raise BadInput(f"{name} varies ({values}): choose one with select({name}=...).")
        group = group[as_default]
    return group


def _in_words(chosen: Mapping[str, Any]) -> str:
    """Write what `select` was asked for into a message."""
    words = [f"{name}={'...' if callable(v) else short_repr(v)}" for name, v in chosen.items()]
    return ", ".join(words)
