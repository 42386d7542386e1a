"""Run the course in an environment like Google Colab's, each notebook from its setup cell on.

    python tools/colab_like.py                      all of notebooks/
    python tools/colab_like.py solutions/06*        these
    python tools/colab_like.py --new                with an environment made anew

    python tools/colab_like.py --new --python /usr/bin/python3.12

The environment stands in build/colab: Python 3.12 with what tools/colab_packages.txt names. uv
makes it (the extra `dev` brings uv); that downloads 3 GB once. Each notebook finds it as new, as
each finds a new machine on Colab. The setup cell runs as it is written: git is told to take the
course from this folder instead of GitHub, so what is installed is the last COMMIT.

It fails if a cell fails, if a setup cell takes more than 60 seconds or if torch is replaced.
docs/colab.md says what is not as in Colab.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from build_notebooks import ROOT, repositories
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

PACKAGES = ROOT / "tools/colab_packages.txt"
HOME = ROOT / "build/colab"
PYTHON = HOME / "bin/python"
FRESH = "fresh.txt"  # in the environment: what was installed when it was new
SETUP_SECONDS = 60
# Colab imports this package when a kernel starts; the setup cell looks for it.
STARTUP = 'c = get_config()\nc.InteractiveShellApp.exec_lines = ["import google.colab"]\n'


class SetupError(Exception):
    """Say what is wrong, and what to do now."""


@dataclass
class Outcome:
    """What became of one notebook."""

    name: str
    setup: float = 0.0
    rest: float = 0.0
    trouble: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        seconds = f"setup {self.setup:5.1f} s, the rest {self.rest:6.1f} s"
        return f"{'FAIL' if self.trouble else 'ok':4} {self.name}: {seconds}" + "".join(
            f"\n     {line}" for line in self.trouble
        )


# ---------------------------------------------------------------- the environment


def make(folder: Path, python: str) -> None:
    """Make the environment anew, and give it what a Colab kernel has at its start."""
    shutil.rmtree(folder, ignore_errors=True)
    uv("venv", "--quiet", "--python", python, str(folder))
    pip(folder, "install", "--requirement", str(PACKAGES))
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "google/colab").mkdir(parents=True)
    (site / "google/colab/__init__.py").write_text('"""Stand in for Colab\'s own package."""\n')
    (folder / "ipython/profile_default").mkdir(parents=True)
    (folder / "ipython/profile_default/ipython_config.py").write_text(STARTUP)
    (folder / FRESH).write_text(pip(folder, "freeze"))


def refresh(folder: Path) -> None:
    """Undo what a setup cell did: pip leaves an older commit of the same version as it is."""
    pip(folder, "sync", "--quiet", str(folder / FRESH))


def pip(folder: Path, command: str, *options: str) -> str:
    """Let uv work on the environment, without this project's settings: they name another torch."""
    return uv("pip", command, "--no-config", "--python", str(folder / "bin/python"), *options)


def uv(*options: str) -> str:
    """Run uv, from the search path or from beside this Python."""
    program = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if not program:
        raise SetupError("uv is needed for this: python -m pip install uv")
    return run(program, *options)


def run(*command: str) -> str:
    """Run a program, and pass on what it complains about."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SetupError(f"This failed: {' '.join(command)}")
    return done.stdout


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of a kernel: git finds the course here, whatever its name on GitHub."""
    redirect = {
        f"url.{ROOT.as_uri()}.insteadOf": f"https://github.com/{name}"
        for name in repositories(ROOT)
    }
    settings = {"safe.directory": "*", **redirect}
    variables = {"GIT_CONFIG_COUNT": str(len(settings)), "IPYTHONDIR": str(folder / "ipython")}
    for number, (key, value) in enumerate(settings.items()):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**kept, **variables, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def packages(python: Path) -> dict[str, str]:
    """List the versions that are installed."""
    listed = run(str(python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check")
    return {row["name"].lower().replace("_", "-"): row["version"] for row in json.loads(listed)}


def torch_seal(folder: Path) -> str:
    """Return a hash that changes when torch is installed again, be it the same version."""
    (record,) = folder.glob("lib/python3*/site-packages/torch-*.dist-info/RECORD")
    parts = (record.parent.name, record.stat().st_mtime_ns, record.read_bytes())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Say what an installation replaced, and what it added."""
    moved = [
        f"{name} {before[name]} -> {after.get(name, 'removed')}"
        for name in sorted(before)
        if after.get(name) != before[name]
    ]
    added = [f"{name} {after[name]}" for name in sorted(after.keys() - before.keys())]
    return [f"replaced: {', '.join(moved) or 'nothing'}", f"added: {', '.join(added) or 'nothing'}"]


# ---------------------------------------------------------------- the notebooks


def work_through(path: Path, folder: Path) -> Outcome:
    """Run one notebook in a kernel of the fresh environment; its first code cell is the setup."""
    refresh(folder)
    outcome = Outcome(f"{path.parent.name}/{path.name}")
    seal = torch_seal(folder)
    try:
        outcome.setup, outcome.rest = timed(path, folder)
    except CellExecutionError as error:
        outcome.trouble.append("\n     ".join(str(error).splitlines()))
    if outcome.setup > SETUP_SECONDS:
        outcome.trouble.append(f"The setup cell took more than {SETUP_SECONDS} seconds.")
    if torch_seal(folder) != seal:
        outcome.trouble.append("The setup cell replaced torch.")
    return outcome


def timed(path: Path, folder: Path) -> tuple[float, float]:
    """Run the cells in order; return the seconds of the setup cell and of all others."""
    notebook = nbformat.read(path, as_version=4)
    cells = [(n, cell) for n, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, km=Kernel(), timeout=600, resources=resources)
    ends = []
    with client.setup_kernel(env=environment(folder)):
        start = time.perf_counter()
        for number, cell in cells:
            client.execute_cell(cell, number)
            ends.append(time.perf_counter() - start)
    return ends[0], ends[-1] - ends[0]


class Kernel(AsyncKernelManager):  # type: ignore[misc, unused-ignore]
    """Start the environment's own Python, not the one that runs this program."""

    def format_kernel_cmd(self, extra_arguments: Any = None) -> list[str]:
        """Return the command that starts a kernel."""
        return [str(PYTHON), "-m", "ipykernel_launcher", "-f", self.connection_file]


def main() -> int:
    """Make the environment if need be, run the notebooks, say what came of it."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--new", action="store_true")
    parser.add_argument("--python", default="3.12", help="a version, or where one is")
    given = parser.parse_args()
    try:
        if given.new or not (HOME / FRESH).exists():
            make(HOME, given.python)
        refresh(HOME)
        before = packages(PYTHON)
        outcomes = []
        for path in given.notebooks or sorted(ROOT.glob("notebooks/*.ipynb")):
            outcomes.append(work_through(path.resolve(), HOME))
            print(outcomes[-1], flush=True)
        print(*changes(before, packages(PYTHON)), sep="\n")
    except SetupError as error:
        sys.exit(str(error))
    return int(any(outcome.trouble for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
