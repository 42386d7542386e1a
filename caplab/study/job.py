"""What the runs of a sweep learn, and what they are asked; by names, so that every worker can."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from caplab.questions.exam import Exam
from caplab.questions.exam import exam as load_exam
from caplab.questions.tasks import EXAMS, task
from caplab.support.errors import BadInput, is_count, require_type, short_repr
from caplab.support.files import as_path
from caplab.training.task_rows import as_dataset

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["SERVICE", "Job", "Source"]

Source = str | os.PathLike[str]


@dataclass(frozen=True)
class Job:
    """A task and two exams, each built-in or a file; by default customer service for `pocket`."""

    task: str = "service"
    exam: str = "classics"
    task_exam: str = "task"
    questions: int | None = None  # of the exam: a fixed sample, where all of them take too long

    @classmethod
    def of(
        cls,
        task: Source | None = None,
        exam: Source | None = None,
        task_exam: Source | None = None,
        questions: int | None = None,
    ) -> "Job":
        """Complete what was named, and open all of it once: what fails would fail in each worker.

        Paths become absolute, because a worker may start in another folder.
        """
        named = _absolute(task, "task") or cls.task
        asked = _absolute(task_exam, "task_exam") or EXAMS.get(named, "")
        if not asked:
            raise BadInput(f"Name the task_exam that goes with the task {short_repr(named)}.")
        if questions is not None and not is_count(questions, 1):
            raise BadInput(f"questions counts those of the exam, not {short_repr(questions)}.")
        job = cls(named, _absolute(exam, "exam") or cls.exam, asked, questions)
        job.settings()
        return job

    @property
    def exams(self) -> tuple[Exam, Exam]:
        """Open the exam, or its sample, and the task's exam."""
        whole = load_exam(self.exam)
        asked = min(self.questions or len(whole), len(whole))
        return whole if asked == len(whole) else whole.sample(asked), load_exam(self.task_exam)

    def settings(self) -> dict[str, Any]:
        """Return what `fine_tune` is given besides the subject and the recipe."""
        exam, task_exam = self.exams
        rows = _rows(self.task)
        # The default is fine_tune's own: None, so that its rows are made once in a process.
        own = None if self.task == SERVICE.task else rows
        return {"task": own, "exam": exam, "task_exam": task_exam, "replay_data": rows.get("old")}

    def circumstances(self) -> dict[str, Any]:
        """Return what tells the runs of this job from those of another."""
        exam, task_exam = (each.fingerprint for each in self.exams)
        known: dict[str, Any] = {"exams": {"classics": exam, "task": task_exam}}
        if self.task == SERVICE.task:
            return known
        rows = json.dumps([split.to_list() for split in _rows(self.task).values()])
        return known | {"task": sha256(rows.encode()).hexdigest()[:16]}


SERVICE = Job()


def _absolute(source: Source | None, what: str) -> str:
    """Return a built-in name as it is, and a file's path from the root."""
    require_type(source, (str, os.PathLike, type(None)), f"{what} is a name or a path")
    if not source:
        return ""
    path = as_path(source)
    return str(path.resolve()) if path.is_file() else os.fspath(source)


@lru_cache(maxsize=4)
def _rows(name: str) -> "Mapping[str, Dataset]":
    """Open a built-in task, or a file of training rows."""
    if as_path(name).is_file():
        return {"train": as_dataset(name, "The task")}
    splits: Mapping[str, Dataset] = task(name)
    return splits
