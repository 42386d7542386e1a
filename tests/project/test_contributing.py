"""CONTRIBUTING.md describes the house as it is on disk."""

import re

import pytest
from test_house import FLOORS


@pytest.fixture(scope="module")
def text(root) -> str:
    return (root / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tree(text) -> dict[str, str]:
    """Read the whole tree: path -> phrase. Two spaces of indentation lead one folder down."""
    (block,) = re.findall(r"^## The whole tree\n.*?^```\n(.*?)^```", text, re.M | re.S)
    found, folders = {}, []
    for line in block.splitlines():
        indent, name, phrase = re.fullmatch(r"( *)(\S+) *(.*)", line).groups()
        folders[len(indent) // 2 :] = [name]
        path = "".join(folders)
        assert path not in found, f"{path} is named twice"
        found[path] = phrase
    return found


def test_every_module_has_a_phrase(root, tree):
    described = {file for path in tree for file in root.glob(path.replace("NN", "??"))}
    modules = [path for path in (root / "caplab").rglob("*.py") if path.name != "__init__.py"]
    folders = [path.parent for path in (root / "caplab").rglob("__init__.py")]
    missing = {path.relative_to(root).as_posix() for path in {*modules, *folders} - described}
    assert not missing, f"CONTRIBUTING.md has no phrase for {sorted(missing)}"


def test_every_folder_of_tests_has_a_phrase(root, tree):
    folders = {path.parent.relative_to(root) for path in (root / "tests").glob("*/test_*.py")}
    assert {f"{folder.as_posix()}/" for folder in folders} <= set(tree)


def test_no_phrase_names_a_missing_file(root, tree):
    gone = [path for path in tree if not list(root.glob(path.replace("NN", "??")))]
    assert not gone, f"CONTRIBUTING.md names {gone}, which is not there"


def test_no_phrase_is_empty(tree):
    assert [path for path, phrase in tree.items() if not phrase] == []


def test_the_floors_are_those_of_the_house(text):
    (table,) = re.findall(r"^## The folders of caplab\n.*?(^\|.*?)\n\n", text, re.M | re.S)
    assert re.findall(r"^\| `(\w+)/` \|", table, re.M) == FLOORS.split()
