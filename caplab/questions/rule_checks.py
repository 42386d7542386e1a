"""Refuse expectations that cannot be judged, and those that no answer can meet."""

import json
import math
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import regex

from caplab.questions.rules import PATIENCE, listed, read_rules, schema_validator, searched
from caplab.questions.wording import ARTICLES, visible, words
from caplab.support.errors import did_you_mean, is_count, short_repr
from caplab.support.text import has_lone_surrogate, join_words

__all__ = ["EXAMPLE", "contradiction", "problems"]

EXAMPLE = '{"contains": ["Paris"]}'
_ARTICLE = regex.compile(rf"\b(?:{'|'.join(ARTICLES)})\s+(?=\S)")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def problems(rules: object, inside: bool = False) -> Iterator[str]:
    """Find all problems of an expectation; `inside` a `not` no positive rule is needed."""
    if not isinstance(rules, dict) or not rules:
        yield f"expect is an object of rules, such as {EXAMPLE}, not {short_repr(rules)}"
        return
    for key, given in rules.items():
        if key not in _CHECKS:
            known = did_you_mean(key, _CHECKS) or f" The rules are {', '.join(_CHECKS)}."
            yield f"expect has the unknown rule {short_repr(key)}.{known}"
        else:
            yield from (f"{key} {problem}" for problem in _CHECKS[key](given))
    negative = {"not", "max_words", "max_sentences"}
    if not inside and {*rules} <= negative:
        yield (
            f"expect has only {join_words([*map(str, rules)])}, which noise or one word can meet: "
            f"add what the answer has to say, such as {EXAMPLE}"
        )


