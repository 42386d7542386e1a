"""The environment like Colab's: what it holds, and that the setup cell meets the right course."""

import re
import subprocess
import tomllib
from pathlib import Path

import colab_like
import nbformat
import pytest
from build_notebooks import repositories
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]

RAISED = {"datasets"}  # the setup cell replaces Colab's: TRL asks for a newer one
BROUGHT = {"jsonschema", "regex"}  # by nbformat and transformers, whatever their versions


def test_colab_brings_all_but_what_is_known():
    named = map(Requirement, re.findall(r"^\w\S+==\S+$", colab_like.PACKAGES.read_text(), re.M))
    brought = {need.name: next(iter(need.specifier)).version for need in named}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [Requirement(text) for text in project["dependencies"]]
    missing = {need.name for need in asked if need.name not in brought}
    old = {need.name for need in asked if brought.get(need.name, "9999") not in need.specifier}
    assert missing - BROUGHT == {"trl"}
    assert old == RAISED


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_the_setup_cell_asks_for_a_repository_that_is_redirected(path):
    setup = next(c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    assert re.search(r'course = "(.+)"', setup.source)[1] in repositories(ROOT)


def test_git_takes_the_course_from_this_folder(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    ask = ["git", "ls-remote", f"https://github.com/{repositories(ROOT)[0]}", "HEAD"]
    told = subprocess.run(
        ask, env=colab_like.environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert told.stdout.split()[0] == head.stdout.strip()


def test_changes_say_what_was_replaced_and_what_was_added():
    before = {"torch": "2.11.0", "datasets": "4.0.0", "old": "1"}
    after = {"torch": "2.11.0", "datasets": "5.2.0", "trl": "1.16.0"}
    assert colab_like.changes(before, after) == [
        "replaced: datasets 4.0.0 -> 5.2.0, old 1 -> removed",
        "added: trl 1.16.0",
    ]
    assert colab_like.changes(before, before) == ["replaced: nothing", "added: nothing"]


def test_torch_installed_again_is_seen_even_in_the_same_version(tmp_path):
    record = tmp_path / "lib/python3.12/site-packages/torch-2.11.0.dist-info/RECORD"
    record.parent.mkdir(parents=True)
    record.write_text("torch/__init__.py,,\n")
    seal = colab_like.torch_seal(tmp_path)
    assert colab_like.torch_seal(tmp_path) == seal
    record.write_text("torch/__init__.py,,\ntorch/new.py,,\n")
    assert colab_like.torch_seal(tmp_path) != seal


def test_a_failing_notebook_says_so_on_its_own_lines():
    outcome = colab_like.Outcome("notebooks/00.ipynb", 1.0, 2.0, ["The setup cell replaced torch."])
    assert str(outcome).splitlines() == [
        "FAIL notebooks/00.ipynb: setup   1.0 s, the rest    2.0 s",
        "     The setup cell replaced torch.",
    ]
