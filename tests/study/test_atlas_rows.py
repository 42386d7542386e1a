"""Recipes and runs as rows, and back."""

import math

import pandas as pd
import pretend
import pytest

from caplab.study.atlas_rows import (
    distance,
    has_value,
    key_without_seed,
    recipe_from,
    recipe_row,
    run_row,
)
from caplab.training.recipe import Recipe

PLAIN = Recipe(learning_rate=1e-3, steps=100)
ODD = [
    Recipe(method="lora", target_modules=("c_attn", "c_fc"), examples=7, steps=10, dropout=0.1),
    Recipe(method="lora", target_modules=("c_fc",), schedule="cosine", warmup=3, steps=10),
    Recipe(steps=10),
    Recipe(anchor="kl", anchor_strength=0.3, anchor_data="self", steps=10),
    Recipe(loss="dft", optimizer="muon", average=0.99, assistant_only=True, steps=10),
    Recipe(method="lora", variant="dora", target_modules="mlp", steps=10),
]


@pytest.mark.parametrize("recipe", ODD)
def test_a_recipe_comes_back_from_its_row(recipe):
    assert recipe_from(recipe_row(recipe)) == recipe


def test_recipes_come_back_from_one_table():
    assert pretend.atlas(ODD).recipes == ODD, "their columns have gaps"


def test_a_stored_run_gets_the_full_names():
    record = pretend.record(PLAIN)
    row = run_row(PLAIN, record)
    assert row["task_accuracy"] == record["after"]["task"]
    assert row["base_classics_accuracy"] == record["before"]["classics"]
    assert not {"task", "classics", "base_task", "base_classics"} & set(row)


def test_a_diverged_run_has_no_levels():
    row = run_row(PLAIN, pretend.record(PLAIN) | {"after": None, "trouble": "Diverged"})
    assert all(math.isnan(row[name]) for name in ("task_accuracy", "kl", "capitals"))
    assert row["base_task_accuracy"] == pretend.BASE["task"]


def test_rates_match_but_for_their_last_digits():
    column = pd.Series([1e-3, 1.001e-3])
    assert list(has_value(column, 0.1 * 0.01)) == [True, False]


def test_none_matches_gaps():
    assert list(has_value(pd.Series([None, 3.0]), None)) == [True, False]


def test_unused_fields_are_not_in_the_key():
    odd = PLAIN.change(rank=4, alpha=64, target_modules="attention", replay_source="self", seed=9)
    assert key_without_seed(odd) == key_without_seed(PLAIN)
    assert key_without_seed(odd.change(replay=0.1)) != key_without_seed(PLAIN.change(replay=0.1))
    assert key_without_seed(odd.change(method="lora")) != key_without_seed(
        PLAIN.change(method="lora")
    )


def test_a_method_is_farther_than_a_rate():
    near, far = PLAIN.change(learning_rate=1e-2), PLAIN.change(method="lora")
    assert 0 == distance(PLAIN, PLAIN) < distance(PLAIN, near) < distance(PLAIN, far)
