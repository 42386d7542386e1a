"""What is kept at one task accuracy."""

import math

import pretend
import pytest

from caplab.study.grid import grid
from caplab.study.matching import _kept
from caplab.support.errors import BadInput


def test_matched_reads_off_between_runs():
    """Without noise the formula says what must come out, but for the straight lines between."""
    fine = [3e-4 * 1.05**n for n in range(80)]
    table = pretend.atlas(grid(method=["full", "lora"], learning_rate=fine, steps=100, seed=[0, 1]))
    found = table.matched(0.9).set_index("method")["classics_accuracy"]
    pull = -math.log(0.1 / 0.72) / 6
    assert found["full"] == pytest.approx(0.98 - (1 - math.exp(-pull)), abs=2e-3)
    assert found["lora"] == pytest.approx(found["full"], abs=2e-3)


def test_of_two_passes_the_better_counts():
    assert _kept([(0.2, 1.0), (0.8, 0.8), (0.4, 0.9), (0.8, 0.4)], 0.6) == pytest.approx(0.8666667)
    assert _kept([(0.2, 1.0), (0.6, 0.5), (0.6, 0.7)], 0.6) == 0.7


def test_a_path_that_never_passes_has_no_value():
    assert math.isnan(_kept([(0.2, 1.0), (0.6, 0.5)], 0.7))


def test_a_group_needs_every_seed(made):
    some = made.select(learning_rate=lambda rate: rate < 1.5e-3)
    table = some.matched(0.9).set_index("method")
    assert math.isnan(table.loc["lora", "classics_accuracy"])
    assert (table.loc["lora", "n"], table.loc["lora", "seeds"]) == (0, 3)
    assert table.loc["full", "classics_accuracy"] > 0.5


@pytest.mark.parametrize("task", [-0.1, 90, "all", None])
def test_a_level_is_an_accuracy(made, task):
    for ask in (made.matched, made.kept_at):
        with pytest.raises(BadInput, match="give a task accuracy from 0 to 1"):
            ask(task)
