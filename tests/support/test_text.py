import pytest

from caplab.support.text import (
    format_duration,
    format_number,
    format_percent,
    format_rate,
    format_signed,
    has_lone_surrogate,
    join_words,
)


def test_a_lone_surrogate_is_found():
    assert has_lone_surrogate("a\ud83d")
    assert has_lone_surrogate("\udc00a")
    assert not has_lone_surrogate("a \U0001f600 é ☃")
    assert not has_lone_surrogate("")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, ".00"),
        (-0.0, ".00"),
        (1, "1.00"),
        (0.494, ".49"),
        (-0.25, "-.25"),
        (12.5, "12.50"),
    ],
)
def test_a_share_has_no_leading_zero(value, expected):
    assert format_number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.999, ".999"), (0.99999, ".999"), (-0.999, "-.999"), (0.004, ".004"), (0.0004, ".0004")],
)
def test_only_0_and_1_are_shown_as_0_and_1(value, expected):
    assert format_number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, "+.50"), (-0.49, "-.49"), (-0.033, "-.033"), (0, ".00")]
)
def test_a_change_has_its_sign(value, expected):
    assert format_signed(value) == expected


def test_names_are_joined_as_in_a_sentence():
    assert [join_words([*names]) for names in ("", "a", "ab", "abc")] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(1e-3, "1e-3"), (2.5e-4, "2.5e-4"), (0.1, "1e-1"), (3.0, "3e0"), (0, "0")],
)
def test_a_rate_is_written_with_its_exponent(rate, expected):
    assert format_rate(rate) == expected


def test_a_share_in_percent():
    assert [format_percent(share) for share in (0, 0.025, 1)] == ["0 %", "2.5 %", "100 %"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0 seconds"), (89, "89 seconds"), (120, "2 minutes"), (5400, "1.5 hours")],
)
def test_a_duration_has_a_unit_that_fits(seconds, expected):
    assert format_duration(seconds) == expected
