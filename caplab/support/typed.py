"""Build a dataclass from what a file holds, and refuse what its annotations do not allow.

A seal says that a file is as it was written, and not that what was written makes sense.
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from caplab.support.errors import BadInput, short_repr
from caplab.support.text import has_lone_surrogate

__all__ = ["checked_fields", "from_fields"]

Made = TypeVar("Made")
_LARGEST = 2**53  # beyond, a float cannot hold a whole number
_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def from_fields(kind: type[Made], found: Any) -> Made:
    """Build `kind` from the fields that a file holds: numbers, texts, lists, and parts of it."""
    return kind(**checked_fields(kind, found))


def checked_fields(kind: Any, found: Any, only: frozenset[str] | None = None) -> dict[str, Any]:
    """Check the fields of a dataclass, or only some of them; raise one sentence."""
    if not isinstance(found, Mapping):
        raise BadInput(f"it holds {short_repr(found)} where {kind.__name__} has fields")
    known = {each.name: each for each in fields(kind) if only is None or each.name in only}
    if strangers := sorted(map(str, found.keys() - known.keys())):
        raise BadInput(f"it has the unknown field {short_repr(strangers[0])}")
    needed = {
        name
        for name, each in known.items()
        if each.default is MISSING and each.default_factory is MISSING
    }
    if missing := sorted(needed - found.keys()):
        raise BadInput(f"its field {missing[0]!r} is missing")
    hints = get_type_hints(kind) if only is None else _hints(kind, known)
    return {name: _value(hints[name], value, name) for name, value in found.items()}


def _hints(kind: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve the annotations of some fields; others may name types that are not imported."""
    part = type("part", (), {"__annotations__": {name: known[name].type for name in known}})
    part.__module__ = kind.__module__
    return get_type_hints(part)


def _value(kind: Any, value: Any, place: str) -> Any:
    """Return a value as its annotation wants it."""
    if is_dataclass(kind):
        return from_fields(kind, value)  # type: ignore[arg-type]
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        return _value(next(each for each in inner if each is not NoneType), value, place)
    if origin in (list, tuple) and isinstance(value, list):
        return origin(_value(inner[0], item, place) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict):
        return {str(name): _value(inner[1], item, place) for name, item in value.items()}
    if kind in _WORDS and _is(kind, value):
        return value
    wanted = _WORDS.get(kind, "a list" if origin in (list, tuple) else "an object")
    raise BadInput(f"its {place} is {short_repr(value)}, not {wanted}")


def _is(kind: Any, value: Any) -> bool:
    """Check a plain value: NaN stands for an unknown number, and infinity for nothing."""
    if kind is str:
        return isinstance(value, str) and not has_lone_surrogate(value)
    if kind is bool:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if kind is int:
        return isinstance(value, int) and abs(value) < _LARGEST
    return not math.isinf(value) if isinstance(value, float) else abs(value) < _LARGEST
