"""Repair a tuned model without training it again, and test what it has really lost.

`interpolate` walks back a part of the way to the base (WiSE-FT, Wortsman et al., 2109.01903), and
`scale_lora` does so with the adapter's own switch. `recovery` asks whether what is missing was
forgotten or is only out of practice (Spurious Forgetting, 2501.13453).
"""

import math
from collections import Counter
from copy import deepcopy
from dataclasses import asdict, dataclass
from html import escape
from itertools import permutations
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union, get_args

import torch

from caplab.errors import BadInput, real, require, shown
from caplab.exam import OVERALL, Exam, Question, Scorecard, score
from caplab.exam import exam as load_exam
from caplab.models import Subject, call
from caplab.stats import listed, number, wilson

if TYPE_CHECKING:
    import pandas as pd

    from caplab.recipe import Recipe
    from caplab.run import Run

__all__ = ["Blend", "Recovered", "Recovery", "interpolate", "recovery", "scale_lora"]

Tuned: TypeAlias = Union["Run", Subject]
Show = Literal["questions", "capabilities"]

_FEWEST = 5  # lost questions; fewer say nothing about what was lost


# ---------------------------------------------------------------- between base and tuned


class Blend:
    """A model on the line between a base and a tuned one, moved along it in place: for sliders.

    An adapter is merged into a copy first; base and tuned stay as they are. `at` returns the same
    subject each time, with other weights: ask it before you move on, or take `interpolate`.
    """

    def __init__(self, base: Subject, tuned: Tuned) -> None:
        end = _subject(tuned)
        require(base, Subject, 'The base is a Subject, such as load("pocket")')
        _check_origin(base, tuned)
        old, new = _plain(base), _plain(end)
        _check_alike(old, new, base.name, end.name)
        self.subject = Subject(deepcopy(old).eval(), end.tokenizer, end.name)
        call(self.subject.model, "")
        self._name = end.name
        self._weights = [
            (mixed, at_0.detach(), at_1.detach())
            for mixed, at_0, at_1 in zip(
                self.subject.model.parameters(), old.parameters(), new.parameters(), strict=True
            )
        ]

    @torch.no_grad()
    def at(self, alpha: float) -> Subject:
        """Move to (1 - alpha) base + alpha tuned; 0 and 1 are the two ends, bit for bit."""
        if not 0 <= real(alpha) <= 1:
            share = "a share from 0 (the base) to 1 (the tuned)"
            raise BadInput(f"alpha is {shown(alpha)}: give {share}.")
        for mixed, at_0, at_1 in self._weights:
            torch.lerp(at_0, at_1, alpha, out=mixed)
        self.subject.name = f"{self._name}, {alpha:.0%} of the way"
        return self.subject


def interpolate(base: Subject, tuned: Tuned, alpha: float) -> Subject:
    """Return a new subject with the weights (1 - alpha) base + alpha tuned."""
    return Blend(base, tuned).at(alpha)


def scale_lora(tuned: Tuned, scale: float) -> Subject:
    """Return a copy of a LoRA-tuned subject whose adapter counts `scale` times as much.

    0 is the base again, 1 the tuned model, and for plain LoRA each scale between is the same model
    as `interpolate` gives; but the adapter stays an adapter.
    """
    from peft.tuners.lora import LoraLayer

    subject = _subject(tuned)
    if not math.isfinite(real(scale)):
        raise BadInput(
            f"scale is {shown(scale)}: give a number, from 0 (the base) to 1 (the tuned)."
        )
    model = _copy(subject.model)
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    if not layers:
        raise BadInput(
            f"{subject.name} has no LoRA adapter to scale: it was tuned in full, or merged when it "
            "was loaded. interpolate(base, tuned, alpha) does the same for any model."
        )
    for layer in layers:
        for adapter in layer.active_adapters:
            layer.set_scale(adapter, scale)
    return Subject(model, subject.tokenizer, f"{subject.name}, adapter x {scale:g}")


def _subject(tuned: Tuned) -> Subject:
    """Take the subject out of a run."""
    given: Any = tuned
    subject: Subject | None = getattr(given, "subject", given)
    if subject is None:
        raise BadInput(
            "This run was loaded without its weights. Save it with run.save(folder, weights=True)."
        )
    require(subject, Subject, "Give a Run or a Subject")
    return subject


def _copy(model: Any) -> Any:
    """Copy a model that may still be in a trainer's hands."""
    from caplab.trainer import unwrapped

    return unwrapped(deepcopy(model))


def _plain(subject: Subject) -> Any:
    """Return the model without an adapter: itself, or a copy with the adapter merged."""
    model = subject.model
    return _copy(model).merge_and_unload() if hasattr(model, "merge_and_unload") else model


def _check_origin(base: Subject, tuned: Tuned) -> None:
    """Refuse a run that began elsewhere: models of one shape mix without a complaint."""
    from caplab.feed import digest

    began = getattr(tuned, "base_digest", "")
    if began and began != digest(base.model):
        raise BadInput(
            f"This run did not begin from {base.name}, as it is now: its weights are others. "
            "Mix a run with the very model that it was tuned from."
        )


def _kind(weight: torch.Tensor) -> str:
    """Say what must agree of two weights: `(128, 128), float32, cpu`."""
    return f"{tuple(weight.shape)}, {str(weight.dtype).removeprefix('torch.')}, {weight.device}"


