"""`league`: remedies compared at equal skill, each at its best setting, judged on fresh seeds.

The best of many settings looks better than it is. So each remedy's setting is chosen on one half of
the seeds and judged on the other. Remedies are compared seed by seed, and a difference counts as
decided only if its interval, corrected for all pairs, excludes zero.
"""

from dataclasses import dataclass
from itertools import combinations
from math import nan
from typing import Any

import pandas as pd

from caplab.study.atlas import Atlas
from caplab.study.atlas_rows import recipe_from
from caplab.study.matching import check_task
from caplab.study.seeds import interval
from caplab.support.errors import BadInput, did_you_mean, require_type, short_repr
from caplab.support.tables import html_table, text_table
from caplab.support.text import format_number, format_percent, format_rate, join_words
from caplab.training.recipe import Recipe

__all__ = ["League", "league", "remedy"]

_METHODS = {"lora": "LoRA", "rslora": "rsLoRA", "dora": "DoRA"}
_PARTS = {"attention": " on attention", "mlp": " on MLP"}
_NO_SHARES = ("language_loss", "kl")  # columns of other units
_HEAD = ["remedy", "setting", "task", "kept", "interval", "time", "old rows", "better than"]


@dataclass(frozen=True, repr=False)
class League:
    """Who keeps most at equal skill: a row for each remedy, and every pair of them compared."""

    task: float
    kept: str
    table: pd.DataFrame
    pairs: pd.DataFrame
    left_out: tuple[str, ...]
    seeds: tuple[int, int]

    @property
    def sentence(self) -> str:
        """Say who leads, and who is certainly behind."""
        first = self.table.iloc[0]
        beaten = first["better_than"]
        at = f"At task {format_number(self.task)} {first['remedy']} kept most"
        certainly = f"certainly more than {join_words(list(beaten))}"
        rest = certainly if beaten else "but not certainly more than any other"
        return f"{at} ({format_number(first['mean'])}), {rest}."

    def _rows(self) -> list[list[str]]:
        rows = []
        for row in self.table.to_dict("records"):
            ends = f"{format_number(row['low'])} to {format_number(row['high'])}"
            time = f"{row['time']:.2f} x" if row["time"] == row["time"] else ""
            levels = [format_number(row["task"]), format_number(row["mean"]), ends]
            cost = [time, str(row["old_rows"]), str(len(row["better_than"]))]
            rows.append([row["remedy"], row["setting"], *levels, *cost])
        return rows

    @property
    def _notes(self) -> list[str]:
        chosen, judged = self.seeds
        notes = [
            f"Settings chosen on {chosen} seeds, judged on {judged} others; intervals over these, "
            "95 %. 'Better than' counts decided pairs, corrected for all pairs."
        ]
        if self.left_out:
            notes.append(
                f"Never at task {format_number(self.task)}: {join_words(list(self.left_out))}."
            )
        return notes

    def __repr__(self) -> str:
        lines = text_table([_HEAD, *self._rows()], words=(0, 1))
        return "\n".join([self.sentence, "", *lines, "", *self._notes])

    def _repr_html_(self) -> str:
        return html_table(self._rows(), _HEAD, caption=" ".join([self.sentence, *self._notes]))


def league(
    atlas: Atlas,
    task: float = 0.9,
    kept: str | None = None,
    learned: str | None = None,
) -> League:
    """Compare the remedies of an atlas by what they keep, each at a setting that reaches the task.

    `kept` and `learned` name the columns that count. By default it is what is said, of the old and
    of the task, where the exams have spoken questions beside choices; else the accuracies. A
    setting takes part if every seed tried it on the whole task. Runs of other lengths are other
    settings.
    """
    require_type(atlas, Atlas, "A league is made of an Atlas, such as atlas()")
    check_task(task)
    there = list(atlas.runs.columns)
    kept = kept or ("said" if "said" in there else "classics_accuracy")
    learned = learned or ("task, said" if "task, said" in there else "task_accuracy")
    for column in (kept, learned):
        if column not in there:
            near = did_you_mean(column, there)
            raise BadInput(f"The atlas has no column {short_repr(column)}.{near}")
    seeds = atlas.seeds
    if len(seeds) < 4:
        raise BadInput(
            f"The atlas has {len(seeds)} seeds: a league needs 4, two to choose and two to judge."
        )
    choosing, judging = seeds[1::2], seeds[::2]
    groups = _settings(atlas, seeds)
    best = {n: _best(group, choosing, task, kept, learned) for n, group in groups.items()}
    taking_part = {name: runs for name, runs in best.items() if runs is not None}
    if not taking_part:
        raise BadInput(f"No recipe of the atlas reaches task {format_number(task)}.")
    judged = {name: runs.loc[judging] for name, runs in taking_part.items()}
    pairs = _pairs({name: runs[kept] for name, runs in judged.items()})
    rows = [_row(name, runs, groups, pairs, kept, learned) for name, runs in judged.items()]
    table = pd.DataFrame(rows).sort_values("mean", ascending=False, ignore_index=True)
    left_out = tuple(name for name, runs in best.items() if runs is None)
    return League(task, kept, table, pairs, left_out, (len(choosing), len(judging)))


# ---------------------------------------------------------------- remedies and their settings


