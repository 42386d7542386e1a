"""The errors that a verdict may make, measured on exams of many sizes and shapes of damage.

A false HELD and a false REGRESSED are both counted at a loss of exactly the budget: a loss a hair
larger gives the same exams.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from simulated_exams import CONFIDENCE, Design, Judge, Outcome, Part, draw

from caplab.measuring.policy import ADVISORY, MUST_KEEP
from caplab.measuring.report import HELD, REGRESSED, Report

if TYPE_CHECKING:
    from caplab.watching.guard import RegressionGuard

PROMISE = 0.025  # half of what is left of a confidence of .95: each side may err so often
FALSE_REGRESSED, FALSE_HELD = "false REGRESSED", "false HELD"
MANY = tuple(range(1, 9))


@dataclass(frozen=True)
class Rate:
    """How often something happened in the exams of one design."""

    table: str  # which table it belongs to
    what: str  # which line of it
    where: str  # the design
    share: float
    exams: int

    @property
    def noise(self) -> float:
        """Return the Monte Carlo error of the share."""
        return math.sqrt(self.share * (1 - self.share) / self.exams)

    @property
    def breach(self) -> bool:
        """Tell a rate above the promise that chance does not explain."""
        noise = math.sqrt(PROMISE * (1 - PROMISE) / self.exams)
        promised = self.table in (FALSE_REGRESSED, FALSE_HELD)
        return promised and self.share > PROMISE + 3 * noise


def regressed(report: Report) -> bool:
    """Tell that any deciding row regressed, and so the whole."""
    return report.verdict == REGRESSED


def held(report: Report) -> bool:
    """Tell that the whole is HELD."""
    return report.verdict == HELD


def first_held(report: Report) -> bool:
    """Tell that the first row is HELD."""
    return report.rows[0].verdict == HELD


def overall_held(report: Report) -> bool:
    """Tell that the overall row is HELD."""
    return report.overall.verdict == HELD


def within_budget(report: Report) -> bool:
    """Tell that a rollback may return here (as `Check.within_budget` of the guard)."""
    return not regressed(report) and all(row.within_budget for row in report.deciding)


# ---------------------------------------------------------------- one row


def one(part: Part) -> Design:
    """Make an exam of one capability: its row, the overall row and the whole are one."""
    return Design((part,), part.budget)


def named(part: Part) -> str:
    """Write the size and the damage of a part down."""
    sizes = f" of {' or '.join(map(str, part.sizes))} questions" if part.sizes != (1,) else ""
    sizes = " of 1 to 8 questions" if part.sizes == MANY else sizes
    shape = {
        f"churn {part.churn:g}": part.churn,
        f"correlation {part.together:g}": part.together,
        f"a group that is hit loses {part.hit:g}": part.hit,
        "only the largest groups are hit": part.lopsided,
        f"{100 * part.silent:.0f} % of it no longer said": part.silent,
    }
    extra = "".join(f", {words}" for words, there in shape.items() if there)
    return f"{part.groups} groups{sizes}, budget {part.budget:g}{extra}"


def single_questions(exams: int) -> Iterator[tuple[Part, int]]:
    """List exams of questions without a group: the damage is spread evenly."""
    for groups in (30, 72, 150, 300):
        for budget in (0.01, 0.02, 0.05, 0.1):
            for churn in (0.0, 0.02, 0.1):
                if groups * churn <= 15:
                    yield Part(groups, loss=budget, churn=churn, budget=budget), exams
    for budget in (0.01, 0.02, 0.05, 0.1):
        yield Part(2000, loss=budget, budget=budget), exams
    yield Part(2000, loss=0.05, churn=0.005, budget=0.05), exams // 20


def grouped_questions(exams: int) -> Iterator[tuple[str, Part, int]]:
    """List exams of groups: damage clustered in them, and concentrated on some of them."""
    clustered, concentrated = "clustered in groups", "concentrated on some groups"
    for groups, sizes in ((40, (4,)), (72, (2,)), (72, (4,)), (72, (1, 8)), (150, (1, 2, 4))):
        for budget in (0.02, 0.05, 0.1) if groups < 150 else (0.05,):
            part = Part(groups, sizes, loss=budget, budget=budget)
            for together in (0.0, 0.3, 0.7, 1.0):
                yield clustered, replace(part, together=together), exams // 5
            yield clustered, replace(part, together=0.7, churn=0.02), exams // 10
            for hit in (0.5, 0.8):
                yield concentrated, replace(part, hit=hit), exams // 5
            if len(sizes) > 1:
                yield concentrated, replace(part, together=1.0, lopsided=True), exams // 5
    for groups, sizes in ((40, (8,)), (72, (8,)), (72, MANY), (150, (4,)), (300, (2,))):
        part = Part(groups, sizes, loss=0.05)
        yield clustered, replace(part, together=0.5), exams // 10
        yield clustered, replace(part, together=1.0), exams // 5
        yield concentrated, replace(part, hit=0.8), exams // 20
    yield clustered, Part(2000, (4,), loss=0.05, together=1.0), exams // 5


def rows_alone(judge: Judge, exams: int) -> Iterator[Rate]:
    """Measure both errors of a single row, at a loss of exactly the budget and at none."""
    cells = [("spread evenly", part, n) for part, n in single_questions(exams)]
    for damage, part, number in [*cells, *grouped_questions(exams)]:
        found = judge.simulate(one(part), number)
        yield at_budget(found, named(part), damage)
        yield Rate(FALSE_HELD, f"a row; {damage}", named(part), found.share(first_held), number)
        if part.churn:
            yield harmless(judge, one(replace(part, loss=0.0)), number, named(part))


def at_budget(found: Outcome, where: str, damage: str) -> Rate:
    """Count REGRESSED among exams in which nothing lost more than its budget."""
    what = f"a loss of exactly the budget; {damage}"
    return Rate(FALSE_REGRESSED, what, where, found.share(regressed), len(found))


def harmless(judge: Judge, design: Design, exams: int, where: str) -> Rate:
    """Count REGRESSED where nothing was lost but what churn loses."""
    share = judge.simulate(design, exams).share(regressed)
    return Rate(FALSE_REGRESSED, "no loss, churn only", where, share, exams)


def no_longer_said(judge: Judge, exams: int) -> Iterator[Rate]:
    """Measure both errors about answers that are still preferred, but no longer said."""
    for groups, budget, silent in ((72, 0.05, 1.0), (150, 0.05, 0.5), (150, 0.1, 1.0)):
        for sizes, together, number in (((1,), 0.0, exams), ((4,), 0.7, exams // 10)):
            part = Part(groups, sizes, budget, 0.0, together, silent=silent, budget=budget)
            found = judge.simulate(one(part), number)
            damage = "some or all of it no longer said"
            yield at_budget(found, named(part), damage)
            held = found.share(first_held)
            yield Rate(FALSE_HELD, f"a row; {damage}", named(part), held, number)


# ---------------------------------------------------------------- several rows


def several(part: Part, count: int, *others: Part, **options: float) -> Design:
    """Make an exam of some capabilities that are alike, and others behind them."""
    return Design((part,) * count + others, part.budget, **options)  # type: ignore[arg-type]


def wholes(judge: Judge, exams: int) -> Iterator[Rate]:
    """Measure exams of several capabilities: all hit, or one."""
    for count, groups, budget in ((2, 72, 0.05), (5, 60, 0.05), (5, 60, 0.1), (12, 40, 0.1)):
        hit = Part(groups, loss=budget, churn=0.01, budget=budget)
        well = replace(hit, loss=0.0)
        where, fewer = f"{count} capabilities of {named(hit)}", exams // (5 if count < 12 else 10)
        found = judge.simulate(several(hit, count), fewer)
        yield at_budget(found, where, "all of 2 to 12 capabilities")
        what = "the overall row; all of 2 to 12 capabilities"
        yield Rate(FALSE_HELD, what, where, found.share(overall_held), fewer)
        yield Rate(
            FALSE_HELD, what.replace("row", "loss: the whole"), where, found.share(held), fewer
        )
        yield harmless(judge, several(well, count), fewer, where)
        yield from _one_of_them(judge, hit, well, count, fewer)


def _one_of_them(judge: Judge, hit: Part, well: Part, count: int, exams: int) -> Iterator[Rate]:
    """Measure exams in which one capability is hit and the others have churn only."""
    where = f"1 of {count} capabilities of {named(hit)}"
    must = replace(hit, tier=MUST_KEEP)
    found = judge.simulate(several(must, 1, *(well,) * (count - 1)), exams)
    yield at_budget(found, where, "one capability of several")
    what = "a must-keep row of several: "
    yield Rate(FALSE_HELD, f"{what}its row", where, found.share(first_held), exams)
    yield Rate(FALSE_HELD, f"{what}the whole", where, found.share(held), exams)
    strict = Design((hit, *(well,) * (count - 1)), hit.budget, strict=True)
    share = judge.simulate(strict, exams).share(held)
    yield Rate(FALSE_HELD, "one capability under --strict: the whole", where, share, exams)
    if count * hit.loss < 0.5:  # the whole loss of the exam stands in one capability
        all_of_it = replace(hit, loss=count * hit.loss, tier=ADVISORY)
        share = judge.simulate(several(all_of_it, 1, *(well,) * (count - 1)), exams).share(held)
        what = "the overall loss stands in one capability: the whole"
        yield Rate(FALSE_HELD, what, where, share, exams)


def mixed(judge: Judge, exams: int) -> Iterator[Rate]:
    """Measure exams of unequal capabilities, policies with several budgets, and both kinds."""
    capitals = Part(200, loss=0.02, budget=0.02, tier=MUST_KEEP, name="capitals")
    sums = Part(60, (2,), loss=0.1, together=0.7, budget=0.1, name="sums")
    small = Part(8, loss=0.05, churn=0.05, name="refunds")
    found = judge.simulate(Design((capitals, sums, small)), exams // 10)
    where = "200 groups at .02, 60 of 2 questions at .1, 8 groups at .05"
    yield at_budget(found, where, "a policy of unequal capabilities")
    what = "a must-keep row of several: the whole"
    yield Rate(FALSE_HELD, what, where, found.share(held), len(found))
    said = Part(100, loss=0.05, kind="said", name="capitals")
    chosen = Part(100, churn=0.01, name="capitals")
    found = judge.simulate(Design((said, chosen)), exams // 5)
    where = "100 groups said, 100 chosen, budget .05"
    yield at_budget(found, where, "what is said, beside what is chosen")
    yield Rate(
        FALSE_HELD,
        "what is said, beside what is chosen: the whole",
        where,
        found.share(held),
        len(found),
    )
    both = judge.simulate(Design((said, replace(chosen, loss=0.05))), exams // 5)
    yield at_budget(both, where, "what is said, beside what is chosen")


# ---------------------------------------------------------------- a guard


def guards(judge: Judge, exams: int) -> Iterator[Rate]:
    """Measure guarded runs that lose exactly the budget from the first look on."""
    one_row = one(Part(150, loss=0.05, churn=0.02))
    five = several(Part(60, loss=0.05, churn=0.01), 5)
    clusters = one(Part(72, (4,), loss=0.05, together=0.7))
    plans = [(one_row, looks, redrawn, 1) for looks in (1, 10, 100) for redrawn in (0.02, 1.0)]
    plans += [
        (one_row, 10, 0.3, 0),
        (five, 10, 0.05, 1),
        (five, 10, 1.0, 1),
        (clusters, 10, 0.05, 1),
    ]
    for design, looks, redrawn, patience in plans:
        runs = max(200, exams // (10 if looks == 1 or design is one_row else 40))
        yield from guarded(judge, design, looks, redrawn, runs, patience)


def guarded(
    judge: Judge, design: Design, looks: int, redrawn: float, runs: int, patience: int
) -> Iterator[Rate]:
    """Count the runs that a guard calls REGRESSED; at each look some groups answer anew."""
    from caplab.watching.guard import RegressionGuard

    guard = RegressionGuard(patience=patience)
    chances = math.ceil(looks / (1 + patience))  # as the guard divides its error (see its head)
    drawn = [draw(judge.rng, runs, part) for part in design.parts]
    lost, kept = np.empty((2, runs, looks), dtype=bool)
    for look in range(looks):
        found = judge.outcome(design, drawn, 1 - (1 - CONFIDENCE) / chances)
        lost[:, look], kept[:, look] = found.where(regressed), found.where(overall_held)
        for old, part in zip(drawn, design.parts, strict=True):
            new = judge.rng.random(old.shape[:2]) < redrawn
            old[new] = draw(judge.rng, runs, part)[new]
    crossed = sum(crosses(guard, looked) for looked in lost) / runs
    parts = f"{len(design.parts)} times " * (len(design.parts) > 1) + named(design.parts[0])
    anew = f"{100 * redrawn:.0f} % of groups anew at each"
    where = f"{looks} look{'s' * (looks > 1)}, {anew}, patience {patience}; {parts}"
    run = "a guarded run of 1 to 100 looks"
    yield Rate(FALSE_REGRESSED, f"a loss of exactly the budget; {run}", where, crossed, runs)
    last = float(kept[:, -1].mean())
    yield Rate(FALSE_HELD, f"{run}: the overall row at its last look", where, last, runs)


# ---------------------------------------------------------------- many checkpoints, many seeds


def watches(judge: Judge, exams: int) -> Iterator[Rate]:
    """Count the watched runs that end although no checkpoint lost more than the budget."""
    for looks, redrawn in ((10, 1.0), (10, 0.05), (40, 1.0)):
        part = Part(150, loss=0.05, churn=0.02)
        yield watched(judge, one(part), looks, redrawn, max(200, exams // 10))


def watched(judge: Judge, design: Design, looks: int, redrawn: float, runs: int) -> Rate:
    """Count the crossings that `caplab watch` calls; at each look some groups answer anew."""
    from caplab.watching.watch import share_of_error

    (part,) = design.parts
    drawn, crossed = draw(judge.rng, runs, part), np.zeros(runs, dtype=bool)
    for look in range(1, looks + 1):
        confidence = 1 - (1 - CONFIDENCE) * share_of_error(look)
        crossed |= judge.outcome(design, [drawn], confidence).where(regressed)
        new = judge.rng.random(drawn.shape[:2]) < redrawn
        drawn[new] = draw(judge.rng, runs, part)[new]
    where = f"{looks} checkpoints, {100 * redrawn:.0f} % of groups anew at each; {named(part)}"
    what = "a loss of exactly the budget; a watch of 10 or 40 checkpoints"
    return Rate(FALSE_REGRESSED, what, where, float(crossed.mean()), runs)


def seeds(judge: Judge, exams: int) -> Iterator[Rate]:
    """Count the verdicts on the mean over models of one recipe: some lose more, some less."""
    losses = {"alike": (0.05, 0.05, 0.05), "unlike": (0.0, 0.05, 0.1), "one of five": (0.25,)}
    losses["one of five"] += (0.0,) * 4
    for name, each in losses.items():
        for together in (0.0, 0.9):
            yield from mean_of(judge, name, each, together, exams)


def mean_of(
    judge: Judge, name: str, losses: tuple[float, ...], together: float, exams: int
) -> Iterator[Rate]:
    """Draw for each fact which models lose it; `together` is how much they lose the same ones."""
    design = one(Part(150, (len(losses),), loss=float(np.mean(losses))))
    shape = (exams, 150)
    fate = np.where(
        judge.rng.random((*shape, 1)) < together,
        judge.rng.random((*shape, 1)),
        judge.rng.random((*shape, len(losses))),
    )
    drawn = np.zeros((*shape, 3), dtype=np.int8)
    drawn[..., 0] = (fate < losses).sum(axis=-1)
    found = judge.outcome(design, [drawn])
    where = f"{len(losses)} models that lose {name}, together {together:g}; 150 groups, budget .05"
    what = "the mean over several models of one recipe"
    yield Rate(FALSE_HELD, what, where, found.share(first_held), exams)
    said = f"a loss of exactly the budget; {what}"
    yield Rate(FALSE_REGRESSED, said, where, found.share(regressed), exams)


@dataclass(frozen=True)
class Look:
    """What a guard reads of a look to tell a crossing."""

    verdict: str
    step: int
    diverged: bool = False


def crosses(guard: "RegressionGuard", looks: Any) -> bool:
    """Ask the real guard whether it acts at any of the looks."""
    guard._begin()
    for step, found in enumerate(looks, start=1):
        guard.checks.append(Look(REGRESSED if found else HELD, step))
        if guard._crossed(last=step == len(looks)):
            return True
    return False


# ---------------------------------------------------------------- all, or a few


def all_rates(judge: Judge, exams: int) -> Iterator[Rate]:
    """Measure everything that is promised."""
    for measure in (rows_alone, no_longer_said, wholes, mixed, guards, watches, seeds):
        yield from measure(judge, exams)


def quick_rates(judge: Judge, exams: int) -> Iterator[Rate]:
    """Measure a few designs, one at least for each rule that could break."""
    spread, clustered = "spread evenly", "clustered in groups"
    tight = Part(40, (4,), loss=0.1, together=1.0, budget=0.1)
    for damage, part in (
        (spread, Part(72, loss=0.05)),
        (spread, Part(110, loss=0.05, churn=0.02)),
        (spread, Part(30, loss=0.02, budget=0.02)),
        (clustered, tight),
        (clustered, replace(tight, churn=0.02)),
        ("concentrated on some groups", replace(tight, sizes=(2,), together=0.0, hit=0.8)),
        ("some or all of it no longer said", Part(72, loss=0.1, silent=0.7, budget=0.1)),
    ):
        found = judge.simulate(one(part), exams)
        yield at_budget(found, named(part), damage)
        yield Rate(FALSE_HELD, f"a row; {damage}", named(part), found.share(first_held), exams)
    yield harmless(judge, one(replace(tight, loss=0.0, churn=0.1)), exams, named(tight))
    many = several(Part(20, loss=0.05, churn=0.2), 8)
    found = judge.simulate(many, exams // 4)
    yield at_budget(found, f"8 times {named(many.parts[0])}", "all of 2 to 12 capabilities")
    hit = Part(40, loss=0.1, budget=0.1)
    yield from _one_of_them(judge, hit, replace(hit, loss=0.0, churn=0.01), 3, exams // 2)
    yield from guarded(judge, one(Part(150, loss=0.05)), 10, 0.3, exams // 4, 1)
    yield watched(judge, one(Part(150, loss=0.05)), 10, 0.3, exams // 4)
    yield from mean_of(judge, "unlike", (0.0, 0.05, 0.1), 0.9, exams)
