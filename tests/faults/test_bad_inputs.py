"""Every bad input is refused at the door, in words that help, and nothing is lost."""

import pytest
from bad_inputs import BAD_INPUTS, Bench

import caplab as cl
from caplab.support.errors import BadInput


@pytest.fixture
def at(tmp_path):
    (tmp_path / "mine").mkdir()
    return Bench(tmp_path / "mine")


def weights(subject):
    return [weight.clone() for weight in subject.model.parameters()]


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: f"{bad.where}: {bad.what}")
def test_it_is_refused_in_words_that_help(bad, at):
    before, card = weights(at.subject), at.card
    with pytest.raises(BadInput) as refused:
        bad.do(at)
    assert type(refused.value) is BadInput
    said = str(refused.value)
    assert [word for word in bad.words if word not in said] == [], said
    assert len(said.split()) > 4, f"not a sentence: {said}"
    assert all(
        (old == new).all() for old, new in zip(before, at.subject.model.parameters(), strict=True)
    )
    assert cl.score(at.subject, at.exam, progress=False) == card, "the next call works as before"


def test_there_are_at_least_fifty_and_each_has_its_name():
    names = [(bad.where, bad.what) for bad in BAD_INPUTS]
    assert len(set(names)) == len(names) >= 50
