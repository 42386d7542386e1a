"""The atlas: seeds pooled, nothing mixed, everything found again."""

import time

import pandas as pd
import pretend
import pytest

from caplab.study.atlas import Atlas
from caplab.study.seeds import interval
from caplab.support.errors import BadInput
from caplab.training.recipe import Recipe

PLAIN = Recipe(learning_rate=1e-3, steps=100)


# ---------------------------------------------------------------- tables


def test_a_row_is_a_run_or_a_look_at_one(made):
    assert len(made.runs) == len(pretend.GRID)
    assert len(made.points) == 11 * len(made.runs)
    row = made.runs.iloc[0]
    recipe = made.recipes[0]
    assert row["hash"] == recipe.hash
    assert row["classics_accuracy"] == pretend.levels(recipe, 100, noise=0.02)[0]["classics"]
    assert row["base_classics_accuracy"] == pretend.BASE["classics"]
    assert set(pretend.CAPABILITIES) <= set(made.runs.columns) & set(made.points.columns)


# ---------------------------------------------------------------- choosing


def test_select_takes_a_value_a_list_or_a_test(made):
    assert set(made.select(method="lora").runs["method"]) == {"lora"}
    assert made.select(learning_rate=[1e-3, 3e-3], seed=[0]).seeds == [0]
    few = made.select(learning_rate=lambda rate: rate > 2e-3)
    assert set(few.runs["learning_rate"]) == {3e-3, 1e-2}
    assert set(few.points["hash"]) == set(few.runs["hash"])


def test_computed_rates_are_found(made):
    assert len(made.select(learning_rate=10**-3.0 * (1 + 1e-12)).runs) == 6
    assert len(made.curve(PLAIN.change(learning_rate=0.1 * 0.01))) == 11


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"lr": 1e-3}, "has no 'lr'"),
        ({"learning_rat": 1e-3}, "Did you mean 'learning_rate'"),
        ({"rank": 7}, r"No run of the atlas has rank=7. It has: 8"),
        (
            {"method": "lora", "classics_accuracy": lambda value: value > 2},
            r"has method='lora', classics_accuracy=\.\.\.",
        ),
        ({"hash": "x"}, "has hash='x'"),
    ],
)
def test_select_refuses_what_is_not_there(made, chosen, said):
    with pytest.raises(BadInput, match=said):
        made.select(**chosen)


def test_values_that_never_meet_are_refused(course):
    with pytest.raises(BadInput, match="at once"):
        course.select(rank=2, learning_rate=1e-5)


def test_the_nearest_differs_in_the_least(course):
    near = course.nearest(PLAIN.change(learning_rate=1.1e-3, seed=2))
    assert near == PLAIN.change(seed=2)
    ranked = course.nearest(PLAIN.change(method="lora", rank=3, learning_rate=1e-2))
    assert (ranked.method, ranked.rank, ranked.learning_rate) == ("lora", 4, 1e-2)
    assert course.nearest(PLAIN.change(replay=0.12)).replay == 0.1


# ---------------------------------------------------------------- pooling


def test_the_summary_pools_seeds(made):
    table = made.summary()
    assert len(table) == 12
    assert set(table["n"]) == {3}
    row = table[(table["method"] == "full") & (table["learning_rate"] == 1e-3)].iloc[0]
    values = made.select(method="full", learning_rate=1e-3).runs["classics_accuracy"]
    assert (row["classics_accuracy"], row["classics_accuracy_low"]) == pytest.approx(
        interval(values)[:2]
    )


def test_the_summary_pools_no_recipes(made):
    with pytest.raises(BadInput, match="differ in learning_rate, not in the seed alone"):
        made.summary("method")
    assert len(made.select(learning_rate=1e-3).summary("method")) == 2


def test_shares_stay_between_0_and_1(made):
    table = made.summary()
    assert table["task_accuracy_high"].max() <= 1
    assert table["classics_accuracy_low"].min() >= 0


