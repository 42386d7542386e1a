#!/usr/bin/env python3
"""Open the Capability Regression Lab with nothing but Python.

    python lab.py           set up at the first start, then open the lessons in JupyterLab
    python lab.py test      run every test; further arguments go to pytest
    python lab.py doctor    say what is fine on this machine, what is not, and what to do

Everything goes into the folder .venv beside this file, in the versions of requirements.lock.
Only the standard library, and no new syntax: an old Python must be able to say that it is too old.
"""

import argparse
import functools
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Optional, Tuple

try:
    import fcntl
except ImportError:  # Windows, which refuses to move a folder in use: enough of a lock
    fcntl = None  # type: ignore[assignment]

PYTHONS = ["python3.14", "python3.13", "python3.12", "python3.11"]
BUILDS = ["Linux x86_64", "Linux aarch64", "Darwin arm64", "Windows AMD64"]  # that PyTorch offers
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SIZES = {"CPU": (0.6, 2.6), "CUDA": (3.1, 6.4)}  # GB to download, GB on disk (CONTRIBUTING.md)

HERE = Path(__file__).resolve().parent
LOCK = HERE / "requirements.lock"
LOCKED = re.compile(r"#|$|[\w.-]+==[\w.+]+( ;.*)?( *#.*)?$")  # a line of it
VENV = HERE / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "caplab-stamp.txt"  # "installing", or the fingerprint and the extras installed
LOG = VENV / "pip.log"
SETTINGS = VENV / "share/jupyter/lab/settings/overrides.json"
NEWS = "@jupyterlab/apputils-extension:notification"  # JupyterLab would ask the network for some
NO_NEWS = '"%s": {"fetchNews": "false", "checkForUpdates": false}' % NEWS
AS_PAGES = '"@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "%s"}}'

