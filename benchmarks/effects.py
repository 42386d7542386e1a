"""Measure every textbook effect of fine-tuning on a small model, over several seeds.

    python benchmarks/effects.py [--model pocket] [--seeds 5] [--steps 100] [--pictures FOLDER]

No outcome is hoped for: each line says what was found, with a 95 % interval over the seeds
(Student's t, paired by seed; one exam for all). Changes count up for better: a classics change of
-.05 is five questions in a hundred forgotten. Every run is made once and used by all effects. Each
interval stands alone: of twenty that show nothing, one is expected to look as if it did.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ulp
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from datasets import disable_progress_bars
from scipy import stats
from tqdm import tqdm
from transformers import TrainerCallback

import caplab as cl
from caplab.support.text import format_number, format_signed
from caplab.training.recipe import Recipe
from caplab.training.run import Run

FULL = (2e-4, 5e-4, 1e-3, 2e-3, 4e-3)
LORA = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2)
STOPPED = (2e-3, 4e-3)  # full fine-tunings that are also looked at on their way
REPLAY = (0.05, 0.1, 0.25, 0.5)
OWN = (0.1, 0.25)  # shares of text that the model wrote itself
REPLAY_RATE = 2e-3
TARGETS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # task accuracies at which methods are compared
EVERY = 10  # steps between two looks at a run that might be stopped
SMALLEST = ulp(0.0)  # the smallest rate above 0 that floats allow

Place = tuple[float, float]  # task accuracy, classics accuracy
Effect = tuple[str, str]  # what was found in one line, and the table behind it


# ---------------------------------------------------------------- the runs


@dataclass
class Measured:
    """A run, and where stopping it early would have led."""

    run: Run
    path: list[Place]

    @property
    def task(self) -> float:
        """Return the accuracy on the task's exam."""
        assert self.run.final_task
        return self.run.final_task.accuracy

    @property
    def classics(self) -> float:
        """Return the accuracy on all classics."""
        return self.run.final.accuracy

    @property
    def lost(self) -> float:
        """Return how much of that accuracy was lost."""
        return self.run.before.accuracy - self.classics

    @property
    def place(self) -> Place:
        """Return where the run ended."""
        return self.task, self.classics


class Look(TrainerCallback):
    """Ask both exams in full every few steps, which the points of a run do by sample."""

    def __init__(self, base: cl.Subject) -> None:
        self.base = base
        self.path: list[Place] = []

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        """Score the model as it is."""
        if state.global_step % EVERY == 0 and state.global_step < state.max_steps:
            self.path.append(scored(replace(self.base, model=model)))


def scored(subject: cl.Subject) -> Place:
    """Ask both exams."""
    cards = [cl.score(subject, cl.exam(name), progress=False) for name in ("task", "classics")]
    return cards[0].accuracy, cards[1].accuracy


def measure(base: cl.Subject, recipe: Recipe) -> Measured:
    """Run a recipe and score what came of it; the weights are not kept."""
    look = Look(base)
    watched = not recipe.replay and recipe.method == "full" and recipe.learning_rate in STOPPED
    run = cl.fine_tune(
        base,
        recipe,
        every=recipe.steps,
        on_point=lambda _: None,
        callbacks=[look] * watched,
    )
    run.subject = None  # the scorecards are enough
    return Measured(run, look.path)


def plain_recipe(steps: int) -> Recipe:
    """Return what all recipes have in common."""
    return Recipe(steps=steps, learning_rate=REPLAY_RATE, schedule="linear", alpha=16)


def recipes(steps: int) -> list[Recipe]:
    """List all that is run, but for the seeds."""
    plain = plain_recipe(steps)
    return [
        *(plain.change(learning_rate=rate) for rate in (*FULL, SMALLEST)),
        *(plain.change(method="lora", learning_rate=rate) for rate in LORA),
        *(plain.change(replay=share) for share in REPLAY),
        *(plain.change(replay=share, replay_source="self") for share in OWN),
    ]


