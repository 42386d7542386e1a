"""Many runs in one table: choose among them, pool their seeds, compare them fairly.

An interval is always one over seeds: the mean of what single seeds gave, and the 95 % interval that
Student's t puts around it. It tells how a recipe fares with another seed, on the same questions.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, cached_property
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from caplab.study.matching import Paths, check_task, kept_at, matched
from caplab.study.seeds import bounded, interval
from caplab.support.errors import (
    BadInput,
    as_number,
    did_you_mean,
    explaining_failure,
    require_type,
    short_repr,
)
from caplab.support.files import as_path, check_target, draft_of
from caplab.training.recipe import Recipe
from caplab.training.run import Point

__all__ = ["Atlas", "atlas"]

FIELDS = [field.name for field in fields(Recipe)]
LORA_FIELDS = ["rank", "alpha", "target_modules", "dropout"]
LEVELS = ["task", "classics", "smooth", "language_loss", "kl"]
_ASIDE = ["seed", "learning_rate"]  # what a sweep of one recipe goes through


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
        """Lay out what `sweep` wrote down of each run."""
        recipes = [Recipe.from_json(json.dumps(record["recipe"])) for record in records]
        pairs = list(zip(recipes, records, strict=True))
        points = [_point(r, point) for r, record in pairs for point in record["points"]]
        base = {"base": dict(records[0]["before"])} if records else {}
        return cls(
            pd.DataFrame(points, columns=None if points else ["hash", *FIELDS]),
            pd.DataFrame([_end(*pair) for pair in pairs], columns=None if pairs else _EMPTY),
            dict(about) | base,
            pd.DataFrame(
                [_columns(recipe) | {"reason": why} for recipe, why in (failed or {}).items()],
                columns=["hash", *FIELDS, "reason"],
            ),
        )

    # ---------------------------------------------------------------- choosing

    @property
    def recipes(self) -> list[Recipe]:
        """List the recipes, one for each run."""
        return [_recipe(row) for row in self.runs[FIELDS].to_dict("records")]

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
            raise BadInput(f"No run of the atlas has {_spoken(chosen)} at once.")
        return self._with(self.runs[kept])

    def _with(self, runs: pd.DataFrame) -> "Atlas":
        """Keep some of the runs and their points."""
        points = self.points[self.points["hash"].isin(runs["hash"])].reset_index(drop=True)
        return Atlas(points, runs.reset_index(drop=True), self.about, self.failed)

    def _fits(self, name: str, wanted: Any) -> Any:
        """Tell for each run whether a column of it is as wanted."""
        if name not in list(self.runs.columns):
            near = did_you_mean(name, self.runs.columns)
            fields = ", ".join(FIELDS)
            raise BadInput(f"The atlas has no {short_repr(name)}.{near} A recipe has: {fields}.")
        column = self.runs[name]
        if callable(wanted):
            return np.array([bool(wanted(value)) for value in column])
        single = isinstance(wanted, str) or not isinstance(wanted, Iterable)
        fits = np.logical_or.reduce([_is(column, v) for v in ([wanted] if single else wanted)])
        if not fits.any():
            there = ", ".join(f"{value}" for value in sorted(set(column.dropna()))[:12])
            raise BadInput(f"No run of the atlas has {_spoken({name: wanted})}. It has: {there}.")
        return fits

    def nearest(self, recipe: Recipe) -> Recipe:
        """Return the recipe of the atlas that is most like this one, with its seed if it can be."""
        self._refuse_empty()
        require_type(recipe, Recipe, "An atlas is asked for a Recipe")
        found = min(self.recipes, key=lambda other: _distance(recipe, other))
        return found.change(seed=recipe.seed if recipe.seed in self.seeds else found.seed)

    def _refuse_empty(self) -> None:
        if self.runs.empty:
            reasons = "; ".join(self.failed["reason"].unique()[:2])
            raise BadInput(f"This atlas holds no run.{reasons and f' What failed: {reasons}'}")

    # ---------------------------------------------------------------- pooling seeds

    def summary(self, by: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Return the mean over seeds of what each recipe reached, with its interval.

        `by` names the columns that tell the groups apart: all that vary, if it is left out. A group
        must hold each seed once: pooled recipes would pass off their differences as chance.
        """
        self._refuse_empty()
        varying = _varying(self.runs, [])
        names = by if isinstance(by, Iterable) and not isinstance(by, str) else [by]
        by = [name for name in names if name is not None] or varying or ["method"]
        for name in by:
            self._fits(name, lambda _: True)
        rows = []
        for values, group in self.runs.groupby(by, sort=True, dropna=False):
            _refuse_mixed(group, by)
            rows.append(dict(zip(by, values, strict=True)) | _pooled(group, LEVELS))
        return pd.DataFrame(rows)

    def curve(self, recipe: Recipe) -> pd.DataFrame:
        """Return a recipe's way, step by step: the mean over seeds, and the interval.

        With a constant learning rate a longer run answers for a shorter one: its first steps are
        the same. (With replay they are the same in kind: the old texts are others.)
        """
        rows = self.points[self.points["hash"].isin(self._runs_of(recipe))]
        rows = rows[rows["step"] <= recipe.steps].rename(
            columns={"task_accuracy": "task", "classics_accuracy": "classics"}
        )
        return pd.DataFrame(
            [{"step": step} | _pooled(group, LEVELS) for step, group in rows.groupby("step")]
        )

    def _runs_of(self, recipe: Recipe) -> list[str]:
        """Return the hashes of a recipe's runs, whatever their seed."""
        require_type(recipe, Recipe, "An atlas is asked for a Recipe")
        known = self._index.get(_key(recipe), {})
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
        """Find runs by what decides them, apart from the seed and the number of steps."""
        index: dict[tuple[Any, ...], dict[int, list[str]]] = {}
        for recipe, name in zip(self.recipes, self.runs["hash"], strict=True):
            index.setdefault(_key(recipe), {}).setdefault(recipe.steps, []).append(name)
        return index

    # ---------------------------------------------------------------- comparing fairly

    def matched(self, task: float = 0.9, by: str = "method") -> pd.DataFrame:
        """Return what is left of the classics where each group reaches one task accuracy.

        Seed by seed, from the base on along the rising learning rates, read off between the two
        runs on either side; where the way passes twice, the better pass. A group that not every
        seed takes there has no value: the seeds that arrive are not a fair sample.

        Other fields that vary within a group are held at the recipe's defaults.
        """
        check_task(task)
        return matched(self._ways(by), task, by)

    def kept_at(self, task: float, by: str = "method") -> pd.DataFrame:
        """Return the same seed by seed: a row for each seed, a column for each group."""
        check_task(task)
        return kept_at(self._ways(by), task)

    def frontier(self, by: str = "method") -> pd.DataFrame:
        """Return `matched` at every task accuracy that a group reaches in every seed."""
        ways, levels = self._ways(by), [round(0.02 * part, 2) for part in range(15, 51)]
        found = pd.concat([matched(ways, task, by) for task in levels], ignore_index=True)
        return found.dropna(subset="classics").sort_values([by, "task"], ignore_index=True)

    def _ways(self, by: str) -> Paths:
        """Return, by group and seed, the places along the rising learning rates."""
        ways: Paths = {}
        runs = self.sweeps(by).runs.sort_values("learning_rate")
        for (group, seed), rows in runs.groupby([by, "seed"], sort=True):
            start = (rows["base_task"].iloc[0], rows["base_classics"].iloc[0])
            ends = zip(rows["task"], rows["classics"], strict=True)
            ways.setdefault(group, {})[seed] = [start, *(end for end in ends if end[0] == end[0])]
        return ways

    def sweeps(self, by: str = "method") -> "Atlas":
        """Keep one sweep of the learning rate for each group, the rest held at the defaults."""
        self._refuse_empty()
        self._fits(by, lambda _: True)
        runs = self.select(method="lora").runs if by in LORA_FIELDS else self.runs
        held = pd.concat([_held(group, by) for _, group in runs.groupby(by)])
        return self._with(self.runs[self.runs["hash"].isin(held["hash"])])

    def best(self, budget: float = 0.05) -> Recipe:
        """Return the recipe that learns most while its loss of classics stays within the budget.

        Within it stays a recipe whose whole interval over seeds does; of equals, the one that keeps
        more. Choosing flatters the chosen: try the recipe on fresh seeds before you rely on it.
        """
        if not 0 <= as_number(budget) < 1:
            raise BadInput(
                f"budget is {short_repr(budget)}: give the drop you accept, such as 0.05."
            )
        pooled = self.summary([*(_varying(self.runs, []) or ["method"]), "steps", "base_classics"])
        pooled = pooled.loc[:, ~pooled.columns.duplicated()]
        worst = pooled["classics_low"].fillna(pooled["classics"]) - pooled["base_classics"]
        within = pooled[worst >= -budget - 1e-9]
        if within.empty:
            raise BadInput(
                f"No recipe of the atlas stays within a budget of {budget}: the most careful one "
                f"loses {-worst.max():.3f}."
            )
        first = within.sort_values(["task", "classics"]).iloc[-1]
        fit = self.runs[_rows_like(self.runs, first)].sort_values("seed").iloc[0]
        return _recipe(fit[FIELDS].to_dict())

    # ---------------------------------------------------------------- on disk

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything into one Parquet file, whole or not at all.

        A row is a point; what the run came to is repeated on each, which compresses to nothing.
        """
        from pyarrow import parquet

        target = check_target(path)
        draft = draft_of(target)
        with explaining_failure(f"{target} cannot be written"):
            try:
                checked = {"compression": "zstd", "write_page_checksum": True}
                parquet.write_table(self._table(), draft, **checked)
                os.replace(draft, target)
            finally:
                draft.unlink(missing_ok=True)
        return target

    def _table(self) -> Any:
        """Return everything as one table of pyarrow."""
        import pyarrow

        ends = self.runs.drop(columns=FIELDS).set_index("hash").add_prefix(_END)
        table = pyarrow.Table.from_pandas(self.points.join(ends, on="hash"), preserve_index=False)
        extra = {"about": self.about, "failed": self.failed.to_dict("records")}
        text = json.dumps(extra, default=lambda number: number.item())  # numpy's are not JSON's
        return table.replace_schema_metadata(table.schema.metadata | {_META: text.encode()})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote."""
        from pyarrow import parquet

        place = as_path(path)
        if not place.is_file():
            raise BadInput(f"There is no atlas {os.fspath(path)!r}.")
        with explaining_failure(f"{os.fspath(path)!r} is not an atlas"):
            table = parquet.read_table(place, page_checksum_verification=True)
            if _META not in (table.schema.metadata or {}):
                raise ValueError("no sweep of the lab wrote it")
            extra = json.loads(table.schema.metadata[_META])
            return cls._of_table(table.to_pandas(), extra)

    @classmethod
    def _of_table(cls, frame: pd.DataFrame, extra: Mapping[str, Any]) -> Self:
        """Take apart what `_table` put together."""
        ends = [name for name in frame.columns if name.startswith(_END)]
        runs = frame.drop_duplicates("hash")[["hash", *FIELDS, *ends]].reset_index(drop=True)
        return cls(
            frame.drop(columns=ends),
            runs.rename(columns=lambda name: name.removeprefix(_END)),
            extra["about"],
            pd.DataFrame(extra["failed"], columns=["hash", *FIELDS, "reason"]),
        )

    # ---------------------------------------------------------------- in words

    def _facts(self) -> dict[str, str]:
        facts = {"subject": str(self.about.get("subject", "?")), "runs": f"{len(self.runs)}"}
        facts["points"] = f"{len(self.points)}"
        for name in [*_varying(self.runs, []), "seed"]:
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
        rows = "".join(
            f'<tr><th style="text-align: left">{escape(name.replace("_", " "))}</th>'
            f'<td style="text-align: left">{escape(value)}</td></tr>'
            for name, value in list(facts.items())[1:]
        )
        return f"<table><caption>Atlas of <b>{escape(facts['subject'])}</b></caption>{rows}</table>"


