"""Three jobs in turn, over seeds: what the second pocket still says after each, and by what remedy.

benchmarks/in_turn.py makes the runs and keeps them, each with its date, in assets/turns.json.
"""

import json
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caplab.questions.exam import exam
from caplab.questions.tasks import EXAMS, task
from caplab.study.findings import Evidence, as_claim
from caplab.training.in_turn import train_in_turn
from caplab.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

    from caplab.models.subject import Subject

__all__ = ["CONDITIONS", "JOBS", "SAVED", "measure", "saved", "table"]

SAVED = Path(str(files("caplab") / "assets" / "turns.json"))
JOBS = ("service2", "catalogue", "station")
FULL = Recipe(learning_rate=1e-3, steps=100)
LORA = Recipe(method="lora", rank=32, alpha=128, learning_rate=2e-3, steps=100)
# What each condition gives to train_in_turn.
CONDITIONS: dict[str, dict[str, Any]] = {
    "no remedy": {"recipe": FULL},
    "old text": {"recipe": FULL.change(replay=0.25)},
    "earlier jobs": {"recipe": FULL.change(replay=0.25), "rehearse": True},
    "one adapter": {"recipe": LORA},
    "an adapter each": {"recipe": LORA, "adapters": "each"},
}
FAMILY = 4  # the claims of this file, whose intervals are corrected together


def measure(base: "Subject", condition: str, seed: int) -> dict[str, Any]:
    """Learn the three jobs in turn, and return what is kept of it: what is said in each state."""
    given = dict(CONDITIONS[condition])
    recipe = given.pop("recipe").change(seed=seed)
    turns = train_in_turn(
        base,
        {job: task(job) for job in JOBS},
        recipe,
        exam("world2").speaking,
        exams={job: exam(EXAMS[job]).speaking for job in JOBS},
        **given,
    )
    return {
        "condition": condition,
        "seed": seed,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seconds": round(sum(run.seconds for run in turns.runs.values()), 1),
        "said": turns.table.to_dict("index"),
    }


def saved() -> list[dict[str, Any]]:
    """Return the runs that benchmarks/in_turn.py has kept."""
    found: list[dict[str, Any]] = json.loads(SAVED.read_text(encoding="utf-8"))
    return found


def table() -> "pd.DataFrame":
    """Return the runs as rows: a condition, a seed and a state, and the share said right."""
    import pandas as pd

    return pd.DataFrame(
        {"condition": run["condition"], "seed": run["seed"], "state": state} | levels
        for run in saved()
        for state, levels in run["said"].items()
    )


# ---------------------------------------------------------------- claims


def _lost(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Return what was lost of the first job since it had been learned, seed by seed."""
    said = runs.set_index(["condition", "state", "seed"])[JOBS[0]].unstack("condition")
    return said.loc[f"after {JOBS[0]}"] - said.loc[f"after {JOBS[-1]}"]


@as_claim(
    "Learning further jobs costs the first one.",
    "McCloskey and Cohen 1989, doi 10.1016/S0079-7421(08)60536-8",
    family=FAMILY,
)
def a_later_job_costs_the_first(runs: "pd.DataFrame") -> Evidence:
    """Compare the first job at the end with how it stood when it had just been learned."""
    return Evidence(
        seeds=_lost(runs)["no remedy"],
        unit="of the first job lost by the end, as it is said",
        above=0,
        holds="Two further jobs cost the first one, where nothing is done against it",
        fails="Two further jobs do not cost the first one",
    )


@as_claim(
    "Rehearsing earlier jobs keeps them.",
    "Rolnick et al. 2019, arXiv 1811.11682",
    family=FAMILY,
)
def rehearsing_keeps_earlier_jobs(runs: "pd.DataFrame") -> Evidence:
    """Compare a quarter of rows from the jobs so far with none."""
    lost = _lost(runs)
    return Evidence(
        seeds=lost["no remedy"] - lost["earlier jobs"],
        unit="of the first job, rehearsed minus without",
        above=0,
        holds="A quarter of rows from earlier jobs keeps more of the first job",
        fails="A quarter of rows from earlier jobs keeps less of the first job",
    )


@as_claim(
    "Replaying one thing keeps another, too.",
    "a common hope",
    family=FAMILY,
)
def old_text_keeps_earlier_jobs(runs: "pd.DataFrame") -> Evidence:
    """Compare old text, which mentions no job, with no remedy, on the first job."""
    lost = _lost(runs)
    return Evidence(
        seeds=lost["no remedy"] - lost["old text"],
        unit="of the first job, with a quarter of old text minus without",
        above=0,
        holds="Old text keeps more of the first job, which it never mentions",
        fails="Old text keeps less of the first job, which it never mentions",
    )


@as_claim(
    "One adapter for all jobs forgets less than training all weights.",
    "Biderman et al. 2024, arXiv 2405.09673, for one job",
    family=FAMILY,
)
def one_adapter_keeps_the_first_job(runs: "pd.DataFrame") -> Evidence:
    """Compare one adapter that learns every job with full fine-tuning, on the first job."""
    lost = _lost(runs)
    return Evidence(
        seeds=lost["no remedy"] - lost["one adapter"],
        unit="of the first job, one adapter minus all weights",
        above=0,
        holds="One adapter for all jobs keeps more of the first one than all weights",
        fails="One adapter for all jobs keeps less of the first one than all weights",
    )
