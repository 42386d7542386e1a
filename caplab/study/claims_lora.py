"""Claims about LoRA: against full fine-tuning, and one rank against another."""

import pandas as pd

from caplab.study.atlas import Atlas
from caplab.study.claim_layouts import (
    LEARNED,
    TASK,
    at_each_rate,
    by_seed_and_rate,
    learned_by_both,
    plain_sweep,
    shared_differences,
)
from caplab.study.findings import Evidence, as_claim
from caplab.study.seeds import interval
from caplab.support.errors import BadInput
from caplab.support.text import format_number, format_signed

FAMILY = 5  # the claims of this file, whose intervals are corrected together
_WHERE_BOTH = f"the rates at which both reach task {format_number(LEARNED)}"


@as_claim(
    "At one learning rate, LoRA learns less.",
    "Biderman et al. 2024, arXiv 2405.09673",
    family=FAMILY,
)
def lora_learns_less_at_one_rate(atlas: Atlas) -> Evidence:
    """Compare the methods at every rate at which both learned."""
    return Evidence(
        seeds=at_each_rate(-_lora_minus_full(atlas, "task_accuracy")),
        unit="of the task less with LoRA",
        above=0,
        holds="LoRA learns less of the task than full fine-tuning",
        fails="LoRA learns more of the task than full fine-tuning",
        note=_WHERE_BOTH,
    )


@as_claim(
    "At one learning rate, LoRA forgets less.",
    "Biderman et al. 2024, arXiv 2405.09673",
    family=FAMILY,
)
def lora_forgets_less_at_one_rate(atlas: Atlas) -> Evidence:
    """Compare the methods at every rate at which both learned."""
    return Evidence(
        seeds=at_each_rate(_lora_minus_full(atlas, "classics_accuracy")),
        unit="of the classics, LoRA minus full",
        above=0,
        holds="LoRA keeps more of the classics than full fine-tuning",
        fails="LoRA keeps less of the classics than full fine-tuning",
        note=_WHERE_BOTH,
    )


@as_claim(
    "LoRA forgets less than full fine-tuning at the same task accuracy.",
    "Biderman et al. 2024, arXiv 2405.09673: one trade-off curve",
    "PEFT's MetaMathQA benchmark: full fine-tuning forgot less",
    family=FAMILY,
)
def lora_keeps_more_at_matched_task(atlas: Atlas) -> Evidence:
    """Compare what is kept where both methods reach one task accuracy, seed by seed."""
    if set(atlas.runs["method"]) != {"lora", "full"}:
        raise BadInput("The atlas has runs of one method only.")
    return Evidence(
        seeds=_gaps_at_task(atlas, "method", "lora", "full"),
        unit="of the classics, LoRA minus full",
        above=0,
        holds="LoRA keeps more of the classics than full fine-tuning",
        fails="LoRA keeps less of the classics than full fine-tuning",
    )


def _gaps_at_task(atlas: Atlas, by: str, one: object, other: object) -> pd.DataFrame:
    """Return for each seed what one group keeps beyond another, at all levels both reach."""
    kept = {level: atlas.kept_at(level, by) for level in (0.5, 0.7, TASK)}
    gaps = {
        f"at task {format_number(level)}": groups[one] - groups[other]
        for level, groups in kept.items()
        if groups[[one, other]].notna().to_numpy().all()
    }
    if not gaps:
        raise BadInput(f"There is no task accuracy that every {by} reaches in every seed.")
    return pd.DataFrame(gaps)


@as_claim(
    "A smaller rank forgets less.",
    "common advice, also of a widely read tutorial",
    family=FAMILY,
)
def smaller_rank_forgets_less_at_one_rate(atlas: Atlas) -> Evidence:
    """Compare the smallest and the largest rank at every rate at which both learned."""
    lora = _ranks(atlas)
    small, large = _extremes(lora)
    parts = [lora.select(rank=rank) for rank in (small, large)]
    rates = learned_by_both(*parts)
    kept, task = (
        shared_differences(*(by_seed_and_rate(part, name) for part in parts))[rates]
        for name in ("classics_accuracy", "task_accuracy")
    )
    learned = format_signed(interval(task.mean(axis=1))[0])
    return Evidence(
        seeds=at_each_rate(kept),
        unit=f"of the classics, rank {small} minus rank {large}",
        above=0,
        holds=f"Rank {small} keeps more of the classics than rank {large}",
        fails=f"Rank {small} keeps less of the classics than rank {large}",
        note=f"{_WHERE_BOTH}; the task changes by {learned}; alpha is the same for all",
    )


@as_claim(
    "A smaller rank forgets less at the same task accuracy.",
    "Biderman et al. 2024, arXiv 2405.09673: one trade-off curve",
    family=FAMILY,
)
def smaller_rank_keeps_more_at_matched_task(atlas: Atlas) -> Evidence:
    """Compare the smallest and the largest rank where both reach one task accuracy."""
    lora = _ranks(atlas)
    small, large = _extremes(lora)
    return Evidence(
        seeds=_gaps_at_task(lora.select(rank=[small, large]), "rank", small, large),
        unit=f"of the classics, rank {small} minus rank {large}",
        above=0,
        holds=f"Rank {small} keeps more of the classics than rank {large}",
        fails=f"Rank {small} keeps less of the classics than rank {large}",
    )


def _extremes(lora: Atlas) -> tuple[int, int]:
    """Return the smallest and the largest rank."""
    known = sorted(set(map(int, lora.runs["rank"])))
    if len(known) < 2:
        raise BadInput("LoRA was tried with one rank only.")
    return known[0], known[-1]


def _lora_minus_full(atlas: Atlas, name: str) -> pd.DataFrame:
    """Return LoRA's level minus full fine-tuning's, at the rates at which both learned."""
    parts = [plain_sweep(atlas, method) for method in ("lora", "full")]
    rates = learned_by_both(*parts)
    return shared_differences(*(by_seed_and_rate(part, name) for part in parts))[rates]


def _ranks(atlas: Atlas) -> Atlas:
    """Return the runs of LoRA that differ in rank, learning rate and seed alone."""
    return atlas.sweeps("rank").select(method="lora")
