"""Every notebook runs from top to bottom in a clean kernel.

A solution runs on the course's model: nbval runs it in a pytest of its own, whose report shows the
cell, the error and the two outputs. It compares outputs in the cells that a lesson tags
`nbval-check-output`; the others only have to run.

A blank notebook runs on another model: a Llama that knows nothing, by changing one word. There,
`cl.claim` reports what was found and asserts nothing. The other two pairs are weekly.
"""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import tiny
from nbclient import NotebookClient

from caplab.questions.exam import exam

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
WEEKLY = pytest.mark.weekly


def each(folder, marks=()):
    """Give every notebook of a folder to a test, the late lessons first: they take longest."""
    paths = sorted(ROOT.glob(f"{folder}/*.ipynb"), reverse=True)
    return [pytest.param(path, marks=marks, id=f"{folder}/{path.name}") for path in paths]


@pytest.mark.parametrize("path", each("solutions") + each("notebooks", WEEKLY))
def test_it_runs(path):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no"]
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"]
    done = subprocess.run(
        [*command, *options, path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.fail(done.stdout + done.stderr, pytrace=False)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A random Llama in a folder; its tokens are words of the exam, which keeps its texts short."""
    folder = tmp_path_factory.mktemp("another") / "llama"
    texts = [" ".join((question.prompt, *question.choices)) for question in exam().questions]
    tokens = tiny.trained_tokenizer(texts, size=1200)
    subject = tiny.subject("llama", vocab_size=len(tokens), max_position_embeddings=256)
    subject.model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("path", each("notebooks") + each("solutions", WEEKLY))
def test_it_runs_on_another_model(path, llama, monkeypatch):
    monkeypatch.setenv("CAPLAB_MODEL", str(llama))
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
