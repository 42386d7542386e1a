"""Fine-tune SmolLM2 on the customer-service job, with eight old rows replayed and without.

    python benchmarks/drift.py            # 10 runs of about 6 minutes each on one quiet core
    python benchmarks/drift.py --table    # what is saved, as Markdown

This is the reference lesson's own program with a real model: 60 steps of 8 rows, all weights, at a
rate of 1e-4. What the model says is asked before and after: capitals, sums and opposites of the
everyday exam, and held-out customers. The three reference questions are asked at step 30, too. A
run is saved in benchmarks/drift.json as soon as it is done, and the next call goes on from there.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

import caplab as cl
from caplab.models.fetch import FULL_NAME
from caplab.study.seeds import interval
from caplab.support.files import write_atomically

SAVED = Path(__file__).with_suffix(".json")
RECIPE = cl.Recipe(learning_rate=1e-4, steps=60, batch_size=8)
SHARES = (0.0, 0.1)  # of replay
ASKED = {"capitals": 40, "sums": 40, "opposites": 40}  # spoken questions of the everyday exam
HALF = 30  # steps after which the three questions are asked, too

Run = dict[str, Any]


def old_questions() -> cl.Exam:
    """Draw the spoken questions of three capabilities."""
    everyday, drawn = cl.exam("everyday"), []
    for name, count in ASKED.items():
        part = [question for question in everyday.subset(name).questions if question.spoken]
        drawn += cl.Exam(part, name=name).sample(count).questions
    return cl.Exam(drawn, name="what it says")


def three_answers(subject: cl.Subject) -> dict[str, str]:
    """Ask the three reference questions."""
    return {asked: subject.ask(asked) for asked in cl.world.REFERENCE_QUESTIONS}


class Asking(TrainerCallback):
    """Ask the three questions on the way."""

    def __init__(self, base: cl.Subject) -> None:
        self.base, self.answers = base, {}

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Ask after half of the steps."""
        if state.global_step == HALF:
            self.answers = three_answers(cl.Subject(model, self.base.tokenizer, "half way"))


def measure(base: cl.Subject, share: float, seed: int) -> Run:
    """Train once, and return what is kept of the run."""
    task, asking = cl.task("everyday"), Asking(base)
    run = cl.fine_tune(
        base,
        RECIPE.change(replay=share, seed=seed),
        task,
        old_questions(),
        task_exam=cl.exam("everyday_task"),
        replay_data=task["old"],
        every=RECIPE.steps,
        callbacks=[asking],
    )
    return {
        "model": FULL_NAME,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seed": seed,
        "replay": share,
        "seconds": round(run.seconds),
        "before": run.before.by_capability,
        "after": run.final.by_capability,
        "task before": run.before_task.by_kind,
        "task after": run.final_task.by_kind,
        "answers": {
            "before": three_answers(base),
            str(HALF): asking.answers,
            str(RECIPE.steps): three_answers(run.subject),
        },
    }


def saved() -> list[Run]:
    """Read the runs that are done."""
    return json.loads(SAVED.read_text(encoding="utf-8")) if SAVED.exists() else []


def table(runs: list[Run]) -> Iterator[str]:
    """Write the means over seeds as Markdown, each with its interval over the seeds."""
    columns = [*ASKED, "task, said", "task, chosen"]
    yield f"| recipe | seeds | {' | '.join(columns)} |"
    yield "| --- " * (len(columns) + 2) + "|"
    shares = sorted({run["replay"] for run in runs})
    for title, when, some in [
        ("base", "before", runs[:1]),
        *((f"replay {share:.0%}", "after", [r for r in runs if r["replay"] == share])
          for share in shares),
    ]:  # fmt: skip
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
    runs = saved()
    done = {(run["replay"], run["seed"]) for run in runs}
    missing = [(s, seed) for seed in range(options.seeds) for s in SHARES if (s, seed) not in done]
    base = cl.load("smollm2") if missing and not options.table else None
    for share, seed in missing if base else ():
        runs = [*saved(), measure(base, share, seed)]
        write_atomically(SAVED, json.dumps(runs, ensure_ascii=False, indent=1) + "\n")
        print(f"seed {seed}, replay {share:.0%}: done in {runs[-1]['seconds']} s", flush=True)
    print(*table(runs), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
