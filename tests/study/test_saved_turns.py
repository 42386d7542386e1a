"""Three jobs in turn, over seeds: what is saved, and what the claims read from it."""

import json

import pytest
import tiny

from caplab.questions.exam import Exam, Question
from caplab.study import turns
from caplab.study.turns import CONDITIONS, JOBS

STATES = ("base", *(f"after {job}" for job in JOBS))
ALL = (
    turns.a_later_job_costs_the_first,
    turns.rehearsing_keeps_earlier_jobs,
    turns.old_text_keeps_earlier_jobs,
    turns.one_adapter_keeps_the_first_job,
)


def run(condition, seed, end):
    """A run in which the first job is learned, and `end` of it is left."""
    level = dict.fromkeys(("classics", *JOBS), 0.5)
    said = dict.fromkeys(STATES, level)
    said |= {f"after {JOBS[0]}": level | {JOBS[0]: 1.0}, STATES[-1]: level | {JOBS[0]: end}}
    return {"condition": condition, "seed": seed, "date": "2026-01-01", "seconds": 1, "said": said}


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    """Let runs be saved that end at given levels, a little apart for each seed."""

    def save(**ends):
        runs = [
            run(condition, seed, ends.get(condition.replace(" ", "_"), 0.5) + seed / 1000)
            for condition in CONDITIONS
            for seed in range(5)
        ]
        monkeypatch.setattr(turns, "SAVED", tmp_path / "turns.json")
        turns.SAVED.write_text(json.dumps(runs))

    return save


def test_a_loss_is_found_and_its_absence_too(pretended):
    pretended(no_remedy=0.2)
    assert turns.a_later_job_costs_the_first(turns.table()).holds is True
    assert turns.a_later_job_costs_the_first(turns.table()).value == pytest.approx(0.798)
    pretended(no_remedy=1.1)
    assert turns.a_later_job_costs_the_first(turns.table()).holds is False


@pytest.mark.parametrize(
    ("claim", "condition"),
    [
        (turns.rehearsing_keeps_earlier_jobs, "earlier_jobs"),
        (turns.old_text_keeps_earlier_jobs, "old_text"),
        (turns.one_adapter_keeps_the_first_job, "one_adapter"),
    ],
)
def test_a_remedy_is_compared_with_none_seed_by_seed(claim, condition, pretended):
    pretended(no_remedy=0.2, **{condition: 0.7})
    assert claim(turns.table()).holds is True
    pretended(no_remedy=0.7, **{condition: 0.2})
    assert claim(turns.table()).holds is False


def test_the_intervals_are_corrected_for_the_family():
    assert len(ALL) == turns.FAMILY


def test_every_condition_is_saved_with_five_seeds():
    table = turns.table()
    ends = table[table.state == STATES[-1]]
    assert set(ends.condition) == set(CONDITIONS)
    assert set(ends.groupby("condition").seed.nunique()) == {5}
    assert set(table.state) == set(STATES)


def test_a_run_is_what_train_in_turn_finds(monkeypatch):
    """The five conditions run from end to end on a model that knows nothing."""
    asked = Exam((Question("any", "Q:", expect={"contains": ["Paris"]}, max_new_tokens=2),))
    rows = [{"prompt": "Q:", "completion": " Paris"}] * 4
    monkeypatch.setattr(turns, "exam", lambda _: asked)
    monkeypatch.setattr(turns, "task", lambda _: {"train": rows, "test": rows})
    short = {
        name: given | {"recipe": given["recipe"].change(steps=1, batch_size=2)}
        for name, given in CONDITIONS.items()
    }
    monkeypatch.setattr(turns, "CONDITIONS", short)
    for condition in CONDITIONS:
        found = turns.measure(tiny.subject(), condition, 0)
        assert list(found["said"]) == list(STATES)
        assert set(found["said"]["base"]) == {"classics", *JOBS}
