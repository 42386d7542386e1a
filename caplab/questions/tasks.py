"""The tasks that ship with the lab: rows to train on, and rows that are held out."""

import json
from importlib.resources import files
from typing import TYPE_CHECKING

from caplab.questions import world
from caplab.questions.world2 import jobs
from caplab.support.errors import BadInput, did_you_mean, require_type, short_repr

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = ["EXAMS", "task"]

_JOBS = {"service2": "service", "catalogue": "catalogue", "station": "station"}  # of World 2
# Each task, and the exam on it.
EXAMS = {"service": "task", "everyday": "everyday_task"} | {name: name for name in _JOBS}
TASKS = tuple(EXAMS)


def task(name: str = "service") -> "DatasetDict":
    """Return a built-in task as `datasets` splits: `train`, and `test` with held-out rows.

    `"service"` is the customer-service job for the model `pocket`, in TRL's prompt-completion
    format. `"everyday"` is the same job for a chat model: conversations with a system turn. Its
    third split, `old`, has eight conversations about other things, to be replayed. `"service2"`,
    `"catalogue"` and `"station"` are the three jobs of the model `pocket2`.
    """
    require_type(name, str, "A task is named by a string")
    if name not in TASKS:
        raise BadInput(
            f"There is no task {short_repr(name)}.{did_you_mean(name, TASKS)} "
            f"The built-in ones are: {', '.join(TASKS)}."
        )
    if name in _JOBS:
        return _of_world2(_JOBS[name])
    return world.task() if name == "service" else _everyday()


def _of_world2(job: str) -> "DatasetDict":
    """Write the rows of a job, on both sides of its split."""
    from datasets import Dataset, DatasetDict

    train = jobs.rows(job, held_out=False)
    train += [row for row in jobs.reference_rows(job) if row not in train]
    sides = {"train": train, "test": jobs.rows(job, held_out=True)}
    return DatasetDict({side: Dataset.from_list(rows) for side, rows in sides.items()})


def _everyday() -> "DatasetDict":
    """Read the conversations that tools/build_everyday.py wrote."""
    from datasets import Dataset, DatasetDict

    text = (files("caplab") / "assets" / "everyday_rows.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return DatasetDict(
        {
            split: Dataset.from_list(
                [{"messages": row["messages"]} for row in rows if row["split"] == split]
            )
            for split in ("train", "test", "old")
        }
    )
