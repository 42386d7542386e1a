"""What the explorables of the web edition show, as plain values for JSON.

Every number comes from the shipped atlases, the saved runs of the real model, recorded answers, or
the functions that judge: nothing is computed a second time in the browser.
"""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from caplab.measuring.intervals import mean_interval, tails
from caplab.measuring.policy import BUDGET, CONFIDENCE
from caplab.study import drift
from caplab.study.atlas import Atlas, atlas
from caplab.study.league import league
from caplab.study.seeds import interval
from caplab.support.text import format_rate
from caplab.training.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
ANSWERS = ROOT / "web/answers.json"
# What the look-up's controls move; all else stays as most runs of the atlas have it.
MOVED = ("method", "learning_rate", "rank", "replay", "replay_source")
LEVELS = ("task_accuracy", "classics_accuracy")
GROUPS = (20, 30, 50, 72, 100, 150, 200, 300, 500, 800)
LOSSES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
BUDGETS = (0.02, 0.05, 0.1)
CHURN = 0.02  # as in `items_needed`


def atlases() -> list[Atlas]:
    """Open every shipped atlas, the course's own first."""
    others = sorted((ROOT / "caplab/assets").glob("atlas_*.parquet"))
    return [atlas(), *map(Atlas.load, others)]


# ---------------------------------------------------------------- the look-up


def lookup() -> dict[str, Any]:
    """Return the curves of each setting and where its runs ended, for each shipped atlas."""
    return {"budget": BUDGET, "laboratories": [laboratory(each) for each in atlases()]}


def laboratory(whole: Atlas) -> dict[str, Any]:
    """Return what one atlas knows about the settings that differ only in what is moved."""
    plain = whole.select(**usual(whole), classics_accuracy=lambda value: value == value)
    base = plain.about["base"]
    settings = {}
    for values, runs in plain.runs.groupby(list(MOVED), sort=True):
        points = plain.points[plain.points["hash"].isin(runs["hash"])]
        settings[key(dict(zip(MOVED, values, strict=True)))] = setting(runs, points, base)
    return {
        "name": plain.about["subject"],
        "date": plain.about["date"],
        "base": [rounded(base[name]) for name in LEVELS],
        "steps": sorted(int(step) for step in plain.points["step"].unique()),
        "controls": {name: sorted(plain.runs[name].unique().tolist()) for name in MOVED},
        "capabilities": capabilities(plain),
        "settings": settings,
        "runs": len(plain.runs),
    }


def usual(whole: Atlas) -> dict[str, Any]:
    """Return the commonest value of each field that varies and is not moved."""
    fields = [name for name in Recipe().to_dict() if name not in (*MOVED, "seed")]
    varying = [name for name in fields if whole.runs[name].nunique(dropna=False) > 1]
    return {name: whole.runs[name].mode().iloc[0] for name in varying}


def capabilities(whole: Atlas) -> list[str]:
    """Name the capabilities of the exam."""
    return [name for name in whole.about["base"] if name in whole.runs and name not in NOT_SKILLS]


NOT_SKILLS = {*LEVELS, "smooth", "language_loss", "kl"}


def key(values: dict[str, Any]) -> str:
    """Name a setting; fields that do nothing in it are left out, as the page does."""
    parts = [values["method"], format_rate(values["learning_rate"])]
    parts += [f"r{values['rank']}"] if values["method"] == "lora" else []
    parts += [f"{values['replay']:g}", values["replay_source"]] if values["replay"] else []
    return " ".join(parts)


def setting(runs: pd.DataFrame, points: pd.DataFrame, base: dict[str, float]) -> dict[str, Any]:
    """Return a setting's band at each step, and the change of its runs at the end, over seeds."""
    steps = [points[points["step"] == step] for step in sorted(points["step"].unique())]
    change = interval(runs["classics_accuracy"] - base["classics_accuracy"])
    skills = [name for name in base if name in runs and name not in NOT_SKILLS]
    return {
        "seeds": len(runs),
        "task": [band(rows["task_accuracy"]) for rows in steps],
        "classics": [band(rows["classics_accuracy"]) for rows in steps],
        "end": [rounded(runs[name].mean()) for name in LEVELS],
        "change": [rounded(value) for value in change],
        "lost": [rounded(base[name] - runs[name].mean()) for name in skills],
    }


