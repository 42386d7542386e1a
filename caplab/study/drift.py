"""What a real model says before and after it learns the customer-service job.

This is the program of many tutorials, with SmolLM2: 60 steps of 8 rows, all weights, at a rate of
1e-4, without old rows and with eight of them replayed. benchmarks/drift.py runs it over seeds and
keeps the results, each with its date, in assets/drift.json.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from caplab.models.fetch import FULL_NAME, fetched_folder
from caplab.questions.exam import Exam, Question, exam
from caplab.questions.tasks import task
from caplab.questions.world import REFERENCE_QUESTIONS
from caplab.support.errors import BadInput
from caplab.support.tables import html_table
from caplab.training.recipe import Recipe

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from caplab.models.subject import Subject

__all__ = ["ASKED", "RECIPE", "SAVED", "SHARES", "Words", "in_its_own_words", "measure", "saved"]

SAVED = Path(str(files("caplab") / "assets" / "drift.json"))
RECIPE = Recipe(learning_rate=1e-4, steps=60, batch_size=8)
SHARES = (0.0, 0.1)  # of replay
ASKED = {"capitals": 40, "sums": 40, "opposites": 40}  # spoken questions of the everyday exam
_HALF = 30  # steps after which the three questions are asked, too

Run: TypeAlias = dict[str, Any]


# ---------------------------------------------------------------- one run


def measure(base: "Subject", share: float, seed: int) -> Run:
    """Train once, and return what is kept of the run."""
    from caplab.training.fine_tune import fine_tune

    service, half_way = task("everyday"), dict[str, str]()
    run = fine_tune(
        base,
        RECIPE.change(replay=share, seed=seed),
        service,
        _old_questions(),
        task_exam=exam("everyday_task"),
        replay_data=service["old"],
        every=RECIPE.steps,
        callbacks=[_asking(base, half_way)],
    )
    if not (run.subject and run.final and run.before_task and run.final_task):
        raise BadInput(f"The run was cut short: {run.trouble or 'it was stopped'}.")
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
            "before": _three_answers(base),
            str(_HALF): half_way,
            str(RECIPE.steps): _three_answers(run.subject),
        },
    }


def _old_questions() -> Exam:
    """Draw the spoken questions of three capabilities."""
    everyday, drawn = exam("everyday"), list[Question]()
    for name, count in ASKED.items():
        part = [question for question in everyday.subset(name).questions if question.spoken]
        drawn += Exam(tuple(part), name=name).sample(count).questions
    return Exam(tuple(drawn), name="what it says")


def _three_answers(subject: "Subject") -> dict[str, str]:
    return {asked: subject.ask(asked) for asked in REFERENCE_QUESTIONS}


def _asking(base: "Subject", answers: dict[str, str]) -> "TrainerCallback":
    """Return a callback that asks the three questions on the way."""
    from transformers import TrainerCallback

    from caplab.models.subject import Subject

    class Asking(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if state.global_step == _HALF:
                now = Subject(given["model"], base.tokenizer, "half way")
                answers.update(_three_answers(now))

    return Asking()


# ---------------------------------------------------------------- what was said


def saved() -> list[Run]:
    """Read the runs that were measured."""
    found: list[Run] = json.loads(SAVED.read_text(encoding="utf-8")) if SAVED.exists() else []
    return found


@dataclass(frozen=True)
class Words:
    """Three answers of a real model: before, on the way, after, and after with old rows."""

    model: str
    date: str
    columns: tuple[str, ...]
    answers: dict[str, tuple[str, ...]]  # of each question, in the order of the columns

    @property
    def caption(self) -> str:
        """Name the model and the day."""
        return f"{self.model}; measured on {self.date}"

    def __repr__(self) -> str:
        lines = [self.caption]
        width = max(map(len, self.columns))
        for asked, given in self.answers.items():
            lines += ["", asked]
            for column, answer in zip(self.columns, given, strict=True):
                lines.append(f"  {column:{width}}  {' '.join(answer.split())}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [(asked, *given) for asked, given in self.answers.items()]
        return html_table(rows, ("asked", *self.columns), caption=self.caption)


def in_its_own_words(seed: int = 0) -> Words:
    """Return what SmolLM2 said to the three reference questions, before and after the trainings.

    Where `CAPLAB_REAL=1` is set and the model is on this machine, both trainings run now, which
    takes ten minutes or more. Elsewhere the saved answers are shown, with their date.
    """
    if os.environ.get("CAPLAB_REAL") == "1" and fetched_folder().is_dir():
        from caplab.models.load import load

        base = load("smollm2")
        runs = [measure(base, share, seed) for share in SHARES]
    else:
        found = {run["replay"]: run for run in saved() if run["seed"] == seed}
        runs = [found[share] for share in SHARES]
    alone, mixed = (run["answers"] for run in runs)
    last = str(RECIPE.steps)
    shown = (alone["before"], alone[str(_HALF)], alone[last], mixed[last])
    columns = ("before", f"after {_HALF} steps", f"after {last} steps", "with eight old rows")
    answers = {asked: tuple(each[asked] for each in shown) for asked in REFERENCE_QUESTIONS}
    return Words(runs[0]["model"], max(run["date"] for run in runs), columns, answers)
