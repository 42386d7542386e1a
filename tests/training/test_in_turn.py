"""One job after another: who knows what after which job."""

import pytest
import tiny
from datasets import Dataset, DatasetDict
from tuning import LORA, NO_DROPOUT, QUICK, TASK
from weights import same, weights

from caplab.measuring.compare import compare
from caplab.measuring.score import score
from caplab.support.errors import BadInput
from caplab.training.fine_tune import fine_tune
from caplab.training.in_turn import train_in_turn

COLOURS = ["red", "blue", "green", "white", "black"]


def painted(start, end):
    return [
        {"prompt": f"Paint the {n}:", "completion": f" {COLOURS[n % 5]}."}
        for n in range(start, end)
    ]


SECOND = DatasetDict(
    train=Dataset.from_list(painted(0, 20)), test=Dataset.from_list(painted(20, 30))
)
JOBS = {"words": TASK, "paint": SECOND}
RECIPE = QUICK.change(steps=8)


def in_turn(recipe=RECIPE, **given):
    return train_in_turn(tiny.subject(**NO_DROPOUT), JOBS, recipe, tiny.exam(), **given)


@pytest.fixture(scope="module")
def turns():
    return in_turn()


def test_the_matrix_has_every_state_and_exam(turns):
    assert list(turns.table.index) == ["base", "after words", "after paint"]
    assert list(turns.table.columns) == ["classics", "words", "paint"]
    assert turns.table.loc["base", "classics"] == turns.runs["words"].before.accuracy
    assert turns.table.loc["after words", "words"] == turns.runs["words"].final_task.accuracy


def test_each_job_begins_where_the_last_one_ended(turns):
    base = tiny.subject(**NO_DROPOUT)
    first = fine_tune(base, RECIPE, TASK, tiny.exam())
    second = fine_tune(first.subject, RECIPE, SECOND, tiny.exam())
    assert same(weights(turns.subject.model), weights(second.subject.model))
    assert (
        turns.table.loc["after paint", "words"] == score(second.subject, first.task_exam).accuracy
    )


def test_transfer_is_the_comparison_of_two_cards(turns):
    cards = turns.cards
    expected = compare(cards["after words"]["words"], cards["after paint"]["words"])
    assert turns.transfer("words") == expected
    assert "words, since it was learned:" in repr(turns)
    assert turns._repr_html_().count("<tr>") == 4
    with pytest.raises(BadInput, match="no job 'word'"):
        turns.transfer("word")


def test_rehearsal_replays_the_earlier_jobs():
    turns = in_turn(RECIPE.change(replay=0.5), rehearse=True)
    shares = [turns.runs[name].replay_fraction for name in JOBS]
    assert shares == [0.0, 0.5]
    assert turns.runs["words"].recipe.replay == 0


def test_an_adapter_for_each_job_begins_at_the_base():
    turns = in_turn(LORA, adapters="each")
    alone = fine_tune(tiny.subject(**NO_DROPOUT), LORA, SECOND, tiny.exam())
    assert same(weights(turns.runs["paint"].subject.model), weights(alone.subject.model))
    assert turns.subject is None
    assert "since it was learned" not in repr(turns)


def test_one_adapter_after_another_is_merged():
    turns = in_turn(LORA)
    assert turns.runs["paint"].base.startswith(turns.runs["words"].subject.name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"adapters": "both"}, "'one' or 'each'"),
        ({"adapters": "each"}, 'needs a recipe with method="lora"'),
        ({"rehearse": True}, "a share of replay"),
        ({"exams": {"wrods": tiny.exam()}}, "no job is called so"),
    ],
)
def test_bad_wishes_are_refused_before_training(given, message):
    with pytest.raises(BadInput, match=message):
        in_turn(**given)


@pytest.mark.parametrize("jobs", [{"one": TASK}, {"classics": TASK, "paint": SECOND}])
def test_bad_jobs_are_refused(jobs):
    with pytest.raises(BadInput, match="job"):
        train_in_turn(tiny.subject(), jobs, RECIPE, tiny.exam())


def test_a_job_without_an_exam_is_refused_at_once():
    jobs = {"words": TASK, "paint": SECOND["train"]}
    with pytest.raises(BadInput, match="'paint' has neither an exam"):
        train_in_turn(tiny.subject(), jobs, RECIPE, tiny.exam())
