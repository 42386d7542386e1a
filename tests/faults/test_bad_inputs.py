"""Every bad input is refused before anything happens, with a message that helps."""

import pytest
from bad_inputs import BAD_INPUTS
from weights import same, weights

import caplab as cl
from caplab.support.errors import BadInput


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: f"{bad.where}: {bad.what}")
def test_it_is_refused(bad, at):
    before, card = weights(at.subject.model), at.card
    with pytest.raises(BadInput) as refused:
        bad.do(at)
    assert type(refused.value) is BadInput
    said = str(refused.value)
    assert [word for word in bad.words if word not in said] == [], said
    assert len(said.split()) > 4, f"not a sentence: {said}"
    assert same(before, weights(at.subject.model))
    assert cl.score(at.subject, at.exam, progress=False) == card, "the next call works as before"


def test_fifty_at_least_with_unique_names():
    names = [(bad.where, bad.what) for bad in BAD_INPUTS]
    assert len(set(names)) == len(names) >= 50