NO_TORCH = """PyTorch offers nothing for this Python (%s, %d bits).
It needs a 64-bit Python on one of: %s.
Google Colab runs the lessons from any machine: see README.md."""
NO_VENV = """This Python cannot make virtual environments. On Debian or Ubuntu, run
    sudo apt install python3-venv
and then lab.py again."""
NO_FOLDER = """This folder has to be yours to write in: if it is not, copy it to your own files.
No other lab may be open in it while it is set up: close them all, then run lab.py again."""

ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")}
ENVIRONMENT.update(PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1")  # others' settings stay out
NULL = subprocess.DEVNULL
held = []  # type: List[int]  # an open file: the lock, which our children keep if we are killed
call = functools.partial(subprocess.call, cwd=str(HERE), env=ENVIRONMENT, pass_fds=held)
say = functools.partial(print, flush=True)  # so that our lines and pip's stay in order


def main(given: List[str]) -> int:
    """Do what the command line asks; return the exit code."""
    if given[:1] == ["test"]:  # before argparse, which would claim pytest's options
        set_up(["lab", "test"])
        return become(["pytest", "-nlogical", "--maxprocesses=4", "--dist=loadfile", *given[1:]])
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("command", nargs="?", choices=["test", "doctor"])
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument("--port", type=int, default=8888, help="the port to try first")
    options = parser.parse_args(given)
    if options.command == "doctor":
        return doctor()
    set_up(["lab"])
    return become(jupyter(options.port, options.no_browser))


def check_python() -> None:
    """Stop where no set-up can succeed, and say what would."""
    if "python%d.%d" % sys.version_info[:2] not in PYTHONS:
        usable = [name for name in PYTHONS if runs("-c", "", by=name)]
        install_one = "Install one from https://www.python.org/downloads/ and run lab.py with it."
        advice = "This machine has one. Run:  %s lab.py" % usable[0] if usable else install_one
        version = platform.python_version()
        sys.exit("This is Python %s; the lab needs Python 3.11 to 3.14.\n%s" % (version, advice))
    build = "%s %s" % (platform.system(), platform.machine())
    if build not in BUILDS or sys.maxsize < 2**32:
        sys.exit(NO_TORCH % (build, sys.maxsize.bit_length() + 1, ", ".join(BUILDS)))


# Set-up: .venv is made once, filled by pip, and stamped when it is complete.


def set_up(extras: List[str]) -> None:
    """Bring .venv to the state of requirements.lock; return at once if it is there already."""
    wait_for_turn()
    if stamp()[:1] == [fingerprint()] and set(extras) <= set(stamp()) and runs("-c", ""):
        return
    start = time.time()
    install(sorted(set(extras) | set(stamp()[1:])))
    say("\nSet up in %.0f s; %.0f MB were downloaded." % (time.time() - start, downloaded()))


def wait_for_turn() -> None:
    """Let a second lab.py wait for the first, and for its pip if the first was killed."""
    if fcntl is None:
        return
    held[:] = [os.open(str(HERE), os.O_RDONLY)]  # locks can be taken on folders too
    try:
        fcntl.flock(held[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("Another lab.py is setting up this folder: waiting for it ...")
        fcntl.flock(held[0], fcntl.LOCK_EX)


def install(extras: List[str]) -> None:
    """Make .venv if needed, then let pip fill it, with the lock as its constraints."""
    if stamp() == ["installing"] or not runs("-m", "pip", "--version"):
        make_venv()
    torch, size = torch_build()
    say("Needed once: up to %.1f GB to download, %.1f GB on the disk." % SIZES[size])
    if not stamp()[1:] and shutil.disk_usage(str(HERE)).free < SIZES[size][1] * 1e9:
        sys.exit("That is more than is free in %s. Make room, then run lab.py again." % HERE)
    STAMP.write_text("installing")  # whatever interrupts us from here on: the next start will know
    LOG.write_text("")
    pip("1 of 3: the installer itself", "pip", "setuptools")
    pip("2 of 3: PyTorch", *torch)
    # Without isolation the build takes its tools from step 1, locked, and needs no network.
    pip("3 of 3: all else", "--no-build-isolation", "--editable", ".[%s]" % ",".join(extras))
    SETTINGS.parent.mkdir(parents=True, exist_ok=True)
    SETTINGS.write_text("{%s, %s}" % (NO_NEWS, AS_PAGES % "Markdown Preview"))
    STAMP.write_text(" ".join([fingerprint(), *extras]))


def fingerprint() -> str:
    """Change whenever .venv has to: with the lock, the package's needs, or the folder's place."""
    parts = [LOCK.read_bytes(), (HERE / "pyproject.toml").read_bytes(), os.fsencode(str(HERE))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def stamp() -> List[str]:
    """Return the words that the last set-up left in .venv."""
    return STAMP.read_text().split() if STAMP.exists() else []


def make_venv() -> None:
    """Make .venv afresh: in one that was interrupted, no file can be trusted."""
    old = HERE / ".venv.old"
    shutil.rmtree(str(old), ignore_errors=True)
    if VENV.exists():
        say("The environment in .venv is not complete: making it again.")
        os.replace(str(VENV), str(old))  # first, so that a kill in between leaves no half of it
        shutil.rmtree(str(old), ignore_errors=True)
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit(NO_VENV)
    say("Making a Python environment in .venv ...")  # without the path: it may not be printable
    VENV.mkdir()
    STAMP.write_text("installing")
    if call([sys.executable, "-m", "venv", str(VENV)]) != 0:
        sys.exit("The environment could not be made. " + advice())


def torch_build() -> Tuple[List[str], str]:
    """Choose what pip installs as PyTorch: on Linux its default brings gigabytes of CUDA."""
    lock = LOCK.read_text(errors="replace")
    plain = re.findall(r"^torch==[\w.]+", lock, re.MULTILINE)
    if not plain or not all(map(LOCKED.match, lock.splitlines())):
        sys.exit("requirements.lock is damaged. Get it again:  git restore requirements.lock")
    cpu = plain[0] + "+cpu"
    if platform.system() != "Linux" or shutil.which("nvidia-smi"):
        return plain, "CUDA" if platform.system() == "Linux" else "CPU"
    if runs("-m", "pip", "install", "--dry-run", "--no-deps", "--retries=0", cpu):
        return [cpu], "CPU"  # installed already, or offered by the package sources set up here
    ask = "import urllib.request as it; it.urlopen('%s/', timeout=2)" % CPU_INDEX
    if runs("-c", ask, seconds=2):
        return [cpu, "--extra-index-url", CPU_INDEX], "CPU"
    say("No PyTorch without CUDA is within reach, so it has to be the large default build.")
    return plain, "CUDA"


def pip(title: str, *arguments: str) -> None:
    """Install, with pip's own progress on the screen; explain a failure."""
    say("\n[%s]" % title)
    command = [str(PYTHON), "-m", "pip", "install", "--constraint", LOCK.name, "--log", str(LOG)]
    if call(command + list(arguments)) != 0:
        sys.exit("pip did not finish; its reason stands above. " + advice())


def advice() -> str:
    """Say which of the two usual causes it was: a full disk or a lost connection."""
    if shutil.disk_usage(str(HERE)).free < 0.5e9:
        return "The disk is full: make room, then run lab.py again."
    return "Was the connection lost? Run lab.py again: whatever was downloaded is kept."


def downloaded() -> float:
    """Add up the megabytes that pip noted in its log."""
    units = {"bytes": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}
    notes = re.findall(r"Downloading \S+ \(([\d.]+) (\w+)\)", LOG.read_text(errors="replace"))
    return sum(float(number) * units[unit] for number, unit in notes)


def runs(*arguments: str, by: str = str(PYTHON), seconds: Optional[float] = None) -> bool:
    """Tell whether .venv's Python can do this: it may be half made, or its base may be gone."""
    try:
        return call([by, *arguments], timeout=seconds, stdout=NULL, stderr=NULL) == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def become(module: List[str]) -> int:
    """Turn into this module, run by .venv's Python: its signals and its exit code are ours."""
    command = [str(PYTHON), "-m", *module]
    if os.name == "nt":  # Windows cannot replace a process: wait, and leave Ctrl-C to the child
        signal.signal(signal.SIGINT, lambda *_: None)
        return call(command)
    os.chdir(str(HERE))
    return os.execve(command[0], command, ENVIRONMENT)


def jupyter(port: int, no_browser: bool) -> List[str]:
    """Return JupyterLab's command line: for this machine only, behind a token of its own."""
    command = ["caplab.cli.jupyter", "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"]
    command += ["--ServerApp.ip=localhost", "--ServerApp.port=%d" % port]
    root = getattr(os, "geteuid", lambda: 1)() == 0  # in containers; Jupyter refuses otherwise
    return command + ["--no-browser"] * no_browser + ["--allow-root"] * root


def doctor() -> int:
    """Check this machine, with what is in .venv if the set-up is complete."""
    done = stamp()[:1] == [fingerprint()] and runs("-c", "")
    say("[OK]   set-up: finished" if done else "[WARN] set-up: not finished -> python lab.py")
    return call([str(PYTHON) if done else sys.executable, "-m", "caplab", "doctor"])


if __name__ == "__main__":
    try:
        check_python()
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        say("\nStopped. Run the same command again: finished downloads are kept.")
        sys.exit(130)
    except OSError as problem:
        sys.exit("\n%s\n%s" % (problem, NO_FOLDER))
