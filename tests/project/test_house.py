"""The plan of the house: folders tell the story, and imports run down."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import caplab

HOUSE = Path(caplab.__file__).parent
# From the top down: a file imports from its own folder and from those to the right of it.
FLOORS = "cli teaching exploring study watching plots training measuring models questions support"


def imports(file: Path) -> set[Path]:
    """Find the files of the package that a file imports, lazily and for types included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("caplab"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("caplab")]
        else:
            continue
        for path in (HOUSE.parent / name.replace(".", "/") for name in names):
            places = (path.with_suffix(".py"), path / "__init__.py")
            inside = (path.parent.with_suffix(".py"), path.parent / "__init__.py")
            found.add(next(place for place in (*places, *inside) if place.exists()))
    return found


GRAPH = {file: imports(file) for file in HOUSE.glob("*/**/*.py")}
FLOOR = {name: number for number, name in enumerate(FLOORS.split())}


def floor(file: Path) -> int:
    return FLOOR[file.relative_to(HOUSE).parts[0]] if file.parent != HOUSE else -1


def test_imports_run_down():
    upward = [
        f"{file.relative_to(HOUSE)} imports {other.relative_to(HOUSE)}"
        for file, others in GRAPH.items()
        for other in others
        if floor(other) < floor(file)
    ]
    assert not upward


def test_no_circle():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        raise AssertionError(" imports ".join(str(f.relative_to(HOUSE)) for f in error.args[1]))  # noqa: B904
