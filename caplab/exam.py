"""Ask a model an exam, and keep its answers item by item.

An exam asks questions with several choices, grouped by capability, and holds texts for the language
loss. A choice is scored as lm-evaluation-harness scores its `multiple_choice` tasks: by the
log-likelihood of `" " + choice` after the prompt, summed over its tokens.
"""

import json
import math
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, cached_property
from hashlib import sha256
from html import escape
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caplab.errors import BadInput, did_you_mean, real, refusing, require, shown
from caplab.files import as_path, from_json, read_sealed, read_text, write_atomically, write_sealed

if TYPE_CHECKING:
    import pandas as pd

    from caplab.models import Subject

__all__ = ["Exam", "Question", "Scorecard", "Text", "exam", "score", "write_atomically"]

LANGUAGE = "language"
OVERALL = "overall"  # the row of all questions, in every table
BUILT_IN = ("classics", "task")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_FORMAT = {"format": "caplab scorecard", "version": 1}


# ---------------------------------------------------------------- questions and texts


@dataclass(frozen=True)
class Question:
    """A prompt, the choices of which one is right, and the capability that it tests."""

    capability: str
    prompt: str
    choices: tuple[str, ...]
    answer: int

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
    """Say all that is wrong with one item."""
    if found := list(problems):
        raise BadInput("; ".join(found))


def _question_problems(question: Question) -> Iterator[str]:
    """Find everything that is wrong with a question."""
    yield from _text_problems("capability", question.capability)
    if question.capability == LANGUAGE:
        yield f'the capability "{LANGUAGE}" is kept for texts: give the question another one'
    if isinstance(question.capability, str) and _CONTROL.search(question.capability):
        yield f"capability holds a line break or a control character ({question.capability!a:.80})"
    if question.capability == OVERALL:
        yield f'"{OVERALL}" is the row of all questions: give the capability another name'
    yield from _text_problems("prompt", question.prompt)
    if not isinstance(question.choices, tuple):
        yield f"choices must be a list of texts, not {shown(question.choices)}"
        return
    yield from _choice_problems(question.choices)
    yield from _answer_problems(question.answer, len(question.choices))


def _choice_problems(choices: tuple[Any, ...]) -> Iterator[str]:
    """Find what is wrong with the choices."""
    if len(choices) < 2:
        yield f"a question needs two choices or more, and this one has {len(choices)}"
    for number, choice in enumerate(choices):
        yield from _text_problems(f"choice {number}", choice)
        if isinstance(choice, str) and choice[:1].isspace() and choice.strip():
            yield f"choice {number} ({choice!r}) begins with a space: score puts one there itself"
    for choice, times in Counter(map(repr, choices)).items():
        if times > 1:
            yield f"choice {choice:.80} stands there {times} times"


def _answer_problems(answer: Any, count: int) -> Iterator[str]:
    """Find what is wrong with the number of the right choice."""
    if type(answer) is not int:
        yield f"answer must be the number of the right choice, counted from 0, not {shown(answer)}"
    elif not 0 <= answer < count:
        yield f"answer {shown(answer)} is out of range: the choices are numbered 0 to {count - 1}"


def _text_problems(what: str, text: Any) -> Iterator[str]:
    """Find what is wrong with a piece of text."""
    if not isinstance(text, str):
        yield f"{what} must be a text, not {shown(text)}"
    elif not text.strip():
        yield f"{what} is empty"
    elif any("\ud800" <= letter <= "\udfff" for letter in text):
        yield f"{what} holds half a character ({text!a:.80})"


# ---------------------------------------------------------------- exams


