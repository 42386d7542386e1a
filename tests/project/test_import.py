"""`import caplab`: instant, complete, and typed."""

import ast
import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import caplab

HEAVY = ["torch", "transformers", "trl", "peft", "numpy", "pandas", "scipy", "matplotlib"]


def fresh(code: str, **options) -> str:
    """Run code in a Python of its own; return what it prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def test_importing_loads_no_big_library():
    loaded = json.loads(fresh("import caplab, json, sys; print(json.dumps(list(sys.modules)))"))
    assert not set(HEAVY) & set(loaded)


def test_importing_is_instant():
    code = "import time; t = time.perf_counter(); import caplab; print(time.perf_counter() - t)"
    assert min(float(fresh(code)) for _ in range(5)) <= 0.15


def typed() -> dict[str, tuple[str, str]]:
    """Read the list for type checkers: public name -> the module and the name it comes from."""
    for node in ast.parse(Path(caplab.__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return {
                alias.asname: (line.module, alias.name)
                for line in node.body
                for alias in line.names
            }
    raise AssertionError("caplab/__init__.py has no list for type checkers")


def test_type_checkers_see_the_same_names():
    assert set(typed()) == set(caplab.__all__)


@pytest.mark.parametrize(("public", "source"), typed().items(), ids=typed())
def test_a_name_is_what_its_type_says(public, source):
    module, name = source
    try:
        expected = importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        expected = getattr(importlib.import_module(module), name)
    assert public == name
    assert getattr(caplab, public) is expected


def test_tab_completion_offers_every_name():
    listed = fresh("import caplab; print(*dir(caplab))").split()
    assert set(caplab.__all__) <= set(listed)


def test_no_folder_shares_a_functions_name():
    """Importing `caplab.exam.x` would put the folder in the place of the function `cl.exam`."""
    folders = {path.parent.name for path in Path(caplab.__file__).parent.glob("*/__init__.py")}
    shared = folders & set(caplab.__all__)
    assert {name for name in shared if callable(getattr(caplab, name))} == set()


def test_functions_survive_the_import_of_every_module():
    for module in pkgutil.walk_packages(caplab.__path__, "caplab."):
        if module.name != "caplab.__main__":  # it would run
            importlib.import_module(module.name)
    modules = {name for name in caplab.__all__ if isinstance(getattr(caplab, name), ModuleType)}
    assert modules == {"charts", "claims", "plots", "remedies", "world"}


def test_a_misspelt_name_lists_the_real_ones():
    with pytest.raises(AttributeError, match=r"no 'laod'.*load"):
        _ = caplab.laod


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(caplab._MODULES, "nothing", "support.nothing")
    monkeypatch.setattr(caplab, "import_module", lambda name: importlib.import_module("no_such"))
    with pytest.raises(ImportError, match=r"no_such is not installed .* python lab.py"):
        _ = caplab.nothing


def test_the_package_says_its_version():
    assert caplab.__version__.count(".") == 2


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({}, "2000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),  # a count would override the policy
    ],
)
def test_threads_spin_briefly_by_default(given, then):
    ours = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    others = {key: value for key, value in os.environ.items() if key not in ours}
    code = "import caplab, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert fresh(code, env=others | given).strip() == then
