"""The checks of lesson 05 tell typical mistakes apart."""

from types import SimpleNamespace

from answers import diagnoses

import caplab as cl


def crossing(levels, budget, patience=1):
    streak = 0
    for look, level in enumerate(levels):
        streak = streak + 1 if levels[0] - level > budget else 0
        if streak > patience:
            return look - patience
    return None


def test_05_1_wants_the_start_of_a_streak():
    def any_dip(levels, budget, patience=1):
        return next((i for i, level in enumerate(levels) if levels[0] - level > budget), None)

    def when_sure(levels, budget, patience=1):
        found = crossing(levels, budget, patience)
        return None if found is None else found + patience

    def against_the_last(levels, budget, patience=1):
        steps = range(1, len(levels))
        return next((i for i in steps[1:] if levels[i - 1] - levels[i] > budget), None)

    def at_the_budget(levels, budget, patience=1):
        return crossing(levels, budget - 0.01, patience)

    diagnoses(
        "05_1",
        right=crossing,
        wrong=[
            4,
            lambda levels, budget, patience=1: crossing(levels, budget) is not None,
            any_dip,
            when_sure,
            lambda levels, budget, patience=1: len(levels) - 1,
            lambda levels, budget, patience=1: 0,
            against_the_last,
            at_the_budget,
            lambda levels, budget, patience=1: crossing(levels, budget),
        ],
    )


def guard(looks=4, crossed_at=None, **settings):
    """A guard as if it had looked so often."""
    made = cl.RegressionGuard(**{"budget": 0.05, "every": 5, "action": "rollback"} | settings)
    made.checks = [SimpleNamespace(step=step) for step in range(looks)]
    made.crossed_at = crossed_at
    return made


def test_05_2_wants_a_guard_that_rolled_back():
    diagnoses(
        "05_2",
        right=guard(),
        wrong=[
            cl.RegressionGuard,
            guard(budget=0.5),
            guard(every=50),
            guard(action="stop"),
            guard(action="warn"),
            guard(looks=0),
            guard(looks=1),
        ],
    )


def test_05_2_says_what_came_of_it():
    assert "no crossing" in cl.check("05_2", guard()).text
    assert "step 10" in cl.check("05_2", guard(crossed_at=10)).text


def test_05_waits_for_a_return_value():
    assert cl.check("05_1", lambda *_: None).kind == "Not yet"
