"""A recipe is a value: checked when it is made, the same everywhere, readable."""

import copy
import json
import math
import pickle
import subprocess
import sys
from dataclasses import asdict, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caplab.support.errors import BadInput
from caplab.training.recipe import Recipe

shares = st.floats(0, 1, exclude_max=True)
recipes = st.builds(
    Recipe,
    method=st.sampled_from(["full", "lora"]),
    learning_rate=st.floats(0, 1),
    steps=st.integers(100, 10_000),
    batch_size=st.integers(1, 512),
    schedule=st.sampled_from(["linear", "cosine", "constant"]),
    warmup=st.integers(0, 100),
    weight_decay=shares,
    rank=st.integers(1, 256),
    alpha=st.integers(1, 512),
    target_modules=st.one_of(
        st.sampled_from(["all-linear", "attention", "mlp"]),
        st.lists(st.text("abc_.", min_size=1), min_size=1),
    ),
    dropout=shares,
    replay=shares,
    replay_source=st.sampled_from(["original", "self"]),
    examples=st.none() | st.integers(1, 1000),
    seed=st.integers(0, 2**32 - 1),
    assistant_only=st.booleans(),
    anchor=st.sampled_from([None, "kl"]),
    anchor_strength=st.floats(1e-6, 1e6),
    anchor_data=st.sampled_from(["original", "self"]),
    loss=st.sampled_from(["nll", "dft"]),
    variant=st.sampled_from(["lora", "rslora", "dora"]),
    optimizer=st.sampled_from(["adamw", "muon"]),
    average=shares,
)


@given(recipes)
def test_json_brings_back_the_same_recipe(recipe):
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert again.hash == recipe.hash


@given(recipes)
def test_the_repr_makes_the_recipe(recipe):
    assert eval(repr(recipe), {"Recipe": Recipe}) == recipe


@given(recipes)
def test_copies_and_pickles_are_equal(recipe):
    assert copy.deepcopy(recipe) == recipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe


@given(recipes, recipes)
def test_only_equal_recipes_share_a_hash(one, other):
    assert (one == other) == (one.hash == other.hash)


@pytest.mark.parametrize("name", [field.name for field in fields(Recipe)])
def test_every_field_decides_the_hash(name):
    others = {"method": "lora", "schedule": "cosine", "replay_source": "self", "examples": 3}
    others |= {"assistant_only": True, "target_modules": "attention", "dropout": 0.5, "replay": 0.5}
    others |= {"anchor": "l2", "anchor_data": "self", "loss": "dft", "variant": "dora"}
    others |= {"optimizer": "muon", "average": 0.99}
    value = others.get(name, None) or getattr(Recipe(), name) * 2 or 1
    assert Recipe(**{name: value}).hash != Recipe().hash


def test_the_hash_is_not_pythons():
    program = "from caplab.training.recipe import Recipe; print(Recipe(rank=4, method='lora').hash)"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert hashes == {Recipe(method="lora", rank=4).hash}


def test_the_default_hash_stays():
    # A change here means that stored runs are not found again: raise _FORMAT and say so.
    assert Recipe().hash == "ae4475a1b25c"


def test_other_types_of_equal_numbers():
    given = Recipe(learning_rate=np.float64(1), steps=np.int64(9), warmup=0, target_modules=["a"])
    plain = Recipe(learning_rate=1.0, steps=9, target_modules=("a",))
    assert (given, given.hash) == (plain, plain.hash)
    assert Recipe(learning_rate=-0.0).hash == Recipe(learning_rate=0).hash


def test_the_repr_shows_what_differs():
    assert repr(Recipe()) == "Recipe(method='full', learning_rate=1e-3)"
    assert repr(Recipe(learning_rate=1.25e-4)).endswith("learning_rate=0.000125)"), "not rounded"
    assert repr(Recipe(method="lora", rank=4, replay=0.1)) == (
        "Recipe(method='lora', learning_rate=1e-3, rank=4, replay=0.1)"
    )


def test_change_leaves_the_first():
    first = Recipe(seed=1)
    assert first.change(seed=2, steps=10) == Recipe(seed=2, steps=10)
    assert first == Recipe(seed=1)


BAD = [
    ("learning_rate", -1e-3),
    ("learning_rate", math.nan),
    ("learning_rate", math.inf),
    ("learning_rate", "1e-3"),
    ("learning_rate", None),
    ("learning_rate", True),
    ("method", "qlora"),
    ("method", ["full"]),
    ("schedule", "cos"),
    ("steps", 0),
    ("steps", 1.5),
    ("steps", True),
    ("batch_size", 0),
    ("warmup", -1),
    ("warmup", 61),
    ("weight_decay", -0.1),
    ("rank", 0),
    ("alpha", 0),
    ("dropout", 1.0),
    ("dropout", -0.1),
    ("replay", 1.1),
    ("replay", -0.1),
    ("replay", 10),
    ("replay_source", "web"),
    ("examples", 0),
    ("target_modules", ()),
    ("target_modules", ""),
    ("target_modules", ("c_attn", 3)),
    ("target_modules", 7),
    ("seed", -1),
    ("seed", 2**32),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_refused_by_name(name, value):
    with pytest.raises(BadInput) as caught:
        Recipe(**{name: value})
    assert str(caught.value).startswith(f"{name} must be ")
    assert repr(value) in str(caught.value)
    with pytest.raises(BadInput, match=f"^{name} must be "):
        Recipe().change(**{name: value})


@pytest.mark.parametrize(
    ("name", "meant"),
    [("lr", "learning_rate"), ("lora_r", "rank"), ("learnin_rate", "learning_rate")],
)
def test_an_unknown_name_gets_a_hint(name, meant):
    for make in (lambda **given: Recipe(**given), Recipe().change):
        with pytest.raises(BadInput, match=f"no '{name}'. Did you mean '{meant}'"):
            make(**{name: 1})


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(AttributeError):
        Recipe().steps = 3


@pytest.mark.parametrize("text", ["", "[]", "3", '{"learning_rate": 0.1', None])
def test_malformed_json_is_refused(text):
    with pytest.raises(BadInput, match="not a recipe"):
        Recipe.from_json(text)


def test_a_later_format_is_refused():
    later = json.dumps({"format": 2, **asdict(Recipe())})
    with pytest.raises(BadInput, match="Update caplab"):
        Recipe.from_json(later)


def test_json_with_other_fields():
    assert Recipe.from_json('{"seed": 4}') == Recipe(seed=4)
    with pytest.raises(BadInput, match="no 'flavour'"):
        Recipe.from_json('{"flavour": 4}')
