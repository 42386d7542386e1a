"""The league: remedies at equal skill, chosen on some seeds and judged on others."""

import numpy as np
import pandas as pd
import pretend
import pytest

from caplab.study.atlas import Atlas
from caplab.study.grid import grid
from caplab.study.league import league, remedy
from caplab.study.seeds import interval
from caplab.support.errors import BadInput
from caplab.training.recipe import Recipe

RATES = [1e-3, 2e-3, 3e-3]
SEEDS = range(8)


@pytest.fixture(scope="module")
def atlas():
    recipes = [
        *grid(learning_rate=RATES, steps=100, seed=SEEDS),
        *grid(learning_rate=RATES, replay=[0.1, 0.25], steps=100, seed=SEEDS),
        *grid(method="lora", learning_rate=[4e-3, 8e-3], steps=100, seed=SEEDS),
        *grid(learning_rate=1e-6, anchor="l2", steps=100, seed=SEEDS),
        *grid(learning_rate=1e-3, examples=16, steps=100, seed=SEEDS),
    ]
    return pretend.atlas(recipes, noise=0.01)


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (Recipe(), "full"),
        (Recipe(method="lora", rank=2), "LoRA"),
        (Recipe(method="lora", variant="dora", target_modules="mlp"), "DoRA on MLP"),
        (Recipe(replay=0.1), "full + replay"),
        (Recipe(replay=0.1, replay_source="self"), "full + replay of own words"),
        (Recipe(anchor="kl", anchor_data="self"), "full + KL anchor of own words"),
        (Recipe(anchor="l2", loss="dft"), "full + L2 anchor + DFT"),
        (Recipe(optimizer="muon", average=0.9, warmup=9), "full + Muon + average + warm-up"),
        (Recipe(schedule="linear"), "full + linear decay"),
    ],
)
def test_remedies_have_names(recipe, name):
    assert remedy(recipe) == name


def test_the_better_remedy_leads(atlas):
    found = league(atlas)
    assert found.table["remedy"][0] == "full + replay"
    assert set(found.table["remedy"]) == {"full", "full + replay", "LoRA"}
    assert found.left_out == ("full + L2 anchor",)
    assert "full + replay kept most" in found.sentence
    assert "full" in found.table.iloc[0]["better_than"]
    assert "Never at task .90: full + L2 anchor" in repr(found)
    assert found._repr_html_().count("<tr>") == 4


def test_chosen_and_judged_on_different_seeds(atlas):
    """Luck on the seeds that choose does not reach the table."""
    lucky = atlas.runs.copy()
    odd = lucky["seed"] % 2 == 1
    setting = (lucky["learning_rate"] == 3e-3) & (lucky["replay"] == 0) & lucky["examples"].isna()
    lucky.loc[odd & setting, "classics_accuracy"] = 1.0
    found = league(Atlas(atlas.points, lucky, atlas.about, atlas.failed)).table.set_index("remedy")
    assert found.loc["full", "setting"] == "3e-3", "chosen for its luck"
    fresh = lucky.loc[~odd & setting & (lucky["method"] == "full"), "classics_accuracy"]
    assert found.loc["full", "mean"] == pytest.approx(fresh.mean())


def test_the_setting_keeps_most_of_those_that_learned(atlas):
    found = league(atlas, task=0.9).table.set_index("remedy")
    runs = atlas.select(method="full", replay=lambda share: share > 0).runs
    runs = runs[runs["seed"] % 2 == 1]
    means = runs.groupby(["learning_rate", "replay"])[["task_accuracy", "classics_accuracy"]].mean()
    rate, share = means[means["task_accuracy"] >= 0.9]["classics_accuracy"].idxmax()
    assert found.loc["full + replay", "setting"] == f"{rate * 1e3:.0f}e-3, {share:.0%}".replace(
        "%", " %"
    )


