"""Everything that the lessons say about regression, each as one measurement over the atlas.

A claim takes a piece of advice and measures it, seed by seed. Its `Finding` says in words what came
out, with the interval over the seeds, and whether the advice holds: True, False, or None where the
seeds do not decide it. Nothing is said that was not measured, so a finding that speaks against the
advice is worded as it was found. All of it is about one tiny world: see `sources` for the others.
"""

from itertools import combinations, pairwise
from math import log10, nan
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from caplab.study.atlas import FIELDS, Atlas
from caplab.study.atlas import atlas as open_atlas
from caplab.study.findings import CLAIMS, Evidence, Finding, Findings, register_claim
from caplab.study.seeds import interval
from caplab.support.errors import BadInput, did_you_mean, require_type, short_repr
from caplab.support.text import format_number, format_rate, format_signed

__all__ = ["measure", "measure_all", "names"]

BUDGET = 0.05  # of the classics: a loss that counts as none
TASK = 0.9  # the task accuracy at which recipes are matched
_BUDGET, _TASK = format_number(BUDGET), format_number(TASK)


def measure_all(atlas: Atlas | None = None) -> Findings:
    """Measure every claim on an atlas: the shipped one, if none is given."""
    return Findings(measure(name, atlas) for name in CLAIMS)


def measure(name: str, atlas: Atlas | None = None) -> Finding:
    """Measure one claim on an atlas: the shipped one, if none is given."""
    require_type(atlas, (Atlas, type(None)), "A claim is measured on an Atlas, such as atlas()")
    if name not in list(CLAIMS):
        near = did_you_mean(name, CLAIMS)
        raise BadInput(
            f"There is no claim {short_repr(name)}.{near} There are: {', '.join(CLAIMS)}."
        )
    return CLAIMS[name](open_atlas() if atlas is None else atlas)


def names() -> list[str]:
    """Name all claims."""
    return list(CLAIMS)


# ---------------------------------------------------------------- what is compared


def _plain(atlas: Atlas, method: str) -> Atlas:
    """Return one method's plain sweep of the learning rate."""
    return atlas.sweeps("method").select(method=method)


def _by_seed(atlas: Atlas, name: str) -> pd.DataFrame:
    """Lay out what was measured: a row for each seed, a column for each learning rate."""
    return atlas.runs.pivot_table(index="seed", columns="learning_rate", values=name)


