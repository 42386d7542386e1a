"""Bands: what earlier runs did, whatever the seed."""

from itertools import product

import pretend
import pytest

from caplab.exploring.presets import COURSE, PRESETS, STOPS


@pytest.mark.parametrize("name", ["first_look", "learning_rate", "interpolate"])
def test_every_setting_of_a_preset_has_a_band(bands, name):
    preset = PRESETS[name]
    axes = [control for control in preset.controls if control in ("learning_rate", "steps", "seed")]
    for values in product(*(STOPS[axis] for axis in axes)):
        recipe = preset.recipe.change(**dict(zip(axes, values, strict=True)))
        assert bands.of(recipe)["seeds"] == 5


def test_a_band_spans_the_seeds(bands):
    band = bands.of(COURSE.change(steps=40, seed=3, rank=32))["band"]  # no LoRA: no rank
    assert band.steps == (0, 10, 20, 30, 40)
    low, high = band.classics[-1][1:]
    alone = [pretend.levels(COURSE.change(seed=s, steps=100), 40, noise=0.1) for s in range(5)]
    assert (low, high) == pytest.approx(
        (
            min(found["classics"] for found, *_ in alone),
            max(found["classics"] for found, *_ in alone),
        )
    )


def test_an_untried_setting_has_no_band(bands):
    assert bands.of(COURSE.change(batch_size=16)) == {"band": None, "seeds": 0}
