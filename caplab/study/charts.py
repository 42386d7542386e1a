"""Draw what many runs showed: means over seeds with their intervals, in the style of `plots`.

The line tells the method: solid for full fine-tuning, dashed for LoRA. The colour tells what is
measured: NEW is the task, OLD the classics.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from caplab.plots.labels import name_ends
from caplab.plots.picture import METHODS, Picture, on_paper, tick
from caplab.study.atlas import Atlas
from caplab.study.league import League
from caplab.study.league import league as make_league
from caplab.study.matching import check_task
from caplab.support.colours import INK, NEW, NEW_WORDS, OLD, PALE
from caplab.support.errors import BadInput, require_type
from caplab.support.text import format_number, format_percent, format_rate

__all__ = ["dose", "frontier", "league", "ranks", "rates"]

_LINES: dict[str, dict[str, Any]] = {
    "full": {"linestyle": "-", "marker": "o"},
    "lora": {"linestyle": "--", "marker": "D"},
}
_TITLES = {"full": "full fine-tuning", "lora": "LoRA"}
_NARROWEST = 0.2  # of an axis: points of a hundredth are not to look like cliffs
_SOURCES = {"original": "original text", "self": "own text"}
_DOSES = "solid line: original text; dotted: own text"
_BAND = "band: 95 % interval over {} seeds (Student's t)"


def rates(atlas: Atlas, *, task: float = 0.9) -> Picture:
    """Draw task and classics against the learning rate, a panel for each method.

    The title says from which rate on a method learns the task, and what it keeps there.
    """
    _check(atlas, task)
    found = {method: _swept(atlas, method) for method in METHODS if _has(atlas, method)}
    note = f"{_about(atlas)}\n{_BAND.format(len(atlas.seeds))}; all questions asked at the end"
    title = _sentence([_first_rate(method, table, task) for method, table in found.items()])
    picture = Picture(title, 10.0, 4.8, note)
    panels = picture.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (method, table) in zip(panels, found.items(), strict=True):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda rate, _: format_rate(rate))
        axes.set_xlabel("learning rate")
        axes.set_title(_TITLES[method], color=INK, size=13, loc="left")
        _both(axes, table["learning_rate"], table, _LINES[method])
    panels[0].set_ylabel("accuracy")
    name_ends(panels[-1], _ends(table))
    return picture


def dose(atlas: Atlas, *, learning_rate: float | None = None, method: str = "full") -> Picture:
    """Draw task and classics against the share of old text, original and written by the model.

    All at one learning rate: by default the highest that was tried with replay, where there is most
    to lose.
    """
    _check(atlas)
    replayed = atlas.select(method=method, replay=lambda share: share > 0)
    rate = learning_rate or max(replayed.runs["learning_rate"])
    runs = atlas.select(method=method, learning_rate=rate)
    tables = _doses(runs)
    note = f"{_about(atlas)}, {METHODS[method]} {format_rate(rate)}; {_DOSES}\n"
    picture = Picture(_dose_finding(tables), 8.0, 5.2, note + _BAND.format(len(runs.seeds)))
    axes = picture.subplots()
    names: list[tuple[float, str, str]] = []
    shares = sorted({share for table in tables.values() for share in table["replay"]})
    for source, table in tables.items():
        line = {"linestyle": ":", "marker": "s"} if source == "self" else _LINES["full"]
        _both(axes, [shares.index(share) for share in table["replay"]], table, line)
        task, classics = _ends(table)
        names += [task] * (not names) + [(classics[0], f"classics, {_SOURCES[source]}", OLD)]
    axes.set_xticks(range(len(shares)), [format_percent(share) for share in shares])
    axes.set(xlabel="share of old text in training", ylabel="accuracy")
    name_ends(axes, names)
    return picture


def ranks(atlas: Atlas, *, learning_rate: float | None = None, task: float = 0.9) -> Picture:
    """Draw LoRA's ranks twice: at one learning rate, and where each reaches one task accuracy.

    The rate is by default the highest that every rank was tried at; the task accuracy is lowered
    until every rank reaches it in every seed.
    """
    _check(atlas, task)
    lora = atlas.select(method="lora", target_modules="all-linear", replay=0)
    known = sorted(set(map(int, lora.runs["rank"])))
    rate = learning_rate or _common_rate(lora, known)
    fixed = lora.select(learning_rate=rate).summary("rank")
    level, equal = _reached_by_all(lora, "rank", task)
    note = f"{_about(atlas)}; alpha {_values(lora, 'alpha')}\n{_BAND.format(len(lora.seeds))}"
    picture = Picture(_ranks_finding(rate, fixed, level, equal), 10.0, 4.8, note)
    left, right = picture.subplots(1, 2, sharey=True)
    _both(left, [known.index(rank) for rank in fixed["rank"]], fixed, _LINES["lora"])
    _band(
        right,
        [known.index(r) for r in equal["rank"]],
        equal,
        "classics_accuracy",
        OLD,
        _LINES["lora"],
    )
    for axes, title in (
        (left, f"at a rate of {format_rate(rate)}"),
        (right, f"at task {format_number(level)}"),
    ):
        axes.set_title(title, color=INK, size=13, loc="left")
        axes.set_xticks(range(len(known)), known)
        axes.set_xlabel("rank")
        on_paper(axes, "both")
    left.set_ylabel("accuracy")
    name_ends(left, _ends(fixed))
    name_ends(right, _ends(equal)[1:])
    return picture


def frontier(atlas: Atlas, by: str = "method", *, task: float = 0.9) -> Picture:
    """Draw what each method keeps of the classics, at equal task accuracy.

    The title compares them at one task accuracy, or at the highest below it that all reach.
    """
    _check(atlas, task)
    table = atlas.frontier(by)
    if table.empty:
        raise BadInput(f"No task accuracy from .3 on is reached in every seed, by any {by}.")
    note = f"{_about(atlas)}; learning rates from low to high, read off at equal task accuracy"
    note += f"\n{_BAND.format(len(atlas.seeds))}; drawn as far as every seed gets"
    picture = Picture(_frontier_finding(table, by, task), 8.0, 5.2, note)
    axes, names = picture.subplots(), []
    shades = [INK, OLD, NEW, PALE]
    for index, (group, rows) in enumerate(table.groupby(by)):
        colour = INK if by == "method" else shades[index % len(shades)]
        line = _LINES.get(str(group), _LINES["full"]) | {"marker": "None", "linewidth": 3}
        _band(axes, rows["task_accuracy"], rows, "classics_accuracy", colour, line)
        names.append((rows["classics_accuracy"].iloc[-1], _group(by, group), colour))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, high - _NARROWEST), high)
    axes.set(xlabel="task accuracy: learned →", ylabel="classics accuracy: kept →")
    on_paper(axes, "both")
    axes.xaxis.label.set_color(NEW_WORDS)
    axes.yaxis.label.set_color(OLD)
    axes.yaxis.set_major_formatter(tick)
    axes.xaxis.set_major_formatter(tick)
    name_ends(axes, names)
    return picture


def league(found: League | Atlas, *, task: float = 0.9) -> Picture:
    """Draw what each remedy keeps at equal skill, the best on top, with its interval and cost."""
    table = make_league(found, task) if isinstance(found, Atlas) else found
    require_type(table, League, "league draws a League, such as cl.league(atlas) makes")
    rows = table.table.iloc[::-1].reset_index(drop=True)  # the best is drawn on top
    chosen, judged = table.seeds
    note = (
        f"bar: 95 % interval over {judged} seeds; settings were chosen on {chosen} others, "
        "with the task at the level that the title names"
    )
    picture = Picture(table.sentence, 9.0, 1.6 + 0.42 * len(rows), note)
    axes = picture.subplots()
    axes.hlines(
        rows.index, rows["low"].clip(0, 1), rows["high"].clip(0, 1), OLD, linewidth=5, alpha=0.8
    )
    axes.plot(rows["mean"], rows.index, "o", color=OLD, markersize=9)
    axes.set_yticks(rows.index, [f"{r.remedy}  ({r.setting})" for r in rows.itertuples()])
    words = {"classics_accuracy": "accuracy", "said": "said right", "chosen": "chosen right"}
    what = f"classics kept at the end: {words.get(table.kept, table.kept)}"
    axes.set(xlabel=what, ylim=(-0.7, len(rows) - 0.3))
    axes.xaxis.set_major_formatter(tick)
    on_paper(axes, "x")
    return picture


def _check(atlas: Atlas, task: float = 0.9) -> None:
    """Refuse what cannot be drawn."""
    require_type(atlas, Atlas, "Give an Atlas, which is what sweep returns and atlas() opens")
    check_task(task)


# ---------------------------------------------------------------- lines and bands


def _both(axes: Axes, x: Any, table: pd.DataFrame, line: dict[str, Any]) -> None:
    """Draw the task and the classics over the same values of x."""
    _band(axes, x, table, "task_accuracy", NEW, line)
    _band(axes, x, table, "classics_accuracy", OLD, line)
    axes.yaxis.set_major_formatter(tick)
    on_paper(axes, "both")


def _band(
    axes: Axes, x: Any, table: pd.DataFrame, name: str, colour: str, line: dict[str, Any]
) -> None:
    """Draw a mean with the interval around it."""
    style: dict[str, Any] = {"color": colour, "linewidth": 2.5, "markersize": 6} | line
    axes.plot(x, table[name], **style)
    low, high = table[f"{name}_low"], table[f"{name}_high"]
    # Pale inside, so that bands can overlap, with edges that everybody can see.
    inside, edge = to_rgba(colour, 0.15), to_rgba(colour, 0.9)
    axes.fill_between(x, low, high, facecolor=inside, edgecolor=edge, linewidth=0.7)


def _ends(table: pd.DataFrame) -> list[tuple[float, str, str]]:
    """Return height, words and colour of the names at the right ends of both lines."""
    last = table.iloc[-1]
    task = (last["task_accuracy"], "task", NEW_WORDS)
    return [task, (last["classics_accuracy"], "classics", OLD)]


# ---------------------------------------------------------------- what is drawn


def _has(atlas: Atlas, method: str) -> bool:
    return method in set(atlas.runs["method"])


def _swept(atlas: Atlas, method: str) -> pd.DataFrame:
    """Return one method's plain sweep of the learning rate."""
    return atlas.sweeps("method").select(method=method).summary("learning_rate")


