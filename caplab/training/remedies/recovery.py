"""Test whether a lost capability was forgotten or is only out of practice.

The question is that of Spurious Forgetting (2501.13453).
"""

import math
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Literal, get_args

import torch

from caplab.measuring.intervals import wilson
from caplab.measuring.score import score
from caplab.measuring.scorecard import Scorecard
from caplab.models.subject import Subject
from caplab.questions.exam import OVERALL, Exam, Question
from caplab.questions.exam import exam as load_exam
from caplab.support.errors import BadInput, require_type, short_repr
from caplab.support.safe_text import html_text
from caplab.support.tables import html_table, text_table
from caplab.support.text import format_number, join_words
from caplab.training.remedies.blend import Tuned, subject_of

if TYPE_CHECKING:
    import pandas as pd

    from caplab.training.recipe import Recipe

__all__ = ["Recovered", "Recovery", "recovery"]
Show = Literal["questions", "capabilities"]

_FEWEST = 5  # lost questions; fewer allow no statement
_WORDS = (0, 6, 7)  # the table's columns of words: capability, share, finding


@dataclass(frozen=True)
class Recovered:
    """What one capability lost and regained, in counts of questions that were never shown."""

    capability: str
    n: int
    knew: int  # the base says the right answer
    lost: int  # of these, the tuned model does not
    back: int  # of the lost, said again after the recovery
    scratch: int  # of the lost, said after the same steps by a model that never knew them

    @property
    def share(self) -> float:
        """Return the share of the lost that came back."""
        return self.back / self.lost if self.lost else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Return Wilson's 95 % interval of that share."""
        low, high = wilson(self.back, self.lost) if self.lost else (0.0, 1.0)
        return round(low, 6), round(high, 6)

    @property
    def finding(self) -> str:
        """State in words what the counts mean."""
        low, high = self.interval
        if self.lost < _FEWEST:
            return "little was lost"
        if low > 0.5:
            return "out of practice"
        return "forgotten" if high < 0.5 else "partly forgotten"


