"""How often a verdict is right, and what it does not promise: the power beside the promise."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from simulated_exams import Design, Judge, Part, scorecards
from verdict_rates import (
    Rate,
    first_held,
    held,
    one,
    regressed,
    several,
    within_budget,
)

import caplab as cl
from caplab.measuring.report import Report

HARMLESS = "harmless training, budget .05: HELD"
TWICE = "twice the budget lost: REGRESSED"
MISSED = "a watched capability lost more: what the whole says"
ROLLBACK = "a capability lost more: a rollback would return there"
SILENT = "answers still preferred, but no longer said: what the verdicts say"


def course(**damage: Any) -> Design:
    """Return the course's exam with its real groups; each capability is hit alike."""
    exam = cl.exam()
    parts = []
    for capability in exam.capabilities:
        own = [q.group or q.prompt for q in exam.questions if q.capability == capability]
        sizes = tuple(Counter(own).values())
        parts.append(Part(len(sizes), sizes, name=capability, **damage))
    return Design(tuple(parts))


def knowing(design: Design, churn: float) -> Design:
    """Let only those questions be gained that pocket answers wrong."""
    card = cl.score(cl.load("pocket"), cl.exam(), progress=False)
    wrong = Counter(n for n, ok in zip(card.capability, card.correct, strict=True) if not ok)
    parts = [replace(part, churn=churn, wrong=wrong[part.name]) for part in design.parts]
    return replace(design, parts=tuple(parts))


def all_powers(judge: Judge, exams: int) -> Iterator[Rate]:
    """Measure the power in all designs."""
    for measure in (harmless, twice, missed, silent):
        yield from measure(judge, exams)


def harmless(judge: Judge, exams: int) -> Iterator[Rate]:
    """Count how often training that loses as much as it gains is HELD."""
    for churn in (0.005, 0.01):
        lost = f"{churn:g} lost"
        plans = [
            ("the course's exam", course(churn=churn)),
            ("the course's exam, gained only where pocket is wrong", knowing(course(), churn)),
        ]
        plans += [(f"{n} groups", one(Part(n, churn=churn))) for n in (72, 110, 150, 300)]
        for where, design in plans:
            share = judge.simulate(design, exams).share(held)
            yield Rate(HARMLESS, f"{lost}, {lost.replace('lost', 'gained')}", where, share, exams)


def twice(judge: Judge, exams: int) -> Iterator[Rate]:
    """Count how often a loss of twice the budget is REGRESSED."""
    for budget in (0.02, 0.05, 0.1):
        for groups in (72, 150, 300, 600):
            part = Part(groups, loss=2 * budget, churn=0.01, budget=budget)
            number = exams if groups < 600 else exams // 5
            share = judge.simulate(one(part), number).share(regressed)
            yield Rate(TWICE, f"budget {budget:g}", f"{groups} groups", share, number)
    share = judge.simulate(course(loss=0.1, churn=0.01), exams // 5).share(regressed)
    yield Rate(TWICE, "budget 0.05", "the course's exam, all of it hit", share, exams // 5)
    share = judge.simulate(capitals_hit(0.1, 0.01), exams // 5).share(regressed)
    yield Rate(TWICE, "budget 0.05", "the course's exam, capitals hit", share, exams // 5)


def capitals_hit(loss: float, churn: float) -> Design:
    """Return the course's exam with a loss in capitals alone."""
    design = course(churn=churn)
    first, *others = design.parts
    return replace(design, parts=(replace(first, loss=loss), *others))


def missed(judge: Judge, exams: int) -> Iterator[Rate]:
    """Count what becomes of a loss in one watched capability, and where a rollback returns to."""
    well = Part(60, churn=0.01)
    large = Part(200, churn=0.01)
    for loss in (0.06, 0.1, 0.15, 0.2, 0.3):
        for where, design in (
            ("capitals, in the course's exam", capitals_hit(loss, 0.01)),
            ("1 of 5 x 60 groups", several(replace(well, loss=loss), 1, *(well,) * 4)),
            ("1 of 3 x 200 groups", several(replace(large, loss=loss), 1, *(large,) * 2)),
        ):
            found = judge.simulate(design, exams // 10)
            what = f"lost {loss:g}"
            for name, true in (("HELD", held), ("REGRESSED", regressed)):
                yield Rate(MISSED, what, f"{where}: {name}", found.share(true), len(found))
            yield Rate(ROLLBACK, what, where, found.share(within_budget), len(found))


def silent(judge: Judge, exams: int) -> Iterator[Rate]:
    """Count the verdicts on answers that are no longer said."""
    for groups in (72, 150, 300):
        for loss in (0.05, 0.1, 0.2):
            part = Part(groups, loss=loss, silent=1.0)
            found = judge.simulate(one(part), exams)
            for name, true in (
                ("row HELD", first_held),
                ("whole HELD", held),
                ("REGRESSED", regressed),
            ):
                yield Rate(
                    SILENT, f"{groups} groups", f"lost {loss:g}: {name}", found.share(true), exams
                )


# ---------------------------------------------------------------- the examples that began it


def examples(judge: Judge, exams: int) -> Iterator[str]:
    """Judge again what version 0.1 got wrong."""
    from caplab.watching.gate import EXIT_CODES

    for groups, olds in ((30, (50, 39, 19)), (60, (27, 16, 6.5))):
        shares = []
        for loss in (0.021, 0.03, 0.05):
            part = Part(groups, loss=loss, budget=0.02)
            shares.append(100 * judge.simulate(one(part), exams).share(held))
        losses = f"{groups} questions, budget .02, a true loss of .021, .03, .05"
        now = ", ".join(f"{share:.3g}" for share in shares)
        yield f"{losses}: HELD in {now} of 100 (0.1: {', '.join(map(str, olds))})"
    intact = [(f"intact {n}", "chosen", [(1, 0, 0, 0)] * 60) for n in range(5)]
    refunds = ("refunds", "chosen", [(1, int(n < 6), 0, 0) for n in range(8)])
    report: Report = cl.compare(*scorecards([*intact, refunds]))
    code = EXIT_CODES[report.verdict]
    small = "5 capabilities of 60 intact, refunds lose 6 of 8"
    yield f"{small}: {report.verdict}, exit {code} (0.1: 0)"
    share = judge.simulate(capitals_hit(0.1, 0.0), exams).share(held)
    hit = "capitals truly at -.10 in the course's exam"
    yield f"{hit}: exit 0 in {100 * share:.3g} of 100 (0.1: 61)"
    for loss, old in ((0.0, "8.5"), (0.02, "up to 20")):
        facts = Part(15, (4,), loss=loss, churn=0.05, together=1.0, budget=0.02)
        share = judge.simulate(one(facts), exams).share(regressed)
        truth = f"15 facts x 4 phrasings that move together, a true loss of {loss:g} at budget .02"
        yield f"{truth}: REGRESSED in {100 * share:.3g} of 100 (0.1: {old})"
