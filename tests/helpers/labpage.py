"""The JupyterLab that lab.py starts, in a real browser, used as a learner uses it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
SET_UP = Path(sys.prefix).resolve() == ROOT / ".venv"  # this is the Python that lab.py set up
SCREENSHOTS = ROOT / "tests/browser/screenshots"  # git-ignored
# Where a test writes a notebook of its own; each worker of a run has its own files there.
WRITTEN = f"tests/browser/screenshots/{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# The first two let it run as root without a GPU; the others keep it from calling home.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
SETTINGS = {
    "docmanager-extension/plugin": {"autosave": False},  # notebooks/ stay as they are committed
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight can be read too
}
WITHOUT_SET_UP = """
import lab, sys
lab.set_up, lab.PYTHON = lambda extras: None, sys.executable
sys.exit(lab.main(sys.argv[1:]))
"""


class Lab:
    """One JupyterLab tab, used as a learner uses it: by clicking and reading."""

    def __init__(self, page, address: str):
        self.page = page
        self.address = address  # as lab.py prints it
        self.asked: list[str] = []  # every address that the page asked for
        self.notebooks: set[str] = set()  # those it opened
        page.on("request", lambda request: self.asked.append(request.url))

    def start(self) -> None:
        """Open the address that lab.py prints."""
        self.notebooks.add("notebooks/00_start_here.ipynb")
        self.page.goto(f"{self.address}&reset")  # without the tabs of the tests before
        self.page.locator(".jp-Notebook h1").wait_for()

    def open(self, notebook: str) -> None:
        """Open a notebook and wait until its kernel is ready for work."""
        self.notebooks.add(notebook)
        address = re.sub(r"/lab[^?]*", f"/lab/tree/{notebook}", self.address)
        self.page.goto(f"{address}&reset")
        self.page.locator(".jp-Notebook h1").wait_for()
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Wait until the status bar says that the kernel rests."""
        self.page.get_by_text(re.compile(r"^Python 3 .* \| Idle$")).wait_for()

    def menu(self, *path: str) -> None:
        """Click through the menu bar."""
        first, *others = path
        self.page.get_by_role("menuitem", name=first, exact=True).click()
        for item in others:
            self.page.locator(".lm-Menu-itemLabel").get_by_text(item, exact=True).click()

    def run_all(self, seconds: float = 300) -> None:
        """Run every cell; fail at the first error or warning, with its text."""
        self.menu("Run", "Run All Cells")
        self.page.wait_for_function(FINISHED, arg=STDERR, timeout=seconds * 1000)
        errors = self.page.locator(".jp-Notebook " + STDERR)
        assert errors.count() == 0, errors.first.inner_text()
        self.wait_until_idle()

    def run_cell(self, number: int, wait: bool = True) -> None:
        """Run one code cell, counted from 0; fail at an error, with its text."""
        cell = self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)
        before = cell.locator(".jp-InputPrompt").inner_text()
        cell.locator(".jp-InputPrompt").click()
        self.page.keyboard.press("Control+Enter")
        if wait:
            self.page.wait_for_function(HAS_RUN, arg=[number, before])
            errors = cell.locator(STDERR)
            assert errors.count() == 0, errors.first.inner_text()

    def text(self) -> str:
        """Return all that the notebook shows."""
        return self.page.locator(".jp-Notebook").inner_text()

    def set_theme(self, theme: str) -> None:
        """Switch to the "Light" or the "Dark" theme."""
        self.menu("Settings", "Theme", f"JupyterLab {theme}")
        self.page.locator(f'body[data-jp-theme-name="JupyterLab {theme}"]').wait_for(
            state="attached"
        )

    def screenshot(self, name: str) -> Path:
        """Save a picture of the whole notebook, from title to end, for people to look at."""
        width = self.page.viewport_size["width"]
        self.page.set_viewport_size({"width": width, "height": self.page.evaluate(HEIGHT)})
        self.page.locator(".jp-Notebook .jp-Cell").first.scroll_into_view_if_needed()
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path, animations="disabled")
        return path

    def close(self) -> None:
        """Close the tab and end its kernels: the next that opens these notebooks gets new ones."""
        server, token = self.address.partition("/lab")[0], self.address.rpartition("token=")[2]
        request, login = self.page.request, {"Authorization": f"token {token}"}
        for session in request.get(f"{server}/api/sessions", headers=login).json():
            if session["path"] in self.notebooks:
                request.delete(f"{server}/api/sessions/{session['id']}", headers=login)
        self.page.close()


