"""Claims about LoRA: against full fine-tuning, and one rank against another."""

import pandas as pd

from caplab.study.atlas import Atlas
from caplab.study.claim_layouts import TASK, by_seed_and_rate, plain_sweep, shared_differences
from caplab.study.findings import Evidence, as_claim
from caplab.study.seeds import interval
from caplab.support.errors import BadInput
from caplab.support.text import format_number, format_signed


@as_claim("At one learning rate, LoRA learns less.", "Biderman et al. 2024, arXiv 2405.09673")
def lora_learns_less_at_one_rate(atlas: Atlas) -> Evidence:
    """Compare the methods at every rate that both were tried at."""
    return Evidence(
        seeds=-_lora_minus_full(atlas, "task_accuracy"),
        unit="of the task less with LoRA, mean over all rates",
        above=0,
        holds="At one learning rate, LoRA learns less of the task than full fine-tuning",
        fails="At one learning rate, LoRA learns more of the task than full fine-tuning",
    )


@as_claim("At one learning rate, LoRA forgets less.", "Biderman et al. 2024, arXiv 2405.09673")
def lora_forgets_less_at_one_rate(atlas: Atlas) -> Evidence:
    """Compare the methods at every rate that both were tried at."""
    return Evidence(
        seeds=_lora_minus_full(atlas, "classics_accuracy"),
        unit="of the classics, LoRA minus full, mean over all rates",
        above=0,
        holds="At one learning rate, LoRA keeps more of the classics than full fine-tuning",
        fails="At one learning rate, LoRA keeps less of the classics than full fine-tuning",
    )


@as_claim(
    "LoRA forgets less than full fine-tuning at the same task accuracy.",
    "Biderman et al. 2024, arXiv 2405.09673: one trade-off curve",
    "PEFT's MetaMathQA benchmark: full fine-tuning forgot less",
)
def lora_keeps_more_at_matched_task(atlas: Atlas) -> Evidence:
    """Compare what is kept where both methods reach one task accuracy, seed by seed."""
    level = _common_level(atlas, "method")
    at = format_number(level)
    gaps = {lower: _gap(atlas, lower) for lower in (0.5, 0.7) if lower < level}
    along = ", ".join(
        f"{format_signed(interval(gap)[0])} at task {format_number(lower)}"
        for lower, gap in gaps.items()
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
    """Return for each seed what LoRA keeps beyond full fine-tuning at one task accuracy."""
    kept = atlas.kept_at(task, "method")
    if not {"lora", "full"} <= set(kept):
        raise BadInput("The atlas has runs of one method only.")
    gap: pd.Series = kept["lora"] - kept["full"]
    return gap


def _common_level(atlas: Atlas, by: str) -> float:
    """Return the highest task accuracy, up to the usual one, that every group always reaches."""
    for level in (TASK, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4):
        if atlas.kept_at(level, by).notna().to_numpy().all():
            return level
    raise BadInput(f"There is no task accuracy that every {by} reaches in every seed.")


@as_claim(
    "A smaller rank forgets less.",
    "common advice, also of a widely read tutorial",
)
def smaller_rank_forgets_less_at_one_rate(atlas: Atlas) -> Evidence:
    """Compare the smallest and the largest rank at every rate that both were tried at."""
    lora = _ranks(atlas)
    small, large = _extremes(lora)
    kept, task = (
        shared_differences(
            *(by_seed_and_rate(lora.select(rank=rank), name) for rank in (small, large))
        ).mean(axis=1)
        for name in ("classics_accuracy", "task_accuracy")
    )
    return Evidence(
        seeds=kept,
        unit=f"of the classics, rank {small} minus rank {large}, mean over the rates",
        above=0,
        holds=f"At one learning rate, rank {small} keeps more of the classics than rank {large}",
        fails=f"At one learning rate, rank {small} keeps less of the classics than rank {large}",
        note=f"the task changes by {format_signed(interval(task)[0])}; alpha is the same for all",
    )


@as_claim(
    "A smaller rank forgets less at the same task accuracy.",
    "Biderman et al. 2024, arXiv 2405.09673: one trade-off curve",
)
def smaller_rank_keeps_more_at_matched_task(atlas: Atlas) -> Evidence:
    """Compare the smallest and the largest rank where both reach one task accuracy."""
    lora = _ranks(atlas)
    small, large = _extremes(lora)
    pair = lora.select(rank=[small, large])
    level = _common_level(pair, "rank")
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
    """Return the smallest and the largest rank."""
    known = sorted(set(map(int, lora.runs["rank"])))
    if len(known) < 2:
        raise BadInput("LoRA was tried with one rank only.")
    return known[0], known[-1]


def _lora_minus_full(atlas: Atlas, name: str) -> pd.Series:
    """Return LoRA's level minus full fine-tuning's, the mean over the rates that both have."""
    lora, full = (by_seed_and_rate(plain_sweep(atlas, method), name) for method in ("lora", "full"))
    return shared_differences(lora, full).mean(axis=1)


def _ranks(atlas: Atlas) -> Atlas:
    """Return the runs of LoRA that differ in rank, learning rate and seed alone."""
    return atlas.sweeps("rank").select(method="lora")
