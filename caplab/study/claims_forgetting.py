"""Claims about forgetting: what goes first, what predicts it, and how far one seed misleads."""

from itertools import combinations
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from caplab.study.atlas import Atlas
from caplab.study.atlas_rows import FIELDS
from caplab.study.claim_layouts import BUDGET, LEARNED
from caplab.study.findings import Evidence, as_claim
from caplab.study.seeds import interval
from caplab.support.errors import BadInput
from caplab.support.text import format_number

FAMILY = 3  # the claims of this file, whose intervals are corrected together


@as_claim(
    "The KL to the base, measured on the new task, predicts what is forgotten.",
    "RL's Razor 2025, arXiv 2509.04259",
    family=FAMILY,
)
def kl_predicts_forgetting(atlas: Atlas) -> Evidence:
    """Rank the runs of a seed by their KL and by what they lost: all, and those that learned.

    Runs that learned nothing lie at zero in both, which makes any gauge look good.
    """
    runs = atlas.runs.dropna(subset=["kl", "classics_accuracy"])
    learned = runs[runs["task_accuracy"] >= LEARNED]
    named = {"over all runs": runs, "over the runs that learned": learned}
    ranks = pd.DataFrame({name: _ranked(part) for name, part in named.items()})
    parts = {"without replay": runs[runs["replay"] == 0], "with": runs[runs["replay"] > 0]}
    r2 = [
        f"{name} {format_number(_explained(part))}" for name, part in parts.items() if len(part) > 2
    ]
    return Evidence(
        seeds=ranks,
        unit="rank correlation",
        above=0.8,
        holds="How far a run moved from its base on the task's text tells well what it forgot,",
        fails="How far a run moved from its base on the task's text tells poorly what it forgot,",
        note=f"R² of a straight line: {', '.join(r2)}",
    )


def _ranked(runs: pd.DataFrame) -> pd.Series:
    """Return for each seed the rank correlation of a run's KL with what it lost."""
    ranks = {
        int(seed): float(stats.spearmanr(rows["kl"], -rows["classics_accuracy"]).statistic)
        for seed, rows in runs.groupby("seed")
        if len(rows) > 2
    }
    return pd.Series(ranks, dtype=float)


def _explained(runs: pd.DataFrame) -> float:
    """Return R², the share of the variance in what is kept that a line over the KL explains."""
    return float(np.corrcoef(runs["kl"], runs["classics_accuracy"])[0, 1] ** 2)


@as_claim(
    "Facts are forgotten before skills.",
    "common expectation",
    "of models made smaller, not tuned: Jin et al. 2023, arXiv 2310.04680",
    family=FAMILY,
)
def facts_go_before_skills(atlas: Atlas) -> Evidence:
    """Compare what arithmetic loses with what each capability made of facts loses."""
    base = atlas.about["base"]
    lost = _partly_lost(atlas)
    facts = [name for name in ("capitals", "opposites", "sounds", "colours") if name in base]
    drops = {
        name: base[name] - lost.groupby("seed")[name].mean() for name in [*facts, "arithmetic"]
    }
    mean = {name: interval(drop)[0] for name, drop in drops.items()}
    return Evidence(
        seeds=pd.DataFrame({f"in {name}": drops[name] - drops["arithmetic"] for name in facts}),
        unit="lost by facts beyond arithmetic",
        above=0,
        holds="Facts are forgotten before arithmetic, the skill,",
        fails="Arithmetic, the skill, is forgotten before facts",
        note="lost: " + ", ".join(f"{name} {format_number(value)}" for name, value in mean.items()),
    )


def _partly_lost(atlas: Atlas) -> pd.DataFrame:
    """Return the runs, without replay, of the recipes that lose something but not everything."""
    runs = atlas.select(replay=0).runs
    runs = runs.assign(recipe=_numbered(runs))
    lost = (
        (runs["base_classics_accuracy"] - runs["classics_accuracy"])
        .groupby(runs["recipe"])
        .transform("mean")
    )
    if not (partly := (lost > BUDGET) & (lost < 0.5)).any():
        raise BadInput("No recipe of the atlas loses something and not everything.")
    return runs[partly]


def _numbered(runs: pd.DataFrame) -> pd.Series:
    """Give each run the number of its recipe, which its seed does not change."""
    recipes: pd.Series = runs.groupby([n for n in FIELDS if n != "seed"], dropna=False).ngroup()
    return recipes


@as_claim(
    "One seed can mislead.",
    "published single-run ablations that other seeds reversed",
    family=FAMILY,
)
def one_seed_can_mislead(atlas: Atlas) -> Evidence:
    """Let single runs decide between recipes that truly differ by one to five points."""
    runs = atlas.runs.assign(recipe=_numbered(atlas.runs))
    levels = runs.pivot_table(index="seed", columns="recipe", values="classics_accuracy").dropna(
        axis=1
    )
    pairs = combinations(levels.to_numpy().T, 2)
    close = [(a, b) for a, b in pairs if 0.01 <= abs(a.mean() - b.mean()) <= 0.05]
    wrong = np.mean([_misled(a, b) for a, b in close], axis=0) if close else [nan]
    return Evidence(
        seeds=pd.Series(wrong),
        unit="of the pairs",
        above=0.05,
        holds="A single run of each names the wrong recipe in more than one case in twenty",
        fails="A single run of each names the wrong recipe in fewer than one case in twenty",
        note=f"{len(close)} pairs of recipes whose mean classics differ by one to five points",
    )


def _misled(one: Any, other: Any) -> Any:
    """Return for each run of one recipe the share of the other's runs that reverse the order."""
    apart = one[:, None] - other  # (seeds of one, seeds of the other)
    return (apart * (one.mean() - other.mean()) < 0).mean(axis=1)
