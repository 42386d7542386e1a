"""What a model is asked: questions and texts, collected in an exam."""

import json
import math
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import InitVar, dataclass, fields, replace
from functools import cache, cached_property
from hashlib import sha256
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

from caplab.questions.duplicates import check_names, one_group_per_fact, refuse_repeated
from caplab.questions.question import LANGUAGE, OVERALL, Question, Text, refuse_if
from caplab.support.errors import (
    BadInput,
    did_you_mean,
    is_count,
    require_type,
    short_repr,
)
from caplab.support.files import as_path, from_json, parse_rows, read_jsonl, write_atomically
from caplab.support.parquet import parquet_rows
from caplab.support.safe_text import line_text
from caplab.support.tables import html_table

__all__ = ["LANGUAGE", "OVERALL", "Exam", "Question", "Text", "exam"]

# Each built-in exam and its files in assets/; those of World 2 go with the model `pocket2`.
_FILES = {
    name: (name,) for name in ("classics", "task", "everyday", "everyday_reworded", "everyday_task")
} | {
    name: (f"world2/{file}", f"world2/{said}")
    for name, file, said in (
        ("world2", "classics", "spoken"),
        ("service2", "service", "service_spoken"),
        ("catalogue", "catalogue", "catalogue_spoken"),
        ("station", "station", "station_spoken"),
    )
}
BUILT_IN = tuple(_FILES)


