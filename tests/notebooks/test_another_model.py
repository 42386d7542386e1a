"""One word changes the model: every solution runs on a Llama that knows nothing.

There, `cl.claim` reports what was found and asserts nothing.
"""

import nbformat
import pytest
import tiny
from nbclient import NotebookClient
from test_running import ROOT

SOLUTIONS = sorted(ROOT.glob("solutions/*.ipynb"))


@pytest.fixture(scope="module", autouse=True)
def llama(tmp_path_factory):
    """A random Llama in a folder; its tokens are short, so it needs more room than the pocket."""
    folder = tmp_path_factory.mktemp("another") / "llama"
    subject = tiny.subject("llama", max_position_embeddings=256)
    subject.model.save_pretrained(folder)
    subject.tokenizer.save_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPLAB_MODEL", str(folder))
        yield


@pytest.mark.slow
@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_a_lesson_runs_on_another_model_as_it_is(path):
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
