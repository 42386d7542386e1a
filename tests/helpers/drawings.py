"""Scorecards, runs and guards to draw, and what a picture of them shows."""

from types import SimpleNamespace

import numpy as np

from caplab import plots
from caplab.measuring.scorecard import Scorecard
from caplab.training.recipe import Recipe
from caplab.training.run import Point, Run

SIZES = {"capitals": 60, "arithmetic": 60, "how-to": 40, "sounds": 32}


def card(right, sizes=SIZES, subject="pocket", choices=4):
    """Make a scorecard from right and wrong answers; every third answer is less sure."""
    names = tuple(name for name, n in sizes.items() for _ in range(n))
    rows = []
    for i, ok in enumerate(right):
        sure = 1.0 if i % 3 else 0.2
        rows.append((0.0 if ok else -2 - sure, *([-sure] * (choices - 1))))
    sizes_of_choices = ((5,) * choices,) * len(rows)
    return Scorecard(
        subject, "classics", "f00d", names, (0,) * len(rows), tuple(rows), sizes_of_choices
    )


def spread(right, n=192):
    """So many right answers of n, at equal distances."""
    return [(i + 1) * right // n > i * right // n for i in range(n)]


def a_run(classics=(1.0, 0.9, 0.75), task=(0.25, 0.5, 0.95), kl=1.0, steps=60, **changes):
    """Make a run from its two curves; the whole exam agrees with the last point."""
    recipe = changes.pop("recipe", None) or Recipe(steps=60, **changes)
    at = np.linspace(0, steps, len(classics)).round().astype(int).tolist()
    share = dict(zip(SIZES, (1.0, 0.5, 1.0, 1.0), strict=True))
    points = [
        Point(
            step=step,
            task_loss=None,
            task_accuracy=new,
            classics_accuracy=old,
            by_capability={name: old * part for name, part in share.items()},
            smooth=old,
            language_loss=None,
            kl=kl * step / steps,
            learning_rate=1e-3,
            elapsed=0.0,
        )
        for step, old, new in zip(at, classics, task, strict=True)
    ]
    levels = {"before": classics[0], "final": classics[-1]}
    levels |= {"before_task": task[0], "final_task": task[-1]} if task[0] is not None else {}
    cards = {name: card(spread(round(192 * level))) for name, level in levels.items()}
    return Run(
        recipe=recipe,
        points=points,
        cards=cards,
        subject=None,
        base="pocket",
        steps=steps,
        stopped=steps < recipe.steps,
    )


def a_guard(crossed=40, back=None, action="stop", budget=0.05):
    """Make what a guard leaves behind."""
    return SimpleNamespace(
        crossed_at=crossed, restored_step=back, action=action, budget=budget, checks=["looked"]
    )


CROWD = [
    a_run(
        (1.0, 0.99 - 0.01 * i - 0.002 * seed), (0.25, 0.9 + 0.008 * i), seed=seed, learning_rate=r
    )
    for i, r in enumerate([1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3])
    for seed in (0, 1)
]


MANY = [
    a_run((1.0, 1 - lost), (0.25, 0.9), kl=kl, learning_rate=rate, method=method)
    for method, rate, kl, lost in [
        ("full", 1e-4, 0.5, 0.03),
        ("full", 1e-3, 1.0, 0.11),
        ("lora", 1e-3, 2.0, 0.19),
        ("lora", 1e-2, 3.0, 0.32),
    ]
]
PICTURES = {
    "run": lambda: plots.run(a_run()),
    "run with its capabilities": lambda: plots.run(a_run(), capabilities=True),
    "run with ends in one i": lambda: plots.run(a_run((1.0, 0.99), (0.2, 0.98))),
    "run with a guard": lambda: plots.run(a_run(), guard=a_guard()),
    "run rolled back": lambda: plots.run(a_run(), guard=a_guard(back=20, action="rollback")),
    "crowd": lambda: plots.trade_off(CROWD),
    "kl": lambda: plots.kl(MANY),
}


def curve(axes, colour, style="-"):
    """The heights of the line of one colour."""
    (line,) = [
        each for each in axes.lines if each.get_color() == colour and each.get_linestyle() == style
    ]
    return list(line.get_ydata())


def words(picture):
    """All text that the picture shows."""
    drawn = picture.findobj(lambda artist: hasattr(artist, "get_text"))
    return [artist.get_text() for artist in drawn if artist.get_text()]
