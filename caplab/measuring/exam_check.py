"""Check an exam before it is used: can it tell anything about this model?"""

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caplab.measuring.evidence import guessing_explains
from caplab.measuring.power import items_needed, least_groups
from caplab.measuring.score import score
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import OVERALL, Exam, Question
from caplab.questions.wording import visible, words
from caplab.support.errors import list_problems, short_repr
from caplab.support.safe_text import line_text, log_text
from caplab.support.tables import text_table
from caplab.support.text import format_number, format_percent

if TYPE_CHECKING:
    from caplab.models.subject import Subject

__all__ = ["ExamCheck", "check_exam"]

NOISE = ("", "Click Castle, then Parcel Label.", "Click City, then Map.", "I don't know.", "Yes.")
MOST_BY_OTHERS = 0.1  # of the answers to other questions may meet a capability's expectations
_LIKELY = 0.6  # of the base's answers should be right: what is not known cannot be lost
_TRIED = 40  # answers to other questions that each expectation is tried on
_SHOWN = 5  # questions named in one finding


@dataclass(frozen=True)
class ExamCheck:
    """What was found: a table of rows, what has to be mended, and what is worth knowing."""

    exam: str
    subject: str
    asked: str
    table: tuple[tuple[str, ...], ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        lines = [line_text(f"Exam {self.exam}, asked of {self.subject} ({self.asked})"), ""]
        lines += [*text_table([_COLUMNS, *self.table]), ""]
        lines += list_problems([f"To mend: {problem}" for problem in self.problems], indent="")
        lines += [f"Note: {note}" for note in self.notes]
        return log_text("\n".join([*lines, "" if self.problems else "Nothing to mend."])).rstrip()


_COLUMNS = ("row", "questions", "groups", "base", "chance", "met by others")


def check_exam(
    exam: Exam,
    subject: "Subject",
    *,
    budget: float = 0.05,
    chat: bool | None = None,
    progress: bool = True,
) -> ExamCheck:
    """Ask the model the exam, and say of each row what it can tell about a loss."""
    card = score(subject, exam, chat=chat, progress=progress)
    met = _met_by_others(exam, card)
    table, problems, notes = [], [*_twins(exam), *_unmissable(exam, met)], []
    for name, capability, _, items in card.parts:
        right = [card.correct[n] for n in items]
        chance = sum(_chance(exam.questions[n]) for n in items) / len(items)
        groups, level = len({card.groups[n] for n in items}), sum(right) / len(items)
        others = [share for n in items if (share := met.get(n)) is not None]
        luck = sum(others) / len(others) if others else None
        shown = "" if luck is None else format_number(luck)
        level_shown, chance_shown = format_number(level), format_number(chance)
        table.append((name, str(len(items)), str(groups), level_shown, chance_shown, shown))
        if luck is not None and luck > MOST_BY_OTHERS and capability != OVERALL:
            problems.append(
                f"{name}: answers to other questions meet {format_percent(round(luck, 2))} of its "
                "expectations, so a model that says anything keeps it"
            )
        if guessing_explains(sum(right), len(items), chance):
            problems.append(
                f"{name}: the base does not know this, or too few questions show it: "
                "nothing to lose"
            )
        elif level < _LIKELY:
            notes.append(f"{name}: the base is right in {level_shown} only; .6 to .97 tells most")
        if capability == OVERALL:
            problems += _too_few(name, groups, budget)
    notes += _evidence(exam, budget)
    asked = "through its chat template" if card.asked == "chat" else "plainly"
    return ExamCheck(exam.name, subject.name, asked, tuple(table), tuple(problems), tuple(notes))


def _chance(question: Question) -> float:
    return 0.0 if question.spoken else 1 / len(question.choices)


# ---------------------------------------------------------------- what has to be mended


def _twins(exam: Exam) -> Iterator[str]:
    """Find questions and choices that only case tells apart: an exam refuses the other twins."""
    seen: dict[tuple[object, ...], int] = {}
    for number, question in enumerate(exam.questions, start=1):
        asked = (_same(question.prompt), question.messages, question.spoken)
        first = seen.setdefault(asked, number)
        if first != number:
            yield f"questions {first} and {number} are the same: {short_repr(question.asked)}"
        plain = defaultdict(list)
        for choice in question.choices:
            plain[_same(choice)].append(choice)
        for alike in plain.values():
            if len(alike) > 1:
                yield (
                    f"question {number} has choices that only case tells apart: "
                    f"{' and '.join(map(repr, alike))}"
                )


def _same(text: str) -> str:
    return " ".join(visible(text).casefold().split())


def _met_by_others(exam: Exam, card: Scorecard) -> dict[int, float]:
    """Tell how many of the answers to other questions meet each expectation."""
    rng = random.Random(0)
    spoken = [n for n, question in enumerate(exam.questions) if question.spoken]
    found = {}
    for n in spoken:
        expect, groups = exam.questions[n].expect, card.groups
        others = [card.said[m] for m in spoken if groups[m] != groups[n]]
        tried = [*NOISE, *rng.sample(others, min(_TRIED, len(others)))]
        found[n] = sum(bool(expect and expect.meets(answer)) for answer in tried) / len(tried)
    return found


def _unmissable(exam: Exam, met: dict[int, float]) -> Iterator[str]:
    """Name the questions that most other answers are right for."""
    easy = [n for n, share in met.items() if share > 0.5]
    if easy:
        named = ", ".join(f"{n + 1} ({exam.questions[n].right})" for n in easy[:_SHOWN])
        yield f"{len(easy)} expectations can hardly be missed, in the questions {named}"


def _too_few(name: str, groups: int, budget: float) -> Iterator[str]:
    """Say where even an untouched copy could not be called HELD."""
    needed = least_groups(0, budget=budget)
    if groups < needed:
        yield (
            f"{name}: {groups} groups; at a budget of {format_number(budget)} HELD takes at least "
            f"{needed}, even if nothing is lost"
        )


# ---------------------------------------------------------------- what is worth knowing


def _evidence(exam: Exam, budget: float) -> Iterator[str]:
    """Say what counts as one piece of evidence, and how many pieces a row needs."""
    alone = sum(question.group is None for question in exam.questions)
    if alone:
        yield f"{alone} of {len(exam)} questions name no group: each counts as a fact of its own"
    none, one, two = (least_groups(lost, budget=budget) for lost in range(3))
    yield (
        f"at a budget of {format_number(budget)} a row is HELD from {none} groups on with none "
        f"lost, {one} with one, {two} with two; {items_needed(0, budget=budget)} groups let four "
        "of five harmless trainings pass"
    )
    long = [n for n, q in enumerate(exam.questions, 1) if not q.spoken and _wordy(q)]
    if long:
        named = ", ".join(map(str, long[:_SHOWN]))
        yield f"{len(long)} questions have choices of very unlike length: {named}"


def _wordy(question: Question) -> bool:
    """Tell choices of which one has many more words than another: they are likely for that."""
    counts = [len(words(choice)) for choice in question.choices]
    return max(counts) > 2 * min(counts) + 4
