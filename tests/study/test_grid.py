"""Grids: every combination once, from a call or a file."""

import itertools
import time

import pytest

from caplab.study import grid as grids
from caplab.study.grid import grid, read_grid
from caplab.support.errors import BadInput
from caplab.training.recipe import Recipe


def test_every_value_meets_every_other():
    recipes = grid(method="lora", learning_rate=[1e-4, 1e-3], seed=range(3))
    assert len(set(recipes)) == 6
    assert recipes[1] == Recipe(method="lora", learning_rate=1e-4, seed=1)
    assert grid() == [Recipe()]


def test_a_tuple_of_layers_is_one_value():
    assert len(grid(method="lora", target_modules=("c_attn", "c_fc"))) == 1
    assert len(grid(method="lora", target_modules=["attention", ("c_attn", "c_fc")])) == 2


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"lr": 1e-3}, "Did you mean 'learning_rate'"),
        ({"seed": []}, "seed has no value to try"),
        ({"rank": [4, 0]}, "rank must be a whole number from 1"),
    ],
)
def test_what_no_recipe_can_be_is_refused(axes, said):
    with pytest.raises(BadInput, match=said):
        grid(**axes)


NUMBERS = {"learning_rate": [1 / n for n in range(1, 301)], "seed": range(300)}


@pytest.mark.parametrize(
    "axes",
    [
        NUMBERS | {"steps": range(1, 101)},  # nine millions
        NUMBERS | {"steps": range(1, 3)},
        {"seed": itertools.count()},
        {"seed": range(10**12)},
    ],
)
def test_a_grid_beyond_all_machines_is_refused_at_once(axes):
    start = time.process_time()
    with pytest.raises(BadInput, match=r"has \d[\d,]+ recipes or more; a sweep takes 100,000 at"):
        grid(**axes)
    assert time.process_time() - start < 1


def test_many_grids_of_a_file_count_together(tmp_path, monkeypatch):
    monkeypatch.setattr(grids, "MOST_RECIPES", 10)
    path = tmp_path / "grid.toml"
    path.write_text("".join(f"[[grid]]\nseed = [{n}, {n + 1}]\n" for n in range(0, 20, 2)))
    with pytest.raises(BadInput, match="has 12 recipes or more"):
        read_grid(path)


def test_endless_recipes_are_refused(monkeypatch):
    monkeypatch.setattr(grids, "MOST_RECIPES", 10)
    with pytest.raises(BadInput, match="a sweep takes 10 at most"):
        grids.checked_recipes((Recipe(seed=n) for n in itertools.count()), None, None)


def test_fields_at_the_top_of_a_file_are_shared(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'steps = 9\nevery = 3\ntask = "everyday"\nquestions = 300\n'
        '[[grid]]\nseed = [0, 1]\n[[grid]]\nmethod = "lora"\nseed = 0\n'
    )
    recipes, settings = read_grid(path)
    assert settings == {"every": 3, "task": "everyday", "questions": 300}
    assert recipes == [Recipe(steps=9), Recipe(steps=9, seed=1), Recipe(method="lora", steps=9)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps = ", "is not a grid"),
        ("[grid]\nseed = 1", "double brackets"),
        ("rnak = 3", "Did you mean 'rank'"),
        ("every = 0", "every counts the steps"),
        ("[[grid]]\nevery = 3", "no 'every'"),
    ],
)
def test_a_faulty_file_is_refused_by_name(tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=rf"mine\.toml.*{said}"):
        read_grid(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="There is no grid"):
        read_grid(tmp_path / "none.toml")


def test_the_course_grid_is_as_promised(root):
    recipes, settings = read_grid(root / "tools" / "atlas.toml")
    rates = {recipe.learning_rate for recipe in recipes}
    assert len(rates) >= 9
    assert (min(rates), max(rates)) == (1e-5, 1e-2)
    assert {recipe.rank for recipe in recipes} >= {1, 32}
    assert {recipe.replay for recipe in recipes} >= {0, 0.01, 0.5}
    assert {recipe.replay_source for recipe in recipes} == {"original", "self"}
    assert {recipe.seed for recipe in recipes} == set(range(5))
    assert settings == {"every": 10}
