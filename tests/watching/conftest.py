"""What the tests of the guard share."""

import math
from dataclasses import replace

import pytest
import tiny

from caplab.measuring.score import score
from caplab.models.subject import Diverged
from caplab.watching import guard as guard_module


@pytest.fixture
def forgetting(monkeypatch):
    """Decide how many of the sixty answers are wrong at each look, whatever the model does."""

    def script(*wrong):
        looks = iter(wrong)

        def scripted(subject, exam, **_):
            n = next(looks)
            if n is math.nan:
                raise Diverged("NaN")
            right = [(-1.0, -2.0, -2.0, -2.0)] * (60 - n) + [(-2.0, -1.0, -2.0, -2.0)] * n
            card = score(tiny.subject(), exam)
            return replace(card, answer=(0,) * 60, loglikelihoods=tuple(right))

        monkeypatch.setattr(guard_module, "score", scripted)

    return script


@pytest.fixture
def warned(caplog):
    """All that the guard has warned of so far."""
    return lambda: [
        record.message for record in caplog.records if record.name == guard_module.__name__
    ]


@pytest.fixture
def said(warned):
    """What it has said of its looks, and not beforehand."""
    return lambda: [message for message in warned() if message.startswith("Step ")]
