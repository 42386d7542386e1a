"""The atlas: seeds pooled, nothing mixed, everything found again."""

import math
import time

import numpy as np
import pandas as pd
import pretend
import pytest
from scipy import stats

from caplab.study.atlas import Atlas, atlas, interval
from caplab.study.grid import grid
from caplab.support.errors import BadInput
from caplab.training.recipe import Recipe


@pytest.fixture(scope="module")
def made():
    return pretend.atlas(noise=0.02)


@pytest.fixture(scope="module")
def course(root):
    return pretend.course(root, noise=0.02)


PLAIN = Recipe(learning_rate=1e-3, steps=100)


# ---------------------------------------------------------------- intervals


def test_the_interval_is_students():
    values = [0.1, 0.4, 0.2, 0.7]
    mean, low, high = interval(values)
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (mean, low, high) == pytest.approx((0.35, *expected))


def test_one_seed_has_no_interval_and_none_has_no_mean():
    assert interval([0.3])[0] == 0.3
    assert all(map(math.isnan, (*interval([0.3])[1:], *interval([]), *interval([math.nan]))))


def test_differences_that_cancel_leave_no_crumbs():
    assert interval([0.1 + 0.2 - 0.3] * 3) == (0, 0, 0)


# ---------------------------------------------------------------- tables


def test_a_row_of_runs_is_a_run_and_a_row_of_points_a_look_at_it(made):
    assert len(made.runs) == len(pretend.GRID)
    assert len(made.points) == 11 * len(made.runs)
    row = made.runs.iloc[0]
    recipe = made.recipes[0]
    assert row["hash"] == recipe.hash
    assert row["classics"] == pretend.levels(recipe, 100, noise=0.02)[0]["classics"]
    assert row["base_classics"] == pretend.BASE["classics"]
    assert set(pretend.CAPABILITIES) <= set(made.runs.columns) & set(made.points.columns)


def test_recipes_come_back_as_they_were_whatever_their_fields():
    odd = [
        Recipe(method="lora", target_modules=("c_attn", "c_fc"), examples=7, steps=10, dropout=0.1),
        Recipe(method="lora", target_modules=("c_fc",), schedule="cosine", warmup=3, steps=10),
        Recipe(steps=10),
    ]
    assert pretend.atlas(odd).recipes == odd


def test_an_atlas_survives_its_file(made, tmp_path):
    made = Atlas.of([pretend.record(r) for r in made.recipes[:4]], {"subject": "x"}, {PLAIN: "no"})
    again = atlas(made.save(tmp_path / "atlas.parquet"))
    for table in ("points", "runs", "failed"):
        pd.testing.assert_frame_equal(getattr(made, table), getattr(again, table))
    assert again.about == made.about
    assert list(tmp_path.iterdir()) == [tmp_path / "atlas.parquet"]


def test_an_atlas_of_nothing_but_failures_can_be_kept(tmp_path):
    none = Atlas.of([], {"subject": "x"}, {PLAIN: "no memory"})
    again = Atlas.load(none.save(tmp_path / "none.parquet"))
    assert list(again.failed["reason"]) == ["no memory"]
    for ask in (again.summary, again.matched, again.best, lambda: again.nearest(PLAIN)):
        with pytest.raises(BadInput, match=r"holds no run\. What failed: no memory"):
            ask()


