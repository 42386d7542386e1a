"""The Explorer under a learner's hands: real sliders, real training, a real browser."""

import re
from contextlib import suppress

import nbformat
import pytest
from labpage import ROOT, SCREENSHOTS, WRITTEN, tab, write_notebook

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NOTEBOOK = f"{WRITTEN}_explorer.ipynb"
ELSEWHERE = f"{WRITTEN}_elsewhere.ipynb"
PRESETS = ["first_look", "full_vs_lora", "learning_rate", "replay", "guard", "interpolate"]
EVIL = "<script>document.title='owned'</script>\"><img src=x onerror=document.title='owned'>"
# The cells of one notebook, for one kernel: each test runs its own, and finds its panel below it.
CELLS = {preset: f'cl.explorer("{preset}")' for preset in PRESETS} | {
    "dark": 'cl.explorer("first_look")',
    "keyboard": 'cl.explorer("first_look")',
    "mouse": 'cl.explorer("first_look")',
    "ten moves": 'cl.explorer("first_look", steps=20)',
    "buttons": 'cl.explorer("first_look", steps=100)',
    "guess": 'cl.explorer("first_look", steps=20, predict=True)',
    "way back": 'cl.explorer("interpolate", steps=20)',
    "first of two": 'cl.explorer("first_look", steps=20)',
    "second of two": 'cl.explorer("replay", steps=20)',
    "busy": "import time\ntime.sleep(5)\nprint('slept')",
    "diverges": 'cl.explorer("first_look", learning_rate=1e30, steps=20)',
    "evil": f"""
from dataclasses import replace
shown = cl.explorer("first_look", steps=20)
shown.setup = replace(shown.setup, questions=({EVIL!r},))
shown
""",
    "saved": 'cl.explorer("first_look", steps=20)',
    "restarted": 'cl.explorer("first_look", steps=20)',
}
# The size of the letters of a chart on the page, however the page has scaled it.
SMALLEST = """(box) => Math.min(...[...box.querySelectorAll('.cl-charts text')]
    .filter((text) => text.getClientRects().length)
    .map((text) => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))"""
WIDER = "(box) => box.scrollWidth - box.clientWidth"
COLOUR = "(box) => getComputedStyle(box).color"
ENDED = re.compile(r"Task [\d.]+, classics [\d.]+\s*(REGRESSED|HELD|UNDERPOWERED)")


class Panel:
    """The panel in a part of the page: in a cell, or all there is."""

    def __init__(self, page, part):
        self.page, self.part = page, part
        self.box = part.locator(".caplab-explorer").first
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
        self.box.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")

    def points(self, kind: str = "old") -> int:
        """Count the points of a curve."""
        return self.box.locator(f".cl-wide circle.cl-dot.cl-{kind}").count()

    def smallest_letters(self) -> float:
        """Measure the smallest letters of the charts that are shown, in pixels of the page."""
        return self.box.evaluate(SMALLEST)


@pytest.fixture(scope="module")
def lab(server, browser):
    """One tab with one kernel, for all tests in JupyterLab."""
    write_notebook(
        NOTEBOOK, "The Explorer", (f"import caplab as cl\n{cell}" for cell in CELLS.values())
    )
    with tab(server, browser) as opened:
        opened.open(NOTEBOOK)
        yield opened


def run_cell(lab, name: str, wait: bool = True) -> None:
    """Run a cell by its name."""
    lab.run_cell(list(CELLS).index(name), wait)