def remedy(recipe: Recipe) -> str:
    """Name what a recipe does to keep the old: `LoRA + replay`; `full` does nothing."""
    words = ["full"]
    if recipe.method == "lora":
        part = recipe.target_modules if isinstance(recipe.target_modules, str) else ""
        words = [_METHODS[recipe.variant] + _PARTS.get(part, "")]
    own = {"original": "", "self": " of own words"}
    if recipe.replay:
        words.append(f"replay{own[recipe.replay_source]}")
    if recipe.anchor:
        text = own[recipe.anchor_data] if recipe.anchor == "kl" else ""
        words.append(f"{recipe.anchor.upper()} anchor{text}")
    named = {"DFT": recipe.loss == "dft", "Muon": recipe.optimizer == "muon"}
    named |= {"average": recipe.average > 0, "warm-up": recipe.warmup > 0}
    named |= {f"{recipe.schedule} decay": recipe.schedule != "constant"}
    return " + ".join([*words, *(word for word, there in named.items() if there)])


def _settings(atlas: Atlas, seeds: list[int]) -> dict[str, list[pd.DataFrame]]:
    """Group the runs by remedy, and by the setting that all seeds tried; rows are seeds."""
    found: dict[str, dict[Recipe, list[dict[str, Any]]]] = {}
    for row in atlas.runs.to_dict("records"):
        recipe = recipe_from(row)
        if recipe.examples is None:
            same = found.setdefault(remedy(recipe), {}).setdefault(recipe.change(seed=0), [])
            same.append(row | {"recipe": recipe})
    return {
        name: [
            pd.DataFrame(rows).set_index("seed").sort_index()
            for rows in settings.values()
            if sorted(row["seed"] for row in rows) == seeds
        ]
        for name, settings in found.items()
    }


def _best(
    settings: list[pd.DataFrame], seeds: list[int], task: float, kept: str, learned: str
) -> pd.DataFrame | None:
    """Return the setting that keeps most on these seeds, of those that learn the task on them."""
    able = [runs for runs in settings if runs.loc[seeds, learned].mean(skipna=False) >= task]
    return max(able, key=lambda runs: runs.loc[seeds, kept].mean(), default=None)


def _setting(recipe: Recipe, others: list[Recipe]) -> str:
    """Write the learning rate and the other fields in which a remedy's settings differ."""
    words = [format_rate(recipe.learning_rate)]
    for name, value in recipe.to_dict().items():
        varies = any(getattr(other, name) != value for other in others)
        if varies and name not in ("seed", "learning_rate"):
            plain = f"{name.replace('_', ' ')} {value}"
            words.append(format_percent(value) if name == "replay" else plain)
    return ", ".join(words)


# ---------------------------------------------------------------- judging


def _row(
    name: str,
    runs: pd.DataFrame,
    groups: dict[str, list[pd.DataFrame]],
    pairs: pd.DataFrame,
    kept: str,
    learned: str,
) -> dict[str, Any]:
    """Judge one remedy on the seeds that did not choose its setting."""
    mean, low, high = interval(runs[kept])
    if kept not in _NO_SHARES:
        low, high = max(low, 0.0), min(high, 1.0)
    recipe: Recipe = runs["recipe"].iloc[0]
    others = [setting["recipe"].iloc[0] for setting in groups[name]]
    won = pairs[(pairs["better"] == name) & pairs["decided"]]
    return {
        "remedy": name,
        "setting": _setting(recipe, others),
        "task": float(runs[learned].mean()),
        "mean": mean,
        "low": low,
        "high": high,
        "time": _time(recipe, runs, groups.get("full", [])),
        "old_rows": _old_rows(recipe),
        "trainable": int(runs["trainable_parameters"].median()),
        "better_than": tuple(won["worse"]),
    }


def _time(recipe: Recipe, runs: pd.DataFrame, plain: list[pd.DataFrame]) -> float:
    """Return the time of a run as a multiple of full fine-tuning's, of the same length."""
    as_long = [setting for setting in plain if setting["recipe"].iloc[0].steps == recipe.steps]
    if not as_long:
        return nan
    return float(runs["seconds"].median() / pd.concat(as_long)["seconds"].median())


def _old_rows(recipe: Recipe) -> int:
    """Count the rows of original old text that a run reads; own words need none."""
    total = recipe.steps * recipe.batch_size
    replayed = round(recipe.replay * total) if recipe.replay_source == "original" else 0
    anchored = total if recipe.anchor == "kl" and recipe.anchor_data == "original" else 0
    return replayed + anchored


def _pairs(kept: dict[str, pd.Series]) -> pd.DataFrame:
    """Compare each pair of remedies, seed by seed; corrected for the number of pairs."""
    every = list(combinations(kept, 2))
    rows = []
    for one, other in every:
        gap = kept[one] - kept[other]
        if gap.mean() < 0:
            one, other, gap = other, one, -gap
        mean, low, high = interval(gap, 1 - 0.05 / len(every))
        row = {"better": one, "worse": other, "gap": mean, "low": low, "high": high}
        rows.append(row | {"decided": bool(low > 0)})
    names = ["better", "worse", "gap", "low", "high", "decided"]
    return pd.DataFrame(rows, columns=names)