def _shared(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return the differences at all columns that two layouts share."""
    both = one.columns.intersection(other.columns)
    return one[both] - other[both]


def _lora_less_full(atlas: Atlas, name: str) -> pd.Series:
    """Return LoRA's level less full fine-tuning's, at all rates that both were tried at."""
    lora, full = (_by_seed(_plain(atlas, method), name) for method in ("lora", "full"))
    return _shared(lora, full).mean(axis=1)


def _ranks(atlas: Atlas) -> Atlas:
    return atlas.sweeps("rank").select(method="lora")


def _replayed(atlas: Atlas, source: str, name: str) -> pd.DataFrame:
    """Return a level under full fine-tuning: rows (seed), columns (rate, share)."""
    runs = atlas.select(method="full", schedule="constant").runs
    rates = runs.loc[runs["replay"] > 0, "learning_rate"].unique()
    fit = (runs["replay_source"] == source) | (runs["replay"] == 0)
    kept = runs[fit & runs["learning_rate"].isin(rates)]
    if kept.empty:
        raise BadInput("The atlas has no run with replay.")
    return kept.pivot_table(index="seed", columns=["replay", "learning_rate"], values=name)


def _share(levels: pd.DataFrame, share: float) -> pd.DataFrame:
    """Return the levels at one share of replay, a column for each rate."""
    if share not in levels:
        raise BadInput(f"The atlas has no run with {100 * share:g} % replay.")
    found: pd.DataFrame = levels[share]
    return found


# ---------------------------------------------------------------- learning rate


@register_claim("A higher learning rate forgets more.", "Kalajdzievski 2024, arXiv 2401.05605")
def higher_rate_forgets_more(atlas: Atlas) -> Evidence:
    """Compare the highest with the lowest rate of full fine-tuning."""
    kept = _by_seed(_plain(atlas, "full"), "classics")
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


@register_claim(
    "A learning rate above 1e-4 causes regression, even with LoRA.",
    "a widely read tutorial",
    "against it: LoRA Without Regret 2025",
)
def lora_above_1e_4_regresses(atlas: Atlas) -> Evidence:
    """Look at the first rate above 1e-4, and for the first one that breaks the budget."""
    lora = _plain(atlas, "lora").select(learning_rate=lambda rate: rate > 1.01e-4)
    lost = lora.runs["base_classics"].iloc[0] - _by_seed(lora, "classics")
    first = min(lost.columns)
    broken = [format_rate(rate) for rate in lost if interval(lost[rate])[1] > BUDGET]
    return Evidence(
        seeds=lost[first],
        unit="of the classics lost",
        above=BUDGET,
        holds=f"LoRA at {format_rate(first)} loses more than {_BUDGET} of the classics",
        fails=f"LoRA at {format_rate(first)} loses less than {_BUDGET} of the classics",
        note=f"LoRA begins to lose more than {_BUDGET} at {broken[0]}"
        if broken
        else "no rate of the atlas certainly loses more",
    )


@register_claim(
    "LoRA needs a higher learning rate than full fine-tuning.",
    "LoRA Without Regret 2025: about ten times",
)
def lora_needs_a_higher_rate(atlas: Atlas) -> Evidence:
    """Compare the rates at which the methods first reach the task accuracy, seed by seed."""
    full, lora = (_first_rate(atlas, method) for method in ("full", "lora"))
    times = {seed: lora[seed] / full[seed] for seed in full}
    return Evidence(
        seeds=times,
        unit="times",
        above=1,
        holds=f"LoRA needs a higher rate than full fine-tuning to reach task {_TASK}",
        fails=f"LoRA needs a lower rate than full fine-tuning to reach task {_TASK}",
        note=f"how much higher depends on alpha, here {_only(atlas, 'alpha')}",
    )


def _only(atlas: Atlas, name: str) -> str:
    """Write the values of a field in the plain sweep of LoRA."""
    return ", ".join(f"{value:g}" for value in sorted(set(_plain(atlas, "lora").runs[name])))


def _first_rate(atlas: Atlas, method: str) -> dict[int, float]:
    """Return for each seed the lowest rate that reaches the task accuracy, or lies between."""
    task = _by_seed(_plain(atlas, method), "task")
    return {int(seed): _crossing(row) for seed, row in task.iterrows()}


def _crossing(levels: pd.Series) -> float:
    for (a, low), (b, high) in pairwise(levels.items()):
        if low < TASK <= high:
            part = (TASK - low) / (high - low)
            return float(10 ** (log10(a) + part * (log10(b) - log10(a))))
    return nan


@register_claim(
    "Stopping early keeps more than a lower learning rate.",
    "common advice",
    "against it: Kalajdzievski 2024, arXiv 2401.05605",
)
def stopping_early_beats_a_lower_rate(atlas: Atlas) -> Evidence:
    """Compare the way of one high rate with the ends of all rates, at equal task accuracy."""
    rates, gaps = _stopped(_plain(atlas, "full"))
    high = " or ".join(map(format_rate, rates))
    return Evidence(
        seeds=gaps,
        unit="of the classics",
        above=0,
        holds=f"Stopping {high} early keeps more than a lower rate, at task {_TASK}",
        fails=f"Stopping {high} early keeps less than a lower rate, at task {_TASK}",
        note="full fine-tuning; measured by the questions that points ask",
    )


def _stopped(full: Atlas) -> tuple[list[float], pd.Series]:
    """Return rates that overshoot, and what stopping them keeps beyond a lower rate."""
    ends = full.points[full.points["step"] == full.points["steps"]]
    gaps: dict[float, pd.Series] = {}
    base = _ways(ends.assign(step=ends["learning_rate"]), full)
    for rate, points in full.points.groupby("learning_rate"):
        early, arrived = _ways(points, full), _at_end(points, "task_accuracy") >= TASK
        if arrived.all() and len(gaps) < 4:
            gaps[rate] = early - base
    if len(gaps) < 2:
        raise BadInput("No rate but the first reaches the task accuracy in every seed.")
    higher = dict(list(gaps.items())[1:])  # the first is the lower rate itself
    return list(higher), pd.concat(higher, axis=1).mean(axis=1)


def _at_end(points: pd.DataFrame, name: str) -> pd.Series:
    return points[points["step"] == points["steps"]].set_index("seed")[name]


def _ways(points: pd.DataFrame, full: Atlas) -> pd.Series:
    """Return for each seed what is kept where its way first reaches the task accuracy."""
    starts = full.points[full.points["step"] == 0].groupby("seed").first()
    kept = {}
    for seed, rows in points[points["step"] > 0].groupby("seed"):
        start = starts.loc[seed, ["task_accuracy", "classics_accuracy"]]
        rows = rows.sort_values("step")[["task_accuracy", "classics_accuracy"]]
        kept[seed] = _first_kept([tuple(start), *map(tuple, rows.to_numpy())])
    return pd.Series(kept)


def _first_kept(way: list[Any]) -> float:
    """Return what is kept where a way first reaches the task accuracy, between two places."""
    for (x0, y0), (x1, y1) in pairwise(way):
        if x0 < TASK <= x1:
            return float(y0 + (y1 - y0) * (TASK - x0) / (x1 - x0))
    return nan


# ---------------------------------------------------------------- LoRA


@register_claim("At one learning rate, LoRA learns less.", "Biderman et al. 2024, arXiv 2405.09673")
def lora_learns_less_at_one_rate(atlas: Atlas) -> Evidence:
    """Compare the methods at every rate that both were tried at."""
    return Evidence(
        seeds=-_lora_less_full(atlas, "task"),
        unit="of the task less with LoRA, mean over all rates",
        above=0,
        holds="At one learning rate, LoRA learns less of the task than full fine-tuning",
        fails="At one learning rate, LoRA learns more of the task than full fine-tuning",
    )


@register_claim(
    "At one learning rate, LoRA forgets less.", "Biderman et al. 2024, arXiv 2405.09673"
)
def lora_forgets_less_at_one_rate(atlas: Atlas) -> Evidence:
    """Compare the methods at every rate that both were tried at."""
    return Evidence(
        seeds=_lora_less_full(atlas, "classics"),
        unit="of the classics, LoRA minus full, mean over all rates",
        above=0,
        holds="At one learning rate, LoRA keeps more of the classics than full fine-tuning",
        fails="At one learning rate, LoRA keeps less of the classics than full fine-tuning",
    )


@register_claim(
    "LoRA forgets less than full fine-tuning at the same task accuracy.",
    "Biderman et al. 2024, arXiv 2405.09673: one trade-off curve",
    "PEFT's MetaMathQA benchmark: full fine-tuning forgot less",
)
def lora_keeps_more_at_matched_task(atlas: Atlas) -> Evidence:
    """Compare what is kept where both methods reach one task accuracy, seed by seed."""
    level = _level(atlas, "method")
    at = format_number(level)
    others = [(x, _gap(atlas, x)) for x in (0.5, 0.7) if x < level]
    along = ", ".join(
        f"{format_signed(interval(gap)[0])} at task {format_number(x)}" for x, gap in others
    )
    return Evidence(
        seeds=_gap(atlas, level),
        unit="of the classics, LoRA minus full",
        above=0,
        holds=f"At task {at}, LoRA keeps more of the classics than full fine-tuning",
        fails=f"At task {at}, LoRA keeps less of the classics than full fine-tuning",
        note=along,
    )


def _gap(atlas: Atlas, task: float) -> pd.Series:
    kept = atlas.kept_at(task, "method")
    if not {"lora", "full"} <= set(kept):
        raise BadInput("The atlas has runs of one method only.")
    gap: pd.Series = kept["lora"] - kept["full"]
    return gap


def _level(atlas: Atlas, by: str) -> float:
    """Return the highest task accuracy, up to the usual one, that all reach in every seed."""
    for level in (TASK, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4):
        if atlas.kept_at(level, by).notna().to_numpy().all():
            return level
    raise BadInput(f"There is no task accuracy that every {by} reaches in every seed.")


@register_claim(
    "A smaller rank forgets less.",
    "common advice, also of a widely read tutorial",
)
def smaller_rank_forgets_less_at_one_rate(atlas: Atlas) -> Evidence:
    """Compare the smallest and the largest rank at every rate that both were tried at."""
    lora = _ranks(atlas)
    small, large = _extremes(lora)
    kept, task = (
        _shared(*(_by_seed(lora.select(rank=rank), name) for rank in (small, large))).mean(axis=1)
        for name in ("classics", "task")
    )
    return Evidence(
        seeds=kept,
        unit=f"of the classics, rank {small} minus rank {large}, mean over the rates",
        above=0,
        holds=f"At one learning rate, rank {small} keeps more of the classics than rank {large}",
        fails=f"At one learning rate, rank {small} keeps less of the classics than rank {large}",
        note=f"the task changes by {format_signed(interval(task)[0])}; alpha is the same for all",
    )


@register_claim(
    "A smaller rank forgets less at the same task accuracy.",
    "Biderman et al. 2024, arXiv 2405.09673: one trade-off curve",
)
def smaller_rank_keeps_more_at_matched_task(atlas: Atlas) -> Evidence:
    """Compare the smallest and the largest rank where both reach one task accuracy."""
    small, large = _extremes(_ranks(atlas))
    pair = _ranks(atlas).select(rank=[small, large])
    level = _level(pair, "rank")
    at = format_number(level)
    kept = pair.kept_at(level, "rank")
    return Evidence(
        seeds=kept[small] - kept[large],
        unit=f"of the classics, rank {small} minus rank {large}",
        above=0,
        holds=f"At task {at}, rank {small} keeps more of the classics than {large}",
        fails=f"At task {at}, rank {small} keeps less of the classics than {large}",
    )


def _extremes(lora: Atlas) -> tuple[int, int]:
    known = sorted(set(map(int, lora.runs["rank"])))
    if len(known) < 2:
        raise BadInput("LoRA was tried with one rank only.")
    return known[0], known[-1]


# ---------------------------------------------------------------- replay


@register_claim(
    "Mixing in old text keeps the old capabilities.", "Ibrahim et al. 2024, arXiv 2403.08763"
)
def replay_keeps_more(atlas: Atlas) -> Evidence:
    """Compare a tenth of original text with none."""
    kept = _replayed(atlas, "original", "classics")
    gained = _share(kept, 0.1) - _share(kept, 0)
    return Evidence(
        seeds=gained.mean(axis=1),
        unit="of the classics, with 10 % old text minus without",
        above=0,
        holds=f"A tenth of old text keeps more of the classics, {_at(kept)}",
        fails=f"A tenth of old text keeps less of the classics, {_at(kept)}",
    )


@register_claim("Mixing in old text costs learning.", "a common worry")
def replay_costs_learning(atlas: Atlas) -> Evidence:
    """Compare the largest share of original text with none; the number of steps is the same."""
    task = _replayed(atlas, "original", "task")
    most = max(share for share, _ in task.columns)
    return Evidence(
        seeds=(_share(task, 0) - _share(task, most)).mean(axis=1),
        unit=f"of the task lost, with {100 * most:g} % old text",
        above=0,
        holds=f"With {100 * most:g} % old text less of the task is learned, {_at(task)}",
        fails=f"With {100 * most:g} % old text more of the task is learned, {_at(task)}",
        note="at the same number of steps",
    )


@register_claim(
    "One per cent of old text is enough.",
    "Béthune et al. 2025, arXiv 2502.06042: enough for the pretraining loss",
)
def one_percent_replay_is_enough(atlas: Atlas) -> Evidence:
    """Ask whether one per cent keeps the loss of classics within the budget."""
    kept, loss = (_replayed(atlas, "original", name) for name in ("classics", "language_loss"))
    base = atlas.about["base"]
    saved = [_saved(kept, base["classics"]), _saved(loss, base["language_loss"])]
    return Evidence(
        seeds=_share(kept, 0.01).mean(axis=1) - base["classics"],
        unit="of the classics, change from the base",
        above=-BUDGET,
        holds=f"One per cent of old text keeps the loss of classics below {_BUDGET}",
        fails=f"With one per cent of old text more than {_BUDGET} of the classics is lost",
        note="it saves {} of the classics lost without it, and {} of the language loss".format(
            *(format_number(share) if share > 0 else "none" for share in saved)
        ),
    )


def _saved(levels: pd.DataFrame, base: float) -> float:
    """Return the share of a deterioration that one per cent prevents."""
    none, one = (_share(levels, share).to_numpy().mean() - base for share in (0, 0.01))
    return float(1 - one / none)


@register_claim(
    "Text that the model writes itself can replace the original data.",
    "SSR 2024, arXiv 2403.01244",
)
def self_replay_is_as_good(atlas: Atlas) -> Evidence:
    """Compare both kinds of text at all shares and rates that both were tried at."""
    own, original = (_replayed(atlas, source, "classics") for source in ("self", "original"))
    gap = _shared(own, original).drop(columns=0, level="replay")
    less = interval(gap.mean(axis=1))[2] < 0
    return Evidence(
        seeds=gap.mean(axis=1),
        unit="of the classics, own text minus original",
        above=-BUDGET,
        holds=f"Text that the model writes itself keeps as much as the original, "
        f"within {_BUDGET}{', though less' if less else ''}",
        fails=f"Text that the model writes itself keeps less, by more than {_BUDGET}",
        note=f"full fine-tuning, {_at(own)}, all shares",
    )


def _at(levels: pd.DataFrame) -> str:
    rates = sorted({rate for _, rate in levels.columns})
    return f"at rates from {format_rate(rates[0])} to {format_rate(rates[-1])}"


# ---------------------------------------------------------------- what is lost, and how to tell


@register_claim(
    "The KL to the base, measured on the new task, predicts what is forgotten.",
    "RL's Razor 2025, arXiv 2509.04259",
)
def kl_predicts_forgetting(atlas: Atlas) -> Evidence:
    """Rank all runs of a seed by their KL and by what they lost."""
    runs = atlas.runs.dropna(subset=["kl", "classics"])
    ranks = {
        int(seed): float(stats.spearmanr(rows["kl"], -rows["classics"]).statistic)
        for seed, rows in runs.groupby("seed")
        if len(rows) > 2
    }
    parts = {"without replay": runs[runs["replay"] == 0], "with": runs[runs["replay"] > 0]}
    r2 = [
        f"{name} {format_number(_explained(part))}" for name, part in parts.items() if len(part) > 2
    ]
    return Evidence(
        seeds=ranks,
        unit="rank correlation",
        above=0.8,
        holds="The further a run has moved from its base on the task's text, the more it forgot",
        fails="How far a run has moved on the task's text does not tell well what it forgot",
        note=f"R² of a straight line: {', '.join(r2)}",
    )


def _explained(runs: pd.DataFrame) -> float:
    return float(np.corrcoef(runs["kl"], runs["classics"])[0, 1] ** 2)


@register_claim(
    "Facts are forgotten before skills.",
    "common expectation",
    "of models made smaller, not tuned: Jin et al. 2023, arXiv 2310.04680",
)
def facts_go_before_skills(atlas: Atlas) -> Evidence:
    """Compare what arithmetic loses with what the capabilities made of facts lose."""
    base = atlas.about["base"]
    lost = _partly_lost(atlas)
    facts = [name for name in ("capitals", "opposites", "sounds", "colours") if name in base]
    drops = {
        name: base[name] - lost.groupby("seed")[name].mean() for name in [*facts, "arithmetic"]
    }
    mean = {name: interval(drop)[0] for name, drop in drops.items()}
    return Evidence(
        seeds=sum(drops[name] for name in facts) / len(facts) - drops["arithmetic"],
        unit="lost by facts beyond arithmetic",
        above=0,
        holds="Facts are forgotten before arithmetic, the skill",
        fails="Arithmetic, the skill, is forgotten before facts",
        note="lost: " + ", ".join(f"{name} {format_number(value)}" for name, value in mean.items()),
    )


def _partly_lost(atlas: Atlas) -> pd.DataFrame:
    """Return the runs of plain recipes that lose something and not everything, with their names."""
    runs = atlas.select(replay=0).runs
    runs = runs.assign(recipe=_names(runs))
    lost = (runs["base_classics"] - runs["classics"]).groupby(runs["recipe"]).transform("mean")
    if not (partly := (lost > BUDGET) & (lost < 0.5)).any():
        raise BadInput("No recipe of the atlas loses something and not everything.")
    return runs[partly]


def _names(runs: pd.DataFrame) -> pd.Series:
    """Number the recipe of each run, seed apart."""
    recipes: pd.Series = runs.groupby([n for n in FIELDS if n != "seed"], dropna=False).ngroup()
    return recipes


@register_claim("One seed can mislead.", "published single-run ablations that other seeds reversed")
def one_seed_can_mislead(atlas: Atlas) -> Evidence:
    """Let single runs decide between recipes that truly differ by one to five points."""
    runs = atlas.runs.assign(recipe=_names(atlas.runs))
    levels = runs.pivot_table(index="seed", columns="recipe", values="classics").dropna(axis=1)
    pairs = combinations(levels.to_numpy().T, 2)
    close = [(a, b) for a, b in pairs if 0.01 <= abs(a.mean() - b.mean()) <= 0.05]
    wrong = np.mean([_wrong(a, b) for a, b in close], axis=0) if close else [nan]
    return Evidence(
        seeds=pd.Series(wrong),
        unit="of the pairs",
        above=0.05,
        holds="A single run of each names the wrong recipe in more than one case in twenty",
        fails="A single run of each names the wrong recipe in fewer than one case in twenty",
        note=f"{len(close)} pairs of recipes whose mean classics differ by one to five points",
    )


def _wrong(one: Any, other: Any) -> Any:
    """Return for each run of one recipe the share of the other's runs that reverse the order."""
    apart = one[:, None] - other  # (seeds of one, seeds of the other)
    return (apart * (one.mean() - other.mean()) < 0).mean(axis=1)