def panel(lab, name: str) -> Panel:
    """Run a cell by its name, and find its panel."""
    run_cell(lab, name)
    return Panel(
        lab.page, lab.page.locator(".jp-Notebook .jp-CodeCell").nth(list(CELLS).index(name))
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains(lab, preset):
    shown = panel(lab, preset)
    shown.wait_for("Expect task")
    shown.box.get_by_text("2+2 is 4.").wait_for()  # the base has answered: all is warm
    shown.screenshot(f"explorer_{preset}_before")
    shown.press("Run")
    shown.wait_for(ENDED)
    assert shown.points() >= 2
    shown.screenshot(f"explorer_{preset}")


def test_a_panel_follows_the_theme(lab):
    shown = panel(lab, "dark")
    shown.wait_for("Expect task")
    light = shown.box.evaluate(COLOUR)
    lab.set_theme("Dark")
    assert shown.box.evaluate(COLOUR) != light
    shown.screenshot("explorer_dark")
    lab.set_theme("Light")


@pytest.mark.parametrize("width", [1280, 800, 640])
def test_letters_can_be_read_at_every_width(lab, width):
    """640 pixels are a page of 1280 at 200 %."""
    shown = panel(lab, "dark")
    before = lab.page.viewport_size
    lab.page.set_viewport_size({"width": width, "height": 900})
    lab.page.wait_for_timeout(300)
    assert shown.smallest_letters() >= 11
    assert shown.box.evaluate(WIDER) <= 0
    shown.screenshot(f"explorer_{width}")
    lab.page.set_viewport_size(before)


def test_keyboard_trains_and_the_curve_grows(lab):
    shown = panel(lab, "keyboard")
    shown.move("learning rate", "ArrowRight")
    shown.wait_for(re.compile(r"step \d+ of 60"))
    shown.wait_for(ENDED)
    assert shown.points("old") == shown.points("new") == 9
    assert "full 3e-3" in shown.box.inner_text()
    assert shown.page.evaluate("document.activeElement.getAttribute('role')") == "slider"
    slider = shown.slider("learning rate")
    assert slider.get_attribute("aria-label") == "learning rate"
    assert slider.get_attribute("aria-valuetext") == "3e-3"


def test_mouse_trains(lab):
    shown = panel(lab, "mouse")
    shown.drag("learning rate", -60)
    shown.wait_for(ENDED)
    assert not re.search("after: full 2e-3", shown.box.inner_text())


def test_ten_quick_moves_leave_one_run(lab):
    shown = panel(lab, "ten moves")
    for _ in range(5):
        shown.move("learning rate", "ArrowLeft")
    for _ in range(5):
        shown.move("learning rate", "ArrowRight")
    shown.wait_for(ENDED)
    shown.box.get_by_text("after: full 2e-3, 20 steps").wait_for()
    assert shown.points() == 9


def test_stop_pin_clear_and_reset(lab):
    shown = panel(lab, "buttons")
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
    shown = panel(lab, "guess")
    assert "Expect" not in shown.said
    assert shown.box.locator(".cl-band").count() == 0
    for _ in range(3):
        shown.move("guess: task", "ArrowRight")
    shown.wait_for("Your guess: task .65, classics .50")
    shown.screenshot("explorer_guess")
    shown.press("Run")
    shown.wait_for("Your guess was task .65, classics .50: off by")
    assert shown.box.locator(".cl-spot-guess").count() == 1
    assert shown.box.locator(".cl-miss").count() == 1
    shown.screenshot("explorer_guess_result")


def test_way_back_and_budget_need_no_training(lab):
    shown = panel(lab, "way back")
    shown.press("Run")
    shown.wait_for(ENDED)
    shown.move("base → tuned", "Home")
    shown.wait_for(re.compile("^0 % of the way: task"))
    shown.move("base → tuned", "ArrowRight")
    shown.wait_for("10 % of the way")
    budget = shown.box.locator(".cl-wide text.cl-line").text_content()
    shown.move("budget", "ArrowRight")
    shown.box.locator(".cl-wide text.cl-line").get_by_text(budget).wait_for(state="detached")
    assert "10 % of the way" in shown.said
    shown.screenshot("explorer_interpolate_way")


def test_two_panels_beside_a_running_cell(lab):
    first, second = panel(lab, "first of two"), panel(lab, "second of two")
    run_cell(lab, "busy", wait=False)
    first.press("Run")
    second.press("Run")
    first.wait_for(ENDED)
    second.wait_for(ENDED)
    assert "slept" in lab.text() or "[*]" in lab.text()
    first.screenshot("explorer_first_of_two")
    second.screenshot("explorer_second_of_two")


def test_an_error_is_said_and_the_panel_goes_on(lab):
    shown = panel(lab, "diverges")
    shown.press("Run")
    shown.wait_for("Diverged")
    shown.screenshot("explorer_error")
    shown.move("learning rate", "ArrowLeft")
    shown.wait_for(ENDED)


def test_answers_are_shown_as_text(lab):
    shown = panel(lab, "evil")
    shown.press("Run")
    shown.wait_for(ENDED)
    assert "onerror=document.title" in shown.box.locator(".cl-answers").inner_text()
    assert shown.box.locator("script, img").count() == 0
    assert lab.page.title() != "owned"


def test_the_saved_notebook_has_a_picture(lab):
    shown = panel(lab, "saved")
    shown.press("Run")
    shown.wait_for(ENDED)
    assert shown.part.locator(".cl-saved").is_hidden(), "the live panel stands for it"
    lab.menu("File", "Save Notebook")
    lab.page.locator(".jp-mod-dirty").first.wait_for(state="detached")
    cells = nbformat.read(ROOT / NOTEBOOK, 4).cells[1:]
    widget, drawn = cells[list(CELLS).index("saved")].outputs
    assert "application/vnd.jupyter.widget-view+json" in widget.data
    assert "Task" in drawn.data["image/svg+xml"]
    assert "full 2e-3, 20 steps: Task" in drawn.data["text/plain"]


def test_a_new_panel_after_a_restart(lab):
    """The last in JupyterLab: it ends the kernel of the others."""
    shown = panel(lab, "restarted")
    lab.menu("Kernel", "Restart Kernel…")
    lab.page.locator(".jp-Dialog").get_by_text("Restart", exact=True).click()
    lab.wait_until_idle()
    asleep = shown.box.evaluate("(box) => getComputedStyle(box, '::before').content")
    assert "To wake it, run the cells above it" in asleep
    shown = panel(lab, "restarted")
    shown.press("Run")
    shown.wait_for(ENDED)


# ---------------------------------------------------------------- other front ends

FRONTS = {"notebook": f"/notebooks/{ELSEWHERE}", "voila": f"/voila/render/{ELSEWHERE}"}
EACH = ["notebook", pytest.param("voila", marks=pytest.mark.weekly)]


@pytest.fixture(params=EACH)
def elsewhere(request, server, browser):
    """Open a notebook in another front end that JupyterLab's server offers, where it is there."""
    pytest.importorskip(request.param)
    write_notebook(
        ELSEWHERE, "The Explorer", ['import caplab as cl\ncl.explorer("first_look", steps=20)']
    )
    home, token = server.partition("/lab")[0], server.rpartition("token=")[2]
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(120_000)
    page.goto(f"{home}{FRONTS[request.param]}?token={token}")
    yield page
    page.close()


def run_first_cell(page) -> None:
    """Run the first cell of a page that is still loading: until it is loaded, no key is heard.

    A key that comes before the kernel may open a dialog, which would be in the way for ever.
    """
    from playwright.sync_api import TimeoutError

    cell = page.locator(".jp-CodeCell").first
    accept = page.locator(".jp-Dialog .jp-mod-accept")
    started = cell.locator(".jp-InputPrompt").get_by_text(re.compile(r"\[(\*|\d)\]"))
    while started.count() == 0:
        if accept.count():
            accept.first.click()
        with suppress(TimeoutError):
            cell.locator(".cm-content").click(timeout=5000)
            page.keyboard.press("Control+Enter")
        page.wait_for_timeout(1000)


def test_the_panel_works_in_other_front_ends(elsewhere):
    """By mouse: Notebook 7.6 keeps the arrow keys, also from a bare IntSlider."""
    if "/notebooks/" in elsewhere.url:
        run_first_cell(elsewhere)
    shown = Panel(elsewhere, elsewhere.locator("body"))
    shown.wait_for("Expect task")
    shown.drag("learning rate", 40)
    shown.wait_for(ENDED)
    assert elsewhere.locator(".cl-saved").is_hidden()
    where = elsewhere.url.partition("/notebooks/")[1].strip("/") or "voila"
    elsewhere.screenshot(path=SCREENSHOTS / f"explorer_in_{where}.png", full_page=True)
