"""Every notebook runs from top to bottom in a clean kernel, and prints what it printed before.

nbval runs each in a pytest of its own, so that plain `pytest tests` covers notebooks too, and
a failure shows nbval's report: the cell, the error, the two outputs. It compares outputs in the
cells of solutions/ that a lesson tags `nbval-check-output`; the others only have to run.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOTH = sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("solutions/*.ipynb")])


@pytest.mark.slow
@pytest.mark.parametrize("path", BOTH, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_it_runs(path):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no"]
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"]
    done = subprocess.run(
        [*command, *options, path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
