"""Charts: what they say in words is what the numbers are."""

import pretend
import pytest

from caplab.plots.picture import Picture
from caplab.study import charts
from caplab.study.grid import grid
from caplab.study.seeds import interval
from caplab.support.colours import INK, NEW, OLD, PAPER
from caplab.support.errors import BadInput
from caplab.support.text import format_number


def test_every_chart_says_what_was_found(course):
    for name in charts.__all__:
        picture = getattr(charts, name)(course)
        assert isinstance(picture, Picture)
        assert picture.finding
        assert picture.png().startswith(b"\x89PNG")


def lines(axes):
    return {line.get_color(): line for line in axes.lines}


def test_rates_draws_means_and_the_first_rate(course):
    picture = charts.rates(course)
    full, lora = picture.axes
    runs = course.sweeps().runs
    for axes, method, style in ((full, "full", "-"), (lora, "lora", "--")):
        of_method = runs[runs["method"] == method]
        for colour, name in ((NEW, "task_accuracy"), (OLD, "classics_accuracy")):
            line = lines(axes)[colour]
            means = of_method.groupby("learning_rate")[name].mean()
            assert line.get_linestyle() == style
            assert list(line.get_xdata()) == list(means.index)
            assert list(line.get_ydata()) == pytest.approx(list(means))
    names = ["task_accuracy", "classics_accuracy"]
    means = runs[runs["method"] == "full"].groupby("learning_rate")[names].mean()
    first = means[means["task_accuracy"] >= 0.9].iloc[0]
    assert f"keeps {format_number(first['classics_accuracy'])} of the classics" in picture.finding


def test_the_band_is_the_interval(course):
    axes = charts.rates(course).axes[0]
    band = axes.collections[1].get_paths()[0].vertices  # behind the classics
    runs = course.select(method="full", replay=0, schedule="constant", learning_rate=1e-3).runs
    _, low, high = interval(runs["classics_accuracy"])
    at = band[abs(band[:, 0] - 1e-3) < 1e-9, 1]
    assert (at.min(), at.max()) == pytest.approx((low, high))


def test_a_method_that_never_learns_is_said_to(course):
    slow = course.select(learning_rate=lambda rate: rate < 2e-4)
    assert "Full never reaches task .90 (at most" in charts.rates(slow).finding


def test_one_method_alone_has_one_panel(course):
    assert len(charts.rates(course.select(method="lora")).axes) == 1


def test_dose_is_drawn_at_the_highest_rate(course):
    picture = charts.dose(course)
    runs = course.select(method="full", learning_rate=3e-3, schedule="constant").runs
    kept = runs[runs["replay_source"] == "original"].groupby("replay")["classics_accuracy"].mean()
    for share in (0.1, 0.5):
        assert f"{format_number(kept[share])} with {100 * share:g} %" in picture.finding
    assert f"{format_number(kept[0])} without old text" in picture.finding
    ticks = [label.get_text() for label in picture.axes[0].get_xticklabels()]
    assert ticks == ["0 %", "1 %", "5 %", "10 %", "25 %", "50 %"]
    assert "1e-3" in charts.dose(course, learning_rate=1e-3).get_supxlabel()


def test_ranks_at_one_rate_and_one_task(course):
    picture = charts.ranks(course, learning_rate=5e-3, task=0.7)
    equal = course.matched(0.7, "rank")["classics_accuracy"]
    assert f"at task .70 they keep {format_number(equal.iloc[0])} and" in picture.finding
    assert list(lines(picture.axes[1])[OLD].get_ydata()) == pytest.approx(list(equal))


def test_ranks_lower_the_task_if_they_must(course):
    slow = course.select(learning_rate=lambda rate: rate < 4e-3)
    said = charts.ranks(slow, task=0.99).finding
    assert "at task .99" not in said
    assert "at task .8" in said or "at task .9" in said


def test_the_frontier_compares_at_equal_task(course):
    picture = charts.frontier(course)
    table = course.matched(0.9).set_index("method")["classics_accuracy"]
    assert f"LoRA {format_number(table['lora'])}" in picture.finding
    assert f"full {format_number(table['full'])}" in picture.finding
    assert {line.get_color() for line in picture.axes[0].lines} == {INK}
    low, high = picture.axes[0].get_ylim()
    assert high - low >= 0.2 - 1e-9
    assert picture.get_facecolor() == pytest.approx(
        (*[int(PAPER[i : i + 2], 16) / 255 for i in (1, 3, 5)], 1)
    )


def test_what_the_atlas_lacks_is_said(course):
    with pytest.raises(BadInput, match="No run of the atlas has"):
        charts.dose(course.select(replay=0))
    with pytest.raises(BadInput, match="No task accuracy"):
        charts.frontier(pretend.atlas(grid(learning_rate=1e-5, seed=range(3))))
