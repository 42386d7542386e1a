"""Fine-tune SmolLM2 on the customer-service job, without old rows and with eight, over seeds.

    python benchmarks/drift.py            # 10 runs of about 6 minutes each on one quiet core
    python benchmarks/drift.py --table    # what is saved, as Markdown

What the model says is asked before and after: capitals, sums and opposites of the everyday exam,
and held-out customers. A run is saved in caplab/assets/drift.json as soon as it is done, and the
next call goes on from there. caplab/study/drift.py says what a run is.
"""

import argparse
import json
import sys
from collections.abc import Iterator

import caplab as cl
from caplab.study.drift import ASKED, SAVED, SHARES, Run, measure, saved
from caplab.study.seeds import interval
from caplab.support.files import write_atomically


def table(runs: list[Run]) -> Iterator[str]:
    """Write the means over seeds as Markdown, each with its interval over the seeds."""
    columns = [*ASKED, "task, said", "task, chosen"]
    yield f"| recipe | seeds | {' | '.join(columns)} |"
    yield "| --- " * (len(columns) + 2) + "|"
    parts = [("before", "before", runs[:1])]
    for share in SHARES:
        some = [run for run in runs if run["replay"] == share]
        parts.append((f"replay {share:.0%}", "after", some))
    for title, when, some in parts:
        levels = [run[when] | run[f"task {when}"] for run in some]
        cells = [spread([each[name] for each in levels]) for name in (*ASKED, "said", "chosen")]
        yield f"| {title} | {'' if when == 'before' else len(some)} | {' | '.join(cells)} |"


def spread(values: list[float]) -> str:
    """Write a mean, and over several seeds its interval."""
    mean, low, high = interval(values)
    ends = f" ({max(0, low):.2f} to {min(1, high):.2f})" if len(values) > 1 else ""
    return f"{mean:.2f}{ends}"


def main() -> int:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="only show what is saved")
    options = parser.parse_args()
    done = {(run["replay"], run["seed"]) for run in saved()}
    wanted = [(share, seed) for seed in range(options.seeds) for share in SHARES]
    missing = [] if options.table else [each for each in wanted if each not in done]
    base = cl.load("smollm2") if missing else None
    for share, seed in missing:
        run = measure(base, share, seed)
        write_atomically(SAVED, json.dumps([*saved(), run], ensure_ascii=False, indent=1) + "\n")
        print(f"seed {seed}, replay {share:.0%}: done in {run['seconds']} s", flush=True)
    print(*table(saved()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