class Lab:
    """All runs, made once, with the base's place beside them."""

    def __init__(self, base: cl.Subject, seeds: int, steps: int) -> None:
        self.seeds, self.plain = range(seeds), plain_recipe(steps)
        self.base = scored(base)
        wanted = [recipe.change(seed=seed) for seed in self.seeds for recipe in recipes(steps)]
        self.runs = {
            recipe: measure(base, recipe)
            for recipe in tqdm(wanted, "runs", file=sys.stderr, smoothing=0)
        }

    def of(self, **changes: Any) -> list[Measured]:
        """Return the runs of one recipe, one for each seed."""
        recipe = self.plain.change(**changes)
        return [self.runs[recipe.change(seed=seed)] for seed in self.seeds]

    def sweep(self, seed: int, method: str) -> list[Place]:
        """Return where one method leads as its rate rises, from the base on."""
        rates = FULL if method == "full" else LORA
        return [self.base] + [
            self.of(method=method, learning_rate=rate)[seed].place for rate in rates
        ]


# ---------------------------------------------------------------- what is found


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean with its 95 % interval by Student's t."""
    mean = round(fmean(values), 9)  # no -1e-17 where the differences cancel
    if len(values) < 2:
        return mean, -np.inf, np.inf
    reach = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return mean, mean - reach, mean + reach


def written(values: Sequence[float]) -> str:
    """Write a change with its interval: `-.12 (-.15 to -.09)`."""
    mean, low, high = interval(values)
    return (
        f"{format_signed(mean)} ({format_signed(low)} to {format_signed(high)})"
        if np.isfinite(low)
        else format_signed(mean)
    )


def verdict(values: Sequence[float], up: str, down: str) -> str:
    """Say what an interval shows: one of two outcomes, or that it shows neither."""
    _, low, high = interval(values)
    if len(values) < 2:
        return "one seed decides nothing"
    if low == high == 0:
        return "no difference in any seed"
    return up if low > 0 else down if high < 0 else "not decided by these seeds"


def spoken(rate: float) -> str:
    """Write a learning rate as 1e-3."""
    return f"{rate:.0e}".replace("e-0", "e-")


def level(values: Sequence[float]) -> str:
    """Write a mean level."""
    return format_number(fmean(values))


