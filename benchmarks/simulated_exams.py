"""Exams drawn by chance with a known true loss, and judged by the real `compare`.

A verdict depends on nothing but the changes of the groups: how many of them came out how. So each
set of changes is judged once and remembered, and 20,000 exams are affordable. What is remembered
are `compare`'s own rows, from exams with as many deciding rows; `Report` judges the whole. One exam
of each draw is also judged directly, with all of its questions, and has to agree.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np

from caplab.measuring.compare import compare
from caplab.measuring.evidence import Evidence
from caplab.measuring.policy import ADVISORY, MUST_KEEP, WATCHED, CapabilityRule, Policy
from caplab.measuring.report import Report, Row
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import OVERALL

CONFIDENCE = 0.95
MOST = 8  # questions of a group
_PACK = 3000  # questions that one compare judges, when many sets of changes are judged at once
_DRAWS = 2_000_000  # random numbers at a time
_LIKELY, _UNLIKELY = -0.1, -3.0
_SURE, _BROKEN = (_LIKELY, _UNLIKELY), (_UNLIKELY, _LIKELY)  # the right answer, the wrong one
_SILENT = (-8.0, -9.0)  # the right answer is preferred, and nobody will hear it
_SPOKEN, _MISSED = (0.0, -np.inf), (-np.inf, 0.0)
_STATES = {  # before and after of a question: kept, lost, gained, no longer said
    "chosen": ((_SURE, _SURE), (_SURE, _BROKEN), (_BROKEN, _SURE), (_SURE, _SILENT)),
    "said": ((_SPOKEN, _SPOKEN), (_SPOKEN, _MISSED), (_MISSED, _SPOKEN), (_SPOKEN, _SPOKEN)),
}


@dataclass(frozen=True)
class Part:
    """One capability of an exam, and what a training truly does to it."""

    groups: int
    sizes: tuple[int, ...] = (1,)  # questions of a group, in turn
    loss: float = 0.0
    churn: float = 0.0  # of the questions, lost beyond the loss and gained as often
    together: float = 0.0  # the correlation of questions in one group
    hit: float = 0.0  # only some groups are hit, and lose this share of their questions
    lopsided: bool = False  # only the groups with the most questions are hit
    silent: float = 0.0  # of the losses, the share that is still preferred but no longer said
    wrong: int | None = None  # answered wrong before; None: enough for any gain
    budget: float = 0.05
    tier: str = WATCHED
    kind: str = "chosen"
    name: str = ""

    @property
    def layout(self) -> Any:
        """Return the number of questions of each group."""
        return np.resize(self.sizes, self.groups)


@dataclass(frozen=True)
class Design:
    """An exam of several parts, and how it is judged."""

    parts: tuple[Part, ...]
    budget: float = 0.05
    strict: bool = False

    @property
    def kinds(self) -> list[str]:
        """Name the kinds of answers, each with its own overall row."""
        return [kind for kind in ("said", "chosen") if any(p.kind == kind for p in self.parts)]

    @property
    def names(self) -> list[str]:
        """Name the capability of each part."""
        return [part.name or f"capability {n}" for n, part in enumerate(self.parts)]

    @property
    def policy(self) -> dict[str, CapabilityRule]:
        """Return the rules of each capability."""
        pairs = zip(self.names, self.parts, strict=True)
        return {name: CapabilityRule(part.budget, part.tier) for name, part in pairs}

    @property
    def family(self) -> int:
        """Count the deciding rows; a kind's only capability and its overall row are one."""
        tiers = {kind: [p.tier for p in self.parts if p.kind == kind] for kind in self.kinds}
        deciding = sum(part.tier != ADVISORY for part in self.parts)
        return deciding + sum(len(own) > 1 or own == [ADVISORY] for own in tiers.values())


# ---------------------------------------------------------------- drawing


def draw(rng: Any, exams: int, part: Part) -> Any:
    """Draw how many questions each group loses, gains and no longer says: (exams, groups, 3)."""
    sizes = part.layout
    asked = np.arange(sizes.max()) < sizes[:, None]  # (groups, questions)
    shape = (exams, *asked.shape)
    loss = np.full((exams, part.groups, 1), part.loss)
    if part.lopsided:
        loss = loss * ((sizes == sizes.max()) / (sizes == sizes.max()).mean())[:, None]
    if part.hit:
        loss = part.hit * (rng.random(loss.shape) < loss / part.hit)
    own = rng.random(shape)
    shared = rng.random(loss.shape) < part.together
    fate = np.where(shared, own[..., :1], own) if part.together else own
    lost, gained = fate < loss + part.churn, fate > 1 - part.churn
    if part.wrong is not None:
        wrong = (asked.ravel().cumsum() <= part.wrong).reshape(asked.shape)
        lost, gained = lost & ~wrong, gained & wrong
    silent = lost & (rng.random(shape) < part.silent) if part.silent else np.zeros_like(lost)
    events = (lost & ~silent, gained, silent)
    return np.stack([(event & asked).sum(axis=-1) for event in events], axis=-1).astype(np.int8)


