"""A learner guesses, answers, errs and asks for help, with a mouse."""

import pytest
from labpage import ROOT, WRITTEN, tab, write_notebook

pytestmark = [pytest.mark.browser, pytest.mark.slow]

AXE = ROOT / "tests/browser/node_modules/axe-core/axe.min.js"
PAGE = f"{WRITTEN}_classroom.ipynb"
CELLS = [
    "import caplab as cl",
    'cl.predict("Which one forgets more?", ["full", "LoRA", "the same"], key="who")',
    'cl.predict("How much is left?", (0.0, 1.0), key="left")',
    'cl.quiz("00")',
    'cl.check("00_1", ...)',
    'cl.check("00_1", "Paris.")',
    'cl.check("00_1", "Tokyo.")',
    'cl.explorer("replay")',
    'cl.plots.scorecard(cl.score(cl.load("pocket"), cl.exam()))',
]


@pytest.fixture(scope="module")
def classroom(server, browser):
    """Open a notebook with one of each, and run it."""
    write_notebook(PAGE, "The classroom", CELLS)
    with tab(server, browser) as lab:
        lab.open(PAGE)
        lab.run_all()
        yield lab


def press(classroom, name, nth=0):
    classroom.page.get_by_role("button", name=name, exact=True).nth(nth).click()


def sees(classroom, text):
    classroom.page.get_by_text(text).first.wait_for()


def test_guesses_answers_and_hints(classroom):
    press(classroom, "LoRA")
    sees(classroom, "Noted: LoRA.")
    press(classroom, "This is my guess")
    sees(classroom, "Noted: .50.")
    classroom.page.get_by_role("button", name="A: ").first.click()
    sees(classroom, "That would be a training that failed.")
    press(classroom, "Hint")
    sees(classroom, "Think of the waltz")
    classroom.page.get_by_role("button", name="B: ").first.click()
    classroom.page.get_by_role("button", name="B: ", pressed=True).first.wait_for()
    sees(classroom, "And nobody notices who does not ask")
    press(classroom, "Hint", nth=3)  # three belong to the quiz, this one to an exercise
    sees(classroom, "Hint 1 of 2.")
    text = classroom.text()
    assert "Not yet. Nothing is filled in" in text
    assert "Try again. Paris belongs to the question above." in text
    assert "Right. Tokyo." in text
    classroom.screenshot("classroom")
    classroom.set_theme("Dark")
    classroom.screenshot("classroom_dark")
    classroom.set_theme("Light")


def test_nothing_is_cut_off(classroom):
    narrow = """() => [...document.querySelectorAll('.widget-toggle-button, .widget-button')]
        .filter((button) => button.scrollWidth > button.clientWidth + 1)
        .map((button) => button.textContent)"""
    assert classroom.page.evaluate(narrow) == []
    assert classroom.page.locator("[title=null]").count() == 0


def test_everybody_can_use_it(classroom):
    """What axe-core finds in the panels and pictures of the course; the rest is JupyterLab's."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install --prefix tests/browser")
    classroom.page.add_script_tag(path=AXE)
    found = classroom.page.evaluate(
        "async () => (await axe.run({include: [['.cl-live'], ['.cl-picture'], ['.cl-saved']]}))"
        ".violations.map((one) => [one.id, one.nodes.map((node) => node.html)])"
    )
    assert found == []