def _doses(runs: Atlas) -> dict[str, pd.DataFrame]:
    """Return a table for each source of old text; each begins with the runs without any."""
    plain = runs.sweeps("replay").select(replay=0).summary("replay")
    tables = {}
    for source in sorted(set(runs.runs["replay_source"])):
        mixed = runs.select(replay=lambda share: share > 0, replay_source=source)
        tables[source] = pd.concat([plain, mixed.summary("replay")], ignore_index=True)
    return tables


def _common_rate(lora: Atlas, known: Sequence[int]) -> float:
    """Return the highest rate that every rank was tried at."""
    tried = [set(lora.select(rank=rank).runs["learning_rate"]) for rank in known]
    if shared := set.intersection(*tried):
        return float(max(shared))
    raise BadInput("No learning rate was tried with every rank: select ranks that share one.")


def _reached_by_all(atlas: Atlas, by: str, task: float) -> tuple[float, pd.DataFrame]:
    """Lower the task accuracy until every group reaches it in every seed."""
    for level in (round(task - 0.05 * down, 2) for down in range(int(task / 0.05))):
        table = atlas.matched(level, by)
        if table["classics_accuracy"].notna().all():
            return level, table
    raise BadInput(f"There is no task accuracy that every {by} reaches in every seed.")


def _values(atlas: Atlas, name: str) -> str:
    """List the values of a numeric field."""
    return ", ".join(f"{value:g}" for value in sorted(set(atlas.runs[name])))