def test_an_interval_of_a_share_ends_at_one(atlas):
    wide = atlas.runs.assign(said=[n % 2 for n in range(len(atlas.runs))])
    found = league(Atlas(atlas.points, wide, atlas.about, atlas.failed)).table
    assert found["low"].min() >= 0 <= found["high"].max() <= 1


def test_other_columns_can_count(atlas):
    """What is said can be asked for, of the task and of the old."""
    told = atlas.runs.assign(said=0.5)
    told["task, said"] = (told["method"] == "lora").astype(float)
    found = league(
        Atlas(atlas.points, told, atlas.about, atlas.failed), kept="said", learned="task, said"
    )
    assert list(found.table["remedy"]) == ["LoRA"]
    assert found.table["mean"][0] == 0.5
    with pytest.raises(BadInput, match=r"no column 'sayd'\. Did you mean 'said'"):
        league(Atlas(atlas.points, told, atlas.about, atlas.failed), kept="sayd")


def test_pairs_are_corrected_and_paired(atlas):
    found = league(atlas)
    assert len(found.pairs) == 3
    row = found.pairs.set_index(["better", "worse"]).loc["full + replay", "full"]
    assert (row["low"] > 0) == row["decided"]
    assert row["low"] < row["gap"] < row["high"]


def test_equal_remedies_are_rarely_told_apart():
    """Two remedies that are the same but for noise: the order is not decided."""
    rng = np.random.default_rng(0)
    recipes = [*grid(steps=100, seed=SEEDS), *grid(loss="dft", steps=100, seed=SEEDS)]
    decided = 0
    for _ in range(40):
        made = pretend.atlas(recipes)
        noisy = made.runs.assign(
            task_accuracy=0.95, classics_accuracy=0.8 + rng.normal(0, 0.02, len(made.runs))
        )
        found = league(Atlas(made.points, noisy, made.about, made.failed))
        decided += int(found.pairs["decided"].sum())
    assert decided <= 6  # 5 % of 40 is 2


def test_costs_are_shown(atlas):
    slow = atlas.runs.assign(seconds=np.where(atlas.runs["replay"] > 0, 3.0, 1.5).astype(float))
    found = league(Atlas(atlas.points, slow, atlas.about, atlas.failed)).table.set_index("remedy")
    assert found.loc["full + replay", "time"] == pytest.approx(2)
    assert found.loc["full", "old_rows"] == 0
    assert found.loc["full + replay", "old_rows"] in (80, 200)


def test_a_run_that_diverged_takes_no_part(atlas):
    broken = atlas.runs.copy()
    setting = (broken["learning_rate"] == 1e-3) & (broken["replay"] == 0)
    names = ["task_accuracy", "classics_accuracy"]
    broken.loc[setting & (broken["seed"] == 1), names] = np.nan
    found = league(Atlas(atlas.points, broken, atlas.about, atlas.failed)).table
    assert not found.set_index("remedy").loc["full", "setting"].startswith("1e-3")


def test_the_interval_is_over_the_judging_seeds(atlas):
    row = league(atlas).table.set_index("remedy").loc["LoRA"]
    runs = atlas.select(method="lora", learning_rate=float(row["setting"])).runs
    fresh = runs[runs["seed"] % 2 == 0]["classics_accuracy"]
    assert (row["mean"], row["low"], row["high"]) == pytest.approx(interval(fresh))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": 2}, "task is 2"),
        ({"task": 1.0}, "reaches task 1"),
        ({"kept": "fame"}, "no column 'fame'"),
    ],
)
def test_bad_questions_are_refused(atlas, change, message):
    with pytest.raises(BadInput, match=message):
        league(atlas, **change)


def test_three_seeds_are_too_few(atlas):
    with pytest.raises(BadInput, match="needs 4"):
        league(atlas.select(seed=[0, 1, 2]))
    assert isinstance(league(atlas.select(seed=[0, 1, 2, 3])).table, pd.DataFrame)
