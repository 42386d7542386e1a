"""The picture of several jobs in turn: every number of the table, and the largest loss."""

from types import SimpleNamespace

import pytest
from drawings import words

from caplab import plots
from caplab.support.errors import BadInput
from caplab.training.in_turn import InTurn

LEVELS = {
    "base": {"classics": 0.95, "service": 0.25, "library": 0.26},
    "after service": {"classics": 0.90, "service": 0.97, "library": 0.31},
    "after library": {"classics": 0.85, "service": 0.42, "library": 0.96},
}


def turns(levels=LEVELS):
    cards = {
        state: {name: SimpleNamespace(accuracy=level) for name, level in row.items()}
        for state, row in levels.items()
    }
    return InTurn(cards, dict.fromkeys(["service", "library"]), SimpleNamespace())


def test_every_cell_is_written():
    shown = words(plots.in_turn(turns()))
    assert {".95", ".25", ".26", ".90", ".97", ".31", ".85", ".42", ".96"} <= set(shown)
    assert {"classics", "after library"} <= set(shown)


def test_the_title_names_the_largest_loss():
    assert plots.in_turn(turns()).finding == "service: .97 → .42 after 2 jobs"
    kept = LEVELS | {"after library": {"classics": 0.3, "service": 0.97, "library": 0.96}}
    assert plots.in_turn(turns(kept)).finding == "classics: .95 → .30 after 2 jobs"
    calm = LEVELS | {"after library": {"classics": 0.95, "service": 0.97, "library": 0.96}}
    assert plots.in_turn(turns(calm)).finding == "After 2 jobs, nothing is known worse than before"


def test_a_frame_marks_what_was_just_learned():
    (axes,) = plots.in_turn(turns()).axes
    framed = [box for box in axes.patches if box.get_facecolor()[3] == 0]
    assert [(box.get_x(), box.get_y()) for box in framed] == [(0.5, 0.5), (1.5, 1.5)]


def test_something_else_is_refused():
    with pytest.raises(BadInput, match="train_in_turn"):
        plots.in_turn({})