def _about(atlas: Atlas) -> str:
    """Say for the note whose runs these are and how long they were."""
    return f"{atlas.about.get('subject', 'a model')}, {_values(atlas, 'steps')} steps"


# ---------------------------------------------------------------- in words


def _first_rate(method: str, table: pd.DataFrame, task: float) -> str:
    """Say from which rate on a method learns the task, and what it keeps there."""
    learned, name = table[table["task_accuracy"] >= task], METHODS[method]
    if learned.empty:
        most = format_number(table["task_accuracy"].max())
        return f"{name} never reaches task {format_number(task)} (at most {most})"
    first = learned.iloc[0]
    rate, kept = format_rate(first["learning_rate"]), format_number(first["classics_accuracy"])
    return f"{name} learns the task from {rate} on and keeps {kept} of the classics there"


def _sentence(parts: Sequence[str]) -> str:
    """Join parts with semicolons, and begin with a capital."""
    text = "; ".join(parts)
    return text[0].upper() + text[1:]


def _dose_finding(tables: dict[str, pd.DataFrame]) -> str:
    """Tell what is kept without old text, with the usual tenth, and with the most there was."""
    parts = []
    for source, table in tables.items():
        kept = dict(zip(table["replay"], table["classics_accuracy"], strict=True))
        shares = [share for share in kept if share in (0.1, max(kept))]
        some = [f"{format_number(kept[share])} with {format_percent(share)}" for share in shares]
        parts.append(f"{_SOURCES[source]} {', '.join(some)}")
    none = format_number(next(iter(tables.values()))["classics_accuracy"].iloc[0])
    return f"Classics kept: {none} without old text; {'; '.join(parts)}"


def _ranks_finding(rate: float, fixed: pd.DataFrame, level: float, equal: pd.DataFrame) -> str:
    names = f"ranks {fixed['rank'].iloc[0]:g} and {fixed['rank'].iloc[-1]:g}"
    one, two = (
        " and ".join(format_number(table["classics_accuracy"].iloc[row]) for row in (0, -1))
        for table in (fixed, equal)
    )
    at = f"at task {format_number(level)} they keep {two}"
    return _sentence([f"at a rate of {format_rate(rate)}, {names} keep {one} of the classics", at])


def _frontier_finding(table: pd.DataFrame, by: str, task: float) -> str:
    """Compare the groups at a task accuracy that as many as possible reach."""
    counts = table[table["task_accuracy"] <= task].groupby("task_accuracy")[by].count()
    shared = counts[counts == counts.max()].index.max()
    rows = table[table["task_accuracy"] == shared]
    rows = rows.sort_values("classics_accuracy", ascending=False)
    levels = zip(rows[by], rows["classics_accuracy"], strict=True)
    kept = [f"{_group(by, group)} {format_number(level)}" for group, level in levels]
    level = format_number(shared)
    return f"Kept of the classics at an equal task accuracy of {level}: {', '.join(kept)}"


def _group(by: str, value: Any) -> str:
    return METHODS.get(str(value), f"{by} {value}")