def minus(some: Sequence[Measured], others: Sequence[Measured], what: str) -> list[float]:
    """Return the differences seed by seed."""
    return [getattr(a, what) - getattr(b, what) for a, b in zip(some, others, strict=True)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align a table that is Markdown, too."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


HEAD = ["recipe", "task", "classics", "KL"]


def levels(name: str, runs: Sequence[Measured]) -> list[str]:
    """Write one recipe's line."""
    kl = fmean(each.run.points[-1].kl for each in runs)
    return [name, level([r.task for r in runs]), level([r.classics for r in runs]), f"{kl:.2f}"]


# ---------------------------------------------------------------- the effects


def higher_rate(lab: Lab) -> Effect:
    """Compare each rate with the next, and the highest with the lowest."""
    runs = [lab.of(learning_rate=rate) for rate in FULL]
    steps = ["", *(written(minus(b, a, "classics")) for a, b in pairwise(runs))]
    lines = [
        [*levels(f"full {spoken(rate)}", each), step]
        for rate, each, step in zip(FULL, runs, steps, strict=True)
    ]
    whole = minus(runs[-1], runs[0], "classics")
    said = verdict(whole, "forgets less", "forgets more")
    ends = f"{spoken(FULL[-1])} against {spoken(FULL[0])}"
    return (
        f"{ends}: classics {written(whole)}: {said}",
        table([*HEAD, "classics against the rate before"], lines),
    )


def lora_at_fixed_rate(lab: Lab) -> Effect:
    """Compare the methods at one rate."""
    rows, found = [], []
    for rate in sorted({*FULL} & {*LORA}):
        full, lora = (lab.of(method=m, learning_rate=rate) for m in ("full", "lora"))
        task, classics = minus(lora, full, "task"), minus(lora, full, "classics")
        learns = verdict(task, "LoRA learns more", "LoRA learns less")
        forgets = verdict(classics, "LoRA forgets less", "LoRA forgets more")
        rows.append([spoken(rate), written(task), learns, written(classics), forgets])
        found.append(f"{spoken(rate)}: task {written(task)}, {learns}")
        found[-1] += f"; classics {written(classics)}, {forgets}"
    head = ["rate", "task, LoRA - full", "learning", "classics, LoRA - full", "forgetting"]
    return ". ".join(found), table(head, rows)


def kept_at(path: Sequence[Place], target: float) -> float | None:
    """Return the most of the classics that a way through the plane keeps at a task accuracy.

    Between neighbours on the way it is interpolated; a way that never gets there gives None.
    """
    kept = []
    for (x0, y0), (x1, y1) in pairwise(path):
        if min(x0, x1) <= target <= max(x0, x1):
            kept.append(max(y0, y1) if x0 == x1 else y0 + (y1 - y0) * (target - x0) / (x1 - x0))
    return max(kept, default=None)


def matched(
    lab: Lab, names: tuple[str, str], ways: Callable[[int], tuple[list[Place], list[Place]]]
) -> Effect:
    """Compare two ways of tuning at equal task accuracy, where both get there in every seed."""
    rows, found = [], "no task accuracy that both reach in every seed"
    for target in TARGETS:
        pairs = [[kept_at(way, target) for way in ways(seed)] for seed in lab.seeds]
        if any(kept is None for pair in pairs for kept in pair):
            continue
        ours, theirs = zip(*pairs, strict=True)
        gap = [a - b for a, b in zip(ours, theirs, strict=True)]
        said = verdict(gap, f"{names[0]} keeps more", f"{names[1]} keeps more")
        found = f"at task {format_number(target)}: {written(gap)}: {said}"
        rows.append([format_number(target), level(ours), level(theirs), written(gap), said])
    tops = [min(max(task for task, _ in ways(seed)[at]) for seed in lab.seeds) for at in (0, 1)]
    reach = ", ".join(f"{name} {format_number(top)}" for name, top in zip(names, tops, strict=True))
    head = ["task", *names, "difference", "found"]
    return found, f"{table(head, rows)}\n\ntask accuracy reached in every seed: {reach}"


def full_against_lora(lab: Lab) -> Effect:
    """Compare along the sweep of each method's rate."""
    return matched(lab, ("LoRA", "full"), lambda s: (lab.sweep(s, "lora"), lab.sweep(s, "full")))


def early_stop(lab: Lab) -> Effect:
    """Compare stopping a high rate on its way with training to the end at lower rates."""
    parts = []
    for rate in STOPPED:
        runs = lab.of(learning_rate=rate)

        def ways(seed: int, runs: list[Measured] = runs) -> tuple[list[Place], list[Place]]:
            return [lab.base, *runs[seed].path, runs[seed].place], lab.sweep(seed, "full")

        parts.append(matched(lab, (f"{spoken(rate)}, stopped", "lower rate"), ways))
    return "; ".join(found for found, _ in parts), "\n\n".join(table for _, table in parts)


def replay(lab: Lab) -> Effect:
    """Compare shares and sources of old text with none."""
    none, found = lab.of(), []
    rows = [[*levels(f"full {spoken(REPLAY_RATE)}, no replay", none), *[""] * 4]]
    for share, source in [*((share, "original") for share in REPLAY), *((s, "self") for s in OWN)]:
        runs = lab.of(replay=share, replay_source=source)
        task, classics = minus(runs, none, "task"), minus(runs, none, "classics")
        name = f"{100 * share:g} %{', own texts' * (source == 'self')}"
        kept = verdict(classics, "kept more", "kept less")
        learned = verdict(task, "learned more", "learned less")
        rows.append([*levels(name, runs), written(classics), kept, written(task), learned])
        found.append(f"{name}: {format_signed(fmean(classics))}, {kept}")
    head = [*HEAD, "classics, change", "forgetting", "task, change", "learning"]
    return "; ".join(found), table(head, rows) + (
        "\n\nSteps and batches stay the same: what is replayed takes the place of task examples."
    )


def self_replay(lab: Lab) -> Effect:
    """Compare the model's own texts with the original ones."""
    rows = []
    for share in OWN:
        own, original = (lab.of(replay=share, replay_source=s) for s in ("self", "original"))
        gap = minus(own, original, "classics")
        said = verdict(gap, "own texts keep more", "original texts keep more")
        rows.append([f"{100 * share:g} %", written(gap), said])
    found = "; ".join(f"{share}: {gap}: {said}" for share, gap, said in rows)
    return found, table(["replay", "classics, own - original", "found"], rows)


def kl_predicts(lab: Lab) -> Effect:
    """Correlate the KL on the new task's text with what was lost, run by run."""
    all_runs = [one for recipe, one in lab.runs.items() if recipe.learning_rate > SMALLEST]
    kinds = {
        "all": all_runs,
        "full, no replay": [m for m in all_runs if _plain(m, "full")],
        "LoRA, no replay": [m for m in all_runs if _plain(m, "lora")],
        "replay": [m for m in all_runs if m.run.recipe.replay],
    }
    rows = []
    for name, runs in kinds.items():
        kl, lost = [m.run.points[-1].kl for m in runs], [m.lost for m in runs]
        line, curve = (np.corrcoef(x, lost)[0, 1] ** 2 for x in (kl, np.log(kl)))
        rank = round(stats.spearmanr(kl, lost).statistic, 6)
        rows.append([name, str(len(runs)), *map(format_number, (line, curve, rank))])
    found = "R² " + "; ".join(f"{name}: {line} ({n} runs)" for name, n, line, *_ in rows)
    return found, table(["runs", "n", "R², line", "R², log KL", "rank correlation"], rows)


def _plain(one: Measured, method: str) -> bool:
    return one.run.recipe.method == method and not one.run.recipe.replay


def smallest_rate(lab: Lab) -> Effect:
    """Look for any change at all, bit for bit."""
    runs = [one.run for one in lab.of(learning_rate=SMALLEST)]
    same = sum(run.before.loglikelihoods == run.final.loglikelihoods for run in runs)
    found = f"{same} of {len(runs)} runs kept every log-likelihood, bit for bit"
    return found, f"rate {SMALLEST}: {found}"


def facts_and_skills(lab: Lab) -> Effect:
    """Compare what each capability loses with what arithmetic, the skill, loses."""
    found, parts = [], []
    recipes = {
        f"full {spoken(REPLAY_RATE)}": lab.of(),
        f"LoRA {spoken(LORA[-1])}": lab.of(method="lora", learning_rate=LORA[-1]),
    }
    for name, runs in recipes.items():
        base = runs[0].run.before.by_capability
        drops = {capability: _drops(runs, capability) for capability in base}
        rows, groups = [], dict[str, list[str]]()
        for capability, drop in drops.items():
            gap = [a - b for a, b in zip(drop, drops["arithmetic"], strict=True)]
            said = verdict(gap, "less than arithmetic", "more than arithmetic")
            row = [capability, format_number(base[capability]), written(drop)]
            rows.append(row + (["", ""] if capability == "arithmetic" else [written(gap), said]))
            if capability != "arithmetic":
                groups.setdefault(said, []).append(capability)
        parts.append(table([name, "base", "change", "against arithmetic", "lost"], rows))
        found.append(name + ": " + "; ".join(f"{', '.join(c)}: {g}" for g, c in groups.items()))
    return ". ".join(found), "\n\n".join(parts)


def _drops(runs: Sequence[Measured], capability: str) -> list[float]:
    cards = [(one.run.before.by_capability, one.run.final.by_capability) for one in runs]
    return [after[capability] - before[capability] for before, after in cards]


EFFECTS: dict[str, Callable[[Lab], Effect]] = {
    "Does a higher rate forget more?": higher_rate,
    "Does LoRA, at a fixed rate, learn less and forget less?": lora_at_fixed_rate,
    "At equal task accuracy, what do full fine-tuning and LoRA keep?": full_against_lora,
    "What does replay keep?": replay,
    "Are the model's own texts as good as the original ones?": self_replay,
    "Is stopping early better than a lower rate?": early_stop,
    "Does the KL on the new task predict what is lost?": kl_predicts,
    "Does the smallest rate leave everything as it is?": smallest_rate,
    "Are facts lost sooner than skills?": facts_and_skills,
}


def draw(lab: Lab, folder: Path) -> None:
    """Draw the runs as the lessons do."""
    runs = [one.run for recipe, one in lab.runs.items() if recipe.learning_rate > SMALLEST]
    plain = [run for run in runs if not run.recipe.replay]
    replayed = [
        run
        for run in runs
        if run.recipe.change(replay=0, replay_source="original", seed=0) == lab.plain
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "rates": cl.plots.trade_off(plain),
        "replay": cl.plots.trade_off(replayed),
        "kl": cl.plots.kl(runs),
    }
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(picture.png())


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pictures", type=Path, help="a folder to draw the runs into")
    given = parser.parse_args()
    disable_progress_bars()
    base = cl.load(given.model, device="cpu")
    lab = Lab(base, given.seeds, given.steps)
    print(f"{base}\n{given.seeds} seeds, {given.steps} steps of {lab.plain.batch_size} rows")
    print(f"base: task {format_number(lab.base[0])}, classics {format_number(lab.base[1])}")
    summary = []
    for question, effect in EFFECTS.items():
        found, details = effect(lab)
        print(f"\n## {question}\n\n{details}")
        summary.append([question, found])
    print(f"\n## Found\n\n{table(['question', 'found'], summary)}")
    if given.pictures:
        draw(lab, given.pictures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