@dataclass(frozen=True)
class Exam:
    """Questions grouped by capability, and texts for the language loss."""

    questions: tuple[Question, ...]
    texts: tuple[Text, ...] = ()
    name: str = "exam"

    def __post_init__(self) -> None:
        for items in ("questions", "texts"):
            require(getattr(self, items), Iterable, f"An exam takes a list of {items}")
            object.__setattr__(self, items, tuple(getattr(self, items)))
        require(self.name, str, "An exam's name is a text")
        if not self.questions:
            raise BadInput(f"The exam {self.name!r} is empty: it needs one question or more.")
        for kind, given in ((Question, self.questions), (Text, self.texts)):
            if strangers := [item for item in given if not isinstance(item, kind)]:
                raise BadInput(f"An exam takes {kind.__name__}s here, not {shown(strangers[0])}.")

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Name what is tested, in the order of the questions."""
        return tuple(dict.fromkeys(question.capability for question in self.questions))

    @cached_property
    def fingerprint(self) -> str:
        """Identify the content: exams with equal items in equal order have the same fingerprint."""
        return sha256("".join(self._lines()).encode()).hexdigest()[:16]

    def subset(self, capability: str) -> "Exam":
        """Keep the questions of one capability, and no texts."""
        if capability not in self.capabilities:
            raise BadInput(
                f"The exam {self.name!r} does not test {shown(capability)}."
                f"{did_you_mean(capability, self.capabilities)} "
                f"It tests: {', '.join(self.capabilities)}."
            )
        kept = [question for question in self.questions if question.capability == capability]
        return Exam(tuple(kept), (), f"{self.name}/{capability}")

    def sample(self, n: int, seed: int = 0) -> "Exam":
        """Draw n questions, each capability in proportion, and as large a part of the texts."""
        if type(n) is not int or not 1 <= n <= len(self):
            raise BadInput(f"A sample has 1 to {len(self)} questions, not {shown(n)}.")
        require(seed, int, "seed is a whole number")
        rng = random.Random(seed)
        groups: dict[str, list[int]] = {}
        for number, question in enumerate(self.questions):
            groups.setdefault(question.capability, []).append(number)
        shares = _shares(n, [len(group) for group in groups.values()])
        drawn = [rng.sample(group, k) for group, k in zip(groups.values(), shares, strict=True)]
        texts = rng.sample(range(len(self.texts)), math.ceil(len(self.texts) * n / len(self)))
        return Exam(
            tuple(self.questions[number] for number in sorted(chain(*drawn))),
            tuple(self.texts[number] for number in sorted(texts)),
            f"{self.name}[{n}]",
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the exam as JSONL, the format that `exam` reads."""
        write_atomically(path, "".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        """Write each item as one line of JSONL."""
        items: tuple[Question | Text, ...] = (*self.questions, *self.texts)
        for item in items:
            yield json.dumps(asdict(item), ensure_ascii=False) + "\n"

    def __len__(self) -> int:
        return len(self.questions)

    def __repr__(self) -> str:
        counts = Counter(question.capability for question in self.questions)
        tested = ", ".join(f"{name} {count}" for name, count in counts.items())
        texts = f", texts: {len(self.texts)}" if self.texts else ""
        return f"Exam {self.name}: {len(self)} questions ({tested}){texts}"


def _shares(n: int, sizes: list[int]) -> list[int]:
    """Split n in proportion to the sizes; the largest remainders get what rounding leaves."""
    exact = [n * size / sum(sizes) for size in sizes]
    shares = [int(part) for part in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: n - sum(shares)]:
        shares[i] += 1
    return shares


def exam(source: str | os.PathLike[str] = "classics") -> Exam:
    """Read an exam: the built-in `"classics"` or `"task"`, or your own JSONL file.

    A line is a question, `{"capability": ..., "prompt": ..., "choices": [...], "answer": 0}`, or a
    text for the language loss, `{"capability": "language", "text": ...}`.
    """
    require(source, (str, os.PathLike), "An exam is named by a text or a path")
    name = os.fspath(source)
    return _built_in(name) if name in BUILT_IN else _read_exam(Path(name), as_path(name).stem)


@cache
def _built_in(name: str) -> Exam:
    """Read an exam that ships with the lab, once."""
    return _read_exam(Path(str(files("caplab") / "assets" / f"{name}.jsonl")), name)


def _read_exam(path: Path, name: str) -> Exam:
    """Read every line, and say of all malformed ones at once what is wrong."""
    items, problems = [], []
    for number, line in enumerate(read_text(path, "exam", BUILT_IN).split("\n"), start=1):
        try:
            items += [_parse(line)] if line.strip() else []
        except BadInput as error:
            problems.append(f"  line {number}: {error}")
    if problems:
        lines = "1 malformed line" if len(problems) == 1 else f"{len(problems)} malformed lines"
        raise BadInput("\n".join([f"{path} has {lines}:", *problems, _HOW_TO_WRITE_A_LINE]))
    questions = tuple(item for item in items if isinstance(item, Question))
    if not questions:
        raise BadInput(f"{path} holds no question. {_HOW_TO_WRITE_A_LINE}")
    return Exam(questions, tuple(item for item in items if isinstance(item, Text)), name)


_HOW_TO_WRITE_A_LINE = (
    'A line is {"capability": "capitals", "prompt": "...", "choices": ["...", "..."], "answer": 0} '
    'or {"capability": "language", "text": "..."}.'
)


def _parse(line: str) -> Question | Text:
    """Read one line of an exam."""
    row = from_json(line)
    if not isinstance(row, dict):
        raise BadInput(f"this is not a JSON object but {line.strip()[:40]}")
    kind: type[Question] | type[Text] = Text if "text" in row else Question
    wanted = [item.name for item in fields(kind)]
    missing = [f"{key!r} is missing" for key in wanted if key not in row]
    unknown = [
        f"unknown key {shown(key)}.{did_you_mean(key, wanted)}" for key in row if key not in wanted
    ]
    _refuse_if(missing + unknown)
    return kind(**row)


# ---------------------------------------------------------------- scoring


def score(
    subject: "Subject", exam: Exam, batch_size: int | None = None, *, progress: bool = True
) -> "Scorecard":
    """Ask a subject every question of an exam, and measure its loss on the exam's texts.

    The subject is measured in evaluation mode and left as it was: a training can go on as if nobody
    had asked. `batch_size` counts rows of some 128 tokens in one forward pass; left out, it follows
    from the device. Texts longer than the context are read in windows that overlap by one token, so
    that every token but a text's first is predicted once.
    """
    from caplab.likelihood import likelihoods
    from caplab.models import Subject

    require(subject, Subject, 'score needs a Subject, such as load("pocket")')
    require(exam, Exam, "score needs an Exam, such as exam() or exam(path)")
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise BadInput(f"batch_size is a whole number from 1 on, not {shown(batch_size)}.")
    found = likelihoods(subject, exam, batch_size, progress=progress)
    return Scorecard(
        subject=subject.name,
        exam=exam.name,
        fingerprint=exam.fingerprint,
        capability=tuple(question.capability for question in exam.questions),
        answer=tuple(question.answer for question in exam.questions),
        loglikelihoods=found.choices,
        characters=tuple(tuple(map(len, question.choices)) for question in exam.questions),
        text_losses=found.texts,
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_nats(value: Any) -> bool:
    """Tell a log-likelihood; NaN is what a diverged model gives, and `compare` says so."""
    return value != value or not math.isnan(real(value))


_KINDS: dict[str, Callable[[Any], bool]] = {  # what a scorecard's columns hold
    "capability": lambda name: isinstance(name, str),
    "answer": _is_count,
    "loglikelihoods": lambda row: isinstance(row, tuple) and all(map(_is_nats, row)),
    "characters": lambda row: isinstance(row, tuple) and all(map(_is_count, row)),
    "text_losses": lambda pair: (
        isinstance(pair, tuple) and len(pair) == 2 and _is_nats(pair[0]) and _is_count(pair[1])
    ),
}


@dataclass(frozen=True, repr=False)
class Scorecard:
    """One subject's answers to one exam, item by item; everything else follows from them."""

    subject: str
    exam: str
    fingerprint: str
    capability: tuple[str, ...]
    answer: tuple[int, ...]
    loglikelihoods: tuple[tuple[float, ...], ...]  # of each choice, summed over its tokens
    characters: tuple[tuple[int, ...], ...]  # in each choice
    text_losses: tuple[tuple[float, int], ...] = ()  # nats and predicted tokens of each text

    def __post_init__(self) -> None:
        whose = f"The scorecard of {shown(self.subject)}"
        for name, kind in _KINDS.items():
            items = getattr(self, name)
            require(items, (tuple, list), f"{whose} needs a list as {name}")
            rows = [tuple(item) if isinstance(item, list) else item for item in items]
            object.__setattr__(self, name, tuple(rows))
            if strangers := [item for item in rows if not kind(item)]:
                raise BadInput(f"{whose} has {shown(strangers[0])} among its {name}.")
        self._check(whose)

    def _check(self, whose: str) -> None:
        """Refuse answers that do not belong to one set of questions."""
        if not all(isinstance(text, str) for text in (self.subject, self.exam, self.fingerprint)):
            raise BadInput(f"{whose} needs texts as subject, exam and fingerprint.")
        shape = [len(item) for item in self.loglikelihoods]
        fits = len(self.capability) == len(self.answer) == len(shape)
        if not fits or shape != [len(item) for item in self.characters]:
            raise BadInput(f"{whose} does not have one entry per item.")
        if not all(0 <= answer < count for answer, count in zip(self.answer, shape, strict=True)):
            raise BadInput(f"{whose} has an answer out of range.")
        if not shape:
            raise BadInput(f"{whose} has no questions.")

    @property
    def chosen(self) -> list[int]:
        """Tell which choice the subject finds likeliest, for each item."""
        return [_best(found) for found in self.loglikelihoods]

    @property
    def correct(self) -> list[bool]:
        """Tell whether the likeliest choice is right: the `acc` of lm-evaluation-harness."""
        return [best == answer for best, answer in zip(self.chosen, self.answer, strict=True)]

    @property
    def correct_norm(self) -> list[bool]:
        """Tell the same by log-likelihood per character: its `acc_norm`."""
        pairs = zip(self.loglikelihoods, self.characters, strict=True)
        rates = [list(map(per_character, *pair)) for pair in pairs]
        return [_best(rate) == answer for rate, answer in zip(rates, self.answer, strict=True)]

    @property
    def probability(self) -> list[float]:
        """Tell how probable the right choice is after the prompt, for each item."""
        pairs = zip(self.loglikelihoods, self.answer, strict=True)
        return [math.exp(found[answer]) for found, answer in pairs]

    @property
    def accuracy(self) -> float:
        """Return the share of items answered right."""
        return _mean(self.correct)

    @property
    def accuracy_norm(self) -> float:
        """Return the share of items answered right per character."""
        return _mean(self.correct_norm)

    @property
    def by_capability(self) -> dict[str, float]:
        """Return the accuracy on each capability."""
        return {name: right / n for name, (right, n) in self._counts().items()}

    @property
    def smooth(self) -> float:
        """Return the mean probability of the right choice: it moves before the accuracy does."""
        return _mean(self.probability)

    @property
    def language_loss(self) -> float:
        """Return the loss on the texts, in nats per predicted token."""
        nats, tokens = (sum(column) for column in zip((0.0, 0), *self.text_losses, strict=True))
        return nats / tokens if tokens else math.nan

    def to_pandas(self, exam: Exam | None = None) -> "pd.DataFrame":
        """Return one row per item; with its exam, the questions stand beside the answers."""
        import pandas as pd

        require(exam, (Exam, type(None)), "to_pandas takes the Exam that was answered")
        if exam is not None and exam.fingerprint != self.fingerprint:
            raise BadInput(f"These answers were given to {self.exam!r}, not to {exam.name!r}.")
        columns: dict[str, Any] = {"capability": self.capability}
        if exam is not None:
            columns["prompt"] = [question.prompt for question in exam.questions]
            columns["expected"] = [question.choices[question.answer] for question in exam.questions]
            pairs = zip(exam.questions, self.chosen, strict=True)
            columns["given"] = [question.choices[best] for question, best in pairs]
        names = ("answer", "chosen", "correct", "correct_norm", "probability", "loglikelihoods")
        return pd.DataFrame(columns | {name: getattr(self, name) for name in names})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the scorecard as JSON, digit for digit."""
        write_sealed(path, _FORMAT | asdict(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Scorecard":
        """Read a scorecard that `save` wrote."""
        found = read_sealed(path, "scorecard")
        with refusing(f"{path} is not a scorecard"):
            stamp = {key: found.pop(key, None) for key in _FORMAT}
            if stamp != _FORMAT:
                raise ValueError(f"it is marked {stamp}, and this version reads {_FORMAT}")
            return cls(**found)

    def _counts(self) -> dict[str, tuple[int, int]]:
        """Count right answers and items, for each capability."""
        right = Counter(name for name, ok in zip(self.capability, self.correct, strict=True) if ok)
        return {name: (right[name], n) for name, n in Counter(self.capability).items()}

    def _rows(self) -> Iterator[tuple[str, int, float, float, float]]:
        """Yield name, items, accuracy and its interval, for each capability and for all."""
        from caplab.stats import wilson

        counts = self._counts()
        total = (sum(self.correct), len(self.answer))
        for name, (right, n) in [*counts.items(), ("overall", total)]:
            yield name, n, right / n, *wilson(right, n)

    def _footer(self) -> str:
        """Name the language loss, where there is one."""
        loss, texts = self.language_loss, len(self.text_losses)
        return (
            "" if math.isnan(loss) else f"language loss {loss:.3f} nats per token (texts: {texts})"
        )

    def __repr__(self) -> str:
        width = max(len(name) for name in ("capability", *self.capability))
        lines = [
            f"Scorecard: {self.subject} on {self.exam}",
            f"{'capability':{width}}     n  accuracy  95 % interval",
        ]
        for name, n, share, low, high in self._rows():
            lines.append(f"{name:{width}} {n:5}  {share:8.3f}  {low:.3f} to {high:.3f}")
        return "\n".join([*lines, self._footer()]).rstrip()

    def _repr_html_(self) -> str:
        cell = '<td style="text-align: right">'
        rows = "".join(
            f'<tr><td style="text-align: left">{escape(name)}</td>{cell}{n}</td>'
            f"{cell}{share:.3f}</td>{cell}{low:.3f} to {high:.3f}</td></tr>"
            for name, n, share, low, high in self._rows()
        )
        head = "<tr><th>capability</th><th>n</th><th>accuracy</th><th>95 % interval</th></tr>"
        title = f"<caption><b>{escape(self.subject)}</b> on {escape(self.exam)}</caption>"
        return f"<table>{title}{head}{rows}</table>{self._footer()}"


def beside(levels: Mapping[str, float], taken: Iterable[str]) -> dict[str, float]:
    """Name capabilities in a table whose other columns may be called alike."""
    names = {*taken}
    return {f"{name} (capability)" if name in names else name: levels[name] for name in levels}


def per_character(nats: float, characters: int) -> float:
    """Divide a log-likelihood as lm-evaluation-harness does: an empty choice is never the best."""
    return nats / characters if characters else -math.inf


def _best(values: Sequence[float]) -> int:
    """Return the place of the largest value, the first of equals, as numpy's argmax does."""
    return max(range(len(values)), key=values.__getitem__)


def _mean(values: Sequence[float]) -> float:
    """Return the mean of the values; without any there is none."""
    return sum(values) / len(values) if values else math.nan
