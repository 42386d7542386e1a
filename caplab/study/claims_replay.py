"""Claims about replay: whether old text keeps the old, how much of it, and which."""

import pandas as pd

from caplab.study.atlas import Atlas
from caplab.study.claim_layouts import BUDGET, BUDGET_WORDS, shared_differences
from caplab.study.findings import Evidence, as_claim
from caplab.study.seeds import interval
from caplab.support.errors import BadInput
from caplab.support.text import format_number, format_percent, format_rate


@as_claim("Mixing in old text keeps the old capabilities.", "Ibrahim et al. 2024, arXiv 2403.08763")
def replay_keeps_more(atlas: Atlas) -> Evidence:
    """Compare a tenth of original text with none."""
    kept = _replayed(atlas, "original", "classics_accuracy")
    gained = _share(kept, 0.1) - _share(kept, 0)
    return Evidence(
        seeds=gained.mean(axis=1),
        unit="of the classics, with 10 % old text minus without",
        above=0,
        holds=f"A tenth of old text keeps more of the classics, {_at_rates(kept)}",
        fails=f"A tenth of old text keeps less of the classics, {_at_rates(kept)}",
    )


@as_claim("Mixing in old text costs learning.", "a common worry")
def replay_costs_learning(atlas: Atlas) -> Evidence:
    """Compare the largest share of original text with none; the number of steps is the same."""
    task = _replayed(atlas, "original", "task_accuracy")
    most = max(share for share, _ in task.columns)
    most_words = f"With {format_percent(most)} old text"
    return Evidence(
        seeds=(_share(task, 0) - _share(task, most)).mean(axis=1),
        unit=f"of the task lost, with {format_percent(most)} old text",
        above=0,
        holds=f"{most_words} less of the task is learned, {_at_rates(task)}",
        fails=f"{most_words} more of the task is learned, {_at_rates(task)}",
        note="at the same number of steps",
    )


@as_claim(
    "One per cent of old text is enough.",
    "Béthune et al. 2025, arXiv 2502.06042: enough for the pretraining loss",
)
def one_percent_replay_is_enough(atlas: Atlas) -> Evidence:
    """Ask whether one per cent keeps the loss of classics within the budget."""
    names = ("classics_accuracy", "language_loss")
    kept, loss = (_replayed(atlas, "original", name) for name in names)
    start, start_loss = (atlas.about["base"][name] for name in names)
    saved = [_saved(kept, start), _saved(loss, start_loss)]
    return Evidence(
        seeds=_share(kept, 0.01).mean(axis=1) - start,
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
)
def self_replay_is_as_good(atlas: Atlas) -> Evidence:
    """Compare both kinds of text at all shares and rates that both were tried at."""
    own, original = (
        _replayed(atlas, source, "classics_accuracy") for source in ("self", "original")
    )
    gap = shared_differences(own, original).drop(columns=0, level="replay")
    less = interval(gap.mean(axis=1))[2] < 0
    return Evidence(
        seeds=gap.mean(axis=1),
        unit="of the classics, own text minus original",
        above=-BUDGET,
        holds=f"Text that the model writes itself keeps as much as the original, "
        f"within {BUDGET_WORDS}{', though less' if less else ''}",
        fails=f"Text that the model writes itself keeps less, by more than {BUDGET_WORDS}",
        note=f"full fine-tuning, {_at_rates(own)}, all shares",
    )


def _at_rates(levels: pd.DataFrame) -> str:
    """Say over which rates a mean is taken."""
    rates = sorted({rate for _, rate in levels.columns})
    return f"at rates from {format_rate(rates[0])} to {format_rate(rates[-1])}"


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
