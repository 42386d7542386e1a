"""One subject's answers to one exam, item by item."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from caplab.questions.exam import OVERALL, Exam
from caplab.support.errors import (
    BadInput,
    as_number,
    explaining_failure,
    is_count,
    require_type,
    short_repr,
)
from caplab.support.files import read_sealed, write_sealed
from caplab.support.safe_text import html_text, line_text
from caplab.support.text import has_lone_surrogate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Scorecard"]
_FORMAT = {"format": "caplab scorecard", "version": 3}
# Version 1 knew no groups: each of its questions is a group of its own. Version 2 kept no answers.
_READABLE = (1, 2, 3)
_ASKED = ("plain", "chat", "mixed")


_ROUNDING = 1e-6  # nats by which a sum of logarithms may exceed 0
_LARGEST = 2**53  # beyond, a float cannot hold a whole number


def _is_nats(value: Any) -> bool:
    """Tell a number of nats; NaN is what a diverged model gives, and `compare` says so."""
    return value != value or not math.isnan(as_number(value))


def _is_loglikelihood(value: Any) -> bool:
    """Tell a log-likelihood: nothing is more likely than certain, which is 0 nats."""
    return _is_nats(value) and not as_number(value) > _ROUNDING


def _is_small_count(value: Any) -> bool:
    return is_count(value) and value < _LARGEST


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not has_lone_surrogate(value)


_KINDS: dict[str, Callable[[Any], bool]] = {  # what a scorecard's columns hold
    "capability": lambda name: _is_text(name) and name.strip() != "",
    "answer": _is_small_count,
    "loglikelihoods": lambda row: isinstance(row, tuple) and all(map(_is_loglikelihood, row)),
    "characters": lambda row: isinstance(row, tuple) and all(map(_is_small_count, row)),
    "text_losses": lambda pair: (
        isinstance(pair, tuple)
        and len(pair) == 2
        and _is_loglikelihood(-pair[0] if _is_nats(pair[0]) else None)
        and _is_small_count(pair[1])
    ),
    "group": lambda name: name is None or _is_text(name),
    "said": lambda answer: isinstance(answer, str),
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
    group: tuple[str | None, ...] = ()  # the fact behind each question; none: a group of its own
    said: tuple[str, ...] = ()  # in the model's own words; empty for a choice
    asked: str = "plain"  # or through the model's "chat" template; "mixed": only what is said

    def __post_init__(self) -> None:
        whose = f"The scorecard of {short_repr(self.subject)}"
        for name, kind in _KINDS.items():
            items = getattr(self, name)
            require_type(items, (tuple, list), f"{whose} needs a list as {name}")
            rows = [tuple(item) if isinstance(item, list) else item for item in items]
            object.__setattr__(self, name, tuple(rows))
            if strangers := [item for item in rows if not kind(item)]:
                raise BadInput(f"{whose} has {short_repr(strangers[0])} among its {name}.")
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
        if len(self.group) not in (0, len(shape)):
            raise BadInput(f"{whose} does not have one group per item.")
        if len(self.said) not in (0, len(shape)):
            raise BadInput(f"{whose} does not have one answer per item among those that it said.")
        if self.asked not in _ASKED:
            raise BadInput(f"{whose} was asked {short_repr(self.asked)}, not one of {_ASKED}.")

    @property
    def questions(self) -> list[tuple[Any, ...]]:
        """Return what must agree of two scorecards of one exam, item by item."""
        return list(zip(self.capability, self.answer, strict=True))

    @property
    def groups(self) -> list[str]:
        """Name the group of each item; one without is a group of its own."""
        names = self.group or (None,) * len(self.answer)
        return [f"item {n}" if name is None else f"group {name}" for n, name in enumerate(names)]

    @property
    def kinds(self) -> list[str]:
        """Tell for each item whether the answer was "said", or "chosen" among choices.

        Of an answer that was said only right or wrong is known: log-likelihoods of 0 and -inf.
        """
        return [
            "said" if {*found} == {0.0, -math.inf} else "chosen" for found in self.loglikelihoods
        ]

    @property
    def parts(self) -> list[tuple[str, str, str, list[int]]]:
        """List name, capability, kind and items of each row that is judged; overall comes last.

        What is said and what is chosen never share a row: a loss in one would hide in the other.
        """
        kinds, found = self.kinds, []
        for capability in (*dict.fromkeys(self.capability), OVERALL):
            items = [n for n, name in enumerate(self.capability) if capability in (name, OVERALL)]
            own = {kind: [n for n in items if kinds[n] == kind] for kind in ("said", "chosen")}
            own = {kind: inside for kind, inside in own.items() if inside}
            for kind, inside in own.items():
                name = f"{capability}, {kind}" if len(own) > 1 else capability
                found.append((name, capability, kind, inside))
        return found

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
    def by_kind(self) -> dict[str, float]:
        """Return the accuracy of what was "said" and of what was "chosen", as far as asked."""
        pairs = list(zip(self.kinds, self.correct, strict=True))
        return {
            kind: _mean([right for each, right in pairs if each == kind])
            for kind in dict.fromkeys(self.kinds)
        }

    @property
    def smooth(self) -> float:
        """Return the mean probability of the right choice: it moves before the accuracy does."""
        return _mean(self.probability)

    @property
    def language_loss(self) -> float:
        """Return the loss on the texts, in nats per predicted token."""
        nats, tokens = (sum(column) for column in zip((0.0, 0), *self.text_losses, strict=True))
        return nats / tokens if tokens else math.nan

    def given(self, exam: Exam) -> list[str]:
        """Return the answers: what was said, or the choice that is the likeliest."""
        said = self.said or ("",) * len(self.answer)
        triples = zip(exam.questions, said, self.chosen, strict=True)
        return [
            answer if question.spoken else question.choices[best]
            for question, answer, best in triples
        ]

    def to_pandas(self, exam: Exam | None = None) -> "pd.DataFrame":
        """Return one row per item; with its exam, the questions stand beside the answers."""
        import pandas as pd

        require_type(exam, (Exam, type(None)), "to_pandas takes the Exam that was answered")
        if exam is not None and exam.fingerprint != self.fingerprint:
            raise BadInput(f"These answers were given to {self.exam!r}, not to {exam.name!r}.")
        columns: dict[str, Any] = {"capability": self.capability, "group": self.groups}
        if exam is not None:
            columns["prompt"] = [question.asked for question in exam.questions]
            columns["expected"] = [question.right for question in exam.questions]
            columns["given"] = self.given(exam)
        elif self.said:
            columns["said"] = self.said
        names = ("answer", "chosen", "correct", "correct_norm", "probability", "loglikelihoods")
        return pd.DataFrame(columns | {name: getattr(self, name) for name in names})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the scorecard as JSON, digit for digit."""
        write_sealed(path, _FORMAT | asdict(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Scorecard":
        """Read a scorecard that `save` wrote."""
        found = read_sealed(path, "scorecard")
        with explaining_failure(f"{path} is not a scorecard"):
            stamp = {key: found.pop(key, None) for key in _FORMAT}
            if stamp["format"] != _FORMAT["format"] or stamp["version"] not in _READABLE:
                raise ValueError(f"it is marked {stamp}, and this version reads {_FORMAT}")
            return cls(**found)

    def _counts(self) -> dict[str, tuple[int, int]]:
        """Count right answers and items, for each capability."""
        right = Counter(name for name, ok in zip(self.capability, self.correct, strict=True) if ok)
        return {name: (right[name], n) for name, n in Counter(self.capability).items()}

    def _rows(self) -> Iterator[tuple[str, int, float, float, float]]:
        """Yield name, items, accuracy and its interval, for each capability and for all."""
        from caplab.measuring.intervals import wilson

        correct = self.correct
        for name, _, _, items in self.parts:
            found = [correct[n] for n in items]
            yield name, len(found), _mean(found), *wilson(sum(found), len(found))

    def _footer(self) -> str:
        """Name the language loss, where there is one."""
        loss, texts = self.language_loss, len(self.text_losses)
        return (
            "" if math.isnan(loss) else f"language loss {loss:.3f} nats per token (texts: {texts})"
        )

    def __repr__(self) -> str:
        rows = [(line_text(row[0], 80), *row[1:]) for row in self._rows()]
        width = max(len(name) for name in ("capability", *(row[0] for row in rows)))
        lines = [
            line_text(f"Scorecard: {self.subject} on {self.exam}", 300),
            f"{'capability':{width}}     n  accuracy  95 % interval",
        ]
        for name, n, share, low, high in rows:
            lines.append(f"{name:{width}} {n:5}  {share:8.3f}  {low:.3f} to {high:.3f}")
        return "\n".join([*lines, self._footer()]).rstrip()

    def _repr_html_(self) -> str:
        cell = '<td style="text-align: right">'
        rows = "".join(
            f'<tr><td style="text-align: left">{html_text(name, 200)}</td>{cell}{n}</td>'
            f"{cell}{share:.3f}</td>{cell}{low:.3f} to {high:.3f}</td></tr>"
            for name, n, share, low, high in self._rows()
        )
        head = "<tr><th>capability</th><th>n</th><th>accuracy</th><th>95 % interval</th></tr>"
        subject, exam = html_text(self.subject, 200), html_text(self.exam, 200)
        title = f"<caption><b>{subject}</b> on {exam}</caption>"
        return f"<table>{title}{head}{rows}</table>{self._footer()}"


def as_columns(levels: Mapping[str, float], taken: Iterable[str]) -> dict[str, float]:
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