@dataclass(frozen=True, repr=False)
class Recovery:
    """What came back after a few steps on old questions, one row per capability and one overall."""

    rows: tuple[Recovered, ...]
    subject: str
    exam: str
    shown: str
    recipe: "Recipe"

    def __getitem__(self, name: str) -> Recovered:
        rows = {row.capability: row for row in self.rows}
        if name not in list(rows):
            has = join_words(list(rows))
            raise BadInput(f"This recovery has no row {short_repr(name)}. It has {has}.")
        return rows[name]

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table with one line per row."""
        import pandas as pd

        found = [
            {"share": row.share, "low": row.interval[0], "high": row.interval[1]}
            | {"finding": row.finding}
            for row in self.rows
        ]
        return pd.DataFrame(
            [asdict(row) | more for row, more in zip(self.rows, found, strict=True)]
        )

    def _table(self) -> list[list[str]]:
        cells = [["capability", "n", "knew", "lost", "back", "from scratch", "share", "finding"]]
        for row in self.rows:
            counts = [str(count) for count in (row.n, row.knew, row.lost, row.back, row.scratch)]
            low, high = map(format_number, row.interval)
            share = f"{format_number(row.share)} ({low} to {high})" if row.lost else ""
            cells.append([row.capability, *counts, share, row.finding])
        return cells

    def _footer(self) -> str:
        steps = f"after {self.recipe.steps} steps on other {self.shown}"
        return f"{self.subject} on {self.exam}, {steps}; share: of the lost, back (95 % interval)"

    def __repr__(self) -> str:
        return "\n".join([*text_table(self._table(), _WORDS), "", self._footer()])

    def _repr_html_(self) -> str:
        head, *rows = self._table()
        return f"{html_table(rows, head, words=_WORDS)}<div>{html_text(self._footer())}</div>"


def recovery(
    base: Subject,
    tuned: Tuned,
    exam: Exam | None = None,
    *,
    recipe: "Recipe | None" = None,
    show: Show = "questions",
) -> Recovery:
    """Train for a few steps on one half of an old exam and ask the other half; then the reverse.

    No question is asked that was shown before. So whatever comes back was not learned just now: the
    model still had it, out of practice. Whatever does not come back was forgotten.

    With `show="questions"` each capability is divided into halves. A fact cannot be learned from
    other facts; but a skill such as adding can be, and a mirrored question (hot and cold, cold and
    hot) is half shown. With `show="capabilities"` whole capabilities are shown or asked, so that
    the model is reminded only of how questions are answered.

    The control takes the same steps from random weights, and tells how much a model that never knew
    can pick up in them. That model lacks the language, too, so the control proves little alone; the
    stronger argument is that no question is asked that was shown.

    To know an answer means to *say* it: to give it more than half of the probability. To prefer it
    among four choices would be easier, and happens by luck in one of four cases.
    """
    from caplab.training.fine_tune import fine_tune
    from caplab.training.recipe import Recipe

    subject, exam = subject_of(tuned), exam or getattr(tuned, "exam", None) or load_exam()
    recipe = recipe or Recipe(steps=20, schedule="linear")
    require_type(base, Subject, 'The base is a Subject, such as load("pocket")')
    require_type(exam, Exam, "recovery needs an Exam, such as exam() or exam(path)")
    require_type(recipe, Recipe, "recovery needs a Recipe")
    blank = _blank(base)
    counts: dict[str, Counter[str]] = {}
    for shown, asked in permutations(_halves(exam, show)):
        lesson = [
            {"prompt": q.asked, "completion": f"{'' if q.joined else ' '}{q.example}"}
            for q in shown
            if q.example is not None
        ]
        part = Exam(tuple(asked), (), exam.name, repeats=True)
        taught, control = (
            fine_tune(who, recipe, lesson, part, every=recipe.steps) for who in (subject, blank)
        )
        _count(counts, part, score(base, part), taught.before, taught.final, control.final)
    rows = [Recovered(name, **counts[name]) for name in (*exam.capabilities, OVERALL)]
    return Recovery(tuple(rows), subject.name, exam.name, show, recipe)


def _halves(exam: Exam, show: Show) -> tuple[list[Question], list[Question]]:
    """Divide the questions of each capability, or the capabilities themselves, into two halves."""
    if show not in get_args(Show):
        raise BadInput(
            f"show is {short_repr(show)}: choose one of {join_words(list(get_args(Show)))}."
        )
    sides: tuple[list[Question], list[Question]] = ([], [])
    dealt: Counter[str] = Counter()
    for question in exam.questions:
        name = question.capability
        turn = dealt[name] if show == "questions" else exam.capabilities.index(name)
        sides[turn % 2].append(question)
        dealt[name] += 1
    if not all(sides):
        raise BadInput(
            f"The exam {exam.name!r} is too small: it needs {show} to show and others to ask."
        )
    return sides


def _blank(subject: Subject) -> Subject:
    """Build the same model with random weights, which never knew anything."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(subject.model.config)  # type: ignore[no-untyped-call]
    return Subject(model.to(subject.device).eval(), subject.tokenizer, "from scratch")


def _count(counts: dict[str, Counter[str]], part: Exam, *cards: Scorecard) -> None:
    """Add one half's answers: of the base, the tuned, the recovered and the control."""
    said = zip(*([p > 0.5 for p in card.probability] for card in cards), strict=True)
    for question, (base, tuned, back, scratch) in zip(part.questions, said, strict=True):
        lost = base and not tuned
        seen = {
            "n": 1,
            "knew": base,
            "lost": lost,
            "back": lost and back,
            "scratch": lost and scratch,
        }
        for name in (question.capability, OVERALL):
            counts.setdefault(name, Counter()).update(seen)
