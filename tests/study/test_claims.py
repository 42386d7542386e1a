"""Claims: what is said is what was measured, whichever way it came out."""

import math

import pretend
import pytest

from caplab.cli.commands import main
from caplab.study import claims, claims_forgetting, claims_lora, claims_rates, claims_replay
from caplab.study.atlas import Atlas
from caplab.study.grid import grid
from caplab.study.seeds import interval
from caplab.support.errors import BadInput
from caplab.training.recipe import Recipe

PROMISED = [
    "higher_rate_forgets_more",
    "lora_learns_less_at_one_rate",
    "lora_forgets_less_at_one_rate",
    "lora_keeps_more_at_matched_task",
    "smaller_rank_forgets_less_at_one_rate",
    "smaller_rank_keeps_more_at_matched_task",
    "lora_needs_a_higher_rate",
    "lora_above_1e_4_regresses",
    "stopping_early_beats_a_lower_rate",
    "replay_keeps_more",
    "one_percent_replay_is_enough",
    "self_replay_is_as_good",
    "kl_predicts_forgetting",
    "facts_go_before_skills",
    "one_seed_can_mislead",
    "replay_costs_learning",
]


def test_every_promised_claim_is_there():
    assert set(claims.names()) == set(PROMISED)


def test_the_shipped_atlas_has_every_claim(shipped):
    found = claims.measure_all(shipped)
    assert [finding.name for finding in found] == claims.names()
    for finding in found:
        assert math.isfinite(finding.value), finding
        assert finding.low <= finding.value <= finding.high
        assert finding.statement.endswith(".")
        assert finding.sources
        assert finding.holds in (True, False, None)


# What the formula of the pretended atlas says must come out.
TRUTHS = {
    "higher_rate_forgets_more": True,
    "lora_forgets_less_at_one_rate": True,
    "lora_needs_a_higher_rate": True,
    "lora_above_1e_4_regresses": False,
    "replay_keeps_more": True,
    "one_percent_replay_is_enough": False,
    "kl_predicts_forgetting": True,
    "facts_go_before_skills": True,
}


@pytest.mark.parametrize(("name", "truth"), TRUTHS.items())
def test_a_claim_finds_what_is_true(course, name, truth):
    assert claims.measure(name, course).holds is truth


def test_a_saturated_task_hides_who_learns_less(course):
    finding = claims.measure("lora_learns_less_at_one_rate", course)
    verdicts = {condition.name: condition.holds for condition in finding.conditions}
    assert verdicts["at 2e-3"] is True
    assert verdicts["at 1e-2"] is None, "both have learned all there is"
    assert finding.holds is None


def test_own_text_is_as_good_where_it_is_the_same(root):
    course = pretend.course(root, noise=0.005)
    finding = claims.measure("self_replay_is_as_good", course)
    assert finding.holds is True
    assert "in 15 of 15 conditions" in finding.statement


def test_replay_that_harms_at_one_rate_is_no_help(course):
    """A mean over the rates would still be a gain."""
    harmed = (course.runs["learning_rate"] == 1e-3) & (course.runs["replay"] == 0.1)
    kept = course.runs["classics_accuracy"].mask(harmed, 0.5)
    runs = course.runs.assign(classics_accuracy=kept)
    finding = claims.measure(
        "replay_keeps_more", Atlas(course.points, runs, course.about, course.failed)
    )
    assert finding.holds is False
    assert "keeps more of the classics at 2e-3 and 3e-3" in finding.statement
    assert "keeps less of the classics at 1e-3" in finding.statement


def test_families_count_their_claims():
    for module in (claims_rates, claims_lora, claims_replay, claims_forgetting):
        own = [name for name in claims.names() if vars(module).get(name)]
        own = [name for name in own if vars(module)[name].__module__ == module.__name__]
        assert len(own) == module.FAMILY, module.__name__


@pytest.mark.parametrize(("noise", "truth"), [(0.001, False), (0.06, True)])
def test_one_seed_misleads_if_there_is_noise(root, noise, truth):
    course = pretend.course(root, noise=noise)
    assert claims.measure("one_seed_can_mislead", course).holds is truth