_END, _META = "end_", b"caplab"
_EMPTY = ["hash", *FIELDS, *LEVELS, "base_task", "base_classics", "seconds", "trouble"]


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


# ---------------------------------------------------------------- rows


def _columns(recipe: Recipe) -> dict[str, Any]:
    """Write a recipe as columns."""
    values: dict[str, Any] = asdict(recipe)
    if not isinstance(recipe.target_modules, str):
        values["target_modules"] = ",".join(recipe.target_modules)
    return {"hash": recipe.hash, **values}


def _recipe(row: Mapping[str, Any]) -> Recipe:
    """Read a recipe back from its columns."""
    values: dict[str, Any] = {n: None if pd.isna(row[n]) else row[n] for n in FIELDS}
    words = ("all-linear", "attention")
    if values["target_modules"] not in words:
        values["target_modules"] = tuple(values["target_modules"].split(","))
    if values["examples"] is not None:
        values["examples"] = int(values["examples"])  # a column with gaps holds floats
    return Recipe(**values)


def _point(recipe: Recipe, point: Mapping[str, Any]) -> dict[str, Any]:
    """Write a point as a row; its learning rate is `rate`, for the recipe has one, too."""
    plain: dict[str, Any] = {field.name: point[field.name] for field in fields(Point)}
    capabilities, rate = plain.pop("by_capability"), plain.pop("learning_rate")
    return {**_columns(recipe), **plain, "rate": rate, **capabilities}


