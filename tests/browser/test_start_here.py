"""The first page, as a learner meets it."""

import re

import pytest
from labpage import WRITTEN, tab, write_notebook

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FIRST = "notebooks/00_start_here.ipynb"


@pytest.fixture(scope="module")
def ran(server, browser):
    """Open the first lesson and run it, once for all that is asked of it here."""
    with tab(server, browser) as lab:
        lab.open(FIRST)
        lab.run_all()
        yield lab


def test_the_address_opens_the_first_lesson(lab):
    lab.start()
    assert lab.text().startswith("Start here")


def test_the_first_lesson_runs(ran):
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
def test_no_dialog_hides_the_first_lesson(ran):
    assert ran.page.locator(".Toastify__toast, .jp-Dialog").count() == 0


def test_an_error_in_a_cell_fails_the_test(lab):
    broken = f"{WRITTEN}_broken.ipynb"
    write_notebook(broken, "Broken", ["1 / 0"])
    lab.open(broken)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        lab.run_all()
