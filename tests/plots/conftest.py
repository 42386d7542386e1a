"""What the tests of pictures share."""

import pytest
from drawings import card

from caplab.measuring.compare import compare


@pytest.fixture
def base():
    return card([i % 30 > 0 for i in range(192)])


@pytest.fixture
def report(base):
    return compare(base, card([i % 30 > 0 and i % 3 > 0 for i in range(192)]))
