"""Scorecards made by hand: what a test of the verdict compares."""

from dataclasses import replace

import numpy as np

from caplab.measuring.scorecard import Scorecard

CLASSICS = {"capitals": 60, "arithmetic": 60, "how-to": 40, "opposites": 40, "sounds": 32}


def card(margins, said=None, sizes=CLASSICS, subject="pocket", fingerprint="f00d", group=()):
    """Make a scorecard from each item's log-odds of the right answer against the best wrong one."""
    said = np.full(len(margins), -0.2) if said is None else said
    answer = tuple(item % 4 for item in range(len(margins)))
    rows = []
    for margin, right, at in zip(margins, said, answer, strict=True):
        row = [right + _preferred(-margin - step, -right) for step in (0.0, 0.5, 1.0)]
        rows.append(tuple(map(float, (*row[:at], right, *row[at:]))))
    return Scorecard(
        subject=subject,
        exam="classics",
        fingerprint=fingerprint,
        capability=tuple(name for name, n in sizes.items() for _ in range(n)),
        answer=answer,
        loglikelihoods=tuple(rows),
        characters=((5, 5, 5, 5),) * len(margins),
        group=tuple(group),
    )


def _preferred(odds, room):
    """Nothing is likelier than certain: what is preferred to the right answer comes close to it."""
    return odds if odds <= 0 else room * odds / (odds + room)


def spoken(right, sizes, **more):
    """Make a scorecard of which only right and wrong is known: written answers."""
    nats = [(0.0, -np.inf) if ok else (-np.inf, 0.0) for ok in right]
    blank = card(np.ones(len(nats)), sizes=sizes, **more)
    known = {"answer": (0,) * len(nats), "characters": ((1, 1),) * len(nats)}
    return replace(blank, loglikelihoods=tuple(nats), **known)


def known(rng, sizes=CLASSICS):
    """Margins of a base that knows its classics well."""
    return rng.normal(6, 2, sum(sizes.values())).clip(min=0.5)


def flipped(margins, items):
    """The same margins, with the answers to some items turned from right to wrong or back."""
    margins = np.array(margins)
    margins[items] *= -1
    return margins


def pair(n, lost=0, gained=0, knew=None, **more):
    """Before and after of one capability of n items: `knew` right, then some lost, some gained."""
    sizes, knew = {"capitals": n}, n - gained if knew is None else knew
    before = np.where(np.arange(n) < knew, 3.0, -3.0)
    after = flipped(before, [*range(lost), *range(knew, knew + gained)])
    return card(before, sizes=sizes, **more), card(0.4 * after, sizes=sizes, **more)
