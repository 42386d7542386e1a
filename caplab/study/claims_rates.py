"""Claims about the learning rate: too high, too low, or stopped early."""

from itertools import pairwise
from math import log10, nan

import pandas as pd

from caplab.study.atlas import Atlas
from caplab.study.claim_layouts import (
    BUDGET,
    BUDGET_WORDS,
    TASK,
    TASK_WORDS,
    at_each_rate,
    by_seed_and_rate,
    plain_sweep,
)
from caplab.study.findings import Evidence, as_claim
from caplab.study.matching import Place
from caplab.study.seeds import interval
from caplab.support.errors import BadInput
from caplab.support.text import format_rate

FAMILY = 4  # the claims of this file, whose intervals are corrected together


@as_claim("A higher learning rate forgets more.", "common experience", family=FAMILY)
def higher_rate_forgets_more(atlas: Atlas) -> Evidence:
    """Compare the highest with the lowest rate of full fine-tuning."""
    kept = by_seed_and_rate(plain_sweep(atlas, "full"), "classics_accuracy")
    low, high = min(kept.columns), max(kept.columns)
    steps = [interval(kept[b] - kept[a])[0] for a, b in pairwise(kept.columns)]
    monotone = sum(step <= 0 for step in steps)
    return Evidence(
        seeds=kept[low] - kept[high],
        unit="of the classics lost by the higher rate",
        above=0,
        holds=f"Full fine-tuning at {format_rate(high)} forgets more than at {format_rate(low)}",
        fails=f"Full fine-tuning at {format_rate(high)} forgets less than at {format_rate(low)}",
        note=f"in {monotone} of {len(steps)} steps up the rates it keeps no more than before",
    )


@as_claim(
    "A learning rate above 1e-4 causes regression, even with LoRA.",
    "a widely read tutorial",
    "against it: LoRA Without Regret 2025",
    family=FAMILY,
)
def lora_above_1e_4_regresses(atlas: Atlas) -> Evidence:
    """Measure the loss at the first rate above 1e-4, and name the first that breaks the budget."""
    lora = plain_sweep(atlas, "lora").select(learning_rate=lambda rate: rate > 1.01e-4)
    lost = lora.runs["base_classics_accuracy"].iloc[0] - by_seed_and_rate(lora, "classics_accuracy")
    first = min(lost.columns)
    broken = [format_rate(rate) for rate in lost if interval(lost[rate])[1] > BUDGET]
    return Evidence(
        seeds=lost[first],
        unit="of the classics lost",
        above=BUDGET,
        holds=f"LoRA at {format_rate(first)} loses more than {BUDGET_WORDS} of the classics",
        fails=f"LoRA at {format_rate(first)} loses less than {BUDGET_WORDS} of the classics",
        note=f"LoRA begins to lose more than {BUDGET_WORDS} at {broken[0]}"
        if broken
        else "no rate of the atlas certainly loses more",
    )


@as_claim(
    "LoRA needs a higher learning rate than full fine-tuning.",
    "LoRA Without Regret 2025: about ten times, fifteen in very short runs",
    family=FAMILY,
)
def lora_needs_a_higher_rate(atlas: Atlas) -> Evidence:
    """Compare the rates at which the methods first reach the task accuracy, seed by seed."""
    full, lora = (_first_rate(atlas, method) for method in ("full", "lora"))
    times = {seed: lora[seed] / full[seed] for seed in full}
    alphas = sorted(set(plain_sweep(atlas, "lora").runs["alpha"]))
    known = ", ".join(f"{alpha:g}" for alpha in alphas)
    return Evidence(
        seeds=times,
        unit="times",
        above=1,
        holds=f"LoRA needs a higher rate than full fine-tuning to reach task {TASK_WORDS}",
        fails=f"LoRA needs a lower rate than full fine-tuning to reach task {TASK_WORDS}",
        note=f"how much higher depends on alpha, here {known}",
    )


def _first_rate(atlas: Atlas, method: str) -> dict[int, float]:
    """Return for each seed the rate at which the task accuracy is first reached."""
    task = by_seed_and_rate(plain_sweep(atlas, method), "task_accuracy")
    return {int(seed): _crossing(row) for seed, row in task.iterrows()}


def _crossing(levels: pd.Series) -> float:
    """Read the rate off between the last that learns too little and the first that does not."""
    for (a, low), (b, high) in pairwise(levels.items()):
        if low < TASK <= high:
            part = (TASK - low) / (high - low)  # rates are equally spaced by their logarithm
            return float(10 ** (log10(a) + part * (log10(b) - log10(a))))
    return nan


@as_claim(
    "Stopping early keeps more than a lower learning rate.",
    "common advice",
    "against it: Kalajdzievski 2024, arXiv 2401.05605",
    family=FAMILY,
)
def stopping_early_beats_a_lower_rate(atlas: Atlas) -> Evidence:
    """Compare runs of high rates, stopped early, with the ends of all rates, at equal task."""
    return Evidence(
        seeds=at_each_rate(_gained_by_stopping(plain_sweep(atlas, "full"))),
        unit="of the classics",
        above=0,
        holds="Stopping early keeps more than a lower rate",
        fails="Stopping early keeps less than a lower rate",
        note=f"full fine-tuning, at task {TASK_WORDS}; measured by the questions that points ask",
    )


def _gained_by_stopping(full: Atlas) -> pd.DataFrame:
    """Return rates that overshoot, and what stopping them keeps beyond a lower rate."""
    at_end = full.points["step"] == full.points["steps"]
    # The path of the lower rates runs along the ends of all runs, so their rate orders it.
    ends = full.points[at_end].assign(step=lambda rows: rows["learning_rate"])
    lower = _kept_by_seed(ends, full)
    gaps: dict[float, pd.Series] = {}
    for rate, points in full.points.groupby("learning_rate"):
        learned = points.loc[at_end, "task_accuracy"] >= TASK
        if learned.all() and len(gaps) < 4:
            gaps[rate] = _kept_by_seed(points, full) - lower
    if len(gaps) < 2:
        raise BadInput("No rate but the first reaches the task accuracy in every seed.")
    return pd.DataFrame(dict(list(gaps.items())[1:]))  # the first is the lower rate itself


def _kept_by_seed(points: pd.DataFrame, full: Atlas) -> pd.Series:
    """Return for each seed what is kept where its path first reaches the task accuracy."""
    names = ["task_accuracy", "classics_accuracy"]
    starts = full.points[full.points["step"] == 0].groupby("seed").first()
    kept = {}
    for seed, rows in points[points["step"] > 0].groupby("seed"):
        later = rows.sort_values("step")[names].itertuples(index=False, name=None)
        kept[seed] = _first_kept([tuple(starts.loc[seed, names]), *later])
    return pd.Series(kept)


def _first_kept(path: list[Place]) -> float:
    """Read off what is kept where a path first reaches the task accuracy."""
    for (x0, y0), (x1, y1) in pairwise(path):
        if x0 < TASK <= x1:
            return float(y0 + (y1 - y0) * (TASK - x0) / (x1 - x0))
    return nan
