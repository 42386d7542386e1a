"""The first page, as a learner meets it."""

import re

import pytest

pytestmark = pytest.mark.browser

FIRST = "notebooks/00_start_here.ipynb"


def test_the_address_that_lab_py_prints_opens_the_first_lesson(lab):
    lab.start()
    assert lab.text().startswith("Start here")


def test_the_first_lesson_runs_and_shows_what_the_model_can_do(lab):
    lab.open(FIRST)
    lab.run_all()
    text = lab.text()
    assert "What is the capital of France? -> Paris" in text
    assert re.search(r"^overall\s", text, re.MULTILINE)
    assert lab.page.locator(".jp-OutputArea-output img").count() == 1
    assert text.count("Target output") == 2
    lab.screenshot("start_here")
    lab.set_theme("Dark")
    lab.screenshot("start_here_dark")


def test_nothing_leaves_this_machine(lab):
    lab.open(FIRST)
    lab.run_all()
    assert lab.asked
    assert [
        url for url in lab.asked if not re.match(r"(data|blob):|\w+://localhost[:/]", url)
    ] == []


@pytest.mark.usefixtures("set_up_by_lab_py")
def test_no_question_stands_before_the_first_lesson(lab):
    lab.open(FIRST)
    lab.run_all()
    assert lab.page.locator(".Toastify__toast, .jp-Dialog").count() == 0
