"""What all tests of faults start from."""

import pytest
from bench import Bench


@pytest.fixture
def at(tmp_path):
    """Sound things, and an empty folder for them."""
    folder = tmp_path / "mine"
    folder.mkdir()
    return Bench(folder)
