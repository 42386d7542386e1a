"""Draw several runs: what they learned, what they kept, and how far they moved."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from caplab.measuring.scorecard import Scorecard
from caplab.plots.labels import name_dots
from caplab.plots.picture import METHODS, Picture, clipped, on_paper, plain, tick
from caplab.plots.runs import checked_points, from_to
from caplab.support.colours import INK, NEW_WORDS, OLD, PALE, PAPER
from caplab.support.errors import BadInput
from caplab.support.text import format_number, format_rate, join_words

if TYPE_CHECKING:
    from caplab.training.recipe import Recipe
    from caplab.training.run import Run

__all__ = ["kl", "trade_off"]


Runs: TypeAlias = Union["Run", Iterable["Run"]]


@dataclass(frozen=True)
class _Group:
    """The runs of one recipe, which differ only in their seeds."""

    label: str
    recipe: "Recipe | None"  # None for the base, before any training
    seeds: tuple[tuple[float, float], ...]  # (task accuracy, classics accuracy)

    @property
    def mean(self) -> tuple[float, float]:
        return fmean(x for x, _ in self.seeds), fmean(y for _, y in self.seeds)

    def beaten_by(self, other: "_Group") -> bool:
        (x, y), (more, kept) = self.mean, other.mean
        return more >= x and kept >= y and (more, kept) != (x, y)


def trade_off(runs: Runs) -> Picture:
    """Draw what each recipe learned against what it kept, and the frontier of the best.

    Runs of one recipe with different seeds are one large dot at their mean; each small dot is a
    run. The frontier joins the recipes, and the base, that no other surpasses on both counts.
    """
    ended, failed = _ended(runs)
    bases, groups = _bases(ended), _groups_of(ended)
    everyone = [*bases, *groups]
    best = [one for one in everyone if not any(one.beaten_by(other) for other in everyone)]
    notes = ["line: the frontier, what no other recipe surpasses on both counts"]
    notes += ["large dots: means over seeds; small dots: single runs"] * (len(ended) > len(groups))
    picture = Picture(_trade_off_finding(bases, groups, best), 8.0, 6.0, _notes(notes, failed))
    axes = picture.subplots()
    best.sort(key=lambda group: group.mean)
    frontier = zip(*(group.mean for group in best), strict=True)
    axes.plot(*frontier, color=INK, alpha=0.5, linewidth=4, zorder=1)
    for group in everyone:
        _draw_group(axes, group, 1.0 if group in best else 0.75)
    exam = clipped(ended[0].before.exam, 40)
    axes.set(xlabel="task accuracy: learned →", ylabel=f"{plain(exam)} accuracy: kept →")
    axes.margins(0.1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(tick)
    on_paper(axes, "both")
    axes.xaxis.label.set_color(NEW_WORDS)
    axes.yaxis.label.set_color(OLD)
    names = [(*group.mean, group.label, INK if group in best else PALE) for group in everyone]
    name_dots(axes, names)
    return picture


def kl(runs: Runs) -> Picture:
    """Draw how far each run moved from its base on the task's text, and what it lost.

    The KL is in nats per token of held-out text of the new task; no old question is asked for it.
    The line is the least-squares fit; the axis is logarithmic where the values span more than a
    factor of a hundred.
    """
    import numpy as np

    ended, failed = _ended(runs)
    moved = np.array([one.points[-1].kl for one in ended])
    lost = np.array([one.before.accuracy - one.final.accuracy for one in ended])
    if len(ended) < 3 or np.ptp(moved) == 0:
        raise BadInput(f"A line needs three runs or more that moved differently, not {len(ended)}.")
    log = bool(moved.min() > 0 and moved.max() / moved.min() > 100)
    scale = np.log10 if log else np.asarray
    slope, start = np.polyfit(scale(moved), lost, 1)
    explained = _explained(scale(moved), lost)
    notes = [f"line: least squares{' on the logarithm of the KL' * log}"]
    fresh = np.array([not one.recipe.replay for one in ended])
    if 3 <= sum(fresh) < len(ended):
        apart = _explained(scale(moved)[fresh], lost[fresh])
        notes.append(f"the {sum(fresh)} runs without replay alone: R² {format_number(apart)}")
    picture = Picture(_kl_finding(slope, explained, len(ended)), 8.0, 5.2, _notes(notes, failed))
    axes = picture.subplots()
    _draw_fit(axes, ended, moved, lost, lambda x: start + slope * scale(x))
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    return picture


def _explained(x: Any, y: Any) -> float:
    """Return R², the share of y's variance that a line over x explains."""
    import numpy as np

    return float(np.corrcoef(x, y)[0, 1] ** 2) if np.ptp(x) and np.ptp(y) else 0.0


