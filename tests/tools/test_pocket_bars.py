"""The bars of pocket 2: each is judged by the runs that were made, and none is met unmeasured."""

import pocket2_card as card
import pocket_bars as bars
import pytest

KNOWN = {"all": 0.94, "capitals": 0.95, "sums": 0.93, "mentioned": 0.95, "not mentioned": 0.93}


def run(task=1.0, sums=0.0, spoken=0.0, said=1.0):
    """Make a run that lost so much of its sums, and of all that it says."""
    choices = KNOWN | {"sums": KNOWN["sums"] - sums, "all": KNOWN["all"] - sums / 2}
    says = {name: share - spoken for name, share in KNOWN.items()}
    return {"choices": choices, "spoken": says, "task": task, "task spoken": said}


BASE = run(task=0.25)


class Made:
    """Results that are there already."""

    def __init__(self, runs):
        self.runs = runs

    def of(self, condition, seed=0, *, only=False):
        if condition is None:
            return BASE
        found = self.runs.get(condition.name)
        if found is None or seed >= len(found):
            raise LookupError(condition.name)
        return found[seed]


def measured(**changed):
    """Five seeds of each condition of a laboratory that meets all bars, some of them changed."""
    g = 5e-4
    runs = {bars.Condition("full", rate).name: [run(task=0.5)] * 5 for rate in bars.RATES}
    runs |= {bars.Condition("full", rate).name: [run()] * 5 for rate in bars.RATES if rate >= g}
    lost = {"task, 2 g": 0.1, "task, 4 g": 0.3, "task, 8 g": 0.8}
    for name, condition in bars.conditions("full", g).items():
        sums = lost.get(name, 0.0)
        made = [run(sums=sums + 0.01 * seed, spoken=0.3) for seed in range(10)]
        runs[condition.name] = [run()] * 5 if name.startswith("old") else made
    for name, runs_of_it in changed.items():
        runs[bars.conditions("full", g)[name.replace("_", ", ")].name] = runs_of_it
    return card.Measured(Made(runs), "full", range(5))


def verdict(found, what):
    (met,) = [met for title, _, _, met in card.method_bars(found) if title == f"full: {what}"]
    return met


def test_the_good_rate_is_the_lowest_that_learns():
    assert measured().good == 5e-4


def test_a_laboratory_that_meets_the_bars():
    found = measured()
    assert verdict(found, "old text, 1 g")
    assert verdict(found, "loss at 8 g")
    assert verdict(found, "spoken falls before choices at 2 g")
    assert verdict(found, "task, 2 g")


def test_old_text_must_move_nothing_in_either_direction():
    for moved in (0.03, -0.03):
        found = measured(**{"old text_1 g": [run(sums=moved)] * 5})
        assert not verdict(found, "old text, 1 g")


def test_one_seed_that_did_not_learn_is_seen():
    found = measured(**{"task_2 g": [run(sums=0.1, spoken=0.3)] * 9 + [run(task=0.9)]})
    assert not verdict(found, "task, 2 g")


def test_replay_must_keep_more_beyond_chance():
    kept = [run(sums=0.0)] * 10
    noise = [run(sums=0.1 + 0.3 * (-1) ** seed) for seed in range(10)]
    replayed = "task_2 g, 10% replay"
    assert verdict(measured(**{replayed: kept}), "10% replay at 2 g") is True
    assert verdict(measured(**{replayed: noise}), "10% replay at 2 g") is False


def test_what_was_not_measured_is_not_met():
    found = measured(**{"task_8 g": []})
    assert verdict(found, "loss at 8 g") is None


@pytest.mark.parametrize(("overall", "met"), [(0.94, True), (0.99, False), (0.85, False)])
def test_the_base_stays_off_the_ceiling(overall, met):
    base = BASE | {"choices": KNOWN | {"all": overall}}
    assert next(card.base_bars(base))[-1] is met
