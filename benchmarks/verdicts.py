"""Measure how often a verdict is wrong, by exams drawn by chance and judged by the real `compare`.

    python benchmarks/verdicts.py [--exams 20000] [--quick] [--all] [--seed 0]

The promise, at 95 %: a loss beyond the budget is called HELD in at most 2.5 % of exams, and
anything is called REGRESSED in at most 2.5 % where nothing lost more than its budget. A rate that
is above that by more than three Monte Carlo errors is a bug: it is printed first, and the exit code
is 1. So is a remembered verdict that comes out differently when judged directly. Beside the promise
stands the power: how often the verdict is right. With `--all` every design is printed.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: the time is that of one core

from simulated_exams import Judge
from verdict_power import all_powers, examples
from verdict_rates import PROMISE, Rate, all_rates, quick_rates

QUICK = 2000  # exams of most designs


def breaches(rates: Iterable[Rate], judge: Judge) -> list[str]:
    """List what must not be: rates above the promise, and remembered verdicts that are wrong."""
    found = [
        f"BREACH: {rate.table} in {rate.share:.4f} +- {rate.noise:.4f} of {rate.exams} exams, "
        f"promised {PROMISE}: {rate.what}; {rate.where}"
        for rate in rates
        if rate.breach
    ]
    return found + [f"BREACH: judged directly {words}" for words in judge.disagreements]


def worst(rates: Iterable[Rate]) -> list[str]:
    """Write a table of the promise: for each line of it the worst of its designs."""
    lines = ["| error | where | worst rate | designs | exams | the worst design |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    groups: dict[tuple[str, str], list[Rate]] = {}
    for rate in rates:
        groups.setdefault((rate.table, rate.what), []).append(rate)
    for (table, what), own in sorted(groups.items()):
        top = max(own, key=lambda rate: rate.share)
        exams = f"{sum(rate.exams for rate in own):,}"
        share = f"{100 * top.share:.2f} ± {100 * top.noise:.2f} %"
        lines.append(f"| {table} | {what} | {share} | {len(own)} | {exams} | {top.where} |")
    return lines


def pivot(rates: Iterable[Rate]) -> list[str]:
    """Write the power: a table for each question, in per cent."""
    tables: dict[str, dict[str, dict[str, Rate]]] = {}
    for rate in rates:
        tables.setdefault(rate.table, {}).setdefault(rate.where, {})[rate.what] = rate
    lines = []
    for table, rows in tables.items():
        columns = list(dict.fromkeys(what for row in rows.values() for what in row))
        noise = max(rate.noise for row in rows.values() for rate in row.values())
        lines += ["", f"| {table} (each ± {100 * noise:.1f} or less) | {' | '.join(columns)} |"]
        lines.append("| --- |" + " --- |" * len(columns))
        for where, row in rows.items():
            cells = [f"{100 * row[what].share:.1f} %" if what in row else "" for what in columns]
            lines.append(f"| {where} | {' | '.join(cells)} |")
    return lines


def every(rates: Iterable[Rate]) -> list[str]:
    """Write every design of the promise down."""
    lines = ["", "| error | where | design | rate | exams |", "| --- | --- | --- | --- | --- |"]
    for rate in sorted(rates, key=lambda rate: (rate.table, rate.what)):
        share = f"{100 * rate.share:.2f} ± {100 * rate.noise:.2f} %"
        lines.append(f"| {rate.table} | {rate.what} | {rate.where} | {share} | {rate.exams:,} |")
    return lines


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exams", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true", help="a few designs, under 20 seconds")
    parser.add_argument("--all", action="store_true", help="print every design")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    start, judge = time.process_time(), Judge(given.seed)
    if given.quick:
        rates, powers, said = list(quick_rates(judge, QUICK)), [], []
    else:
        rates = list(all_rates(judge, given.exams))
        powers = list(all_powers(judge, given.exams))
        said = list(examples(judge, given.exams))
    broken = breaches(rates, judge)
    print("\n".join(broken or [f"No breach: every rate is within 3 errors of {PROMISE}."]), "\n")
    print(
        "\n".join([*worst(rates), *pivot(powers), "", *said, *(every(rates) if given.all else [])])
    )
    counts = f"{judge.exams:,} exams, {judge.compared:,} different rows judged by compare"
    checked = f"{judge.checked:,} exams judged directly as well"
    print(f"\n{counts}, {checked}; {time.process_time() - start:.0f} processor seconds")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
