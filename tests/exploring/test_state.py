"""The state of a panel: what became of an answer."""

import pytest

from caplab.exploring.state import Answer


@pytest.mark.parametrize(
    ("after", "fate"),
    [
        (None, ""),
        ("2+2 is 4.", "kept"),
        ("4", "kept"),
        ("The sum is 4.", "kept"),
        ("14.", "lost"),
        ("it4 makes 14", "lost"),
        ("", "lost"),
    ],
)
def test_another_wording_is_not_lost(after, fate):
    assert Answer("What is 2+2?", "2+2 is 4.", after, right="4").fate == fate


def test_a_wrong_answer_can_only_change():
    assert Answer("What is 2+2?", "A lot.", "Much.", right="4").fate == "changed"
    assert Answer("How are you?", "Well.", "Fine.").fate == "changed"
