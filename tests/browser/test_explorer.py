"""The Explorer under a learner's hands: real sliders, real training, a real browser."""

import re
from pathlib import Path

import nbformat
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "tests/browser/screenshots/explorer.ipynb"  # git-ignored
PRESETS = ["first_look", "full_vs_lora", "learning_rate", "replay", "guard", "interpolate"]
ENDED = re.compile(r"Task [\d.]+, classics [\d.]+\s*(REGRESSED|HELD|UNDERPOWERED)")


class Panel:
    """One panel on the page, the first unless told otherwise."""

    def __init__(self, page, number: int = 0):
        self.page = page
        self.box = page.locator(".caplab-explorer").nth(number)
        self.box.locator(".cl-screen").wait_for()

    @property
    def said(self) -> str:
        """The sentence over the picture."""
        return self.box.locator(".cl-said").inner_text()

    def wait_for(self, words, seconds: float = 60) -> None:
        """Wait until the sentence says something."""
        said = self.box.locator(".cl-said").filter(has_text=words)
        said.wait_for(timeout=seconds * 1000)

    def press(self, name: str) -> None:
        """Click on a button."""
        self.box.get_by_role("button", name=re.compile(rf"\b{name}\b")).first.click()

    def slider(self, name: str):
        """Find the handle of a slider by what is written beside it."""
        row = self.box.locator(".widget-hslider, .jupyter-widget-hslider").filter(has_text=name)
        return row.locator("[role=slider], .ui-slider-handle")

    def move(self, name: str, key: str) -> None:
        """Move a slider with the keyboard."""
        self.slider(name).press(key)

    def points(self, kind: str = "old") -> int:
        """Count the points of a curve."""
        return self.box.locator(f"circle.cl-dot.cl-{kind}").count()


def panel(lab, *cells: str) -> Panel:
    """Run a notebook of these cells, and find its first panel."""
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]
    title = nbformat.v4.new_markdown_cell("# The Explorer")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(cells=[title, *code], metadata=kernel)
    (ROOT / NOTEBOOK).parent.mkdir(exist_ok=True)
    nbformat.write(notebook, ROOT / NOTEBOOK)
    lab.open(NOTEBOOK)
    lab.run_all()
    return Panel(lab.page)


def explorer(arguments: str) -> str:
    return f"import caplab as cl\ncl.explorer({arguments})"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_and_says_what_happened(lab, preset):
    shown = panel(lab, explorer(f"{preset!r}"))
    lab.screenshot(f"explorer_{preset}_before")
    shown.press("Run")
    shown.wait_for(ENDED)
    lab.screenshot(f"explorer_{preset}")
    lab.set_theme("Dark")
    lab.screenshot(f"explorer_{preset}_dark")
