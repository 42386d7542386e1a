"""The browser, the server and the page of the browser tests.

`lab` is the page of one test:

    def test_something(lab):
        lab.open("notebooks/00_start_here.ipynb")
        lab.run_all()
        assert "France" in lab.text()
        lab.screenshot("start_here")      # tests/browser/screenshots/start_here.png
"""

from collections.abc import Iterator

import pytest
from labpage import FLAGS, SET_UP, Lab, find_chromium, started, tab


@pytest.fixture(scope="session")
def chromium() -> str:
    """Find a Chromium, or skip."""
    return find_chromium()


@pytest.fixture(scope="session")
def server(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(tmp_path_factory.mktemp("jupyter")) as address:
        yield address


@pytest.fixture(scope="session")
def set_up_by_lab_py() -> None:
    """Skip what depends on settings that only lab.py's own environment has."""
    if not SET_UP:
        pytest.skip("this Python is not the one that lab.py set up: python lab.py test")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator:
    """Start the browser for one module: while it is open, no other test can run an event loop."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def lab(server: str, browser) -> Iterator[Lab]:
    """Open a tab for one test."""
    with tab(server, browser) as opened:
        yield opened
