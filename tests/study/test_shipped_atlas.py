"""The atlas that ships is what tools/build_atlas.py makes: its grid, its numbers, this model."""

import random
import sys
from importlib.resources import files

import caplab.sweep
import pytest

from caplab.models.load import load
from caplab.models.weights import digest
from caplab.study.atlas import atlas

sweeping = sys.modules["caplab.sweep"]

# One thread on the same processor gives every bit again. On another processor the last bits differ
# and training amplifies them: with two threads instead of one, which does the same here, whole
# exams differed by up to .011 and single points by up to .031 over four recipes.
TOLERANCE = 0.1
HANDFUL = 3


@pytest.fixture(scope="module")
def shipped():
    return atlas()


@pytest.fixture(autouse=True)
def pocket_itself(monkeypatch):
    monkeypatch.delenv("CAPLAB_MODEL", raising=False)


def test_the_atlas_holds_every_recipe_of_the_course_grid_and_nothing_else(shipped, root):
    recipes, every = sweeping.read_grid(root / "tools" / "atlas.toml")
    assert set(shipped.recipes) == set(recipes)
    assert list(shipped.runs["hash"]) == [recipe.hash for recipe in shipped.recipes]
    assert shipped.failed.empty
    assert shipped.runs["trouble"].isna().all()
    assert shipped.about["every"] == every
    assert set(shipped.points.groupby("hash")["step"].count()) == {1 + 100 // every}


def test_the_atlas_says_by_what_it_was_made_and_is_small_enough():
    about = atlas().about
    assert about["subject"] == "pocket"
    assert {"torch", "transformers", "trl", "peft", "caplab"} <= set(about["versions"])
    assert "cores" in about["machine"]
    assert (files("caplab") / "assets" / "atlas.parquet").stat().st_size < 5_000_000


def test_the_atlas_was_made_with_the_model_and_the_exams_that_ship(shipped):
    assert shipped.about["weights"] == digest(load("pocket", device="cpu").model)
    exams = {name: caplab.exam(name).fingerprint for name in ("classics", "task")}
    assert shipped.about["exams"] == exams


@pytest.mark.slow
def test_a_random_handful_of_its_runs_comes_out_the_same_again(shipped):
    drawn = random.SystemRandom().sample(shipped.recipes, HANDFUL)
    again = sweeping.sweep(drawn, n_jobs=1, every=shipped.about["every"])
    for recipe in drawn:
        new, old = (one.select(hash=recipe.hash) for one in (again, shipped))
        for name in ("task", "classics"):
            apart = abs(new.runs[name][0] - old.runs[name][0])
            assert apart <= TOLERANCE, f"{name} of {recipe!r} is {apart:.3f} off"
            apart = abs(new.points[f"{name}_accuracy"] - old.points[f"{name}_accuracy"]).mean()
            assert apart <= TOLERANCE, f"the points' {name} of {recipe!r} is {apart:.3f} off"
