"""What a model is asked: questions with several choices and texts, collected in an exam."""

import json
import math
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cache, cached_property
from hashlib import sha256
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

from caplab.support.errors import (
    BadInput,
    did_you_mean,
    explaining_failure,
    is_count,
    require_type,
    short_repr,
)
from caplab.support.files import as_path, parse_rows, read_jsonl, write_atomically
from caplab.support.text import has_lone_surrogate

__all__ = ["Exam", "Question", "Text", "exam"]

LANGUAGE = "language"
OVERALL = "overall"  # the row of all questions, in every table
BUILT_IN = ("classics", "task")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


# ---------------------------------------------------------------- questions and texts


@dataclass(frozen=True)
class Question:
    """A prompt, the choices of which one is right, and the capability that it tests.

    Questions of one `group`, such as phrasings of one fact, rise and fall together and count as one
    piece of evidence; a question without a group is a group of its own.
    """

    capability: str
    prompt: str
    choices: tuple[str, ...]
    answer: int
    group: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.choices, list):
            object.__setattr__(self, "choices", tuple(self.choices))
        _refuse_if(_question_problems(self))


@dataclass(frozen=True)
class Text:
    """A text on which the language loss is measured; its capability is always `language`."""

    capability: str
    text: str

    def __post_init__(self) -> None:
        wrong = f'the capability of a text is "{LANGUAGE}", not {self.capability!r}'
        problems = [] if self.capability == LANGUAGE else [wrong]
        _refuse_if([*problems, *_text_problems("text", self.text)])


def _refuse_if(problems: Iterable[str]) -> None:
    """Raise one error that lists all problems of an item, if there are any."""
    if found := list(problems):
        raise BadInput("; ".join(found))


def _question_problems(question: Question) -> Iterator[str]:
    """Find all problems of a question."""
    yield from _text_problems("capability", question.capability)
    if question.capability == LANGUAGE:
        yield f'the capability "{LANGUAGE}" is reserved for texts: give the question another one'
    if isinstance(question.capability, str) and _CONTROL.search(question.capability):
        yield f"capability contains a line break or control character ({question.capability!a:.80})"
    if question.capability == OVERALL:
        yield f'"{OVERALL}" is the row of all questions: give the capability another name'
    if question.group is not None:
        yield from _text_problems("group", question.group)
    yield from _text_problems("prompt", question.prompt)
    if not isinstance(question.choices, tuple):
        yield f"choices must be a list of strings, not {short_repr(question.choices)}"
        return
    yield from _choice_problems(question.choices)
    yield from _answer_problems(question.answer, len(question.choices))


def _choice_problems(choices: tuple[Any, ...]) -> Iterator[str]:
    """Find the problems of the choices."""
    if len(choices) < 2:
        yield f"a question needs at least two choices, and this one has {len(choices)}"
    for number, choice in enumerate(choices):
        yield from _text_problems(f"choice {number}", choice)
        if isinstance(choice, str) and choice[:1].isspace() and choice.strip():
            yield f"choice {number} ({choice!r}) begins with a space: score adds it itself"
    for choice, times in Counter(map(repr, choices)).items():
        if times > 1:
            yield f"choice {choice:.80} appears {times} times"


def _answer_problems(answer: Any, count: int) -> Iterator[str]:
    """Find the problem of the number of the right choice."""
    if type(answer) is not int:  # True would be choice 1
        yield (
            "answer must be the number of the right choice, counted from 0, "
            f"not {short_repr(answer)}"
        )
    elif not 0 <= answer < count:
        numbered = f"the choices are numbered 0 to {count - 1}"
        yield f"answer {short_repr(answer)} is out of range: {numbered}"


def _text_problems(what: str, text: Any) -> Iterator[str]:
    """Find the problem of a string; `what` names it in the message."""
    if not isinstance(text, str):
        yield f"{what} must be a string, not {short_repr(text)}"
    elif not text.strip():
        yield f"{what} is empty"
    elif has_lone_surrogate(text):
        yield f"{what} contains a lone surrogate, half a character ({text!a:.80})"


# ---------------------------------------------------------------- exams