def _end(recipe: Recipe, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write what a run came to as a row; a run that diverged came to nothing."""
    before = record["before"]
    after = record["after"] or dict.fromkeys(before, math.nan)
    row = _columns(recipe) | {name: after[name] for name in LEVELS[:-1]}
    row["kl"] = record["points"][-1]["kl"] if record["after"] else math.nan
    row |= {"base_task": before["task"], "base_classics": before["classics"]}
    row |= {name: value for name, value in after.items() if name not in LEVELS}
    rest = ("replay_fraction", "trainable_parameters", "seconds", "trouble")
    return row | {name: record[name] for name in rest}


# ---------------------------------------------------------------- pooling


def _pooled(group: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """Pool the seeds of one recipe."""
    row: dict[str, Any] = {"n": int(group["kl"].notna().sum())}
    for name in names:
        mean, low, high = interval(group[name].astype(float))
        row |= {name: mean} | bounded(name, low, high)
    return row


def _varying(runs: pd.DataFrame, apart: Sequence[str]) -> list[str]:
    """Name the fields of a recipe, seed apart, that differ among runs."""
    names = [name for name in FIELDS if name not in ("seed", *apart)]
    return [name for name in names if runs[name].nunique(dropna=False) > 1]


def _refuse_mixed(group: pd.DataFrame, by: Sequence[str]) -> None:
    if group["seed"].duplicated().any():
        mixed = _varying(group, by)
        raise BadInput(
            f"Runs of one group differ in {', '.join(mixed)}, not in the seed alone. "
            f"Choose one value of it with select(...), or name it in by."
        )


def _rows_like(runs: pd.DataFrame, row: pd.Series) -> Any:
    """Tell which runs have a recipe's values, as far as the row names them."""
    names = [name for name in FIELDS if name in row.index]
    return np.logical_and.reduce([_is(runs[name], row[name]) for name in names])


def _held(group: pd.DataFrame, by: str) -> pd.DataFrame:
    """Hold what varies beside the learning rate and the seed at the recipe's defaults."""
    defaults = _columns(Recipe())
    for name in _varying(group, [by, *_ASIDE]):
        as_default = _is(group[name], defaults[name])
        if not as_default.any():
            values = ", ".join(map(str, sorted(group[name].unique())))
            raise BadInput(f"{name} varies ({values}): choose one with select({name}=...).")
        group = group[as_default]
    return group


# ---------------------------------------------------------------- likeness


def _is(column: pd.Series, value: Any) -> Any:
    """Tell where a column has a value; rates need not agree in their last digits."""
    if value is None or value != value:
        return column.isna().to_numpy()
    if isinstance(value, str | tuple):
        text = value if isinstance(value, str) else ",".join(value)
        return (column == text).to_numpy()
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(float)
    return np.isclose(numbers, as_number(value), rtol=1e-6, atol=0)


def _spoken(chosen: Mapping[str, Any]) -> str:
    words = [f"{name}={'...' if callable(v) else short_repr(v)}" for name, v in chosen.items()]
    return ", ".join(words)


def _key(recipe: Recipe) -> tuple[Any, ...]:
    """Return what decides a run beside its seed and length; idle fields do not."""
    idle = {"seed", "steps", *(LORA_FIELDS if recipe.method == "full" else ())}
    idle |= set() if recipe.replay else {"replay_source"}
    values = {name: value for name, value in _columns(recipe).items() if name not in idle}
    values["learning_rate"] = f"{recipe.learning_rate:.6g}"
    return tuple(value for name, value in values.items() if name != "hash")


def _distance(one: Recipe, other: Recipe) -> float:
    """Weigh how unlike two recipes are: first what is of another kind, then by how much."""

    def far(name: str, least: float) -> float:
        values = [max(least, getattr(recipe, name)) for recipe in (one, other)]
        return abs(math.log2(values[0] / values[1]))

    kinds = {"method": 50.0, "target_modules": 5.0, "schedule": 5.0, "replay_source": 3.0}
    apart = sum(w for name, w in kinds.items() if getattr(one, name) != getattr(other, name))
    apart += 2 * far("learning_rate", 1e-9) + far("rank", 1) + far("alpha", 1) + far("steps", 1)
    apart += 8 * (bool(one.replay) != bool(other.replay)) + 10 * abs(one.replay - other.replay)
    same = ("batch_size", "warmup", "weight_decay", "dropout", "examples")
    return apart + sum(5.0 for name in same if getattr(one, name) != getattr(other, name))
