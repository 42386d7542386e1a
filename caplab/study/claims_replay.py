"""Claims about replay: whether old text keeps the old, how much of it, and which."""

import pandas as pd

from caplab.study.atlas import Atlas
from caplab.study.claim_layouts import (
    BUDGET,
    BUDGET_WORDS,
    at_each_rate,
    shared_differences,
)
from caplab.study.findings import Evidence, as_claim
from caplab.study.seeds import interval
from caplab.support.errors import BadInput
from caplab.support.text import format_number, format_percent, format_rate, format_signed

FAMILY = 4  # the claims of this file, whose intervals are corrected together


@as_claim(
    "Mixing in old text keeps the old capabilities.",
    "Ibrahim et al. 2024, arXiv 2403.08763",
    family=FAMILY,
)
def replay_keeps_more(atlas: Atlas) -> Evidence:
    """Compare a tenth of original text with none, at every rate at which something is lost."""
    kept = _replayed(atlas, "original", "classics_accuracy")
    gained = _share(kept, 0.1) - _share(kept, 0)
    lost = atlas.about["base"]["classics_accuracy"] - _share(kept, 0).mean() > BUDGET
    if not lost.any():
        raise BadInput(f"At no rate more than {BUDGET_WORDS} of the classics is lost.")
    return Evidence(
        seeds=at_each_rate(gained.loc[:, lost]),
        unit="of the classics, with 10 % old text minus without",
        above=0,
        holds="A tenth of old text keeps more of the classics",
        fails="A tenth of old text keeps less of the classics",
        note=_elsewhere(gained.loc[:, ~lost]),
    )


def _elsewhere(gained: pd.DataFrame) -> str:
    """Say what replay did at the rates that lose nothing without it."""
    parts = [f"{format_signed(gained[rate].mean())} at {format_rate(rate)}" for rate in gained]
    return f"where little is lost without it: {', '.join(parts)}" if parts else ""


@as_claim("Mixing in old text costs learning.", "a common worry", family=FAMILY)
def replay_costs_learning(atlas: Atlas) -> Evidence:
    """Compare the largest share of original text with none; the number of steps is the same."""
    task = _replayed(atlas, "original", "task_accuracy")
    most = max(share for share, _ in task.columns)
    most_words = f"With {format_percent(most)} old text"
    return Evidence(
        seeds=at_each_rate(_share(task, 0) - _share(task, most)),
        unit=f"of the task lost, with {format_percent(most)} old text",
        above=0,
        holds=f"{most_words} less of the task is learned",
        fails=f"{most_words} more of the task is learned",
        note="at the same number of steps",
    )


@as_claim(
    "One per cent of old text is enough.",
    "Béthune et al. 2025, arXiv 2502.06042: enough for the pretraining loss",
    family=FAMILY,
)
def one_percent_replay_is_enough(atlas: Atlas) -> Evidence:
    """Ask whether one per cent keeps the loss of classics within the budget."""
    names = ("classics_accuracy", "language_loss")
    kept, loss = (_replayed(atlas, "original", name) for name in names)
    start, start_loss = (atlas.about["base"][name] for name in names)
    saved = [_saved(kept, start), _saved(loss, start_loss)]
    return Evidence(
        seeds=at_each_rate(_share(kept, 0.01) - start),
        unit="of the classics, change from the base",
        above=-BUDGET,
        holds=f"One per cent of old text keeps the loss of classics below {BUDGET_WORDS}",
        fails=f"With one per cent of old text more than {BUDGET_WORDS} of the classics is lost",
        note="it saves {} of the classics lost without it, and {} of the language loss".format(
            *(format_number(share) if share > 0 else "none" for share in saved)
        ),
    )


def _saved(levels: pd.DataFrame, base: float) -> float:
    """Return the share of a deterioration that one per cent prevents."""
    none, one = (_share(levels, share).to_numpy().mean() - base for share in (0, 0.01))
    return float(1 - one / none)


@as_claim(
    "Text that the model writes itself can replace the original data.",
    "SSR 2024, arXiv 2403.01244",
    family=FAMILY,
)
def self_replay_is_as_good(atlas: Atlas) -> Evidence:
    """Compare both kinds of text at all shares and rates that both were tried at."""
    own, original = (
        _replayed(atlas, source, "classics_accuracy") for source in ("self", "original")
    )
    gap = shared_differences(own, original).drop(columns=0, level="replay")
    less = interval(gap.mean(axis=1))[2] < 0
    gap.columns = [
        f"with {format_percent(share)} at {format_rate(rate)}" for share, rate in gap.columns
    ]
    return Evidence(
        seeds=gap,
        unit="of the classics, own text minus original",
        above=-BUDGET,
        holds=f"Text that the model writes itself keeps as much as the original, "
        f"within {BUDGET_WORDS}{', though less' if less else ''}",
        fails=f"Text that the model writes itself keeps less, by more than {BUDGET_WORDS}",
        note="full fine-tuning",
    )


def _replayed(atlas: Atlas, source: str, name: str) -> pd.DataFrame:
    """Lay out a level of full fine-tuning: a row for each seed, columns by (share, rate)."""
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
        raise BadInput(f"The atlas has no run with {format_percent(share)} replay.")
    found: pd.DataFrame = levels[share]
    return found
