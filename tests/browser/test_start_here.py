"""The first page, as a learner meets it."""

import pytest

pytestmark = pytest.mark.browser

NOTEBOOK = "notebooks/00_start_here.ipynb"


def test_the_first_lesson_runs_in_a_real_jupyterlab(lab):
    lab.open(NOTEBOOK)
    lab.run_all()
    assert "hello" in lab.text()
    lab.screenshot("start_here")
    lab.set_theme("Dark")
    lab.screenshot("start_here_dark")
