"""A cell that is run again shows the panel that the learner left there."""

import pytest

from caplab.exploring import cells
from caplab.exploring.cells import kept_in_cell


@pytest.fixture
def run(monkeypatch):
    """Call functions as one execution of a cell."""
    monkeypatch.setattr(cells, "_CELLS", {})
    executions = iter(range(100))

    def execution(cell, *asked):
        number = next(executions)
        monkeypatch.setattr(cells, "_running_cell", lambda: (cell, number))
        return [kept_in_cell(each, object) for each in asked]

    return execution


def test_the_same_wish_gets_the_same_panel(run):
    assert run("a", "replay") == run("a", "replay") == run("a", "replay")


def test_another_wish_gets_a_new_panel(run):
    (first,) = run("a", "replay")
    (second,) = run("a", "guard")
    assert first is not second
    assert run("a", "replay") != [first], "the guard's panel came in between"


def test_cells_keep_apart(run):
    assert run("a", "replay") != run("b", "replay")


def test_two_panels_of_a_cell_keep_their_order(run):
    one, two = run("a", "replay", "replay")
    assert one is not two
    assert run("a", "replay", "replay") == [one, two]
    assert run("a", "guard", "replay")[1] is two


def test_without_a_name_every_call_makes_one(run):
    assert run(None, "replay") != run(None, "replay")


def test_outside_a_notebook_there_is_no_cell():
    assert cells._running_cell() == (None, None)