def test_lora_takes_four_times_the_rate(course):
    found = claims.measure("lora_needs_a_higher_rate", course)
    assert found.low < 4 < found.high or found.value == pytest.approx(4, rel=0.1)
    assert "here 32" in found.statement


def mirrored(atlas, name):
    """Return the same atlas with a level mirrored at one half."""
    runs = atlas.runs.assign(**{name: 1 - atlas.runs[name]})
    return Atlas(atlas.points, runs, atlas.about, atlas.failed)


@pytest.mark.parametrize(
    ("name", "level", "words"),
    [
        ("higher_rate_forgets_more", "classics_accuracy", "forgets less than"),
        ("lora_forgets_less_at_one_rate", "classics_accuracy", "keeps less of the classics"),
        ("replay_keeps_more", "classics_accuracy", "keeps less of the classics"),
        ("kl_predicts_forgetting", "classics_accuracy", "tells poorly"),
    ],
)
def test_a_claim_that_fails_says_the_opposite(course, name, level, words):
    assert words not in claims.measure(name, course).statement
    finding = claims.measure(name, mirrored(course, level))
    assert finding.holds is False
    assert words in finding.statement


def test_a_small_difference_is_undecided(course):
    finding = claims.measure("smaller_rank_keeps_more_at_matched_task", course)
    assert finding.holds is None
    assert finding.low < 0 < finding.high
    assert finding.statement.startswith("These seeds do not decide it: a smaller rank")


def test_one_seed_decides_nothing(course):
    for finding in claims.measure_all(course.select(seed=3)):
        assert finding.holds is None, finding


def test_an_atlas_without_the_runs_says_so():
    few = pretend.atlas(grid(learning_rate=[1e-3, 3e-3], steps=100, seed=range(3)))
    finding = claims.measure("replay_keeps_more", few)
    assert finding.holds is None
    assert finding.statement.startswith("This atlas cannot tell: mixing in old text")
    assert "no run with replay" in finding.statement
    assert "not measured" in repr(finding)
    assert len(claims.measure_all(few)) == len(claims.names())


def test_the_interval_is_over_seeds(course):
    runs = course.sweeps().select(method="full").runs
    ends = runs.pivot(index="seed", columns="learning_rate", values="classics_accuracy")
    expected = interval(ends[1e-5] - ends[1e-2], 1 - 0.05 / claims_rates.FAMILY)
    finding = claims.measure("higher_rate_forgets_more", course)
    assert (finding.value, finding.low, finding.high) == pytest.approx(expected)


def test_stopping_on_one_line_gains_nothing():
    """If all rates follow one line, stopping early and a lower rate come to the same."""
    recipes = grid(learning_rate=[10 ** (-4 + n / 20) for n in range(30)], steps=100, seed=range(3))
    finding = claims.measure("stopping_early_beats_a_lower_rate", pretend.atlas(recipes, every=2))
    assert abs(finding.value) < 0.01


def test_stopping_wins_before_a_late_fall():
    """A world where each run's classics fall only in its last tenth."""
    recipes = grid(learning_rate=[10 ** (-4 + n / 20) for n in range(30)], steps=100, seed=range(3))
    made = pretend.atlas(recipes, every=2)
    kind = made.points["step"] < 95
    kept = made.points["classics_accuracy"].where(~kind, 0.98)
    kinder = Atlas(made.points.assign(classics_accuracy=kept), made.runs, made.about, made.failed)
    finding = claims.measure("stopping_early_beats_a_lower_rate", kinder)
    assert finding.value > 0.1


def test_an_unknown_claim_gets_a_suggestion(course):
    with pytest.raises(BadInput, match="Did you mean 'replay_keeps_more'"):
        claims.measure("replay_keep_more", course)


def test_the_functions_are_reachable(course):
    for name in claims.names():
        assert getattr(claims, name)(course) == claims.measure(name, course)


def test_the_command_line_prints_all(course, tmp_path, capsys):
    path = course.save(tmp_path / "atlas.parquet")
    assert main(["claims", "--atlas", str(path)]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in PROMISED)
    assert main(["claims", "--atlas", str(tmp_path / "none")]) == 2


def test_the_default_recipe_is_in_the_atlas(shipped):
    for seed in shipped.seeds:
        assert Recipe(steps=100, seed=seed).hash in set(shipped.runs["hash"])