def _draw_fit(axes: Axes, runs: "list[Run]", moved: Any, lost: Any, fit: Any) -> None:
    """Draw each run and the fitted line."""
    import numpy as np

    ends = np.array([moved.min(), moved.max()])
    axes.plot(ends, fit(ends), color=INK, alpha=0.5, linewidth=4)
    for run, x, y in zip(runs, moved, lost, strict=True):
        axes.plot(x, y, **_mark(run.recipe))
    exam = clipped(runs[0].before.exam, 40)
    axes.set(xlabel="KL to the base on the new task, nats per token", ylabel=f"{plain(exam)} lost")
    axes.margins(0.06)
    axes.yaxis.set_major_formatter(tick)
    on_paper(axes, "both")
    axes.xaxis.label.set_color(NEW_WORDS)
    axes.yaxis.label.set_color(OLD)
    kinds = {_kind(run.recipe): _mark(run.recipe) for run in runs}
    if len(kinds) > 1:
        handles = [axes.plot([], [], label=kind, **mark)[0] for kind, mark in kinds.items()]
        axes.legend(handles=handles, frameon=False, labelcolor=INK, fontsize=12)


def _kl_finding(slope: float, explained: float, count: int) -> str:
    """Say how much of the loss the KL explains; a falling line does not predict a loss."""
    words = {0.8: "predicts", 0.5: "partly predicts", 0.0: "hardly predicts"}
    said = next(word for least, word in words.items() if explained >= least)
    said = said if slope > 0 else "does not predict"
    return (
        f"KL to the base on the new task {said} what is lost: "
        f"R² {format_number(explained)} over {count} runs"
    )


def _trade_off_finding(bases: list[_Group], groups: list[_Group], best: list[_Group]) -> str:
    """Name the recipes that no other surpasses on both counts."""
    names = [group.label for group in best if group.recipe]
    if len(groups) == 1:
        (start_x, start_y), (x, y) = bases[0].mean, groups[0].mean
        return f"{names[0]}: {from_to('task', start_x, x)}, {from_to('classics', start_y, y)}"
    most = max(groups, key=lambda group: group.mean)
    return (
        f"{len(names)} of {len(groups)} recipes on the frontier; {most.label} learns most: "
        f"task {format_number(most.mean[0])}, classics {format_number(most.mean[1])}"
    )


def _notes(notes: list[str], failed: "list[Run]") -> str:
    count = len(failed)
    return "\n".join([*notes, *[f"{count} that failed in training: not drawn"] * bool(failed)])


def _ended(runs: Runs) -> "tuple[list[Run], list[Run]]":
    """Separate the runs that ended from those that failed; refuse runs that cannot share axes."""
    given: list[Run] = list(runs) if isinstance(runs, Iterable) else [runs]
    if not given:
        raise BadInput("There is no run to draw. Give a list of what fine_tune returned.")
    for one in given:
        checked_points(one)
        if one.before_task is None:
            raise BadInput("A run was not asked about its task. Give fine_tune a task_exam.")
    if len({one.before.fingerprint for one in given}) > 1:
        exams = join_words(sorted({one.before.exam for one in given}))
        raise BadInput(f"These runs were asked different exams ({exams}): draw them separately.")
    ended = [one for one in given if not one.trouble]
    if not ended:
        raise BadInput(f"All {len(given)} runs failed in training. {given[0].trouble}")
    return ended, [one for one in given if one.trouble]


