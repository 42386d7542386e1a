"""Teach the second pocket three jobs in turn, with and without remedies, over seeds.

    python benchmarks/in_turn.py            # 25 runs of half a minute each on one quiet core
    python benchmarks/in_turn.py --table    # what is saved, as Markdown

A run is saved in caplab/assets/turns.json as soon as it is done, and the next call goes on from
there. caplab/study/turns.py says what a run is.
"""

import argparse
import json
import sys
from collections.abc import Iterator

import caplab as cl
from caplab.study.seeds import interval
from caplab.study.turns import CONDITIONS, JOBS, SAVED, measure, saved, table
from caplab.support.files import write_atomically
from caplab.support.machine import one_thread


def lines() -> Iterator[str]:
    """Write what is said at the end of all jobs as Markdown, with intervals over the seeds."""
    columns = ["classics", *JOBS]
    yield f"| condition | seeds | {' | '.join(columns)} |"
    yield "| --- " * (len(columns) + 2) + "|"
    every = table()
    for condition in CONDITIONS:
        rows = every[(every.condition == condition) & (every.state == f"after {JOBS[-1]}")]
        cells = []
        for name in columns if len(rows) else ():
            mean, low, high = interval(rows[name])
            cells.append(f"{mean:.2f} ({max(0, low):.2f} to {min(1, high):.2f})")
        yield f"| {condition} | {len(rows)} | {' | '.join(cells)} |"


def main() -> int:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="only show what is saved")
    options = parser.parse_args()
    done = {(run["condition"], run["seed"]) for run in saved()} if SAVED.exists() else set()
    wanted = [(condition, seed) for seed in range(options.seeds) for condition in CONDITIONS]
    missing = [] if options.table else [each for each in wanted if each not in done]
    base = cl.load("pocket2") if missing else None
    for condition, seed in missing:
        with one_thread():
            run = measure(base, condition, seed)
        kept = [*(saved() if SAVED.exists() else ()), run]
        write_atomically(SAVED, json.dumps(kept, indent=1) + "\n")
        print(f"seed {seed}, {condition}: done in {run['seconds']} s", flush=True)
    print(*lines(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