# JupyterLab shows tracebacks and all that was written to stderr under this one type.
STDERR = '[data-mime-type="application/vnd.jupyter.stderr"]'

# Every code cell has its number, or one of them an error.
FINISHED = """(stderr) => {
    const shown = (selector) => [...document.querySelectorAll('.jp-Notebook ' + selector)];
    const prompts = shown('.jp-CodeCell .jp-InputPrompt').map((prompt) => prompt.textContent);
    return shown(stderr).length > 0 || prompts.every((prompt) => /^\\[\\d+\\]:$/.test(prompt));
}"""

# A code cell has another number than before.
HAS_RUN = """([number, before]) => {
    const cell = document.querySelectorAll('.jp-Notebook .jp-CodeCell')[number];
    const prompt = cell.querySelector('.jp-InputPrompt').textContent;
    return /^\\[\\d+\\]:$/.test(prompt) && prompt !== before;
}"""

# How high a window has to be to show all cells.
HEIGHT = """() => {
    const cells = document.querySelectorAll('.jp-Notebook .jp-Cell');
    const [first, last] = [cells[0], cells[cells.length - 1]].map((c) => c.getBoundingClientRect());
    return Math.ceil(last.bottom - first.top) + 150;
}"""


def find_chromium() -> str:
    """Find a Chromium; without one, skip, or fail where CAPLAB_REQUIRE_BROWSER=1 asks for it."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return without_browser("Playwright is not installed: pip install playwright")
    for program in filter(None, map(shutil.which, PROGRAMS)):
        return program
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return (
        own
        if Path(own).exists()
        else without_browser(
            "No Chromium was found. On Debian or Ubuntu: apt-get install chromium."
            " Elsewhere: python -m playwright install chromium"
        )
    )


def without_browser(reason: str) -> str:
    if os.environ.get("CAPLAB_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{reason} (CAPLAB_REQUIRE_BROWSER=1)")
    pytest.skip(reason)


@contextmanager
def started(home: Path) -> Iterator[str]:
    """Start JupyterLab as lab.py does, and hand out the address that it prints."""
    for name, settings in SETTINGS.items():
        path = home / "settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(settings))
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }
    log = home / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            start_command(free_port()), cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        yield address_in(log, process)
    finally:
        process.terminate()
        process.wait(30)


def start_command(port: int) -> list[str]:
    """Run lab.py, without its set-up where this Python is not the one that it set up."""
    options = ["--no-browser", "--port", str(port)]
    if SET_UP:
        return [sys.executable, "lab.py", *options]
    return [sys.executable, "-c", WITHOUT_SET_UP, *options]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def address_in(log: Path, process: subprocess.Popen, seconds: float = 60) -> str:
    """Wait until the server has printed its address with its token."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"http://localhost:\d+/lab\S*token=\w+", log.read_text()):
            return found[0]
        time.sleep(0.05)
    pytest.fail(f"lab.py printed no address.\n{log.read_text()}")


def write_notebook(path: str, title: str, cells: Iterable[str]) -> None:
    """Write a notebook of these code cells, below a title."""
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    first = nbformat.v4.new_markdown_cell(f"# {title}")
    made = nbformat.v4.new_notebook(cells=[first, *code], metadata=kernel)
    (ROOT / path).parent.mkdir(exist_ok=True)
    nbformat.write(made, ROOT / path)


@contextmanager
def tab(server: str, browser) -> Iterator[Lab]:
    """Open a fresh tab, with no memory of other tests and no kernel of theirs."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(120_000)
    opened = Lab(page, server)
    yield opened
    opened.close()
