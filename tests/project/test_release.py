"""What is released: the version in all places, the workflows, and files that work on their own."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import caplab

LARGEST = 15_000_000  # bytes


@pytest.fixture(scope="module")
def citation(root) -> dict:
    return yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))


@pytest.fixture(scope="module")
def address(root) -> str:
    """Return where Pages puts the site of the repository."""
    settings = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    owner, name = settings["tool"]["caplab"]["repository"].split("/")
    return f"https://{owner}.github.io/{name}/"


def test_the_citation_names_this_version(citation):
    assert citation["version"] == caplab.__version__
    assert citation["cff-version"] == "1.2.0"


def test_the_citation_is_the_readme_s(root, citation):
    readme = (root / "README.md").read_text("utf-8")
    assert f"title  = {{{citation['title']}}}" in readme
    assert f"url    = {{{citation['repository-code']}}}" in readme


def test_the_readme_s_first_screen_links_the_web_edition(root, address):
    first = "\n".join((root / "README.md").read_text("utf-8").splitlines()[:12])
    assert address in first


def test_all_links_to_the_web_edition_agree(root, citation, address):
    settings = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    assert citation["url"] == settings["project"]["urls"]["Homepage"] == address


def test_pages_are_tested_before_they_are_published(root):
    jobs = yaml.safe_load((root / ".github/workflows/pages.yml").read_text("utf-8"))["jobs"]
    runs = [step.get("run", "") for step in jobs["build"]["steps"]]
    tested, built = runs.index("python lab.py test tests/web"), len(runs) - 2
    assert "tools/build_web.py" in runs[built]
    assert tested < built
    assert jobs["deploy"]["needs"] == "build"


def test_a_release_needs_no_password(root):
    workflow = yaml.safe_load((root / ".github/workflows/release.yml").read_text("utf-8"))
    publish = workflow["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets." not in (root / ".github/workflows/release.yml").read_text("utf-8")


def test_a_release_is_checked_and_tried_first(root):
    jobs = yaml.safe_load((root / ".github/workflows/release.yml").read_text("utf-8"))["jobs"]
    runs = " ".join(step.get("run", "") for step in jobs["build"]["steps"])
    needed = ("python -m build", "twine check --strict", "released.py", "GITHUB_REF_NAME")
    assert [words for words in needed if words not in runs] == []
    assert jobs["publish"]["needs"] == "build"


@pytest.mark.weekly
def test_the_released_files_work_without_the_repository(root, tmp_path):
    source = copied(root, tmp_path / "source")
    made = built(source, tmp_path / "dist")
    assert [path.name for path in made if path.stat().st_size > LARGEST] == []
    (wheel,) = [path for path in made if path.suffix == ".whl"]
    python = installed(wheel, tmp_path / "venv")
    (tmp_path / "empty").mkdir()
    shutil.copy(root / "tests/helpers/released.py", tmp_path / "empty")
    done = subprocess.run(
        [python, "released.py"],
        cwd=tmp_path / "empty",
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"caplab {caplab.__version__}: loaded, scored, guarded, gated" in done.stdout


def copied(root: Path, to: Path) -> Path:
    """Copy what a release is built from."""
    to.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-lessons"):
        shutil.copy(root / name, to)
    shutil.copytree(root / "caplab", to / "caplab", ignore=shutil.ignore_patterns("__pycache__"))
    return to


def built(source: Path, to: Path) -> list[Path]:
    """Build the sdist, and the wheel from what the sdist holds."""
    backend = "import sys, setuptools.build_meta as it; getattr(it, sys.argv[1])(sys.argv[2])"
    run = [sys.executable, "-c", backend]
    subprocess.run([*run, "build_sdist", to], cwd=source, check=True, capture_output=True)
    (sdist,) = to.glob("*.tar.gz")
    shutil.unpack_archive(sdist, to / "unpacked", filter="data")
    (unpacked,) = (to / "unpacked").iterdir()
    subprocess.run([*run, "build_wheel", to], cwd=unpacked, check=True, capture_output=True)
    return [path for path in to.iterdir() if path.is_file()]


def installed(wheel: Path, venv: Path) -> Path:
    """Install a wheel into a new environment that borrows the libraries, and only these, of ours.

    A path in a .pth file brings modules, but not the .pth files beside them: not our own caplab.
    """
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = next(
        path for path in (venv / "bin/python", venv / "Scripts/python.exe") if path.exists()
    )
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    there = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True)
    ours = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True)
    Path(there.stdout.strip(), "libraries.pth").write_text(ours.stdout)
    install = [python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", wheel]
    subprocess.run(install, check=True)
    return python


def test_the_version_is_a_release():
    assert re.fullmatch(r"\d+\.\d+\.\d+", caplab.__version__)
