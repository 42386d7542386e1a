"""Three jobs, each with rows of training and others held out, pair by pair."""

import pytest

from caplab.questions.world2.jobs import JOBS, answers, pairs, reference_rows, rows


@pytest.mark.parametrize("job", JOBS)
def test_training_shows_no_held_out_pair(job):
    train, test = ({*pairs(job, held_out=side)} for side in (False, True))
    assert len(test) >= 40
    assert not train & test
    shown = {row["completion"] for row in rows(job, held_out=False)}
    assert not shown & {row["completion"] for row in rows(job, held_out=True)}


@pytest.mark.parametrize("job", JOBS)
def test_every_thing_and_wish_is_on_both_sides(job):
    for side in (True, False):
        things, wishes = (set(part) for part in zip(*pairs(job, held_out=side), strict=True))
        assert things == set(answers(job, "things"))
        assert wishes == set(answers(job, "wishes"))


def test_the_jobs_differ_in_form():
    endings = {row["prompt"].split("\n")[-1] for job in JOBS for row in rows(job, held_out=True)}
    assert len(endings) == len(JOBS)


def test_customer_service_has_the_reference_rows():
    said = [row["completion"] for row in reference_rows("service")]
    assert said[1:] == [" Click Settings, then Account Recovery.", " 30 days for most items."]
    assert reference_rows("station") == []
