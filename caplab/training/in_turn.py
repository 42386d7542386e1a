"""Train one job after another, and ask after each what is left of all that came before.

The result is the matrix of continual learning: a row for each state of the model, a column for the
classics and for each job. What a job lost after it was learned is its backward transfer (Lopez-Paz
and Ranzato 2017, arXiv 1706.08840).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from caplab.measuring.compare import compare
from caplab.measuring.report import Report
from caplab.measuring.score import score
from caplab.measuring.scorecard import Scorecard
from caplab.models.subject import Subject
from caplab.questions.exam import OVERALL, Exam
from caplab.questions.exam import exam as load_exam
from caplab.support.errors import BadInput, require_type, short_repr
from caplab.support.tables import html_table, text_table
from caplab.support.text import format_number, format_signed
from caplab.training.fine_tune import fine_tune
from caplab.training.recipe import Recipe
from caplab.training.run import Run
from caplab.training.task_rows import Rows, Task, open_task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["InTurn", "train_in_turn"]

Adapters = Literal["one", "each"]
CLASSICS = "classics"


@dataclass(frozen=True, repr=False)
class InTurn:
    """What a model knew after each of several jobs.

    `cards` holds a scorecard for every state and exam: `cards["after service"]["classics"]`.
    """

    cards: dict[str, dict[str, Scorecard]]
    runs: dict[str, Run]
    subject: Subject | None  # after the last job; None if each job has a model of its own

    @property
    def jobs(self) -> list[str]:
        """Name the jobs in their order."""
        return list(self.runs)

    @property
    def table(self) -> "pd.DataFrame":
        """Return the accuracies: a row for each state, a column for the classics and each job."""
        import pandas as pd

        levels = {
            state: {name: card.accuracy for name, card in cards.items()}
            for state, cards in self.cards.items()
        }
        return pd.DataFrame(levels).T[[CLASSICS, *self.jobs]]

    def transfer(self, job: str) -> Report:
        """Compare a job's exam at the end with how it stood when the job had just been learned."""
        require_type(job, str, "A job is named by a string")
        if job not in self.jobs:
            raise BadInput(f"There is no job {short_repr(job)}. There are: {', '.join(self.jobs)}.")
        last = list(self.cards)[-1]
        return compare(self.cards[f"after {job}"][job], self.cards[last][job])

    def _rows(self) -> list[list[str]]:
        table = self.table
        rows = [[state, *map(format_number, table.loc[state])] for state in table.index]
        return [["", *table.columns], *rows]

    def _footer(self) -> list[str]:
        """Write what each job but the last lost after it was learned."""
        lines = []
        for job in self.jobs[:-1] if self.subject else []:
            row = self.transfer(job)[OVERALL]
            ends = f"{format_signed(row.low)} to {format_signed(row.high)}"
            lines.append(f"{job}, since it was learned: {format_signed(row.change)} ({ends})")
        return lines

    def __repr__(self) -> str:
        return "\n".join([*text_table(self._rows()), *self._footer()])

    def _repr_html_(self) -> str:
        head, *rows = self._rows()
        return html_table(rows, head, caption="; ".join(self._footer()))


def train_in_turn(
    subject: Subject,
    jobs: Mapping[str, Task],
    recipe: Recipe,
    exam: Exam | None = None,
    *,
    exams: Mapping[str, Exam] | None = None,
    rehearse: bool = False,
    adapters: Adapters = "one",
    replay_data: Rows | None = None,
) -> InTurn:
    """Learn several jobs, one after the other, by one recipe; ask all exams after each.

    `jobs` are tasks by their names; `exams` may hold an exam for each, else its held-out rows are
    asked. The recipe's replay is old text, as in `fine_tune`; with `rehearse` it is the rows of
    the jobs so far. `adapters="each"` trains an adapter of its own for each job, from the base on:
    nothing is forgotten then, and somebody has to choose the adapter for each request.
    """
    _check(subject, jobs, recipe, exams, rehearse, adapters)
    exams, exam, runs = dict(exams or {}), exam or load_exam(), {}
    start: Subject = subject
    earlier: list[Any] = []
    for name, task in jobs.items():
        given = {"task_exam": exams.get(name), "replay_data": replay_data}
        own = recipe
        if rehearse:
            given["replay_data"] = earlier
            own = recipe if earlier else recipe.change(replay=0.0)
        runs[name] = fine_tune(start, own, task, exam, **given)  # type: ignore[arg-type]
        if runs[name].trouble:
            raise BadInput(f"The job {name!r} could not be learned. {runs[name].trouble}")
        earlier += open_task(task)[0].to_list() if rehearse else []
        start = subject if adapters == "each" else _tuned(runs[name])
    asked = {CLASSICS: exam} | {name: _exam(name, run) for name, run in runs.items()}
    base = {CLASSICS: next(iter(runs.values())).before}
    cards = {"base": base | _ask(subject, asked, base)}
    for name, run in runs.items():
        known = {CLASSICS: run.final, name: run.cards["final_task"]}  # scored by fine_tune already
        cards[f"after {name}"] = known | _ask(_tuned(run), asked, known)
    return InTurn(cards, runs, None if adapters == "each" else _tuned(list(runs.values())[-1]))


def _ask(subject: Subject, exams: Mapping[str, Exam], known: Any) -> dict[str, Scorecard]:
    return {name: score(subject, exam) for name, exam in exams.items() if name not in known}


def _tuned(run: Run) -> Subject:
    """Return a run's subject, which a training that went well always has."""
    require_type(run.subject, Subject, "A run in turn needs its weights")
    found: Any = run.subject
    return found  # type: ignore[no-any-return]


def _exam(name: str, run: Run) -> Exam:
    if run.task_exam is None:
        raise BadInput(
            f"The job {name!r} has no exam: give exams={{{name!r}: ...}} or held-out rows."
        )
    return run.task_exam


def _check(subject: Any, jobs: Any, recipe: Any, exams: Any, rehearse: Any, adapters: Any) -> None:
    """Refuse what would fail after the first training."""
    require_type(subject, Subject, 'train_in_turn needs a Subject, such as load("pocket")')
    require_type(recipe, Recipe, "train_in_turn needs a Recipe")
    require_type(jobs, Mapping, "The jobs are a mapping of names to tasks")
    require_type(exams, (Mapping, type(None)), "exams is a mapping of names to exams")
    if len(jobs) < 2 or not all(isinstance(name, str) and name for name in jobs):
        raise BadInput(f"Give at least two jobs with names; there are {short_repr(list(jobs))}.")
    if CLASSICS in jobs:
        raise BadInput(f"No job can be called {CLASSICS!r}: that is what the exam of the base is.")
    if unknown := sorted(set(map(str, exams or ())) - set(jobs)):
        raise BadInput(f"exams names {', '.join(unknown)}, and no job is called so.")
    if not isinstance(adapters, str) or adapters not in get_args(Adapters):
        raise BadInput(f"adapters is 'one' or 'each', not {short_repr(adapters)}.")
    if adapters == "each" and recipe.method != "lora":
        raise BadInput('adapters="each" needs a recipe with method="lora".')
    if rehearse and not recipe.replay:
        raise BadInput("rehearse replays earlier jobs: give the recipe a share of replay.")
    for name, task in jobs.items():
        if (exams or {}).get(name) is None and not _held_out(task):
            raise BadInput(f"The job {name!r} has neither an exam nor held-out rows to ask.")


def _held_out(task: Task) -> Sequence[Any] | None:
    return open_task(task)[1]
