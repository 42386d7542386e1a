"""The plan of the house: imports run down, and in no circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

import caplab

HOUSE = Path(caplab.__file__).parent
# From the top down: a file imports from its own folder and from the folders to the right of it.
FLOORS = "cli teaching exploring study watching plots training measuring models questions support"


def imports(file: Path) -> set[Path]:
    """Find the files of the package that a file imports, lazily and for types included."""
    names, package = set(), ".".join(file.relative_to(HOUSE.parent).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return {defining(name) for name in names if name.partition(".")[0] == "caplab"}


def defining(name: str) -> Path:
    """Return the file of a module, or of the module that a name is imported from."""
    path = HOUSE.parent / name.replace(".", "/")
    here = (path.with_suffix(".py"), path / "__init__.py", path.parent.with_suffix(".py"))
    return next((file for file in here if file.exists()), path.parent / "__init__.py")


GRAPH = {file: imports(file) for file in HOUSE.glob("*/**/*.py")}


def short(file: Path) -> str:
    return file.relative_to(HOUSE.parent).as_posix()


def floor(file: Path) -> int:
    """Count from the top; caplab/__init__.py, which offers everything, is above all."""
    folder = file.relative_to(HOUSE).parts[0]
    return FLOORS.split().index(folder) if file.parent != HOUSE else -1


def test_every_folder_has_a_floor():
    assert {file.parent.name for file in HOUSE.glob("*/__init__.py")} == set(FLOORS.split())
    assert {file.name for file in HOUSE.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("file", GRAPH, ids=short)
def test_imports_run_down(file):
    upward = [other for other in GRAPH[file] if floor(other) < floor(file)]
    assert not upward, [f"{short(file)} imports {short(other)}" for other in upward]


def test_no_circle():
    circle: list[Path] = []
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert not circle, " is imported by ".join(map(short, circle))