def chunks(exams: int, parts: Iterable[Part]) -> Iterator[int]:
    """Split exams into parts that fit into memory."""
    size = sum(part.groups * max(part.sizes) for part in parts)
    at_once = max(1, _DRAWS // size)
    for start in range(0, exams, at_once):
        yield min(at_once, exams - start)


# ---------------------------------------------------------------- scorecards


def scorecards(parts: Iterable[tuple[str, str, Iterable[Any]]]) -> tuple[Scorecard, Scorecard]:
    """Make both scorecards of capabilities; a group is (size, lost, gained, no longer said)."""
    names: list[str] = []
    group: list[str] = []
    pairs: list[Any] = []
    for name, kind, groups in parts:
        kept, *moved = _STATES[kind]
        for number, (size, *counts) in enumerate(groups):
            states = [s for s, count in zip(moved, counts, strict=True) for _ in range(count)]
            pairs += states + [kept] * (size - len(states))
            names += [name] * size
            group += [f"{name} {kind} {number}"] * size
    shared = {"exam": "simulated", "fingerprint": "none", "capability": tuple(names)}
    shared |= {"answer": (0,) * len(pairs), "characters": ((5, 5),) * len(pairs)}
    old, new = zip(*pairs, strict=True)
    before = Scorecard(subject="base", loglikelihoods=old, group=tuple(group), **shared)  # type: ignore[arg-type]
    return before, replace(before, subject="tuned", loglikelihoods=new)


# ---------------------------------------------------------------- judging


@dataclass(frozen=True)
class Outcome:
    """The reports of many exams: each different one once, and which exam got which."""

    reports: list[Report]
    index: Any  # (exams,)

    def where(self, true: Callable[[Report], bool]) -> Any:
        """Tell for each exam whether something is true of its report."""
        return np.array([true(report) for report in self.reports])[self.index]

    def share(self, true: Callable[[Report], bool]) -> float:
        """Return the share of exams whose report it is true of."""
        return float(self.where(true).mean())

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def joined(cls, outcomes: list["Outcome"]) -> "Outcome":
        """Put the outcomes of several draws together."""
        starts = np.cumsum([0, *(len(found.reports) for found in outcomes)])
        index = [found.index + start for found, start in zip(outcomes, starts, strict=False)]
        return cls([r for found in outcomes for r in found.reports], np.concatenate(index))


_CODES = (MOST + 1) * (2 * MOST + 1) * (MOST + 1)


def _code(sizes: Any, drawn: Any) -> Any:
    """Write what became of a group, questions lost and gained set off, as one number."""
    net = drawn[..., 1].astype(int) - drawn[..., 0]
    return (sizes * (2 * MOST + 1) + net + MOST) * (MOST + 1) + drawn[..., 2]


def _decode(code: Any) -> tuple[Any, Any, Any]:
    """Return size, net change and the number no longer said."""
    rest, silent = np.divmod(code, MOST + 1)
    size, net = np.divmod(rest, 2 * MOST + 1)
    return size, net - MOST, silent


_SIZE, _NET, _UNSAID = _decode(np.arange(_CODES))
_LEVEL = _NET * 840 // np.maximum(_SIZE, 1) * 10_000 + _UNSAID * 840 // np.maximum(_SIZE, 1)


class Judge:
    """Judge exams through `compare`, each set of the groups' changes once."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.known: dict[Any, Row] = {}
        self.exams = self.compared = self.checked = 0
        self.disagreements: list[str] = []

    def simulate(self, design: Design, exams: int, confidence: float = CONFIDENCE) -> Outcome:
        """Draw exams of a design and judge them."""
        found = []
        for some in chunks(exams, design.parts):
            drawn = [draw(self.rng, some, part) for part in design.parts]
            found.append(self.outcome(design, drawn, confidence))
        return Outcome.joined(found)

    def outcome(self, design: Design, drawn: list[Any], confidence: float = CONFIDENCE) -> Outcome:
        """Judge drawn exams; check one of them directly."""
        parts = design.parts
        codes = [_code(part.layout, found) for part, found in zip(parts, drawn, strict=True)]
        rules = (design.family, confidence)
        seen = [
            self._rows(code, part.kind, part.budget, *rules)
            for code, part in zip(codes, parts, strict=True)
        ]
        for kind in design.kinds:
            pairs = zip(codes, parts, strict=True)
            every = np.concatenate([code for code, part in pairs if part.kind == kind], axis=1)
            seen.append(self._rows(every, kind, design.budget, *rules))
        combined = np.stack([index for _, index in seen], axis=1)
        found, index = np.unique(combined, axis=0, return_inverse=True)
        reports = [
            _report(design, [rows[n] for (rows, _), n in zip(seen, row, strict=True)], confidence)
            for row in found
        ]
        result = Outcome(reports, index.ravel())
        self.exams += len(result)
        self._check(design, drawn, confidence, result)
        return result

    def _rows(
        self, codes: Any, kind: str, budget: float, family: int, confidence: float
    ) -> tuple[list[Row], Any]:
        """Return the different rows of exams, and for each exam which it has."""
        present = np.flatnonzero(np.bincount(codes.ravel(), minlength=_CODES))
        column = np.zeros(_CODES, dtype=int)
        column[present] = np.arange(len(present))
        flat = column[codes] + len(present) * np.arange(len(codes))[:, None]
        counts = np.bincount(flat.ravel(), minlength=len(codes) * len(present))
        counts = counts.reshape(len(codes), -1)  # (exams, ways in which a group came out)
        levels, of = np.unique(_LEVEL[present], return_inverse=True)
        merged = counts @ np.eye(len(levels))[of]  # 1 of 2 questions lost is the same as 2 of 4
        found, first, index = np.unique(merged, axis=0, return_index=True, return_inverse=True)
        rules = (kind, budget, family, confidence)
        keys = [(rules, tuple(zip(levels[row > 0], row[row > 0], strict=True))) for row in found]
        missing = {}
        for key, at in zip(keys, first, strict=True):
            if key not in self.known:
                missing[key] = np.repeat(present, counts[at])
        self._learn(missing, rules)
        return [self.known[key] for key in keys], index.ravel()

    def _learn(self, missing: dict[Any, Any], rules: tuple[str, float, int, float]) -> None:
        """Judge sets of changes that were not met before, many in one exam."""
        waiting = list(missing.items())
        while waiting:
            pack = [waiting.pop()]
            size = _SIZE[pack[0][1]].sum()
            while waiting and (size := size + _SIZE[waiting[-1][1]].sum()) <= _PACK:
                pack.append(waiting.pop())
            rows = _judged([codes for _, codes in pack], *rules)
            self.compared += len(rows)
            self.known |= {key: row for (key, _), row in zip(pack, rows, strict=True)}

    def _check(self, design: Design, drawn: list[Any], confidence: float, found: Outcome) -> None:
        """Judge one exam directly, with all of its questions."""
        number = int(self.rng.integers(len(found)))
        parts = [
            (name, part.kind, np.column_stack([part.layout, changes[number]]).tolist())
            for name, part, changes in zip(design.names, design.parts, drawn, strict=True)
        ]
        policy = Policy(design.budget, confidence, design.policy)
        direct = compare(*scorecards(parts), policy=policy, strict=design.strict)
        remembered = found.reports[found.index[number]]
        self.checked += 1
        if _essence(direct) != _essence(remembered):
            self.disagreements.append(f"{_essence(direct)}, remembered {_essence(remembered)}")


def _judged(
    packed: list[Any], kind: str, budget: float, family: int, confidence: float
) -> list[Row]:
    """Judge several sets of changes as capabilities of one exam with `family` deciding rows.

    They are advisory, which changes no interval; capabilities of one question fill up the family.
    The p-value and the groups that are missing decide nothing and cost half of the time: left out.
    """
    names = [f"row {n}" for n in range(len(packed))]
    parts = []
    for name, codes in zip(names, packed, strict=True):
        size, net, unsaid = _decode(codes)
        lost, gained = np.maximum(-net, 0), np.maximum(net, 0)
        parts.append((name, kind, np.column_stack([size, lost, gained, unsaid]).tolist()))
    parts += [(f"filler {n}", kind, [(1, 0, 0, 0)]) for n in range(family - 1)]
    policy = Policy(budget, confidence, {name: CapabilityRule(budget, ADVISORY) for name in names})
    with patch.multiple(Evidence, p_value=1.0, more_groups=lambda *_, **__: None):
        report = compare(*scorecards(parts), policy=policy)
    return list(report.rows[: len(packed)])


def _report(design: Design, rows: list[Row], confidence: float) -> Report:
    """Put remembered rows together, as `compare` would have named them."""
    names = [*design.names, *(OVERALL for _ in design.kinds)]
    tiers = [part.tier for part in design.parts] + [WATCHED] * len(design.kinds)
    dressed = []
    for name, tier, row in zip(names, tiers, rows, strict=True):
        tier = MUST_KEEP if design.strict and tier == WATCHED and name != OVERALL else tier
        dressed.append(replace(row, name=name, capability=name, tier=tier))
    whose = ("base", "tuned", "simulated")
    return Report(tuple(dressed), design.budget, confidence, "accuracy", *whose, design.strict)


def _essence(report: Report) -> list[Any]:
    """Return what must agree: the verdicts, and the numbers behind them."""
    numbers = ("seen_loss", "low", "joint_high")
    rows = [(r.verdict, *(round(getattr(r, name), 6) for name in numbers)) for r in report.rows]
    return [report.verdict, *rows]
