import math
from fractions import Fraction
from pathlib import Path

import pytest

from caplab.support.errors import (
    BadInput,
    as_number,
    did_you_mean,
    explaining_failure,
    is_count,
    require_type,
    short_repr,
    within_memory,
)


def test_a_notebook_shows_the_message_alone():
    assert BadInput("Give a path.")._render_traceback_() == ["BadInput: Give a path."]


def test_similar_names_are_suggested():
    assert did_you_mean("capitol", ["capitals", "sounds"]) == " Did you mean 'capitals'?"
    assert did_you_mean("gpt2", ["gpt1", "gpt3"]) == " Did you mean 'gpt3' or 'gpt1'?"
    assert did_you_mean("xyz", ["capitals"]) == did_you_mean(None, []) == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "'a'"),
        (Path("a/b"), "'a/b'"),
        ("x" * 200, "'" + "x" * 79 + "..."),
    ],
)
def test_a_repr_is_short(value, expected):
    assert short_repr(value) == expected


def test_a_huge_number_has_a_repr_too():
    assert short_repr(10**5000) == "a very large int"


def test_a_value_of_another_type_is_refused():
    require_type("pocket", (str, Path), "A name is a string")
    with pytest.raises(BadInput, match=r"^A name is a string, not 5\.$"):
        require_type(5, str, "A name is a string")


def test_only_real_numbers_are_numbers():
    assert [as_number(value) for value in (2, 0.5, Fraction(1, 4))] == [2.0, 0.5, 0.25]
    for value in (True, "1", None, 1j, 10**400, math.nan):
        assert math.isnan(as_number(value))


def test_only_whole_numbers_count():
    assert is_count(0)
    assert is_count(3, 3)
    for value in (2, -1, True, 3.0, "3", None):
        assert not is_count(value, 3)
    assert not is_count(False)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_out_of_memory_comes_with_advice(error):
    with pytest.raises(BadInput, match=r"^Out of memory\. Use less\.$"), within_memory("Use less."):
        raise error


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), within_memory("Use less."):
        raise RuntimeError("shapes do not match")


def test_a_librarys_failure_becomes_a_sentence():
    with (
        pytest.raises(BadInput, match=r"^card is broken: a b$"),
        explaining_failure("card is broken"),
    ):
        raise ValueError("a\n  b")
    with pytest.raises(BadInput, match=r"broken: TypeError$"), explaining_failure("broken"):
        raise TypeError
    with pytest.raises(BadInput, match=r"^Give a path\.$"), explaining_failure("broken"):
        raise BadInput("Give a path.")