def _bases(runs: "list[Run]") -> list[_Group]:
    """Return where the runs began: one point for each base."""
    starts = {one.base: _accuracies(one.before_task, one.before) for one in runs}
    return [
        _Group("base" if len(starts) == 1 else name, None, (start,))
        for name, start in starts.items()
    ]


def _accuracies(task: Scorecard | None, classics: Scorecard) -> tuple[float, float]:
    assert task is not None  # `_ended` has checked it
    return task.accuracy, classics.accuracy


def _groups_of(runs: "list[Run]") -> list[_Group]:
    """Group runs by recipe, base and steps made: a run that was stopped is a group of its own."""
    groups: dict[tuple[str, Recipe, int], list[tuple[float, float]]] = {}
    for one in runs:
        key = one.base, one.recipe.change(seed=0), one.steps
        groups.setdefault(key, []).append(_accuracies(one.final_task, one.final))
    labels = _labels(list(groups))
    return [
        _Group(label, recipe, tuple(seeds))
        for label, ((_, recipe, _), seeds) in zip(labels, groups.items(), strict=True)
    ]


def _labels(keys: "list[tuple[str, Recipe, int]]") -> list[str]:
    """Name recipes by the fields in which they differ, or by method and rate if in none."""
    recipes = [recipe for _, recipe, _ in keys]
    apart = {f.name for f in fields(recipes[0]) if len({getattr(r, f.name) for r in recipes}) > 1}
    several = len({base for base, *_ in keys}) > 1
    return [
        f"{base}: " * several
        + _label_of(recipe, apart)
        + f", stopped at {steps}" * (steps < recipe.steps)
        for base, recipe, steps in keys
    ]


def _label_of(recipe: "Recipe", apart: set[str]) -> str:
    """Write the fields in which a recipe differs: `LoRA 5e-3, rank 2, 10 % replay`."""
    head, replay = {"method", "learning_rate"}, {"replay", "replay_source"}
    words = [f"{METHODS[recipe.method]} {format_rate(recipe.learning_rate)}"] * bool(apart & head)
    for name in sorted(apart - head - replay):
        if recipe.method == "lora" or name not in _ADAPTER_FIELDS:
            words.append(f"{name.replace('_', ' ')} {getattr(recipe, name)}")
    if apart & replay and (recipe.replay or not words):
        share = f"{100 * recipe.replay:g} %" if recipe.replay else "no"
        words.append(f"{share} {'self-' * (recipe.replay_source == 'self')}replay")
    return ", ".join(words) or f"{METHODS[recipe.method]} {format_rate(recipe.learning_rate)}"


_ADAPTER_FIELDS = ("rank", "alpha", "target_modules", "dropout")


def _kind(recipe: "Recipe") -> str:
    return METHODS[recipe.method] + ", replay" * (recipe.replay > 0)


def _mark(recipe: "Recipe") -> dict[str, Any]:
    """Return a run's marker: its shape tells the method, its colour whether it replayed."""
    marker, size = ("D", 8) if recipe.method == "lora" else ("o", 10)
    colour = OLD if recipe.replay else INK
    return {"marker": marker, "markersize": size, "color": colour, "linestyle": "none"}


def _draw_group(axes: Axes, group: _Group, alpha: float) -> None:
    """Draw the mean as a large dot and the seeds as small ones, each joined to the mean."""
    x, y = group.mean
    if group.recipe is None:
        # A ring wide enough to be seen around a dot that has not moved.
        ring: dict[str, Any] = {"markerfacecolor": PAPER, "markersize": 16, "mew": 2, "zorder": 1.5}
        axes.plot(x, y, "o", color=INK, **ring)
        return
    mark = _mark(group.recipe)
    for seed in group.seeds if len(group.seeds) > 1 else ():
        axes.plot(*zip((x, y), seed, strict=True), color=mark["color"], alpha=0.8, linewidth=0.7)
        axes.plot(*seed, **mark | {"markersize": 4}, alpha=0.8)
    axes.plot(x, y, **mark, alpha=alpha)