def test_a_file_that_is_no_atlas_is_refused(tmp_path):
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(BadInput, match="is not an atlas"):
        atlas(tmp_path / "text.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(BadInput, match="is not an atlas"):
        atlas(tmp_path / "other.parquet")
    with pytest.raises(BadInput, match="There is no atlas"):
        atlas(tmp_path / "missing.parquet")


def test_a_file_that_cannot_be_written_leaves_the_old_one(made, tmp_path):
    with pytest.raises(BadInput, match="cannot be written"):
        made.save(tmp_path / "no" / "folder.parquet")


# ---------------------------------------------------------------- choosing


def test_select_takes_a_value_a_list_or_a_test(made):
    assert set(made.select(method="lora").runs["method"]) == {"lora"}
    assert made.select(learning_rate=[1e-3, 3e-3], seed=[0]).seeds == [0]
    few = made.select(learning_rate=lambda rate: rate > 2e-3)
    assert set(few.runs["learning_rate"]) == {3e-3, 1e-2}
    assert set(few.points["hash"]) == set(few.runs["hash"])


def test_rates_are_found_however_they_were_computed(made):
    assert len(made.select(learning_rate=10**-3.0 * (1 + 1e-12)).runs) == 6
    assert len(made.curve(PLAIN.change(learning_rate=0.1 * 0.01))) == 11


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"lr": 1e-3}, "has no 'lr'"),
        ({"learning_rat": 1e-3}, "Did you mean 'learning_rate'"),
        ({"rank": 7}, r"No run of the atlas has rank=7. It has: 8"),
        (
            {"method": "lora", "classics": lambda value: value > 2},
            r"has method='lora', classics=\.\.\.",
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


def test_the_nearest_recipe_differs_in_the_least(course):
    near = course.nearest(PLAIN.change(learning_rate=1.1e-3, seed=2))
    assert near == PLAIN.change(seed=2)
    ranked = course.nearest(PLAIN.change(method="lora", rank=3, learning_rate=1e-2))
    assert (ranked.method, ranked.rank, ranked.learning_rate) == ("lora", 4, 1e-2)
    assert course.nearest(PLAIN.change(replay=0.12)).replay == 0.1


# ---------------------------------------------------------------- pooling


def test_the_summary_pools_the_seeds_of_each_recipe(made):
    table = made.summary()
    assert len(table) == 12
    assert set(table["n"]) == {3}
    row = table[(table["method"] == "full") & (table["learning_rate"] == 1e-3)].iloc[0]
    values = made.select(method="full", learning_rate=1e-3).runs["classics"]
    assert (row["classics"], row["classics_low"]) == pytest.approx(interval(values)[:2])


def test_the_summary_refuses_to_pass_recipes_off_as_seeds(made):
    with pytest.raises(BadInput, match="differ in learning_rate, not in the seed alone"):
        made.summary("method")
    assert len(made.select(learning_rate=1e-3).summary("method")) == 2


def test_shares_keep_their_intervals_between_0_and_1(made):
    table = made.summary()
    assert table["task_high"].max() <= 1
    assert table["classics_low"].min() >= 0


def test_a_diverged_run_counts_for_nothing(made):
    records = [pretend.record(recipe) for recipe in made.recipes[:3]]
    records[0] |= {"after": None, "trouble": "Diverged"}
    (row,) = Atlas.of(records, {}).summary().to_dict("records")
    assert row["n"] == 2
    assert row["classics"] == pytest.approx(records[1]["after"]["classics"])


def test_a_curve_pools_the_seeds_step_by_step(made):
    curve = made.curve(PLAIN)
    assert list(curve["step"]) == list(range(0, 101, 10))
    points = made.points[made.points["hash"].isin([PLAIN.change(seed=s).hash for s in range(3)])]
    at_50 = points[points["step"] == 50]["classics_accuracy"]
    row = curve[curve["step"] == 50].iloc[0]
    assert (row["classics"], row["classics_low"], row["n"]) == pytest.approx(
        (*interval(at_50)[:2], 3)
    )


def test_a_long_run_answers_for_a_short_one_if_its_rate_is_constant(made, course):
    short = made.curve(PLAIN.change(steps=40))
    pd.testing.assert_frame_equal(short, made.curve(PLAIN)[:5])
    with pytest.raises(BadInput, match="no run of"):
        course.curve(PLAIN.change(steps=40, schedule="linear"))
    with pytest.raises(BadInput, match="no run of"):
        made.curve(PLAIN.change(steps=120))


def test_fields_that_do_nothing_do_not_matter(made):
    odd = PLAIN.change(rank=4, alpha=64, target_modules="attention", replay_source="self", seed=9)
    pd.testing.assert_frame_equal(made.curve(odd), made.curve(PLAIN))
    with pytest.raises(BadInput, match=r"nearest that it has: Recipe\(method='lora'"):
        made.curve(odd.change(method="lora"))


def test_a_slider_gets_its_answer_at_once(course):
    course.curve(PLAIN)
    start = time.perf_counter()
    for rate in (1e-4, 1e-3, 1e-2):
        course.curve(PLAIN.change(learning_rate=rate))
    assert (time.perf_counter() - start) / 3 < 0.1


# ---------------------------------------------------------------- comparing fairly


def test_matched_reads_off_what_is_kept_at_one_task_accuracy():
    """Without noise the formula says what must come out, but for the straight lines between."""
    fine = [3e-4 * 1.05**n for n in range(80)]
    table = pretend.atlas(grid(method=["full", "lora"], learning_rate=fine, steps=100, seed=[0, 1]))
    found = table.matched(0.9).set_index("method")["classics"]
    pull = -math.log(0.1 / 0.72) / 6
    assert found["full"] == pytest.approx(0.98 - (1 - math.exp(-pull)), abs=2e-3)
    assert found["lora"] == pytest.approx(found["full"], abs=2e-3)


def test_a_way_that_passes_twice_counts_by_its_better_pass():
    from caplab.study.matching import _kept

    assert _kept([(0.2, 1.0), (0.8, 0.8), (0.4, 0.9), (0.8, 0.4)], 0.6) == pytest.approx(0.8666667)
    assert _kept([(0.2, 1.0), (0.6, 0.5), (0.6, 0.7)], 0.6) == 0.7
    assert math.isnan(_kept([(0.2, 1.0), (0.6, 0.5)], 0.7))


def test_a_group_that_not_every_seed_takes_there_has_no_value(made):
    some = made.select(learning_rate=lambda rate: rate < 1.5e-3)
    table = some.matched(0.9).set_index("method")
    assert math.isnan(table.loc["lora", "classics"])
    assert (table.loc["lora", "n"], table.loc["lora", "seeds"]) == (0, 3)
    assert table.loc["full", "classics"] > 0.5


def test_what_else_varies_is_held_at_the_defaults(course):
    plain = course.select(replay=0, rank=8, target_modules="all-linear", schedule="constant")
    pd.testing.assert_frame_equal(course.matched(), plain.matched())
    assert list(course.matched(by="rank")["rank"]) == [1, 2, 4, 8, 16, 32]
    assert set(course.sweeps("rank").runs["method"]) == {"lora"}


def test_what_varies_without_a_default_must_be_chosen(course):
    with pytest.raises(BadInput, match=r"rank varies \(1, 2\): choose one with select\(rank="):
        course.select(rank=[1, 2]).matched()


def test_the_frontier_is_matched_at_every_level_that_is_reached(made):
    line = made.frontier()
    assert line["task"].between(0.3, 1).all()
    row = line[(line["method"] == "full") & (line["task"] == 0.9)].iloc[0]
    assert row["classics"] == made.matched(0.9).set_index("method").loc["full", "classics"]


def test_the_best_recipe_learns_most_within_the_budget(made):
    for budget in (0.1, 0.3, 0.99):
        best = made.best(budget)
        group = made.select(method=best.method, learning_rate=best.learning_rate)
        assert pretend.BASE["classics"] - interval(group.runs["classics"])[1] <= budget
    assert made.best(0.99).learning_rate == 1e-2
    assert made.best(0.1).seed == 0


def test_no_recipe_within_the_budget_says_how_far_off_the_most_careful_is(made):
    with pytest.raises(BadInput, match=r"budget of 0.001: the most careful one loses 0\.1"):
        made.select(learning_rate=[1e-3, 1e-2]).best(0.001)


# ---------------------------------------------------------------- in words


def test_an_atlas_shows_what_it_holds(made):
    assert "runs: 36" in repr(made)
    assert "learning_rate: 0.0001, 0.0003, 0.001" in repr(made)
    assert "<b>pretended</b>" in made._repr_html_()