@dataclass(frozen=True)
class Exam:
    """Questions of several capabilities, and texts for the language loss.

    `max_new_tokens` is how long a spoken answer may be, for questions that do not say so. Questions
    with the same prompt and the same right answer become one group. One that stands there twice is
    refused; with `repeats`, for questions that nobody chose, it is one group as well.
    """

    questions: tuple[Question, ...]
    texts: tuple[Text, ...] = ()
    name: str = "exam"
    max_new_tokens: InitVar[int | None] = None
    repeats: InitVar[bool] = False

    def __post_init__(self, max_new_tokens: int | None, repeats: bool) -> None:
        for items in ("questions", "texts"):
            require_type(getattr(self, items), Iterable, f"An exam takes a list of {items}")
            object.__setattr__(self, items, tuple(getattr(self, items)))
        require_type(self.name, str, "An exam's name is a string")
        if not self.questions:
            raise BadInput(f"The exam {self.name!r} is empty: it needs at least one question.")
        for kind, given in ((Question, self.questions), (Text, self.texts)):
            if strangers := [item for item in given if not isinstance(item, kind)]:
                raise BadInput(
                    f"An exam takes {kind.__name__}s here, not {short_repr(strangers[0])}."
                )
        if max_new_tokens is not None:
            object.__setattr__(self, "questions", tuple(_within(self.questions, max_new_tokens)))
        check_names(self.questions)
        self._check_groups()
        if not repeats:
            refuse_repeated(self.questions)
        object.__setattr__(self, "questions", one_group_per_fact(self.questions))

    def _check_groups(self) -> None:
        """Refuse a group that spans two capabilities: it would be evidence for both at once."""
        home: dict[str, str] = {}
        for question in self.questions:
            if question.group is not None:
                first = home.setdefault(question.group, question.capability)
                if first != question.capability:
                    raise BadInput(
                        f"The group {short_repr(question.group)} spans two capabilities, "
                        f"{first!r} and {question.capability!r}: name it differently in each."
                    )

    @property
    def capabilities(self) -> tuple[str, ...]:
        """List the capabilities that are tested, in the order of the questions."""
        return tuple(dict.fromkeys(question.capability for question in self.questions))

    @cached_property
    def fingerprint(self) -> str:
        """Identify what is asked: equal items in equal order have the same fingerprint.

        Groups and tags do not count: they change no answer, and scorecards carry the groups. The
        groups of questions that are right only together do.
        """
        untagged = [replace(question, tags=()) for question in self.questions]
        plain = [q if q.together else replace(q, group=None) for q in untagged]
        return sha256("".join(_lines(plain, self.texts)).encode()).hexdigest()[:16]

    @cached_property
    def choosing(self) -> "Exam":
        """Return the questions with choices, perhaps none, and the texts."""
        return self._of_kind(spoken=False, texts=self.texts)

    @cached_property
    def speaking(self) -> "Exam":
        """Return the spoken questions, perhaps none, and no texts."""
        return self._of_kind(spoken=True, texts=())

    def _of_kind(self, *, spoken: bool, texts: tuple[Text, ...]) -> "Exam":
        kept = tuple(question for question in self.questions if question.spoken == spoken)
        if len(kept) == len(self.questions) and texts == self.texts:
            return self
        part = object.__new__(Exam)  # an exam by itself needs a question
        vars(part).update(questions=kept, texts=texts, name=self.name)
        return part

    def subset(self, capability: str) -> "Exam":
        """Keep the questions of one capability, and no texts."""
        if capability not in self.capabilities:
            raise BadInput(
                f"The exam {self.name!r} does not test {short_repr(capability)}."
                f"{did_you_mean(capability, self.capabilities)} "
                f"It tests: {', '.join(self.capabilities)}."
            )
        kept = [question for question in self.questions if question.capability == capability]
        return Exam(tuple(kept), (), f"{self.name}/{capability}", repeats=True)

    def sample(self, n: int, seed: int = 0) -> "Exam":
        """Draw n questions, in proportion to the capabilities, and the same share of the texts.

        Questions that are right only together stay together, so there may be a few less than n.
        """
        if not is_count(n, 1) or n > len(self):
            raise BadInput(f"A sample has 1 to {len(self)} questions, not {short_repr(n)}.")
        require_type(seed, int, "seed is a whole number")
        rng = random.Random(seed)
        groups: dict[str, list[int]] = {}
        for row, question in enumerate(self.questions):
            groups.setdefault(question.capability, []).append(row)
        shares = _shares(n, [len(group) for group in groups.values()])
        drawn = [
            self._drawn(rng, group, k) for group, k in zip(groups.values(), shares, strict=True)
        ]
        texts = rng.sample(range(len(self.texts)), math.ceil(len(self.texts) * n / len(self)))
        return Exam(
            tuple(self.questions[row] for row in sorted(chain(*drawn))),
            tuple(self.texts[row] for row in sorted(texts)),
            f"{self.name}[{n}]",
            repeats=True,
        )

    def _drawn(self, rng: random.Random, rows: list[int], k: int) -> list[int]:
        """Draw k of some rows, and of those that are right only together all or none."""
        sets: dict[Any, list[int]] = {}
        for row in rows:
            question = self.questions[row]
            sets.setdefault(question.group if question.together else row, []).append(row)
        if len(sets) == len(rows):
            return rng.sample(rows, k)
        drawn: list[int] = []
        for own in rng.sample(list(sets.values()), len(sets)):
            drawn += own if len(drawn) + len(own) <= k else []
        return drawn

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the exam as JSONL, the format that `exam` reads."""
        write_atomically(path, "".join(_lines(self.questions, self.texts)))

    def __len__(self) -> int:
        return len(self.questions)

    def __repr__(self) -> str:
        counts = Counter(question.capability for question in self.questions)
        tested = ", ".join(f"{name} {count}" for name, count in counts.items())
        texts = f", texts: {len(self.texts)}" if self.texts else ""
        return line_text(f"Exam {self.name}: {len(self)} questions ({tested}){texts}")

    def _repr_html_(self) -> str:
        """Write the same as a table, with the groups that are the evidence."""
        rows = []
        for name in (*self.capabilities, OVERALL):
            part = [q for q in self.questions if name in (q.capability, OVERALL)]
            rows.append([name, str(len(part)), str(len({q.group for q in part}))])
        texts = f"; texts: {len(self.texts)}" if self.texts else ""
        caption = f"Exam {self.name}: {len(self)} questions{texts}"
        return html_table(rows, ("capability", "questions", "groups"), caption=caption, words=(0,))


def _lines(questions: Iterable[Question], texts: Iterable[Text]) -> Iterator[str]:
    """Write each item as one line of JSONL."""
    items: list[Question | Text] = [*questions, *texts]
    for item in items:
        yield json.dumps(item.as_line(), ensure_ascii=False) + "\n"


def _within(questions: Iterable[Question], max_new_tokens: int) -> Iterator[Question]:
    """Limit the spoken answers to questions that do not say how long one may be."""
    for question in questions:
        unlimited = question.spoken and question.max_new_tokens is None
        yield replace(question, max_new_tokens=max_new_tokens) if unlimited else question


def _shares(n: int, sizes: list[int]) -> list[int]:
    """Split n in proportion to the sizes; rounding favours the largest remainders."""
    exact = [n * size / sum(sizes) for size in sizes]
    shares = [int(part) for part in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: n - sum(shares)]:
        shares[i] += 1
    return shares


def exam(source: str | os.PathLike[str] = "classics") -> Exam:
    """Read an exam: a built-in one, such as `"classics"`, or your own JSONL or Parquet file.

    The built-in exams are `"classics"` and `"task"`, which go with the model `pocket`, and
    `"everyday"` and `"everyday_reworded"`, which ask a real model the same things in other words;
    `"everyday_task"` goes with the task of that name. `"world2"` goes with `pocket2`, and
    `"service2"`, `"catalogue"` and `"station"` with its three jobs.
    A line is a question of choices, `{"capability": ..., "prompt": ..., "choices": [...], "answer":
    0}`, or a spoken one, `{"capability": ..., "prompt": ..., "expect": {"contains": ["Paris"]}}`,
    or a text for the language loss, `{"capability": "language", "text": ...}`. A question may name
    the `"group"` that it belongs to, such as the fact behind several phrasings, and have
    `"messages"` instead of a prompt; spoken ones with `"together": true` are right only if all of
    their group are. In a Parquet file `expect` may be such an object or its JSON.
    """
    require_type(source, (str, os.PathLike), "An exam is named by a string or a path")
    name = os.fspath(source)
    return _built_in(name) if name in BUILT_IN else _read_exam(Path(name), as_path(name).stem)


@cache
def _built_in(name: str) -> Exam:
    """Read an exam that ships with the lab, once."""
    folder = Path(str(files("caplab") / "assets"))
    parts = [_read_exam(folder / f"{file}.jsonl", name) for file in _FILES[name]]
    questions = chain.from_iterable(part.questions for part in parts)
    return Exam(tuple(questions), tuple(chain.from_iterable(p.texts for p in parts)), name)


_LINE_FORMAT = (
    'A line is {"capability": "capitals", "prompt": "...", "choices": ["...", "..."], "answer": 0} '
    'or {"capability": "capitals", "prompt": "...", "expect": {"contains": ["Paris"]}} '
    'or {"capability": "language", "text": "..."}.'
)


def _read_exam(path: Path, name: str) -> Exam:
    """Read an exam from a file."""
    if path.suffix == ".parquet":
        rows = enumerate(map(_parquet_row, parquet_rows(path, "exam")))
        items = parse_rows(path, rows, _parse, unit="row", advice=_LINE_FORMAT)
    else:
        items = read_jsonl(path, "exam", _parse, known=BUILT_IN, advice=_LINE_FORMAT)
    questions = tuple(item for item in items if isinstance(item, Question))
    if not questions:
        raise BadInput(f"{path} holds no question. {_LINE_FORMAT}")
    return Exam(questions, tuple(item for item in items if isinstance(item, Text)), name)


def _parquet_row(row: dict[str, Any]) -> dict[str, Any]:
    """Read a row as a line of JSONL: without empty cells, whole numbers as such.

    A column of numbers with empty cells is written as floats, and a column of unlike objects
    perhaps as their JSON.
    """
    found: dict[str, Any] = _without_empty(row)
    for key in {"answer", "max_new_tokens"} & found.keys():
        whole = isinstance(found[key], float) and found[key].is_integer()
        found[key] = int(found[key]) if whole else found[key]
    if isinstance(found.get("expect"), str):
        found["expect"] = from_json(found["expect"])
    return found


def _without_empty(cell: Any) -> Any:
    """Leave out the empty cells of a row, also those inside an object."""
    if not isinstance(cell, dict):
        return cell
    empty = {key for key, value in cell.items() if value is None or value != value}
    return {key: _without_empty(value) for key, value in cell.items() if key not in empty}


def _parse(row: Any) -> Question | Text:
    """Make a question or a text of one line's JSON value."""
    if not isinstance(row, dict):
        raise BadInput(f"this is not a JSON object but {json.dumps(row)[:40]}")
    kind: type[Question] | type[Text] = Text if "text" in row else Question
    wanted = [item.name for item in fields(kind)]
    needed = ["capability", "text"] if kind is Text else _needed(row)
    missing = [f"{key!r} is missing" for key in needed if key not in row]
    unknown = [
        f"unknown key {short_repr(key)}.{did_you_mean(key, wanted)}"
        for key in row
        if key not in wanted
    ]
    refuse_if(missing + unknown)
    return kind(**row)


def _needed(row: dict[str, Any]) -> list[str]:
    """List the keys that a question's line has to have."""
    asked = "messages" if "messages" in row else "prompt"
    if "expect" in row:
        return ["capability", asked]
    return [
        "capability",
        asked,
        *(("choices", "answer") if {"choices", "answer"} & {*row} else ["choices (or expect)"]),
    ]
