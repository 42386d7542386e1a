"""The Explorer under a learner's hands: real sliders, real training, a real browser."""

import re
import subprocess
import sys
import time
from pathlib import Path

import conftest
import nbformat
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = f"{conftest.WRITTEN}_explorer.ipynb"
ALL_PRESETS = f"{conftest.WRITTEN}_presets.ipynb"
PRESETS = ["first_look", "full_vs_lora", "learning_rate", "replay", "guard", "interpolate"]
EVIL = "<script>document.title='owned'</script>\"><img src=x onerror=document.title='owned'>"
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

    def drag(self, name: str, pixels: int) -> None:
        """Move a slider with the mouse, and let go."""
        self.slider(name).scroll_into_view_if_needed()
        handle = self.slider(name).bounding_box()
        x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + pixels, y, steps=5)
        self.page.mouse.up()

    def screenshot(self, name: str) -> None:
        """Save a picture of the panel, for people to look at."""
        self.box.screenshot(path=conftest.SCREENSHOTS / f"{name}.png", animations="disabled")

    def points(self, kind: str = "old") -> int:
        """Count the points of a curve."""
        return self.box.locator(f"circle.cl-dot.cl-{kind}").count()


def write(*cells: str, notebook: str = NOTEBOOK) -> None:
    """Write a notebook of these cells."""
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]
    title = nbformat.v4.new_markdown_cell("# The Explorer")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    made = nbformat.v4.new_notebook(cells=[title, *code], metadata=kernel)
    (ROOT / notebook).parent.mkdir(exist_ok=True)
    nbformat.write(made, ROOT / notebook)


def panel(lab, *cells: str, notebook: str = NOTEBOOK) -> Panel:
    """Run a notebook of these cells, and find its first panel."""
    write(*cells, notebook=notebook)
    lab.open(notebook)
    lab.run_all()
    return Panel(lab.page)


def explorer(arguments: str) -> str:
    return f"import caplab as cl\ncl.explorer({arguments})"


@pytest.fixture(scope="module")
def presets(server, browser):
    """Open one panel of each preset in one notebook."""
    with conftest.tab(server, browser) as lab:
        panel(lab, *map(explorer, map(repr, PRESETS)), notebook=ALL_PRESETS)
        yield lab


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_and_says_what_happened(presets, preset):
    shown = Panel(presets.page, PRESETS.index(preset))
    shown.wait_for("Expect task")
    shown.box.get_by_text("2+2 is 4.").wait_for()  # the base has answered: all is warm
    shown.screenshot(f"explorer_{preset}_before")
    shown.press("Run")
    shown.wait_for(ENDED)
    assert shown.points() >= 2
    shown.screenshot(f"explorer_{preset}")
    presets.set_theme("Dark")
    shown.screenshot(f"explorer_{preset}_dark")
    presets.set_theme("Light")


def test_a_slider_moved_by_keyboard_trains_and_the_curve_grows(lab):
    shown = panel(lab, explorer('"first_look"'))
    shown.move("learning rate", "ArrowRight")
    shown.wait_for(re.compile(r"step \d+ of 60"))
    shown.wait_for(ENDED)
    assert shown.points("old") == shown.points("new") == 9
    assert "full 3e-3" in shown.box.inner_text()
    assert shown.page.evaluate("document.activeElement.getAttribute('role')") == "slider"


def test_a_slider_moved_by_mouse_trains(lab):
    shown = panel(lab, explorer('"first_look"'))
    shown.drag("learning rate", -60)
    shown.wait_for(ENDED)
    assert not re.search("after: full 2e-3", shown.box.inner_text())


def test_ten_quick_moves_leave_one_run_the_last(lab):
    shown = panel(lab, explorer('"first_look", steps=20'))
    for _ in range(5):
        shown.move("learning rate", "ArrowLeft")
    for _ in range(5):
        shown.move("learning rate", "ArrowRight")
    shown.wait_for(ENDED)
    shown.box.get_by_text("after: full 2e-3, 20 steps").wait_for()
    assert shown.points() == 9


def test_stop_pin_clear_and_reset(lab):
    shown = panel(lab, explorer('"first_look", steps=100'))
    shown.press("Run")
    shown.wait_for(re.compile("step [1-9]"))
    shown.press("Stop")
    shown.wait_for(re.compile(r"Stopped at step \d+: task .*(REGRESSED|HELD|UNDERPOWERED)", re.S))
    assert shown.points() < 9
    shown.press("Pin this run")
    shown.box.locator(".cl-spot-pin").wait_for()
    shown.move("training steps", "Home")
    shown.wait_for(ENDED)
    assert shown.box.locator(".cl-spot-pin").count() == 1
    shown.press("Clear pins")
    shown.box.locator(".cl-spot-pin").wait_for(state="detached")
    shown.press("Reset")
    shown.wait_for("Expect task")
    assert shown.box.locator(".cl-curve").count() == 0


def test_guess_and_result_are_seen_together(lab):
    shown = panel(lab, explorer('"first_look", steps=20, predict=True'))
    assert "Expect" not in shown.said
    assert shown.box.locator(".cl-band").count() == 0
    for _ in range(3):
        shown.move("guess: task", "ArrowRight")
    shown.wait_for("Your guess: task .65, classics .50")
    lab.screenshot("explorer_guess")
    shown.press("Run")
    shown.wait_for("Your guess was task .65, classics .50: off by")
    assert shown.box.locator(".cl-spot-guess").count() == 1
    assert shown.box.locator(".cl-miss").count() == 1
    lab.screenshot("explorer_guess_result")


