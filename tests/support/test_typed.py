"""A dataclass is built from fields of the right kind, or one sentence says which is not."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from caplab.support.errors import BadInput
from caplab.support.typed import checked_fields, from_fields


@dataclass
class Inner:
    name: str
    share: float | None = None


@dataclass
class Outer:
    count: int
    parts: tuple[Inner, ...]
    levels: Mapping[str, float] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    done: bool = False


WHOLE = {"count": 1, "parts": [{"name": "a", "share": 1}], "levels": {"x": 0.5}, "names": ["b"]}


def test_what_fits_is_built():
    found = from_fields(Outer, WHOLE)
    assert found == Outer(1, (Inner("a", 1),), {"x": 0.5}, ["b"], False)


WRONG = [
    ({"count": 1.5}, "its count is 1.5, not a whole number"),
    ({"count": True}, "its count is True, not a whole number"),
    ({"count": 2**53}, "not a whole number"),
    ({"parts": "ab"}, "its parts is 'ab', not a list"),
    ({"parts": [3]}, "it holds 3 where Inner has fields"),
    ({"parts": [{}]}, "its field 'name' is missing"),
    ({"parts": [{"name": "a", "age": 3}]}, "unknown field 'age'"),
    ({"levels": [1]}, "its levels is .*not an object"),
    ({"levels": {"x": "1"}}, "its levels is '1', not a number"),
    ({"levels": {"x": float("inf")}}, "its levels is inf"),
    ({"names": ["\ud800"]}, "not a text"),
    ({"done": 1}, "its done is 1, not true or false"),
]


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_what_does_not_fit_is_named(change, words):
    with pytest.raises(BadInput, match=words):
        from_fields(Outer, WHOLE | change)


def test_some_fields_alone():
    assert checked_fields(Outer, {"count": 3}, frozenset({"count"})) == {"count": 3}
    with pytest.raises(BadInput, match="unknown field 'parts'"):
        checked_fields(Outer, WHOLE, frozenset({"count", "levels", "names"}))
