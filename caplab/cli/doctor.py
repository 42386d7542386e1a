"""The checks of `caplab doctor`: one function for each thing that can go wrong.

Only the standard library and caplab modules without dependencies are imported at the top, so that
`python lab.py doctor` can check a machine on which nothing is installed yet.
"""

import importlib.util
import os
import platform
import shutil
import sys
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caplab.models.fetch import fetched_folder
from caplab.models.folder import damaged_files
from caplab.support.safe_text import line_text

__all__ = ["Diagnosis", "examine"]

ASSETS = Path(__file__).parents[1] / "assets"
GIGABYTE = 1e9

Level = Literal["OK", "INFO", "WARN", "FAIL"]


@dataclass(frozen=True)
class Diagnosis:
    """The result of one check, and what to do about it."""

    level: Level
    text: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{f'[{self.level}]':6} {self.text}"
        return line_text(f"{line} -> {self.advice}" if self.advice else line)


def examine() -> int:
    """Print one line per result; return 1 if any of them is FAIL, else 0."""
    findings = [finding for check in CHECKS for finding in _attempt(check)]
    return int(any(finding.level == "FAIL" for finding in findings))


def _attempt(check: Callable[[], Iterator[Diagnosis]]) -> Iterator[Diagnosis]:
    """Run one check and print its results; a check that crashes is a failure as well."""
    try:
        for finding in check():
            print(finding, flush=True)
            yield finding
    except BrokenPipeError:
        raise  # the reader of the output is gone
    except Exception as error:
        text = f"{check.__name__}: {type(error).__name__}: {error}"
        finding = Diagnosis("FAIL", text, "please report this")
        print(finding, flush=True)
        yield finding


def python() -> Iterator[Diagnosis]:
    """Check the version of this Python."""
    text = f"Python: {platform.python_version()} at {sys.executable}"
    if (3, 11) <= sys.version_info[:2] <= (3, 14):
        yield Diagnosis("OK", text)
    else:
        yield Diagnosis("FAIL", text, "use Python 3.11 to 3.14")


def system() -> Iterator[Diagnosis]:
    """Name the operating system: bug reports need it."""
    yield Diagnosis("OK", f"system: {platform.platform()}, {platform.machine()}")


def disk() -> Iterator[Diagnosis]:
    """Check the disk space for the set-up and for models that learners save."""
    free = shutil.disk_usage(Path.cwd()).free / GIGABYTE
    text = f"disk: {free:.1f} GB free in {Path.cwd()}"
    if free < 0.5:
        yield Diagnosis("FAIL", text, "free some space: nothing can be saved")
    elif free < 3:
        yield Diagnosis("WARN", text, "free some space: a first set-up takes up to 2 GB")
    else:
        yield Diagnosis("OK", text)


def memory() -> Iterator[Diagnosis]:
    """Check the free memory: a lesson on the pocket model takes less than 1 GB."""
    try:
        free, total = _memory()
    except (AttributeError, ValueError):
        yield Diagnosis("WARN", "memory: unknown before the set-up", "python lab.py")
        return
    text = f"memory: {free:.1f} of {total:.1f} GB free"
    if free < 1.5:
        yield Diagnosis("WARN", text, "close other programs and notebooks before you train")
    else:
        yield Diagnosis("OK", text)


def _memory() -> tuple[float, float]:
    """Return free and total gigabytes; before the set-up only Linux reports them."""
    if importlib.util.find_spec("psutil") is None:
        page = os.sysconf("SC_PAGE_SIZE") / GIGABYTE
        return page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")
    import psutil

    seen = psutil.virtual_memory()
    return seen.available / GIGABYTE, seen.total / GIGABYTE


