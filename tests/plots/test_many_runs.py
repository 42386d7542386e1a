"""Pictures of many runs: what was learned against what was kept, and the KL."""

from dataclasses import replace

import numpy as np
import pytest
from drawings import MANY, a_run, words

from caplab import plots
from caplab.plots import many_runs
from caplab.support.errors import BadInput
from caplab.support.text import format_number, format_rate
from caplab.training.recipe import Recipe


def dots(axes, marker="o"):
    """The places of the large dots."""
    return [
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in axes.lines
        if line.get_marker() == marker and line.get_markersize() > 6
    ]


def test_seeds_are_one_dot_at_their_mean():
    runs = [a_run((1.0, 0.75), (0.25, 0.8125), seed=0), a_run((1.0, 0.5), (0.25, 0.9375), seed=1)]
    picture = plots.trade_off(runs)
    (axes,) = picture.axes
    assert dots(axes) == [(0.25, 1.0), pytest.approx((0.875, 0.625))]
    small = [line for line in axes.lines if line.get_markersize() == 4]
    assert [tuple(line.get_xydata()[0]) for line in small] == [(0.8125, 0.75), (0.9375, 0.5)]
    assert picture.finding == "full 1e-3: task .25 → .88, classics 1.00 → .62"


def test_the_frontier_joins_the_best():
    runs = [
        a_run((1.0, 0.75), (0.25, 0.5), learning_rate=1e-4),
        a_run((1.0, 0.5), (0.25, 0.9375), learning_rate=1e-3),
        a_run((1.0, 0.25), (0.25, 0.75), method="lora", learning_rate=1e-3),
    ]
    picture = plots.trade_off(runs)
    (axes,) = picture.axes
    assert [tuple(i) for i in axes.lines[0].get_xydata()] == [
        (0.25, 1.0),
        (0.5, 0.75),
        (0.9375, 0.5),
    ]
    assert picture.finding == (
        "2 of 3 recipes on the frontier; full 1e-3 learns most: task .94, classics .50"
    )
    assert {"base", "full 1e-4", "full 1e-3", "LoRA 1e-3"} <= set(words(picture))
    assert dots(axes, "D") == [(0.75, 0.25)]


def test_recipes_are_named_by_differences():
    def names(*recipes):
        return many_runs._labels([("pocket", recipe, recipe.steps) for recipe in recipes])

    plain = Recipe()
    assert names(plain) == ["full 1e-3"]
    assert names(plain, plain.change(replay=0.05)) == ["no replay", "5 % replay"]
    own = plain.change(replay=0.1, replay_source="self")
    assert names(plain, own) == ["no replay", "10 % self-replay"]
    lora = plain.change(method="lora", learning_rate=2.5e-4)
    assert names(lora, lora.change(rank=2)) == ["rank 8", "rank 2"]
    assert names(plain, lora.change(rank=2)) == ["full 1e-3", "LoRA 2.5e-4, rank 2"]
    assert format_rate(0) == "0"


def test_a_stopped_run_stands_alone():
    picture = plots.trade_off([a_run(), a_run(seed=1, steps=20)])
    assert {"full 1e-3", "full 1e-3, stopped at 20"} <= set(words(picture))


def test_failed_runs_are_counted_and_left_out():
    runs = [*MANY, replace(a_run(), trouble="NaN")]
    for picture in (plots.trade_off(runs), plots.kl(runs)):
        assert any("1 that failed in training: not drawn" in text for text in words(picture))


def test_the_base_is_seen_around_a_dot():
    (axes,) = plots.trade_off([a_run((1.0, 1.0), (0.25, 0.25))]).axes
    base, still = [line for line in axes.lines if line.get_marker() == "o"]
    assert base.get_markersize() > still.get_markersize()
    assert base.get_zorder() < still.get_zorder()


# ---------------------------------------------------------------- the KL


def test_kl_states_its_r_squared():
    picture = plots.kl(MANY)
    moved, lost = (
        [run.points[-1].kl for run in MANY],
        [run.before.accuracy - run.final.accuracy for run in MANY],
    )
    slope, start = np.polyfit(moved, lost, 1)
    r_squared = np.corrcoef(moved, lost)[0, 1] ** 2
    assert picture.finding == (
        f"KL to the base on the new task predicts what is lost: "
        f"R² {format_number(r_squared)} over 4 runs"
    )
    line = picture.axes[0].lines[0]
    assert list(line.get_ydata()) == pytest.approx([start + slope * 0.5, start + slope * 3.0])


def test_a_wide_range_is_logarithmic():
    wide = [a_run((1.0, 1 - 0.1 * at), (0.25, 0.9), kl=10.0**at) for at in range(4)]
    picture = plots.kl(wide)
    assert picture.axes[0].get_xscale() == "log"
    picture.draw_without_rendering()
    assert {"1", "10", "100"} <= set(words(picture))
    assert "R² 1.00" in picture.finding or "R² .99" in picture.finding
    assert plots.kl(MANY).axes[0].get_xscale() == "linear"


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ((0.0, 0.3, 0.0, 0.3), "hardly predicts"),
        ((0.1, 0.0, 0.2, 0.3), "partly predicts"),
        ((0.3, 0.2, 0.1, 0.0), "does not predict"),
        ((0.1, 0.1, 0.1, 0.1), "does not predict"),
    ],
)
def test_kl_claims_what_it_shows(lost, said):
    runs = [a_run((1.0, 1 - each), (0.25, 0.9), kl=1.0 + at) for at, each in enumerate(lost)]
    assert said in plots.kl(runs).finding


def test_replay_is_counted_apart():
    odd = a_run((1.0, 1.0), (0.25, 0.9), kl=3.0, replay=0.1)
    picture = plots.kl([*MANY, odd])
    assert any("the 4 runs without replay alone: R²" in text for text in words(picture))
    assert {"full", "LoRA", "full, replay"} <= set(words(picture))
    assert plots.OLD in [line.get_color() for line in picture.axes[0].lines]


# ---------------------------------------------------------------- refusals


def other_exam():
    """A run on an exam that no other run was asked."""
    run = a_run()
    return replace(run, cards={name: replace(c, fingerprint="x") for name, c in run.cards.items()})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: plots.trade_off([]), "no run to draw"),
        (lambda: plots.kl(iter([])), "no run to draw"),
        (lambda: plots.trade_off(None), "Give a Run"),
        (lambda: plots.trade_off([a_run(task=(None,) * 3)]), "task_exam"),
        (lambda: plots.kl([replace(a_run(), trouble="NaN")]), "failed in training"),
        (lambda: plots.kl([a_run()] * 2), "three runs"),
        (lambda: plots.kl([a_run()] * 3), "moved differently"),
        (
            lambda: plots.kl([a_run(), other_exam()]),
            r"different exams",
        ),
    ],
)
def test_what_cannot_be_drawn_says_why(wrong, said):
    with pytest.raises(BadInput, match=said):
        wrong()
