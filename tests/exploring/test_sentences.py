"""What the panel says: the headline, its detail, and the names of runs."""

import pytest
from panels import state, trained

from caplab.exploring.presets import COURSE
from caplab.exploring.sentences import headline, label
from caplab.exploring.state import Band, Watched


def test_the_headline_of_a_run():
    said = headline(trained())
    assert (said.text, said.verdict) == ("Task .93, classics .48", "REGRESSED")
    assert said.change == "−.49, −.59 to −.37"
    assert "all 2 capabilities" in said.detail


def test_the_headline_before_a_run():
    band = Band((0, 60), ((0.28,) * 3, (0.95, 0.9, 1.0)), ((0.97,) * 3, (0.6, 0.5, 0.7)))
    said = headline(state(band=band, seeds=5))
    assert said.text == "Expect task .90 to 1.00, classics .50 to .70"
    assert headline(state()).text == "Not trained yet: press Run."


def test_a_sample_is_marked_and_the_wait_explained():
    running = headline(trained(outcome=None, phase="training"))
    assert running.text == "Training, step 60 of 60: task ≈ .93, classics ≈ .48"
    assert "Now all questions are asked" in running.detail
    earlier = trained(outcome=None, phase="training").points[:2]
    assert (
        "asks a sample" in headline(trained(points=earlier, outcome=None, phase="training")).detail
    )


def test_guess_and_result_stand_together():
    said = headline(trained(predicting=True, guess=(0.9, 0.8)))
    assert said.text == "Task .93, classics .48"
    assert "Your guess was task .90, classics .80: off by .03 and .32." in said.detail


@pytest.mark.parametrize(
    ("guard", "words"),
    [
        (Watched("stop"), "The guard saw no crossing."),
        (Watched("stop", 10, 20), "crossed from step 10 on. It stopped the training at step 20."),
        (Watched("warn", 10, 20), "It warned at step 20, and training went on."),
        (Watched("rollback", 10, 20, 0), "at step 20 and put back the weights of step 0."),
        (Watched("rollback", 10, 20), "at step 20; no earlier weights were within the budget."),
    ],
)
def test_what_a_guard_did_is_said(guard, words):
    assert words in headline(trained(guard=guard)).detail


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "full 2e-3"),
        ({"method": "lora", "rank": 4}, "LoRA 2e-3, rank 4"),
        ({"replay": 0.05, "replay_source": "self"}, "full 2e-3, 5 % self-replay"),
        ({"steps": 40, "seed": 3}, "full 2e-3, 40 steps, seed 3"),
    ],
)
def test_a_run_is_named_by_what_is_unusual(changes, name):
    assert label(COURSE.change(**changes)) == name
