"""Presets: every experiment begins where its sliders can be."""

import pytest

from caplab.exploring.controls import setting_value
from caplab.exploring.presets import PRESETS, STOPS
from caplab.exploring.state import State


@pytest.mark.parametrize("name", PRESETS)
def test_every_slider_starts_at_a_stop(name):
    preset = PRESETS[name]
    first = State(preset=preset, recipe=preset.recipe)
    for control in set(preset.controls) & set(STOPS):
        assert setting_value(control, first) in STOPS[control]
