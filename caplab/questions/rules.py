"""The rules by which spoken answers are judged.

While a model is still speaking, `decided` tells whether any continuation could change the verdict:
a rule may answer True or False only if none can.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import regex

from caplab.questions.wording import (
    ARTICLES,
    count_sentences,
    count_words,
    first_line,
    is_wordy,
    last_number,
    settled_words,
    visible,
    without_invisible,
    words,
)
from caplab.support.text import join_words

__all__ = [
    "PATIENCE",
    "Rule",
    "decide_all",
    "listed",
    "meet_all",
    "read_rules",
    "schema_validator",
    "searched",
]

PATIENCE = 0.25  # seconds for one search of a pattern; what takes longer counts as not found


class Rule:
    """One rule. `meets` judges a whole answer, `decided` the beginning of one."""

    @property
    def sentence(self) -> str:
        """Say what the rule expects."""
        raise NotImplementedError

    def meets(self, answer: str) -> bool:
        """Judge a whole answer."""
        raise NotImplementedError

    def decided(self, answer: str) -> bool | None:
        """Judge a beginning, if no continuation can change the verdict."""
        return None


@dataclass(frozen=True)
class _Equals(Rule):
    texts: tuple[str, ...]

    @property
    def sentence(self) -> str:
        return f"equals {_either(self.texts)}"

    def meets(self, answer: str) -> bool:
        spoken = _row(words(answer))
        return any(_phrase(text).fullmatch(spoken) for text in self.texts)

    def decided(self, answer: str) -> bool | None:
        begun = _row(settled_words(answer))
        fits = any(_phrase(text).fullmatch(begun, partial=True) for text in self.texts)
        return None if fits else False


@dataclass(frozen=True)
class _Contains(Rule):
    texts: tuple[str, ...]
    every: bool

    @property
    def sentence(self) -> str:
        return f"contains {join_words([*self.texts]) if self.every else _either(self.texts)}"

    def meets(self, answer: str) -> bool:
        return self._in(words(answer))

    def decided(self, answer: str) -> bool | None:
        return True if self._in(settled_words(answer)) else None

    def _in(self, found: list[str]) -> bool:
        spoken = _row(found)
        return (all if self.every else any)(_phrase(text).search(spoken) for text in self.texts)


@dataclass(frozen=True)
class _Number(Rule):
    value: Fraction
    written: str

    @property
    def sentence(self) -> str:
        return f"ends its first line with the number {self.written}"

    def meets(self, answer: str) -> bool:
        return last_number(first_line(answer)[0]) == self.value

    def decided(self, answer: str) -> bool | None:
        return self.meets(answer) if first_line(answer)[1] else None


@dataclass(frozen=True)
class _Matches(Rule):
    pattern: str

    @property
    def sentence(self) -> str:
        return f"matches {self.pattern}"

    def meets(self, answer: str) -> bool:
        return bool(searched(self.pattern, answer))

    def decided(self, answer: str) -> bool | None:
        # What is found stays found, unless the pattern looks at what comes behind it.
        settled = _LOOKS_NO_FURTHER.fullmatch(self.pattern) and self.meets(answer.strip())
        return True if settled else None


@dataclass(frozen=True)
class _Json(Rule):
    wanted: str  # JSON: true, a list of keys, or a schema

    @property
    def sentence(self) -> str:
        wanted = json.loads(self.wanted)
        if isinstance(wanted, list):
            keys = "the key" if len(wanted) == 1 else "the keys"
            return f"is a JSON object with {keys} {join_words(wanted)}"
        return "is a JSON object or list" if wanted is True else "is JSON that fits the schema"

    def meets(self, answer: str) -> bool:
        fenced = _FENCE.fullmatch(answer)
        try:
            value = json.loads(fenced.group(1) if fenced else answer, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return False
        wanted = json.loads(self.wanted)
        if wanted is True:
            return isinstance(value, dict | list)
        if isinstance(wanted, list):
            return isinstance(value, dict) and {*wanted} <= value.keys()
        return _fits_schema(self.wanted, value)

    def decided(self, answer: str) -> bool | None:
        begun = answer.lstrip()
        if begun[:1] not in (_STARTS_JSON if self.wanted[0] == "{" else "{[`"):
            return False
        if begun[0] not in '{["':
            return None
        try:
            _, end = json.JSONDecoder().raw_decode(begun)
        except (ValueError, RecursionError):
            return None
        return False if begun[end:].strip() or not self.meets(begun[:end]) else None


@dataclass(frozen=True)
class _AtMost(Rule):
    what: str  # words or sentences
    most: int

    @property
    def sentence(self) -> str:
        unit = self.what if self.most > 1 else self.what.removesuffix("s")
        return f"has at most {self.most} {unit}"

    def meets(self, answer: str) -> bool:
        return (count_words if self.what == "words" else count_sentences)(answer) <= self.most

    def decided(self, answer: str) -> bool | None:
        return None if self.meets(answer) else False


@dataclass(frozen=True)
class _StartsWith(Rule):
    texts: tuple[str, ...]

    @property
    def sentence(self) -> str:
        return f"starts with {_either(self.texts)}"

    def meets(self, answer: str) -> bool:
        spoken = visible(answer).casefold()
        return any(spoken.startswith(text) and not _goes_on(text, spoken) for text in self._folded)

    def decided(self, answer: str) -> bool | None:
        spoken = visible(answer).casefold()
        open_ = any(text.startswith(spoken) for text in self._folded)
        if not open_:
            return self.meets(answer)
        others = [text for text in self._folded if not text.startswith(spoken)]
        met = any(spoken.startswith(text) and not _goes_on(text, spoken) for text in others)
        return True if met else None

    @property
    def _folded(self) -> list[str]:
        return [without_invisible(text).lstrip().casefold() for text in self.texts]


@dataclass(frozen=True)
class _Not(Rule):
    rules: tuple[Rule, ...]

    @property
    def sentence(self) -> str:
        return f"not ({', '.join(rule.sentence for rule in self.rules)})"

    def meets(self, answer: str) -> bool:
        return not meet_all(self.rules, answer)

    def decided(self, answer: str) -> bool | None:
        verdict = decide_all(self.rules, answer)
        return None if verdict is None else not verdict


def meet_all(rules: Iterable[Rule], answer: str) -> bool:
    """Tell whether an answer says something, and all rules hold."""
    return bool(visible(answer)) and all(rule.meets(answer.strip()) for rule in rules)


def decide_all(rules: Iterable[Rule], answer: str) -> bool | None:
    """Tell the verdict that no continuation of the answer can change; None if one can."""
    if not visible(answer):
        return None
    verdicts = [rule.decided(answer) for rule in rules]
    if False in verdicts:
        return False
    return None if None in verdicts else True


def read_rules(rules: dict[str, Any]) -> Iterator[Rule]:
    """Make rules of their JSON."""
    made: dict[str, Callable[[Any], Rule]] = {
        "equals": lambda given: _Equals(listed(given)),
        "contains": lambda given: _Contains(listed(given), every=False),
        "contains_all": lambda given: _Contains(listed(given), every=True),
        "number": lambda given: _Number(Fraction(str(given)), str(given)),
        "matches": _Matches,
        "json": lambda given: _Json(json.dumps(given, ensure_ascii=False)),
        "max_words": lambda given: _AtMost("words", given),
        "max_sentences": lambda given: _AtMost("sentences", given),
        "starts_with": lambda given: _StartsWith(listed(given)),
        "not": lambda given: _Not(tuple(read_rules(given))),
    }
    for key, given in rules.items():
        yield made[key](given)


# ---------------------------------------------------------------- words and phrases


def listed(given: Any) -> tuple[str, ...]:
    """Take one string for a list of one."""
    return (given,) if isinstance(given, str) else tuple(given)


def _either(texts: Sequence[str]) -> str:
    return " or ".join(texts)


def _row(found: list[str]) -> str:
    """Write words in one row, each with a space behind it."""
    return "".join(f"{word} " for word in found)


@cache
def _phrase(text: str) -> Any:
    """Find a phrase in a row of whole words; articles before its words may come and go."""
    article = f"(?:(?:{'|'.join(ARTICLES)}) )*"
    found = words(text)
    core = [word for n, word in enumerate(found, 1) if word not in ARTICLES or n == len(found)]
    return regex.compile("(?<!\\S)" + "".join(f"{article}{regex.escape(w)} " for w in core))


def _goes_on(start: str, text: str) -> bool:
    """Tell a start that ends in the middle of a word: `no` of `nothing`."""
    behind = text[len(start) : len(start) + 1]
    return bool(behind) and is_wordy(start[-1]) and is_wordy(behind)


# ---------------------------------------------------------------- patterns and JSON

# Letters, plain classes and groups; no end, no word boundary, no look around, no greed that keeps.
_LOOKS_NO_FURTHER = regex.compile(
    r"(?:\(\?i\))?(?:\\[dDwWsS]|\\[^\w\s]|\(\?:|\((?!\?)|(?:[*+?]|\{\d*,?\d*\})\??(?![+*?{])"
    r"|[^\\$({*+?])*+"
)
_FENCE = regex.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", regex.DOTALL | regex.IGNORECASE)
_STARTS_JSON = '{["-0123456789tfn`'


def searched(pattern: str, text: str) -> bool | None:
    """Search a pattern; None if that takes too long."""
    try:
        return regex.search(pattern, text, timeout=PATIENCE) is not None
    except TimeoutError:
        return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


@cache
def schema_validator(schema: str) -> Any:
    """Make a schema's validator: it fetches nothing, and searches patterns with a time limit."""
    from jsonschema import ValidationError, validators
    from referencing import Registry

    def pattern(_: Any, wanted: str, value: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(value, str) and not searched(wanted, value):
            yield ValidationError(f"does not match {wanted}")

    kind: Any = validators.validator_for(json.loads(schema))
    made: Any = validators.extend(kind, {"pattern": pattern})
    return made(json.loads(schema), registry=Registry())


def _fits_schema(schema: str, value: Any) -> bool:
    try:
        return bool(schema_validator(schema).is_valid(value))
    except Exception:  # a reference that leads nowhere or in circles, a number beyond all bounds
        return False