def _check_texts(given: Any) -> Iterator[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not texts:
        yield f"is a string or a list of strings, not {short_repr(given)}"
        return
    for text in texts:
        if not isinstance(text, str):
            yield f"is a string or a list of strings; {short_repr(text)} is none"
        elif has_lone_surrogate(text):
            yield f"has a lone surrogate, half a character ({text!a:.80})"


def _check_phrases(given: Any) -> Iterator[str]:
    found = list(_check_texts(given))
    yield from found
    for text in () if found else listed(given):
        if not words(text):
            yield (
                f"has {text!r}, in which there is no letter and no digit to look for: "
                "use starts_with or matches"
            )


def _check_starts(given: Any) -> Iterator[str]:
    found = list(_check_texts(given))
    yield from found
    for text in () if found else listed(given):
        if not visible(text):
            yield f"has {text!r}, with which every answer starts"


def _check_list(given: Any) -> Iterator[str]:
    if isinstance(given, str):
        yield f"is a list of strings, not {given!r}"
    else:
        yield from _check_phrases(given)


def _check_number(given: Any) -> Iterator[str]:
    if type(given) not in (int, float) or not math.isfinite(given):
        yield f"is a number, not {short_repr(given)}"


def _check_count(given: Any) -> Iterator[str]:
    if not is_count(given, 1):
        yield f"is a whole number of at least 1, not {short_repr(given)}"


def _check_not(given: Any) -> Iterator[str]:
    yield from problems(given, inside=True)


def _check_pattern(given: Any) -> Iterator[str]:
    """Refuse what is no pattern, and one that needs too long for an answer of a few words."""
    if not isinstance(given, str) or not given:
        yield f"is a regular expression, not {short_repr(given)}"
        return
    try:
        regex.compile(given)
    except (regex.error, OverflowError, RecursionError) as error:
        yield f"is not a regular expression ({error}): {short_repr(given)}"
        return
    if any(searched(given, text) is None for text in _provocations(given)):
        yield (
            f"takes longer than {PATIENCE} s on a short answer, and perhaps for ever: "
            f"{short_repr(given)}. Repeat nothing that is repeated already, as in (a+)+"
        )


def _provocations(pattern: str) -> Iterator[str]:
    """Make texts on which a pattern that tries too many ways is slow."""
    literals = [*dict.fromkeys(letter for letter in pattern if letter.isalnum())][:12]
    whole = "".join(letter for letter in pattern if letter.isalnum() or letter.isspace())
    for unit in (*literals, "a", "1", " ", "ab ", "a1,", "word, ", whole or "x", "\n", '"'):
        many = unit * (60 // len(unit) + 1)
        yield from (f"{many}\0", f"{many}!{many}\n\0")


def _check_json(given: Any) -> Iterator[str]:
    if isinstance(given, list) and given:
        strangers = [key for key in given if not isinstance(key, str)]
        yield from (f"lists {short_repr(key)}, which is no key" for key in strangers)
    elif isinstance(given, dict) and given:
        yield from _check_schema(given)
    elif given is not True:
        yield f"is true, a list of keys or a JSON Schema, not {short_repr(given)}"


def _check_schema(given: dict[str, Any]) -> Iterator[str]:
    """Refuse what is no JSON Schema, or leads out of itself."""
    from jsonschema import validators

    try:
        text = json.dumps(given, ensure_ascii=False, allow_nan=False)
        validators.validator_for(given).check_schema(given)
        _check_references(given)
        values: tuple[Any, ...] = ({}, [], "", 0)
        for value in values:
            schema_validator(text).is_valid(value)
    except Exception as error:
        reason = " ".join(str(getattr(error, "message", error)).split())[:160]
        yield f"is not a JSON Schema that can be used: {reason or type(error).__name__}"
        return
    for key, value in _nested(given):
        if key == "patternProperties":  # jsonschema searches these without a time limit
            yield "has patternProperties, which are not supported: name the properties"
        if key == "pattern" and isinstance(value, str):
            yield from (f"has a pattern that {problem}" for problem in _check_pattern(value))


def _check_references(schema: dict[str, Any]) -> None:
    """Follow every reference of a schema, so that one that leads nowhere is noticed at once."""
    from referencing import Registry
    from referencing.jsonschema import specification_with

    dialect = specification_with(schema.get("$schema", _DIALECT))
    whole: Any = dialect.create_resource(schema)
    resolver = Registry().with_resource("", whole).resolver()
    for key, value in _nested(schema):
        if key in ("$ref", "$dynamicRef") and isinstance(value, str):
            resolver.lookup(value)


def _nested(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield all keys of a JSON value with what they hold."""
    if isinstance(value, dict):
        yield from value.items()
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from _nested(inner)


_CHECKS: dict[str, Callable[[Any], Iterator[str]]] = {
    "equals": _check_phrases,
    "contains": _check_phrases,
    "contains_all": _check_list,
    "number": _check_number,
    "matches": _check_pattern,
    "json": _check_json,
    "max_words": _check_count,
    "max_sentences": _check_count,
    "starts_with": _check_starts,
    "not": _check_not,
}


# ---------------------------------------------------------------- contradictions


def contradiction(rules: dict[str, Any]) -> str:
    """Find rules of which no answer can meet both; empty where none are seen."""
    if "equals" in rules:
        # An answer may differ from its text in case and punctuation, which these rules ignore.
        plain = {"contains", "contains_all", "number", "max_words", "not"}
        others = {key: rules[key] for key in rules if key in plain and _is_plain(rules[key])}
        for key, given in others.items():
            (rule,) = read_rules({key: given})
            if not any(rule.meets(_bare(text)) for text in listed(rules["equals"])):
                return f"{rule.sentence} excludes what it equals"
    return _too_many_words(rules) or _said_and_not_said(rules)


def _is_plain(given: Any) -> bool:
    """Tell whether a rule ignores case and punctuation; inside a `not`, all have to."""
    return not isinstance(given, dict) or {*given} <= {"contains", "contains_all", "equals"}


def _too_many_words(rules: dict[str, Any]) -> str:
    """Refuse more words than are allowed."""
    least = {*chain(*(_bare(text).split() for text in rules.get("contains_all", ())))}
    choices = [{*least, *_bare(text).split()} for text in listed(rules.get("contains", ()))]
    needed = min(map(len, choices or [least]))
    most = rules.get("max_words", math.inf)
    return f"it needs {needed} different words" if needed > most else ""


def _bare(text: str) -> str:
    """Leave out case and the articles, as an answer may."""
    return str(_ARTICLE.sub("", text.casefold()))


def _said_and_not_said(rules: dict[str, Any]) -> str:
    """Refuse what must be said and must not be said."""
    banned = rules.get("not", {})
    if not banned or not {*banned} <= {"contains", "contains_all"}:
        return ""
    (rule,) = read_rules({"not": banned})
    choices = listed(rules.get("contains", ())) or ("",)
    # What is said in one breath or in two contains the same: words of two phrases never join here.
    said = [[*rules.get("contains_all", ()), *([choice] if choice else [])] for choice in choices]
    clash = all(texts and not rule.meets(" ☃ ".join(texts)) for texts in said)
    return f"{rule.sentence} excludes what it has to say" if clash else ""
