"""The web edition, built once, and a browser to open it in."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from labpage import FLAGS, find_chromium


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """Build the site into a folder of the tests."""
    pytest.importorskip("sphinx", reason="the web edition needs Sphinx: pip install .[web]")
    pytest.importorskip("myst_nb", reason="the web edition needs MyST-NB: pip install .[web]")
    import build_web

    folder = tmp_path_factory.mktemp("web") / "site"
    assert build_web.main(["--out", str(folder)]) == 0
    return folder


class Quiet(SimpleHTTPRequestHandler):
    """Serve files without a line for each."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Serve the site on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Start the browser for one module: while it is open, no other test can run an event loop."""
    program = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield opened
        opened.close()