def test_a_diverged_run_does_not_count(made):
    records = [pretend.record(recipe) for recipe in made.recipes[:3]]
    records[0] |= {"after": None, "trouble": "Diverged"}
    (row,) = Atlas.of(records, {}).summary().to_dict("records")
    assert row["n"] == 2
    assert row["classics_accuracy"] == pytest.approx(records[1]["after"]["classics"])


def test_a_curve_pools_seeds_step_by_step(made):
    curve = made.curve(PLAIN)
    assert list(curve["step"]) == list(range(0, 101, 10))
    points = made.points[made.points["hash"].isin([PLAIN.change(seed=s).hash for s in range(3)])]
    at_50 = points[points["step"] == 50]["classics_accuracy"]
    row = curve[curve["step"] == 50].iloc[0]
    found = row["classics_accuracy"], row["classics_accuracy_low"], row["n"]
    assert found == pytest.approx((*interval(at_50)[:2], 3))


def test_a_long_run_answers_for_a_short_one(made, course):
    short = made.curve(PLAIN.change(steps=40))
    pd.testing.assert_frame_equal(short, made.curve(PLAIN)[:5])
    with pytest.raises(BadInput, match="no run of"):
        course.curve(PLAIN.change(steps=40, schedule="linear"))
    with pytest.raises(BadInput, match="no run of"):
        made.curve(PLAIN.change(steps=120))


def test_unused_fields_do_not_matter(made):
    odd = PLAIN.change(rank=4, alpha=64, target_modules="attention", replay_source="self", seed=9)
    pd.testing.assert_frame_equal(made.curve(odd), made.curve(PLAIN))
    with pytest.raises(BadInput, match=r"nearest that it has: Recipe\(method='lora'"):
        made.curve(odd.change(method="lora"))


def test_a_curve_is_found_at_once(course):
    course.curve(PLAIN)
    start = time.process_time()
    for rate in (1e-4, 1e-3, 1e-2):
        course.curve(PLAIN.change(learning_rate=rate))
    assert (time.process_time() - start) / 3 < 0.1


# ---------------------------------------------------------------- comparing fairly


def test_what_else_varies_is_held(course):
    plain = course.select(replay=0, rank=8, target_modules="all-linear", schedule="constant")
    pd.testing.assert_frame_equal(course.matched(), plain.matched())
    assert list(course.matched(by="rank")["rank"]) == [1, 2, 4, 8, 16, 32]
    assert set(course.sweeps("rank").runs["method"]) == {"lora"}


def test_what_has_no_default_must_be_chosen(course):
    with pytest.raises(BadInput, match=r"rank varies \(1, 2\): choose one with select\(rank="):
        course.select(rank=[1, 2]).matched()


def test_the_frontier_is_matched_everywhere(made):
    line = made.frontier()
    assert line["task_accuracy"].between(0.3, 1).all()
    row = line[(line["method"] == "full") & (line["task_accuracy"] == 0.9)].iloc[0]
    matched = made.matched(0.9).set_index("method")
    assert row["classics_accuracy"] == matched.loc["full", "classics_accuracy"]


def test_the_best_learns_most_in_budget(made):
    for budget in (0.1, 0.3, 0.99):
        best = made.best(budget)
        group = made.select(method=best.method, learning_rate=best.learning_rate)
        assert pretend.BASE["classics"] - interval(group.runs["classics_accuracy"])[1] <= budget
    assert made.best(0.99).learning_rate == 1e-2
    assert made.best(0.1).seed == 0


def test_none_in_budget_names_the_nearest(made):
    with pytest.raises(BadInput, match=r"budget of 0.001: the most careful one loses 0\.1"):
        made.select(learning_rate=[1e-3, 1e-2]).best(0.001)


# ---------------------------------------------------------------- in words


def test_an_atlas_shows_what_it_holds(made):
    assert "runs: 36" in repr(made)
    assert "learning_rate: 0.0001, 0.0003, 0.001" in repr(made)
    assert "<caption>Atlas of pretended</caption>" in made._repr_html_()
