"""The store: one file for each run, found again, never another's."""

import json

import pretend
import pytest

from caplab.study.store import RunStore
from caplab.support.errors import BadInput
from caplab.training.recipe import Recipe

ONE, OTHER = Recipe(steps=2), Recipe(steps=2, seed=1)


@pytest.fixture
def store(tmp_path):
    runs = RunStore(tmp_path, {"weights": "a"})
    runs.make()
    return runs


def test_a_run_is_found_again(store):
    store.keep(pretend.record(ONE))
    assert store.find(ONE) == json.loads(json.dumps(pretend.record(ONE)))
    assert store.find(OTHER) is None


def test_other_circumstances_share_nothing(store, tmp_path):
    store.keep(pretend.record(ONE))
    other = RunStore(tmp_path, {"weights": "b"})
    other.make()
    assert other.find(ONE) is None


def test_a_renamed_file_is_no_other_run(store):
    store.keep(pretend.record(ONE))
    (store.folder / f"{ONE.hash}.json").rename(store.folder / f"{OTHER.hash}.json")
    with pytest.warns(UserWarning, match="is damaged: it is set aside"):
        assert store.find(OTHER) is None
    assert (store.folder / f"{OTHER.hash}.damaged").exists()


def test_what_cannot_be_read_is_named(store):
    (store.folder / f"{ONE.hash}.json").mkdir()
    with pytest.raises(BadInput, match=f"{ONE.hash}.json cannot be read"):
        store.find(ONE)