def test_the_way_back_is_looked_up_and_the_budget_judged_without_training(lab):
    shown = panel(lab, explorer('"interpolate", steps=20'))
    shown.press("Run")
    shown.wait_for(ENDED)
    shown.move("base → tuned", "Home")
    shown.wait_for(re.compile("^0 % of the way: task"))
    shown.move("base → tuned", "ArrowRight")
    shown.wait_for("10 % of the way")
    budget = shown.box.locator("text.cl-line").text_content()
    shown.move("budget", "ArrowRight")
    shown.box.locator("text.cl-line").get_by_text(budget).wait_for(state="detached")
    assert "10 % of the way" in shown.said
    lab.screenshot("explorer_interpolate_way")


def test_two_panels_train_in_turn_and_beside_a_running_cell(lab):
    first = panel(lab, explorer('"first_look", steps=20'), 'cl.explorer("replay", steps=20)')
    second = Panel(lab.page, 1)
    add_and_run(lab, "import time\ntime.sleep(8)\nprint('slept')")
    first.press("Run")
    second.press("Run")
    first.wait_for(ENDED)
    second.wait_for(ENDED)
    assert "slept" in lab.text() or "[*]" in lab.text()
    lab.screenshot("explorer_two")


def add_and_run(lab, code: str) -> None:
    """Write a cell at the end and run it, without waiting for it."""
    lab.page.locator(".jp-Notebook .jp-Cell").last.locator(".jp-InputPrompt").click()
    lab.page.keyboard.press("b")
    lab.page.keyboard.press("Enter")
    lab.page.keyboard.type(code)
    lab.page.keyboard.press("Control+Enter")


def test_an_error_is_said_in_plain_words_and_the_panel_goes_on(lab):
    shown = panel(lab, explorer('"first_look", learning_rate=1e30, steps=20'))
    shown.press("Run")
    shown.wait_for("Diverged")
    lab.screenshot("explorer_error")
    shown.move("learning rate", "ArrowLeft")
    shown.wait_for(ENDED)


def test_what_a_model_says_is_shown_as_text(lab):
    code = f"""
import caplab as cl
from dataclasses import replace
shown = cl.explorer("first_look", steps=20)
shown.bench = replace(shown.bench, questions=({EVIL!r},))
shown
"""
    shown = panel(lab, code)
    shown.press("Run")
    shown.wait_for(ENDED)
    assert "onerror=document.title" in shown.box.locator(".cl-answers").inner_text()
    assert shown.box.locator("script, img").count() == 0
    assert lab.page.title() != "owned"


def test_after_a_restart_the_cell_gives_a_new_panel(lab):
    panel(lab, explorer('"first_look", steps=20'))
    lab.menu("Kernel", "Restart Kernel…")
    lab.page.locator(".jp-Dialog").get_by_text("Restart", exact=True).click()
    lab.wait_until_idle()
    lab.run_all()
    shown = Panel(lab.page)
    shown.press("Run")
    shown.wait_for(ENDED)


def test_the_saved_notebook_shows_the_last_state_as_a_picture(lab):
    shown = panel(lab, explorer('"first_look", steps=20'))
    shown.press("Run")
    shown.wait_for(ENDED)
    assert lab.page.locator(".jp-RenderedSVG").is_hidden(), "the live panel stands for it"
    lab.menu("File", "Save Notebook")
    lab.page.locator(".jp-mod-dirty").first.wait_for(state="detached")
    widget, drawn = nbformat.read(ROOT / NOTEBOOK, 4).cells[1].outputs
    assert "application/vnd.jupyter.widget-view+json" in widget.data
    assert "Task" in drawn.data["image/svg+xml"]
    assert "full 2e-3, 20 steps: Task" in drawn.data["text/plain"]


# ---------------------------------------------------------------- other front ends

FRONTS = {
    "notebook": (["--allow-root", "--IdentityProvider.token=t"], f"/notebooks/{NOTEBOOK}?token=t"),
    "voila": ([NOTEBOOK], "/"),
}


@pytest.fixture(params=FRONTS)
def elsewhere(request, browser, tmp_path):
    """Open the notebook in another front end, where it is installed."""
    pytest.importorskip(request.param)
    write(explorer('"first_look", steps=20'))
    options, path = FRONTS[request.param]
    port = str(conftest.free_port())
    command = [sys.executable, "-m", request.param, "--no-browser", "--port", port, *options]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(120_000)
        open_when_ready(page, f"http://localhost:{port}{path}")
        yield page
        page.close()
    finally:
        process.terminate()
        process.wait(30)


def open_when_ready(page, address: str, seconds: float = 60) -> None:
    """Open an address as soon as its server answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            page.goto(address)
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def run_first_cell(page) -> None:
    """Run the first cell of a page that is still loading: until it is loaded, no key is heard."""
    cell = page.locator(".jp-CodeCell").first
    started = cell.locator(".jp-InputPrompt").get_by_text(re.compile(r"\[(\*|\d)\]"))
    while started.count() == 0:
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        page.wait_for_timeout(1000)


def test_the_panel_works_in_other_front_ends(elsewhere):
    """By mouse: Notebook 7.6 keeps the arrow keys, also from a bare IntSlider."""
    if "/notebooks/" in elsewhere.url:
        run_first_cell(elsewhere)
    shown = Panel(elsewhere)
    shown.wait_for("Expect task")
    shown.drag("learning rate", 40)
    shown.wait_for(ENDED)
    assert elsewhere.locator(".jp-RenderedSVG").is_hidden()
    where = elsewhere.url.partition("/notebooks/")[1].strip("/") or "voila"
    elsewhere.screenshot(path=conftest.SCREENSHOTS / f"explorer_in_{where}.png", full_page=True)
