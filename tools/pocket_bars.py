"""Measure whether pocket 2 is a laboratory in which nothing breaks by itself.

    python tools/pocket_bars.py             # all conditions: an hour or more on one core; continues
    python tools/pocket_bars.py --quick     # one seed, few conditions: minutes

Every run is written to a file as soon as it is done, under the digest of the base's weights. An
interrupted measurement goes on from there, and another base starts its own. Then
`python tools/pocket2_card.py` writes the tables of the model card.
"""

import argparse
import json
import statistics
import sys
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import caplab as cl  # noqa: E402  (the tool runs from a bare clone, too)
from caplab.models.weights import digest  # noqa: E402
from caplab.questions.exam import Exam  # noqa: E402
from caplab.questions.world2 import jobs  # noqa: E402
from caplab.questions.world2.documents import documents  # noqa: E402

WORLD = ROOT / "caplab" / "assets" / "world2"
STEPS, ROWS = 100, 8
RATES = [float(f"{m}e{k}") for k in (-5, -4, -3, -2) for m in (1, 1.5, 2, 3, 5, 7)]
SEARCHED = {"full": (2e-4, 1e-3), "lora": (5e-4, 3e-3)}  # the good rate lies between these
LORA = {"rank": 32, "alpha": 128}  # with rank 8 it does not learn the job in 100 steps
LEARNED = 0.95
Result = dict[str, Any]


@dataclass(frozen=True)
class Condition:
    """What a run is given: a recipe, and a job or its own old text alone."""

    method: str
    rate: float
    replay: float = 0.0
    text: str = "service"  # a job, or "old"
    steps: int = STEPS

    @property
    def name(self) -> str:
        """Name the condition in the file of results."""
        method = f"lora r{LORA['rank']} a{LORA['alpha']}" if self.method == "lora" else self.method
        return f"{self.text} {method} {self.rate:g} replay {self.replay:g} {self.steps} steps"

    def recipe(self, seed: int) -> cl.Recipe:
        """Return the recipe of one run: a constant rate, without warm-up."""
        return cl.Recipe(
            method=self.method,
            learning_rate=self.rate,
            steps=self.steps,
            batch_size=ROWS,
            replay=self.replay,
            seed=seed,
            **(LORA if self.method == "lora" else {}),
        )


# ---------------------------------------------------------------- one run


@cache
def asked(name: str) -> Exam:
    """Read one of the world's exams."""
    return cl.exam(WORLD / f"{name}.jsonl")


def old_text(seed: int, count: int = STEPS * ROWS) -> list[str]:
    """Write the documents that replay may read."""
    return list(islice(documents(seed, mentioned=True, anybody=True), count))


def task_rows(job: str) -> list[dict[str, str]]:
    """List the rows of a job's training."""
    rows = jobs.rows(job, held_out=False)
    return rows + [row for row in jobs.reference_rows(job) if row not in rows]


def shares(subject: cl.Subject, exam: Exam) -> Result:
    """Score an exam: by capability, by what replay mentions, and twins that are right together."""
    card = cl.score(subject, exam, progress=False)
    marks: dict[str, list[bool]] = {}
    together: dict[str | None, list[bool]] = {}
    for question, right in zip(exam.questions, card.correct, strict=True):
        marks.setdefault(question.capability, []).append(right)
        for tag in question.tags:
            if "mentioned" in tag:
                marks.setdefault(f"{question.capability}, {tag}", []).append(right)
                marks.setdefault(tag, []).append(right)
        if question.capability == "declining":
            together.setdefault(question.group, []).append(right)
    found = {name: statistics.mean(values) for name, values in marks.items()}
    if together:
        found["declining, together"] = statistics.mean(map(all, together.values()))
    return {"all": statistics.mean(card.correct)} | found


def measure(base: cl.Subject, condition: Condition, seed: int) -> Result:
    """Fine-tune once and measure everything."""
    job = condition.text if condition.text != "old" else None
    one = Exam(asked("classics").questions[:1], (), "one question")  # a run looks for itself
    run = cl.fine_tune(
        base,
        condition.recipe(seed),
        task_rows(job) if job else old_text(seed + 1000),
        one,
        replay_data=old_text(seed) if condition.replay else None,
        every=condition.steps,
        on_point=lambda point: None,
    )
    return examined(run.subject, job or "service") | {"seconds": run.seconds}


def examined(subject: cl.Subject, job: str) -> Result:
    """Measure a model on the old capabilities and on a job, by choices and spoken."""
    return {
        "choices": shares(subject, asked("classics").choosing),
        "spoken": shares(subject, asked("spoken")),
        "task": shares(subject, asked(job))["all"],
        "task spoken": shares(subject, asked(f"{job}_spoken"))["all"],
    }


