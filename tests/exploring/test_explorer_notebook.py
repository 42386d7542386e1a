"""The Explorer in a notebook that nobody looks at: executed by nbclient, checked by nbval.

Besides the lock's versions it passed on 2026-11-21, with Python 3.12, on what Colab ships
(ipywidgets 7.7.1, ipykernel 6.17.1) and with ipywidgets 8.1.9 on ipykernel 6.31.0 and 7.4.0.
docs/colab.md says how to repeat it.
"""

import subprocess
import sys
from xml.etree import ElementTree

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

SHOWN = ["first_look", "guard", "interpolate"]  # tests/browser trains with every preset
OPENED = "import caplab as cl\npanels = {}\n"
SHOW = "panels[{0!r}] = cl.explorer({0!r}, steps=20)\npanels[{0!r}]"
RUN = "print([panel.run().state.phase for panel in panels.values()])"
CELLS = range(2 + len(SHOWN))


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    cells = [OPENED, *(SHOW.format(name) for name in SHOWN), RUN]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    path = tmp_path_factory.mktemp("explorer") / "presets.ipynb"
    NotebookClient(made, timeout=300).execute()
    nbformat.write(made, path)
    return path


def outputs(notebook, cell):
    return nbformat.read(notebook, 4).cells[cell].outputs


def test_presets_run_in_a_notebook(notebook):
    assert outputs(notebook, -1)[0].text == f"{['done'] * len(SHOWN)}\n"
    kinds = {output.output_type for cell in CELLS for output in outputs(notebook, cell)}
    assert kinds == {"display_data", "stream"}
    assert all(
        output.name == "stdout"
        for cell in CELLS
        for output in outputs(notebook, cell)
        if output.output_type == "stream"
    )


@pytest.mark.parametrize("number", range(1, 1 + len(SHOWN)))
def test_a_saved_notebook_shows_the_last_state(notebook, number):
    widget, drawn = outputs(notebook, number)
    assert "application/vnd.jupyter.widget-view+json" in widget.data
    assert ": Task " in drawn.data["text/plain"], "not the state at first"
    assert ElementTree.fromstring(drawn.data["image/svg+xml"]) is not None


def test_a_saved_notebook_keeps_the_widgets(notebook):
    saved = nbformat.read(notebook, 4).metadata["widgets"]
    assert saved["application/vnd.jupyter.widget-state+json"]["state"]


def test_nbval_passes(notebook, tmp_path):
    """One preset is enough: the others ran above."""
    made = nbformat.read(notebook, 4)
    made.cells = [*made.cells[:2], made.cells[-1]]
    nbformat.write(made, tmp_path / "one.ipynb")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval-lax"]
    done = subprocess.run(
        [*command, "--nbval-current-env", "one.ipynb"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout
