"""Whatever a file holds, a reader takes it or refuses it in words; statistics keep their laws."""

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import caplab as cl
from caplab.study.grid import read_grid
from caplab.support.errors import BadInput
from caplab.support.files import read_sealed, write_sealed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(["capability", "prompt", "choices", "answer", "text", "label"])
ROWS = st.dictionaries(KEYS, JSON | st.lists(st.text(min_size=1, max_size=3), max_size=4))
FIELDS = st.sampled_from([*(f for f in cl.Recipe.__dataclass_fields__), "lr", "format"])


def refused_or(kind, read):
    """Read; whoever refuses does so with BadInput and a sentence, never with another error."""
    try:
        found = read()
    except BadInput as refused:
        return len(str(refused)) > 10
    return isinstance(found, kind)


def from_file(text, read, name="given"):
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
        return read(path)


# ---------------------------------------------------------------- parsers


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_file_as_exam(content):
    assert from_file(content, lambda path: refused_or(cl.Exam, lambda: cl.exam(path)))


@given(st.lists(ROWS | JSON, max_size=4))
def test_any_json_lines_as_exam(rows):
    text = "\n".join(map(json.dumps, rows))
    assert from_file(text, lambda path: refused_or(cl.Exam, lambda: cl.exam(path)))


@given(st.text(max_size=60) | JSON.map(json.dumps))
def test_any_text_as_recipe(text):
    assert refused_or(cl.Recipe, lambda: cl.Recipe.from_json(text))


@given(st.dictionaries(FIELDS, JSON, max_size=4))
def test_any_fields_as_recipe(fields):
    assert refused_or(cl.Recipe, lambda: cl.Recipe.from_json(json.dumps(fields)))


VALUES = st.integers(-5, 200) | st.floats() | st.booleans() | st.text("abc-e1", max_size=4)


@given(
    st.text(max_size=60)
    | st.dictionaries(FIELDS, VALUES | st.lists(VALUES, max_size=3), max_size=4).map(
        lambda table: "\n".join(f"{name} = {json.dumps(value)}" for name, value in table.items())
    )
)
def test_any_toml_as_grid(text):
    assert from_file(text, lambda path: refused_or(tuple, lambda: read_grid(path)), "grid.toml")


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_file_as_scorecard(content):
    for kind in (cl.Scorecard, cl.Report):
        assert from_file(content, lambda path, k=kind: refused_or(k, lambda: k.load(path)))


@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key != "seal"), JSON, max_size=4))
def test_sealed_content_comes_back(content):
    def there_and_back(path):
        write_sealed(path, content)
        return read_sealed(path, "thing")

    # NaN is unequal to itself; its text is not.
    assert json.dumps(from_file("", there_and_back)) == json.dumps(content)


# ---------------------------------------------------------------- statistics


@cache
def card():
    return cl.score(tiny.subject(), tiny.exam(), progress=False)


def answered(right, sure=1.0):
    """A scorecard with these answers right; `sure` nats lie between right and wrong."""
    n = len(right)
    chances = tuple((-0.1, -0.1 - sure) if ok else (-0.1 - sure, -0.1) for ok in right)
    return replace(
        card(),
        fingerprint=f"{n} questions",
        capability=("sums",) * n,
        answer=(0,) * n,
        loglikelihoods=chances,
        characters=((1, 1),) * n,
        text_losses=(),
        group=(),
    )


PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=80)


def both(pairs):
    return tuple(answered(side) for side in zip(*pairs, strict=True))


@settings(max_examples=60)
@given(PAIRS)
def test_interval_holds_the_change(pairs):
    row = cl.compare(*both(pairs)).overall
    assert row.low <= row.change <= row.high
    assert row.low >= -1
    assert row.high <= 1
    assert row.change == pytest.approx(row.after - row.before)


@settings(max_examples=60)
@given(PAIRS)
def test_loss_is_gain_the_other_way_round(pairs):
    before, after = both(pairs)
    there, back = cl.compare(before, after).overall, cl.compare(after, before).overall
    assert there.change == pytest.approx(-back.change)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.02)


@settings(max_examples=60)
@given(PAIRS, st.randoms(use_true_random=False))
def test_order_of_questions_is_irrelevant(pairs, rng):
    mixed = list(pairs)
    rng.shuffle(mixed)
    one, other = (cl.compare(*both(given)).overall for given in (pairs, mixed))
    assert (one.change, one.verdict) == (pytest.approx(other.change), other.verdict)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_untouched_model_never_regresses(right):
    same = answered(right)
    assert cl.compare(same, same).verdict != "REGRESSED"


@settings(max_examples=30)
@given(st.integers(40, 120))
def test_destroyed_model_always_regresses(n):
    assert cl.compare(answered([True] * n), answered([False] * n)).verdict == "REGRESSED"


@settings(max_examples=40)
@given(PAIRS, st.floats(0, 0.4), st.floats(0, 0.4))
def test_larger_budget_is_never_worse(pairs, one, other):
    rank = {"REGRESSED": 0, "UNDERPOWERED": 1, "HELD": 2}
    strict, mild = sorted((one, other))
    verdicts = [cl.compare(*both(pairs), budget=budget).verdict for budget in (strict, mild)]
    assert rank[verdicts[0]] <= rank[verdicts[1]]


@given(st.integers(1, 10_000), st.data())
def test_wilson_holds_the_share(n, data):
    right = data.draw(st.integers(0, n))
    low, high = cl.wilson(right, n)
    assert 0 <= low <= right / n + 1e-12
    assert right / n - 1e-12 <= high <= 1
    assert high - low < 1 or n == 1
    assert math.isfinite(low + high)
