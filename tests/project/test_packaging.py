"""pyproject.toml, the lock, environment.yml, CI and the documents say the same things."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

CONDA_NAMES = {"pytorch": "torch"}


@pytest.fixture(scope="session")
def pyproject(root) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="session")
def declared(pyproject) -> dict[str, list[Requirement]]:
    """Return what is declared: the dependencies under "", each extra under its name."""
    project = pyproject["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        group: [Requirement(line) for line in lines if not line.startswith("caplab")]
        for group, lines in groups.items()
    }


@pytest.fixture(scope="session")
def lock(root) -> list[Requirement]:
    lines = (root / "requirements.lock").read_text().splitlines()
    return [Requirement(line.split("#")[0]) for line in lines if "==" in line]


def test_the_lock_is_exact_and_portable(root, lock):
    for pin in lock:
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), pin
    assert "://" not in (root / "requirements.lock").read_text()


def test_the_lock_is_within_declared_bounds(declared, lock):
    for requirement in chain(*declared.values()):
        pins = [pin for pin in lock if pin.name == requirement.name]
        assert pins, f"{requirement.name} is not locked: make the lock again (CONTRIBUTING.md)"
        for pin in pins:
            version = str(pin.specifier).removeprefix("==")
            assert version in requirement.specifier, f"{pin} is locked, {requirement} is declared"


def test_the_lock_brings_no_cuda(lock):
    cuda = [pin.name for pin in lock if re.match("nvidia|cuda|triton", pin.name)]
    assert cuda == []


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_no_system_gets_a_package_twice(lock, python, system):
    """pip refuses two pins of one package; markers must keep them apart."""
    here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": system}
    names = [pin.name for pin in lock if pin.marker is None or pin.marker.evaluate(here)]
    assert len(names) == len(set(names))
    assert {"torch", "trl", "jupyterlab"} <= set(names)


def test_conda_gets_the_same_bounds(root, pyproject, declared):
    environment = yaml.safe_load((root / "environment.yml").read_text())
    lines = [line for line in environment["dependencies"] if isinstance(line, str)]
    found = {Requirement(line).name: Requirement(line).specifier for line in lines}
    bounds = {CONDA_NAMES.get(name, name): bound for name, bound in found.items()}
    bounds.pop("pip", None)
    expected = {need.name: need.specifier for need in declared[""] + declared["lab"]}
    expected.pop("pip")
    expected["python"] = SpecifierSet(pyproject["project"]["requires-python"])
    assert bounds == expected


def test_every_dependency_says_what_it_is_for(root, declared):
    text = (root / "pyproject.toml").read_text()
    for requirement in chain(*declared.values()):
        name = re.escape(requirement.name)
        assert re.search(rf'^    "{name}>=[^"]*", *# \w+', text, re.MULTILINE), requirement.name


def test_every_dependency_is_used(root, declared):
    """What nobody imports is a program or a plug-in, or it goes."""
    programs = {"jupyterlab", "notebook", "voila", "ipykernel", "pip", "nbval", "ruff", "mypy"}
    programs |= {"pre-commit", "pytest-xdist", "uv", "myst-nb", "furo", "nbgrader"}
    programs |= {"build", "twine"}
    folders = ["caplab", "tools", "tests", "benchmarks", "classroom"]
    modules = {"pyyaml": "yaml", "jupyterhub-nativeauthenticator": "nativeauthenticator"}
    texts = [path.read_text() for folder in folders for path in (root / folder).rglob("*.py")]
    for requirement in chain(*declared.values()):
        name = modules.get(requirement.name, requirement.name.replace("-", "_"))
        imported = re.compile(rf"^\s*(import|from) {name}\b", re.MULTILINE)
        if requirement.name not in programs:
            assert any(imported.search(text) for text in texts), requirement.name


def test_dependencies_have_floors_no_ceilings(declared):
    for requirement in chain(*declared.values()):
        assert re.fullmatch(r">=[\d.]+", str(requirement.specifier)), requirement


def test_the_bounds_admit_what_colab_brings(declared):
    colab = {"ipywidgets": "7.7.1", "transformers": "5.15", "peft": "0.20", "numpy": "2.0.2"}
    colab |= {"torch": "2.11.0", "pandas": "2.2.2", "matplotlib": "3.10.0", "psutil": "5.9.5"}
    for requirement in declared[""]:
        if requirement.name in colab:
            assert colab[requirement.name] in requirement.specifier, requirement
    assert not {"jupyterlab", "ipykernel", "pip"} & {need.name for need in declared[""]}


def test_all_places_speak_of_the_same_pythons(root, pyproject):
    assert pyproject["project"]["requires-python"] == ">=3.11,<3.15"
    names = ast.literal_eval(
        re.search(r"^PYTHONS = (.*)$", (root / "lab.py").read_text(), re.MULTILINE)[1]
    )
    assert names == ["python3.14", "python3.13", "python3.12", "python3.11"]
    workflow = yaml.safe_load((root / ".github/workflows/tests.yml").read_text())
    matrix = workflow["jobs"]["lock"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.14"]  # the oldest and the newest
    doctor = (root / "caplab/cli/doctor.py").read_text()
    assert "(3, 11) <= sys.version_info[:2] <= (3, 14)" in doctor


def test_pre_commit_uses_the_locked_ruff(root, lock):
    (hooks,) = yaml.safe_load((root / ".pre-commit-config.yaml").read_text())["repos"]
    (ruff,) = [str(pin.specifier).removeprefix("==") for pin in lock if pin.name == "ruff"]
    assert hooks["rev"] == f"v{ruff}"


def test_ci_runs_the_readmes_command(root):
    command = "python lab.py test"
    assert f"\n{command}" in (root / "README.md").read_text()
    assert f"\n{command}\n" in (root / ".ci/run").read_text()
    workflow = yaml.safe_load((root / ".github/workflows/tests.yml").read_text())
    assert {"run": command}.items() <= workflow["jobs"]["lock"]["steps"][2].items()


def test_the_readmes_table_names_every_lesson(root):
    lessons = {path.stem for path in (root / "lessons").glob("[0-9]*.md")}
    named = set(re.findall(r"\(notebooks/(\w+)\.ipynb\)", (root / "README.md").read_text()))
    assert named == lessons


def test_the_changelog_starts_at_this_version(root):
    import caplab

    (first, *_) = re.findall(r"^## ([\d.]+)", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first == caplab.__version__


def test_a_built_wheel_is_complete(root, tmp_path):
    """Colab installs one: what is not in it does not exist there."""
    for name in ["pyproject.toml", "README.md", "LICENSE", "LICENSE-lessons"]:
        shutil.copy(root / name, tmp_path)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "caplab", tmp_path / "caplab", ignore=skip)
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("caplab/")}
    files = [path for path in (tmp_path / "caplab").rglob("*") if path.is_file()]
    assert packed == {path.relative_to(tmp_path).as_posix() for path in files}
    assert "caplab/py.typed" in packed


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]])
def test_the_code_is_in_the_house_style(root, command):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
