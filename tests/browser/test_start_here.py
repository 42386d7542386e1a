"""The first page, as a learner meets it."""

import re
from pathlib import Path

import nbformat
import pytest
from conftest import WRITTEN, tab

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
FIRST = "notebooks/00_start_here.ipynb"


@pytest.fixture(scope="module")
def ran(server, browser):
    """Open the first lesson and run it, once for all that is asked of it here."""
    with tab(server, browser) as lab:
        lab.open(FIRST)
        lab.run_all()
        yield lab


def test_the_address_that_lab_py_prints_opens_the_first_lesson(lab):
    lab.start()
    assert lab.text().startswith("Start here")


def test_the_first_lesson_runs_and_shows_what_the_model_can_do(ran):
    text = ran.text()
    assert re.search(r"What is the capital of France\? -> .*Paris", text)
    assert re.search(r"^overall\s", text, re.MULTILINE)
    assert ran.page.locator(".jp-OutputArea-output img").count() >= 2
    assert text.count("Target output") == 2
    ran.screenshot("start_here")
    ran.set_theme("Dark")
    ran.screenshot("start_here_dark")
    ran.set_theme("Light")


def test_nothing_leaves_this_machine(ran):
    assert "[1]:" in ran.text(), "the kernel had worked for another test before"
    assert ran.asked
    assert [
        url for url in ran.asked if not re.match(r"(data|blob):|\w+://localhost[:/]", url)
    ] == []


@pytest.mark.usefixtures("set_up_by_lab_py")
def test_no_question_stands_before_the_first_lesson(ran):
    assert ran.page.locator(".Toastify__toast, .jp-Dialog").count() == 0


def test_an_error_in_a_cell_fails_the_test(lab):
    cells = [nbformat.v4.new_markdown_cell("# Broken"), nbformat.v4.new_code_cell("1 / 0")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    broken = f"{WRITTEN}_broken.ipynb"
    (ROOT / broken).parent.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), ROOT / broken)
    lab.open(broken)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        lab.run_all()