def cores() -> Iterator[Diagnosis]:
    """Check the number of cores: the lessons' times are for two."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if usable and usable > 1:
        yield Diagnosis("OK", f"cores: {usable}")
    else:
        yield Diagnosis("WARN", f"cores: {usable}", "everything works, at about half the speed")


def packages() -> Iterator[Diagnosis]:
    """Compare every package's version with what pyproject.toml asks for."""
    if importlib.util.find_spec("torch") is None:
        yield Diagnosis("FAIL", "packages: not installed in this Python", "python lab.py")
        return
    from packaging.requirements import Requirement

    for requirement in map(Requirement, importlib.metadata.requires("caplab") or []):
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": "lab"}):
            yield _package(requirement.name, str(requirement.specifier), optional=bool(marker))


def _package(name: str, bounds: str, *, optional: bool) -> Diagnosis:
    """Check one package; without the optional ones only JupyterLab does not open here."""
    from packaging.specifiers import SpecifierSet

    advice = f'python lab.py, or pip install "{name}{bounds}"'
    level: Level = "WARN" if optional else "FAIL"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Diagnosis(level, f"{name}: not installed", advice)
    if not SpecifierSet(bounds).contains(version, prereleases=True):
        return Diagnosis(level, f"{name}: {version}, but {bounds} is needed", advice)
    return Diagnosis("OK", f"{name}: {version}")


def pocket() -> Iterator[Diagnosis]:
    """Compare the pocket model's files with their checksums."""
    folder = ASSETS / "pocket"
    advice = "git checkout -- caplab/assets, or get the project again"
    if not (folder / "SHA256SUMS").is_file():
        yield Diagnosis("FAIL", f"pocket model: no SHA256SUMS in {folder}", advice)
    elif damaged := damaged_files(folder):
        yield Diagnosis("FAIL", f"pocket model: {', '.join(damaged)} missing or damaged", advice)
    else:
        yield Diagnosis("OK", "pocket model: all files match their checksums")


def real_model() -> Iterator[Diagnosis]:
    """Say whether the real model is there; the course does not need it."""
    folder, advice = fetched_folder(), "caplab fetch smollm2"
    weights = folder / "model.safetensors"
    if not folder.is_dir():
        yield Diagnosis("INFO", "real model: not fetched (optional)", advice)
    elif not weights.is_file():
        yield Diagnosis("WARN", f"real model: no weights in {folder}", advice)
    else:
        size = sum(path.stat().st_size for path in folder.iterdir()) / GIGABYTE
        yield Diagnosis("OK", f"real model: smollm2, {size:.2f} GB in {folder}")


def browser() -> Iterator[Diagnosis]:
    """Look for a browser that can show JupyterLab."""
    try:
        webbrowser.get()
        yield Diagnosis("OK", "browser: JupyterLab opens by itself")
    except webbrowser.Error:  # it also looks for a screen
        advice = "open the address that lab.py prints, in any browser"
        if found := next(filter(None, map(shutil.which, _BROWSERS)), None):
            yield Diagnosis("OK", f"browser: {found}, which does not open by itself here", advice)
        else:
            yield Diagnosis("WARN", "browser: none found on this machine", advice)


_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "firefox")


def gpu() -> Iterator[Diagnosis]:
    """Load PyTorch, and name the devices that it can use."""
    if importlib.util.find_spec("torch") is None:
        return  # `packages` reports it
    try:
        import torch

        threads = f"PyTorch: {torch.get_num_threads()} threads"
    except Exception as error:  # a broken build may raise anything
        yield Diagnosis(
            "FAIL", f"PyTorch: does not load: {error}", "delete .venv, then lab.py again"
        )
        return
    if torch.cuda.is_available():
        yield Diagnosis("OK", f"{threads}; GPU: {torch.cuda.get_device_name()}")
    elif torch.backends.mps.is_available():
        yield Diagnosis("OK", f"{threads}; GPU: Apple")
    elif shutil.which("nvidia-smi"):
        advice = "install a CUDA build of PyTorch to use it; the lessons need none"
        yield Diagnosis("WARN", f"{threads}; GPU: NVIDIA, but PyTorch cannot use it", advice)
    else:
        yield Diagnosis("OK", f"{threads}; GPU: none, and none is needed")


CHECKS = [python, system, disk, memory, cores, packages, pocket, real_model, browser, gpu]
