"""What a guard says before the first step: what its exam can never show, and what gives it away.

A guard that cannot notice a loss is worse than none. It is blind to what the base does not know,
to rows with too few groups for their budget, and to what the training itself practises.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import regex

from caplab.measuring.compare import compare
from caplab.measuring.evidence import guessing_explains, is_counted
from caplab.measuring.policy import MUST_KEEP, Policy
from caplab.measuring.report import HELD, REGRESSED, Report, Row
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam, Question
from caplab.support.errors import short_repr
from caplab.support.text import format_number, join_words

__all__ = ["blind_spots", "practised", "practised_sentence", "row_texts", "unknown_rows"]

_SHOWN = 5  # rows or questions named in one sentence
_MOST_ROWS = 20_000  # of the training are read
_FEWEST_WORDS = 4  # of a prompt that is looked for by itself: `2+2` is everywhere


def blind_spots(before: Scorecard, policy: Policy, metric: str) -> Iterator[str]:
    """Say of which rows no answers whatever could make REGRESSED, or HELD."""
    unknown = list(unknown_rows(before))
    if unknown:
        yield (
            f"The base does not know {_some(unknown)}, or too few questions show it: a loss there "
            "cannot show. Ask what the base knows (caplab exam check)."
        )
    worst = compare(before, _all_lost(before), policy=policy, metric=metric)
    known = [row for row in worst.deciding if row.name not in {said for said, _ in unknown}]
    if blind := [row for row in known if row.verdict != REGRESSED]:
        whole = "" if worst.verdict == REGRESSED else " So the guard can never act."
        yield f"Even if all of it were lost, no look could call REGRESSED: {_needs(blind)}.{whole}"
    best = compare(before, before, policy=policy, metric=metric)
    if is_counted(metric) and best.verdict != HELD:
        needed = _needs([row for row in _wanted(best) if row.name not in dict(unknown)])
        if needed:
            yield f"Even if nothing is lost, no look can say HELD: {needed}."


def unknown_rows(before: Scorecard) -> Iterator[tuple[str, str]]:
    """Name the rows that guessing explains, with their level."""
    for name, _, kind, items in before.parts:
        right = sum(before.correct[n] for n in items)
        each = [0.0 if kind == "said" else 1 / len(before.loglikelihoods[n]) for n in items]
        chance = sum(each) / len(items)
        if guessing_explains(right, len(items), chance):
            level = format_number(right / len(items))
            yield name, f"{name} ({level} right, chance {format_number(chance)})"


def _some(named: list[tuple[str, str]]) -> str:
    rest = len(named) - _SHOWN
    said = [words for _, words in named[:_SHOWN]]
    return join_words(said if rest <= 0 else [*said, f"{rest} more rows"])


def _all_lost(card: Scorecard) -> Scorecard:
    """Return answers of which each is wrong."""
    answers = zip(card.loglikelihoods, card.answer, card.kinds, strict=True)
    lost = tuple(
        tuple(
            float("-inf") if n == right else (0.0 if kind == "said" else -1.0)
            for n in range(len(found))
        )
        for found, right, kind in answers
    )
    return replace(card, loglikelihoods=lost)


def _wanted(report: Report) -> list[Row]:
    """List the rows that stand between the whole and HELD."""
    must = [row for row in report.deciding if row.is_overall or row.tier == MUST_KEEP]
    return [row for row in must if row.verdict != HELD]


def _needs(rows: list[Row]) -> str:
    """Say how many groups each row has, and how many would do."""

    def said(row: Row) -> str:
        own = f"{row.name} has {row.groups} group{'s' * (row.groups != 1)}"
        if row.more_groups is None:
            return f"{own} and a budget of {format_number(row.budget)}"
        return f"{own} and needs {row.groups + row.more_groups}"

    sizes = [row.n for row in rows if not row.is_overall]
    # The only capability and the whole are one row.
    different = [row for row in rows if not (row.is_overall and row.n in sizes)]
    return _some([(row.name, said(row)) for row in different])


# ---------------------------------------------------------------- what the training practises

_WORD = regex.compile(r"\w+")
_FRAME = (("question", "q"), ("answer", "a"))  # written around a question: no part of it
_Trie = dict[str, Any]
_END = ""  # in a trie: here ends the question with this number


def practised_sentence(dataset: Any, tokenizer: Any, exam: Exam) -> str:
    """Say which training rows contain questions of the exam; nothing if none does."""
    rows, asked = practised(row_texts(dataset, tokenizer), exam)
    if not rows:
        return ""
    example = short_repr(exam.questions[min(asked)].asked)
    return (
        f"{len(rows)} of the training rows contain {len(asked)} of the exam's {len(exam)} "
        f"questions (the first is row {rows[0]}; one question is {example}): what is practised "
        "cannot show what is forgotten. Leave them out of one of the two."
    )


def practised(texts: Iterable[str], exam: Exam) -> tuple[list[int], set[int]]:
    """Return which texts contain a prompt of the exam, and which questions those are.

    Case, punctuation, spaces and Unicode forms do not count. All prompts are looked for at once.
    """
    trie = _planted(exam.questions)
    rows, asked = [], set()
    for number, text in enumerate(texts):
        if found := _in(_words(text), trie):
            rows.append(number)
            asked |= found
    return rows, asked


def _planted(questions: Iterable[Question]) -> _Trie:
    """Put the words of all prompts into one tree."""
    trie: _Trie = {}
    for number, question in enumerate(questions):
        needle, branch = _needle(question), trie
        for word in needle:
            branch = branch.setdefault(word, {})
        if needle:
            branch.setdefault(_END, []).append(number)
    return trie


def _in(words: list[str], trie: _Trie) -> set[int]:
    """Find the questions whose words stand in a text, one after the other."""
    found: set[int] = set()
    for start, word in enumerate(words):
        branch, place = trie.get(word), start
        while branch is not None:
            found.update(branch.get(_END, ()))
            place += 1
            branch = branch.get(words[place]) if place < len(words) else None
    return found


def _words(text: str) -> list[str]:
    folded = text if text.isascii() else unicodedata.normalize("NFKC", text)
    found: list[str] = _WORD.findall(folded.casefold())
    return found


def _needle(question: Question) -> list[str]:
    """Return the words to look for: the last paragraph's, without `Question:` and `Answer:`.

    A short prompt is everywhere: it is looked for together with its answer.
    """
    paragraphs = [part for part in question.asked.split("\n\n") if part.strip()]
    words = _words(paragraphs[-1])
    words = words[1:] if words and words[0] in _FRAME[0] else words
    words = words[:-1] if words and words[-1] in _FRAME[1] else words
    if len(words) < _FEWEST_WORDS:
        words += _words(question.example or "")
    return words if len(words) >= _FEWEST_WORDS else []


def row_texts(dataset: Any, tokenizer: Any) -> Iterator[str]:
    """Yield the training rows as texts: what they say, or else what their tokens say.

    Only a `datasets.Dataset` is read. Another kind may make its rows by chance, and reading them
    would change the training.
    """
    from datasets import Dataset

    if not isinstance(dataset, Dataset) or not len(dataset):
        return
    rows = dataset.with_format(None)[:_MOST_ROWS]  # columns
    said = [name for name, column in rows.items() if _speaks(column[0])]
    if said:
        for values in zip(*(rows[name] for name in said), strict=True):
            yield "\n".join(part for value in values for part in _spoken(value))
    elif "input_ids" in rows:
        yield from tokenizer.batch_decode(rows["input_ids"], skip_special_tokens=True)


def _speaks(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    )


def _spoken(value: Any) -> Iterator[str]:
    """Yield the texts of a value: a text itself, or the turns of a conversation."""
    if isinstance(value, str):
        yield value
    for turn in value if isinstance(value, list) else ():
        for key in ("content", "value"):  # `value` in the format of ShareGPT
            if isinstance(turn, Mapping) and isinstance(turn.get(key), str):
                yield turn[key]
