"""Run Python code in a process of its own, to be killed, starved or watched."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HELPERS = Path(__file__).parent
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="breaks something as only Linux can")


def start(code, **options):
    """Start Python code as a program of its own, which can import the helpers of the tests."""
    environment = {"PYTHONPATH": str(HELPERS), "OMP_NUM_THREADS": "1"}
    options["env"] = os.environ | environment | options.pop("env", {})
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **options,
    )


def finish(program, seconds=120):
    """Wait for a program and return its exit code and what it wrote."""
    out, err = program.communicate(timeout=seconds)
    return program.returncode, out, err


def run(code, seconds=120, **options):
    """Run Python code to its end; it must succeed."""
    code, out, err = finish(start(code, **options), seconds)
    assert code == 0, err
    return out
