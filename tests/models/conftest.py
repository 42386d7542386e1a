"""A small model on disk."""

import pytest
import tiny


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A folder with a model of two layers, as `save_pretrained` writes it; not to be changed."""
    who, path = tiny.subject(), tmp_path_factory.mktemp("models") / "mine"
    who.model.save_pretrained(path)
    who.tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def files(saved):
    """Its files, as {name: bytes}."""
    return {file.name: file.read_bytes() for file in saved.iterdir()}
