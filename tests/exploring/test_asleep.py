"""What a saved notebook shows of a panel, and what its widgets leave unsaid."""

import ipywidgets
import pytest

from caplab.exploring import asleep


@pytest.fixture
def shown(monkeypatch):
    """Collect what is displayed, and what it is brought up to."""
    bundles = []

    class Handle:
        def update(self, bundle, raw):
            bundles.append(bundle)

    def display(bundle, raw, display_id=False):
        bundles.append(bundle)
        return Handle() if display_id else None

    monkeypatch.setattr("IPython.display.display", display)
    return bundles


def test_behind_a_panel_stands_what_it_shows(shown):
    said = ["once"]
    panel = ipywidgets.VBox()
    keep = asleep.show_panel(panel, "plain", lambda: {"text/html": said[0], "text/plain": said[0]})
    said[0] = "twice"
    keep()
    live, before, after = shown
    assert live["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.model_id
    assert asleep.LIVE_CLASS in panel._dom_classes
    assert ("once" in before["text/html"], "twice" in after["text/html"]) == (True, True)
    assert after["text/plain"] == "twice"
    assert "To wake it, run the cells above it" in after["text/html"]


def test_where_nothing_would_hide_it_only_the_panel_is_shown(shown, monkeypatch):
    monkeypatch.setattr(asleep, "threads_show", lambda: False)  # as in Colab
    asleep.show_panel(ipywidgets.VBox(), "plain", lambda: {"text/html": ""})()
    assert len(shown) == 1
