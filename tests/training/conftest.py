"""What the tests of trainings share."""

import pytest
from trl import SFTTrainer

from caplab.training import observer


@pytest.fixture(autouse=True)
def calm(monkeypatch):
    """No telemetry of a plain trainer, and no progress line because the machine is busy."""
    monkeypatch.setattr(SFTTrainer, "_send_telemetry", lambda self: None)
    monkeypatch.setattr(observer, "_PATIENCE", 1e9)
