"""Time the Explorer in a real browser: what passes between a learner's hand and the screen.

    python benchmarks/explorer_latency.py [--rounds 9]

JupyterLab as lab.py starts it, Chromium, a slider moved by the keyboard. The clock is the page's:
from the key to the first frame that is painted after the change. The bare loop (the same 60 steps
in plain PyTorch, never looked at) runs in the same kernel, in turn with the Explorer's runs.
Needs what tests/browser needs.
"""

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "helpers")]

import labpage  # noqa: E402 - it stands beside the helpers of the tests

RAW = argparse.RawDescriptionHelpFormatter
NOTEBOOK = "tests/browser/screenshots/latency.ipynb"  # git-ignored
CELLS = [
    "import caplab as cl\nsubject = cl.load('pocket')\ncl.explorer('first_look', subject)",
    "cl.explorer('first_look', subject, live=False)",
    "cl.explorer('interpolate', subject)",
    f"""
import sys, time, threading
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
from train_overhead import bare
recipe = cl.Recipe(learning_rate=2e-3)
bare(subject, recipe)
start = time.perf_counter()
bare(subject, recipe)
print(f"bare: {{time.perf_counter() - start:.3f}} s")
""",
]

# Note each change of what a panel shows with the time at which it is painted, and each key with its
# own time. Sliders change too, when they are focused or moved: that is not what anybody waits for.
WATCH = """(box) => {
    const picture = () => box.querySelector('.cl-screen')?.innerHTML;
    window.keyAt = 0; window.shown = []; window.last = picture();
    document.addEventListener('keydown', () => { window.keyAt = performance.now(); }, true);
    new MutationObserver(() => {
        if (picture() === window.last) return;
        window.last = picture();
        const found = {
            points: box.querySelectorAll('circle.cl-dot.cl-old').length,
            verdict: box.querySelector('.cl-verdict') !== null,
        };
        requestAnimationFrame(() => window.shown.push({...found, at: performance.now()}));
    }).observe(box, {childList: true, subtree: true});
}"""
# The verdict of the run before is shown until the new run has taken its place.
NEW_VERDICT = "now.verdict && window.shown.some((one) => !one.verdict && one.at < now.at)"
RARELY = 100  # ms; to ask at each frame has the browser paint 60 a second, on the kernel's cores
TIMES = "() => ({shown: window.shown, key: window.keyAt})"


class Page:
    """The notebook, with a watch on one panel."""

    def __init__(self, lab: labpage.Lab, number: int):
        self.page = lab.page
        self.box = self.page.locator(".caplab-explorer").nth(number)
        self.box.evaluate(WATCH)

    def move(self, slider: str, key: str, until: str) -> list[dict[str, Any]]:
        """Press a key on a slider; return what was shown after it, in milliseconds since."""
        row = self.box.locator(".widget-hslider").filter(has_text=slider)
        self.page.evaluate("window.shown = []")
        row.locator("[role=slider]").press(key)
        done = f"() => window.shown.some((now) => {until})"
        self.page.wait_for_function(done, timeout=120_000, polling=RARELY)
        seen = self.page.evaluate(TIMES)
        return [now | {"after": now["at"] - seen["key"]} for now in seen["shown"]]


def first(seen: list[dict[str, Any]], condition: Any) -> float:
    """Return when something was shown for the first time."""
    return next(now["after"] for now in seen if condition(now))


def train(panel: Page, key: str) -> dict[str, float]:
    """Move the learning rate of a panel that trains."""
    seen = panel.move("learning rate", key, NEW_VERDICT)
    while seen[0]["verdict"]:  # the run before is still shown
        del seen[0]
    return {
        "first new point": first(seen, lambda now: now["points"] >= 1),
        "first point after training steps": first(seen, lambda now: now["points"] >= 2),
        "all points, streamed": first(seen, lambda now: now["points"] >= 9),
        "the verdict on all questions": first(seen, lambda now: now["verdict"]),
    }


def bare(lab: labpage.Lab) -> float:
    """Run the cell with the bare loop again, and read what it took, in milliseconds."""
    cell = lab.page.locator(".jp-CodeCell").last
    prompt = cell.locator(".jp-InputPrompt")
    before = prompt.inner_text()
    prompt.click()
    lab.page.keyboard.press("Control+Enter")
    done = "([cell, before]) => /[0-9]/.test(cell.innerText) && cell.innerText !== before"
    arguments = [prompt.element_handle(), before]
    lab.page.wait_for_function(done, arg=arguments, timeout=120_000, polling=RARELY)
    return 1000 * float(re.findall(r"bare: ([0-9.]+) s", cell.inner_text())[-1])


def measure(lab: labpage.Lab, rounds: int) -> dict[str, list[float]]:
    """Train and loop in turn, then move the sliders that train nothing."""
    found: dict[str, list[float]] = {}
    keys = [("ArrowLeft", "ArrowRight")[turn % 2] for turn in range(rounds)]
    panel = Page(lab, 0)
    for key in keys:
        for name, value in (train(panel, key) | {BARE: bare(lab)}).items():
            found.setdefault(name, []).append(value)
    walk(lab)
    for name, number, slider in INSTANT:
        panel = Page(lab, number)
        found[name] = [panel.move(slider, key, "true")[0]["after"] for key in keys]
    return found


def walk(lab: labpage.Lab) -> None:
    """Train the panel that interpolates, and wait until its way back has been walked."""
    box = lab.page.locator(".caplab-explorer").nth(2)
    box.get_by_role("button", name=re.compile("Run")).click()
    box.locator(".cl-verdict").wait_for()
    corners = "(way) => way.getAttribute('points').split(' ').length"
    while box.locator(".cl-path").evaluate(corners) < 2 * 11:
        lab.page.wait_for_timeout(100)


BARE = "bare PyTorch loop of the same 60 steps"
INSTANT = [
    ("look-up in the atlas", 1, "learning rate"),
    ("interpolation", 2, "base → tuned"),
    ("budget, judged anew", 2, "budget"),
]
TARGETS = {"first new point": 150, "the verdict on all questions": 2000}
TARGETS |= {name: 100 for name, *_ in INSTANT}


def open_notebook(lab: labpage.Lab) -> None:
    """Write the notebook, open it and run its cells."""
    (ROOT / NOTEBOOK).parent.mkdir(exist_ok=True)
    title = nbformat.v4.new_markdown_cell("# Latency")
    cells = [nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(cells=[title, *cells], metadata=kernel)
    nbformat.write(notebook, ROOT / NOTEBOOK)
    lab.open(NOTEBOOK)
    lab.run_all()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with lab() as opened:
        open_notebook(opened)
        found = measure(opened, rounds)
    print(f"{rounds} rounds, medians, milliseconds\n")
    print("| what | median | slowest | to reach | x bare |\n| --- | --- | --- | --- | --- |")
    for name, times in found.items():
        goal = TARGETS.get(name, "")
        ratio = f"{median(times) / median(found[BARE]):.2f}"
        print(f"| {name} | {median(times):.0f} | {max(times):.0f} | {goal} | {ratio} |")
    return 0


@contextmanager
def lab() -> Iterator[labpage.Lab]:
    """Start JupyterLab and Chromium as the browser tests do."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, labpage.PROGRAMS)))
    with (
        tempfile.TemporaryDirectory() as home,
        labpage.started(Path(home)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=program, args=labpage.FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(120_000)
        yield labpage.Lab(page, address)
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
