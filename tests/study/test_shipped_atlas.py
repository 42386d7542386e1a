"""The atlas that ships is what tools/build_atlas.py makes: its grid, its numbers, this model."""

import random
from importlib.resources import files

import pytest

from caplab.models.load import load
from caplab.models.weights import digest
from caplab.questions.exam import exam
from caplab.study.atlas import atlas
from caplab.study.grid import read_grid
from caplab.study.sweep import sweep

# One thread on the same processor gives every bit again. On another processor the last bits differ
# and training amplifies them: with two threads instead of one, which does the same here, whole
# exams differed by up to .011 and single points by up to .031 over four recipes.
TOLERANCE = 0.1
HANDFUL = 3


@pytest.fixture(autouse=True)
def pocket_itself(monkeypatch):
    monkeypatch.delenv("CAPLAB_MODEL", raising=False)


def test_it_holds_the_course_grid_alone(shipped, root):
    recipes, settings = read_grid(root / "tools" / "atlas.toml")
    every = settings["every"]
    assert set(shipped.recipes) == set(recipes)
    assert list(shipped.runs["hash"]) == [recipe.hash for recipe in shipped.recipes]
    assert shipped.failed.empty
    assert shipped.runs["trouble"].isna().all()
    assert shipped.about["every"] == every
    assert set(shipped.points.groupby("hash")["step"].count()) == {1 + 100 // every}


def test_it_says_what_made_it_and_is_small():
    about = atlas().about
    assert about["subject"] == "pocket"
    assert {"torch", "transformers", "trl", "peft", "caplab"} <= set(about["versions"])
    assert "cores" in about["machine"]
    assert (files("caplab") / "assets" / "atlas.parquet").stat().st_size < 5_000_000


def test_it_was_made_with_what_ships(shipped):
    assert shipped.about["weights"] == digest(load("pocket", device="cpu").model)
    exams = {name: exam(name).fingerprint for name in ("classics", "task")}
    assert shipped.about["exams"] == exams


@pytest.mark.slow
def test_a_random_handful_comes_out_again(shipped):
    drawn = random.SystemRandom().sample(shipped.recipes, HANDFUL)
    again = sweep(drawn, n_jobs=1, every=shipped.about["every"])
    for recipe in drawn:
        new, old = (one.select(hash=recipe.hash) for one in (again, shipped))
        for name in ("task_accuracy", "classics_accuracy"):
            apart = abs(new.runs[name][0] - old.runs[name][0])
            assert apart <= TOLERANCE, f"{name} of {recipe!r} is {apart:.3f} off"
            apart = abs(new.points[name] - old.points[name]).mean()
            assert apart <= TOLERANCE, f"the points' {name} of {recipe!r} is {apart:.3f} off"