def _check_alike(old: Any, new: Any, base: str, tuned: str) -> None:
    """Refuse two models of which no weight-by-weight mixture exists."""
    kinds = [{name: _kind(p) for name, p in model.named_parameters()} for model in (old, new)]
    for name in [name for name in kinds[0] | kinds[1] if kinds[0].get(name) != kinds[1].get(name)]:
        sizes = [found.get(name, "missing") for found in kinds]
        raise BadInput(
            f"{tuned} was not tuned from {base}: {name} is {sizes[1]} here and {sizes[0]} there. "
            "Only a model and its own fine-tuning can be mixed, weight by weight."
        )


# ---------------------------------------------------------------- forgotten, or out of practice?


@dataclass(frozen=True)
class Recovered:
    """What became of one capability, in counts of questions that the recovery never showed."""

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
        """Say what the counts mean."""
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
            has = listed(list(rows))
            raise BadInput(f"This recovery has no row {shown(name)}. It has {has}.")
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
            low, high = map(number, row.interval)
            share = f"{number(row.share)} ({low} to {high})" if row.lost else ""
            cells.append([row.capability, *counts, share, row.finding])
        return cells

    def _footer(self) -> str:
        steps = f"after {self.recipe.steps} steps on other {self.shown}"
        return f"{self.subject} on {self.exam}, {steps}; share: of the lost, back (95 % interval)"

    def __repr__(self) -> str:
        cells = self._table()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in cells
        ]
        return "\n".join([*lines, "", self._footer()])

    def _repr_html_(self) -> str:
        head, *body = [[escape(cell) for cell in line] for line in self._table()]
        lines = ["".join(f"<td>{cell}</td>" for cell in line) for line in body]
        rows = "".join(f"<tr>{line}</tr>" for line in lines)
        titles = "".join(f"<th>{cell}</th>" for cell in head)
        return f"<table><tr>{titles}</tr>{rows}</table><div>{escape(self._footer())}</div>"


def recovery(
    base: Subject,
    tuned: Tuned,
    exam: Exam | None = None,
    *,
    recipe: "Recipe | None" = None,
    show: Show = "questions",
) -> Recovery:
    """Train for a few steps on one half of an old exam, and ask the other half; then the reverse.

    No question is asked after it was shown, so what comes back was not learned just now: it was
    there, out of practice. What stays away was forgotten.

    With `show="questions"` each capability is halved. A fact cannot be learned from other facts; a
    skill such as adding may be, and a mirrored question (hot and cold, cold and hot) is half shown.
    With `show="capabilities"` whole capabilities change sides, and nothing of a question's own kind
    is shown: the model is reminded only of how questions are answered.

    The control takes the same steps from random weights: so much can be picked up in them by a
    model that never knew. It lacks the language, too, and so proves little alone; the stronger
    argument is that nothing is asked that was shown.

    To know an answer is to *say* it: to give it more than half of the probability, so that whoever
    asks, gets it. To prefer it among four choices would take less, and be luck in one case of four.
    """
    from caplab.tuning import Recipe, fine_tune

    subject, exam = _subject(tuned), exam or getattr(tuned, "exam", None) or load_exam()
    recipe = recipe or Recipe(steps=20, schedule="linear")
    require(base, Subject, 'The base is a Subject, such as load("pocket")')
    require(exam, Exam, "recovery needs an Exam, such as exam() or exam(path)")
    require(recipe, Recipe, "recovery needs a Recipe")
    blank = _blank(base)
    counts: dict[str, Counter[str]] = {}
    for told, asked in permutations(_halves(exam, show)):
        lesson = [{"prompt": q.prompt, "completion": f" {q.choices[q.answer]}"} for q in told]
        part = Exam(tuple(asked), (), exam.name)
        taught, control = (
            fine_tune(who, recipe, lesson, part, every=recipe.steps) for who in (subject, blank)
        )
        _count(counts, part, score(base, part), taught.before, taught.final, control.final)
    rows = [Recovered(name, **counts[name]) for name in (*exam.capabilities, OVERALL)]
    return Recovery(tuple(rows), subject.name, exam.name, show, recipe)


def _halves(exam: Exam, show: Show) -> tuple[list[Question], list[Question]]:
    """Deal the questions of each capability, or the capabilities themselves, to two sides."""
    if show not in get_args(Show):
        raise BadInput(f"show is {shown(show)}: choose one of {listed(list(get_args(Show)))}.")
    sides: tuple[list[Question], list[Question]] = ([], [])
    dealt: Counter[str] = Counter()
    for question in exam.questions:
        name = question.capability
        turn = dealt[name] if show == "questions" else exam.capabilities.index(name)
        sides[turn % 2].append(question)
        dealt[name] += 1
    if not all(sides):
        raise BadInput(
            f"The exam {exam.name!r} is too small: there must be {show} to show and to ask."
        )
    return sides


def _blank(subject: Subject) -> Subject:
    """Build the same model with random weights: it never knew anything."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(subject.model.config)  # type: ignore[no-untyped-call]
    return Subject(model.to(subject.device).eval(), subject.tokenizer, "from scratch")


def _count(counts: dict[str, Counter[str]], part: Exam, *cards: Scorecard) -> None:
    """Add one half's answers: of the base, tuned, after the recovery, from scratch."""
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