@dataclass(frozen=True)
class Exam:
    """Questions of several capabilities, and texts for the language loss."""

    questions: tuple[Question, ...]
    texts: tuple[Text, ...] = ()
    name: str = "exam"

    def __post_init__(self) -> None:
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
        self._check_groups()

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

        Groups do not count: they change no answer, and scorecards carry them.
        """
        plain = Exam(tuple(replace(each, group=None) for each in self.questions), self.texts)
        return sha256("".join(plain._lines()).encode()).hexdigest()[:16]

    def subset(self, capability: str) -> "Exam":
        """Keep the questions of one capability, and no texts."""
        if capability not in self.capabilities:
            raise BadInput(
                f"The exam {self.name!r} does not test {short_repr(capability)}."
                f"{did_you_mean(capability, self.capabilities)} "
                f"It tests: {', '.join(self.capabilities)}."
            )
        kept = [question for question in self.questions if question.capability == capability]
        return Exam(tuple(kept), (), f"{self.name}/{capability}")

    def sample(self, n: int, seed: int = 0) -> "Exam":
        """Draw n questions, in proportion to the capabilities, and the same share of the texts."""
        if not is_count(n, 1) or n > len(self):
            raise BadInput(f"A sample has 1 to {len(self)} questions, not {short_repr(n)}.")
        require_type(seed, int, "seed is a whole number")
        rng = random.Random(seed)
        groups: dict[str, list[int]] = {}
        for row, question in enumerate(self.questions):
            groups.setdefault(question.capability, []).append(row)
        shares = _shares(n, [len(group) for group in groups.values()])
        drawn = [rng.sample(group, k) for group, k in zip(groups.values(), shares, strict=True)]
        texts = rng.sample(range(len(self.texts)), math.ceil(len(self.texts) * n / len(self)))
        return Exam(
            tuple(self.questions[row] for row in sorted(chain(*drawn))),
            tuple(self.texts[row] for row in sorted(texts)),
            f"{self.name}[{n}]",
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the exam as JSONL, the format that `exam` reads."""
        write_atomically(path, "".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        """Write each item as one line of JSONL; a group only where there is one."""
        items: tuple[Question | Text, ...] = (*self.questions, *self.texts)
        for item in items:
            line = asdict(item)
            if line.get("group", "") is None:
                del line["group"]
            yield json.dumps(line, ensure_ascii=False) + "\n"

    def __len__(self) -> int:
        return len(self.questions)

    def __repr__(self) -> str:
        counts = Counter(question.capability for question in self.questions)
        tested = ", ".join(f"{name} {count}" for name, count in counts.items())
        texts = f", texts: {len(self.texts)}" if self.texts else ""
        return f"Exam {self.name}: {len(self)} questions ({tested}){texts}"


def _shares(n: int, sizes: list[int]) -> list[int]:
    """Split n in proportion to the sizes; rounding favours the largest remainders."""
    exact = [n * size / sum(sizes) for size in sizes]
    shares = [int(part) for part in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: n - sum(shares)]:
        shares[i] += 1
    return shares


def exam(source: str | os.PathLike[str] = "classics") -> Exam:
    """Read an exam: the built-in `"classics"` or `"task"`, or your own JSONL or Parquet file.

    A line is a question, `{"capability": ..., "prompt": ..., "choices": [...], "answer": 0}`, or a
    text for the language loss, `{"capability": "language", "text": ...}`. A question may name the
    `"group"` that it belongs to, such as the fact behind several phrasings.
    """
    require_type(source, (str, os.PathLike), "An exam is named by a string or a path")
    name = os.fspath(source)
    return _built_in(name) if name in BUILT_IN else _read_exam(Path(name), as_path(name).stem)


@cache
def _built_in(name: str) -> Exam:
    """Read an exam that ships with the lab, once."""
    return _read_exam(Path(str(files("caplab") / "assets" / f"{name}.jsonl")), name)


_LINE_FORMAT = (
    'A line is {"capability": "capitals", "prompt": "...", "choices": ["...", "..."], "answer": 0} '
    'or {"capability": "language", "text": "..."}.'
)


def _read_exam(path: Path, name: str) -> Exam:
    """Read an exam from a file."""
    if path.suffix == ".parquet":
        rows = enumerate(_parquet_rows(path))
        items = parse_rows(path, rows, _parse, unit="row", advice=_LINE_FORMAT)
    else:
        items = read_jsonl(path, "exam", _parse, known=BUILT_IN, advice=_LINE_FORMAT)
    questions = tuple(item for item in items if isinstance(item, Question))
    if not questions:
        raise BadInput(f"{path} holds no question. {_LINE_FORMAT}")
    return Exam(questions, tuple(item for item in items if isinstance(item, Text)), name)


def _parquet_rows(path: Path) -> list[Any]:
    """Read the rows of a Parquet file; an empty cell is a key that is not there."""
    from pyarrow import parquet

    if not as_path(path).is_file():
        raise BadInput(f"There is no exam {path}.")
    with explaining_failure(f"{path} is not a Parquet file"):
        rows = parquet.read_table(as_path(path)).to_pylist()
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def _parse(row: Any) -> Question | Text:
    """Make a question or a text of one line's JSON value."""
    if not isinstance(row, dict):
        raise BadInput(f"this is not a JSON object but {json.dumps(row)[:40]}")
    kind: type[Question] | type[Text] = Text if "text" in row else Question
    wanted = [item.name for item in fields(kind)]
    needed = [item.name for item in fields(kind) if item.default is MISSING]
    missing = [f"{key!r} is missing" for key in needed if key not in row]
    unknown = [
        f"unknown key {short_repr(key)}.{did_you_mean(key, wanted)}"
        for key in row
        if key not in wanted
    ]
    _refuse_if(missing + unknown)
    return kind(**row)