def band(values: pd.Series) -> list[float]:
    """Return the mean, the lowest and the highest."""
    return [rounded(values.mean()), rounded(values.min()), rounded(values.max())]


def rounded(value: float) -> float:
    """Round to what a picture can show."""
    return round(float(value), 4)


# ---------------------------------------------------------------- how sure can I be?


def sure() -> dict[str, Any]:
    """Return an interval and the chances of the verdicts for groups, true losses and budgets."""
    rows = [
        chances(groups, budget) for budget, groups in product(BUDGETS, GROUPS)
    ]  # one for each budget and number of groups, in this order
    return {
        "groups": GROUPS,
        "losses": LOSSES,
        "budgets": BUDGETS,
        "churn": CHURN,
        "confidence": CONFIDENCE,
        "intervals": [[expected(groups, loss) for loss in LOSSES] for groups in GROUPS],
        "chances": rows,
    }


def expected(groups: int, loss: float) -> dict[str, Any]:
    """Return what such an exam shows on average, and the interval of that."""
    lost, gained = round(groups * (loss + CHURN)), round(groups * CHURN)
    changes = [-1] * lost + [1] * gained + [0] * (groups - lost - gained)
    low, high = mean_interval(changes, 1 - CONFIDENCE)
    return {"lost": lost, "gained": gained, "low": rounded(low), "high": rounded(high)}


def chances(groups: int, budget: float) -> list[list[float]]:
    """Return for each true loss how probable HELD and REGRESSED are: exact, over all outcomes."""
    from scipy.stats import multinomial

    most = min(groups, int(groups * (max(LOSSES) + CHURN) * 1.5) + 25)
    lost, gained = np.meshgrid(np.arange(most), np.arange(int(groups * CHURN * 3) + 15))
    possible = lost + gained <= groups
    lost, gained = lost[possible], gained[possible]
    counts = np.stack([lost, groups - lost - gained, gained], axis=1)
    below, above = tails([-1, 0, 1], counts, -budget)
    tail = (1 - CONFIDENCE) / 2
    found = []
    for loss in LOSSES:
        pmf = multinomial.pmf(counts, groups, [loss + CHURN, 1 - loss - 2 * CHURN, CHURN])
        found.append([rounded(pmf[below <= tail].sum()), rounded(pmf[above < tail].sum())])
    return found


# ---------------------------------------------------------------- hear it forget, and the league


def hear() -> dict[str, Any]:
    """Return what pocket said at each stop of recorded runs, and a real model before and after."""
    return {"recorded": json.loads(ANSWERS.read_text("utf-8")), "real": real()}


def real() -> dict[str, Any]:
    """Return the saved runs of the real model: its answers, and what it knew over all seeds."""
    runs = drift.saved()
    shares = sorted({run["replay"] for run in runs})
    same = {share: [run for run in runs if run["replay"] == share] for share in shares}
    known = {
        str(share): {
            when: {
                name: rounded(np.mean([run[when][name] for run in some])) for name in some[0][when]
            }
            for when in ("before", "after")
        }
        | {"seeds": len(some)}
        for share, some in same.items()
    }
    firsts = {str(share): some[0]["answers"] for share, some in same.items()}
    return {
        "model": runs[0]["model"],
        "date": max(run["date"] for run in runs),
        "rate": drift.RECIPE.learning_rate,
        "answers": firsts,
        "known": known,
    }


def league_table() -> dict[str, Any]:
    """Return the league of the course's atlas."""
    found = league(atlas())
    rows = json.loads(found.table.to_json(orient="records"))
    return {
        "sentence": found.sentence,
        "task": found.task,
        "seeds": found.seeds,
        "left_out": found.left_out,
        "rows": rows,
    }


EXPLORABLES = {"lookup": lookup, "sure": sure, "hear": hear, "league": league_table}