class Results:
    """Every measured run of one base, kept in a file of one line each."""

    def __init__(self, base: cl.Subject, path: Path) -> None:
        self.base, self.path, self.key = base, path, digest(base.model)[:16]
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        rows = [json.loads(line) for line in lines]
        self.rows = {(r["name"], r["seed"]): r for r in rows if r["base"] == self.key}

    def of(self, condition: Condition | None, seed: int = 0, *, only: bool = False) -> Result:
        """Return a measurement, made now if it is not there; `None` is the base itself."""
        name = condition.name if condition else "base"
        if (name, seed) not in self.rows:
            if only:
                raise LookupError(name)
            found = measure(self.base, condition, seed) if condition else self._base()
            row = {"base": self.key, "name": name, "seed": seed} | _rounded(found)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            self.rows[name, seed] = row
        return self.rows[name, seed]

    def _base(self) -> Result:
        found = examined(self.base, "service")
        return found | {f"task {job}": shares(self.base, asked(job))["all"] for job in jobs.JOBS}


def _rounded(found: Result) -> Result:
    """Round to five digits, so that the file stays small."""
    rounded: Result = json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 5))
    return rounded


# ---------------------------------------------------------------- which conditions


def good_rate(results: Results, method: str, seeds: range, *, only: bool = False) -> float:
    """Find the lowest rate of the grid at which the task is learned, as a mean over seeds.

    By halving: a rate that learns is taken to mean that higher ones do, up to the highest asked.
    """

    def learns(rate: float) -> bool:
        runs = (results.of(Condition(method, rate), seed, only=only) for seed in seeds)
        return statistics.mean(run["task"] for run in runs) >= LEARNED

    lowest, highest = SEARCHED[method]
    rates = [rate for rate in RATES if lowest <= rate <= highest]
    place = bisect_left(rates, True, key=learns)
    if place == len(rates):
        raise LookupError(f"No rate up to {rates[-1]:g} teaches the task by {method}.")
    return rates[place]


def conditions(method: str, good: float) -> dict[str, Condition]:
    """Name the conditions of the bars, the good rate's times in front."""
    found = {f"old text, {n} g": Condition(method, n * good, text="old") for n in (1, 2, 6)}
    found |= {f"task, {n:g} g": Condition(method, n * good) for n in (0.05, 0.1, 1, 2, 4, 8)}
    for n in (2, 4, 8):
        for share in (0.1, 0.25):
            name = f"task, {n} g, {share:.0%} replay"
            found[name] = Condition(method, n * good, replay=share)
    return found


QUICK = ("old text, 1 g", "old text, 2 g", "old text, 6 g", "task, 2 g", "task, 4 g", "task, 8 g")
PAIRED = ("task, 2 g", "task, 4 g", "task, 8 g")  # with and without replay: more seeds


def seeds_of(name: str, seeds: range) -> range:
    """Return the seeds of a condition: replay is judged on twice as many."""
    return range(2 * len(seeds)) if name.startswith(PAIRED) and len(seeds) > 1 else seeds


def brief(name: str, runs: list[Result], base: Result) -> str:
    """Sum up a condition in one line, to be read while the others are measured."""
    mean = statistics.mean
    names = [n for n in base["choices"] if "," not in n and "mentioned" not in n and n != "all"]
    lost = {n: mean(base["choices"][n] - run["choices"][n] for run in runs) for n in names}
    worst = max(lost, key=lambda n: lost[n])
    both = [mean(base[how]["all"] - r[how]["all"] for r in runs) for how in ("choices", "spoken")]
    task, said = (mean(run[key] for run in runs) for key in ("task", "task spoken"))
    loss = f"choices {both[0]:+.3f}, {worst} {lost[worst]:+.3f}, spoken {both[1]:+.3f}"
    return f"{name}: task {task:.2f}, spoken {said:.2f}; lost of {loss}"


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "caplab" / "assets" / "pocket2")
    parser.add_argument("--results", type=Path, default=ROOT / "tools" / "pocket2_bars.jsonl")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed, few conditions")
    parser.add_argument("--methods", nargs="+", default=["full", "lora"])
    given = parser.parse_args()
    results = Results(cl.load(str(given.model)), given.results)
    seeds = range(1 if given.quick else given.seeds)
    base = results.of(None)
    print({how: base[how] for how in ("choices", "spoken")}, flush=True)
    for method in given.methods:
        good = good_rate(results, method, seeds)
        print(f"{method}: the good rate is {good:g}", flush=True)
        for name, condition in tqdm(conditions(method, good).items(), disable=None):
            if not given.quick or name in QUICK:
                runs = [results.of(condition, seed) for seed in seeds_of(name, seeds)]
                print(brief(f"{method}, {name}", runs, base), flush=True)


if __name__ == "__main__":
    main()
