"""An environment with nbgrader, apart: it would put its buttons into every JupyterLab beside it."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "grading"
PYTHON = HOME / "bin" / "python"


def python() -> Path:
    """Return the environment's Python; make it once, and skip in words where that is impossible."""
    if os.name == "nt":
        pytest.skip("nbgrader is tried on Linux and macOS only")
    HOME.parent.mkdir(exist_ok=True)
    with FileLock(HOME.with_suffix(".lock")):
        if not (HOME / "bin" / "alembic").exists():
            make()
    return PYTHON


def make() -> None:
    """Make an environment that sees this one's packages, and add nbgrader."""
    command = [sys.executable, "-m", "venv", "--clear", "--without-pip", str(HOME)]
    subprocess.run(command, check=True)
    (site,) = HOME.glob("lib/python3*/site-packages")
    (site / "course.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{ROOT}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet"]
    pip += ["--constraint", str(ROOT / "requirements.lock")]
    # nbgrader starts `alembic`, which has to be of this environment though the other has one, too.
    for wanted in (["nbgrader"], ["--ignore-installed", "--no-deps", "alembic"]):
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1]
            pytest.skip(f"pip cannot install nbgrader here: {said}")


def nbgrader(course: Path, *arguments: str) -> str:
    """Run an nbgrader command in a course's folder, and return what it said."""
    paths = {"PATH": f"{HOME / 'bin'}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    paths["JUPYTER_PATH"] = str(Path(sys.prefix, "share", "jupyter"))
    done = subprocess.run(
        [str(python()), "-m", "nbgrader", *arguments],
        cwd=course,
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def scores(course: Path, assignment: str) -> dict[str, tuple[float, float]]:
    """Return each student's points and the most there are, as the gradebook has them."""
    program = (
        "import json, sys; from nbgrader.api import Gradebook\n"
        "with Gradebook('sqlite:///gradebook.db') as book:\n"
        "    found = book.assignment_submissions(sys.argv[1])\n"
        "    print(json.dumps({one.student.id: [one.score, one.max_score] for one in found}))"
    )
    command = [str(python()), "-c", program, assignment]
    done = subprocess.run(command, cwd=course, capture_output=True, text=True, check=True)
    return {name: tuple(pair) for name, pair in json.loads(done.stdout).items()}
