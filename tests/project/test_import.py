"""`import caplab`: instant, complete, and with functions where modules have the same name."""

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

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


def test_every_public_name_is_there():
    for name in caplab.__all__:
        assert getattr(caplab, name) is not None


def test_tab_completion_knows_what_is_not_loaded_yet():
    listed = fresh("import caplab; print(*dir(caplab))").split()
    assert set(caplab.__all__) <= set(listed)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(caplab.__file__).read_text())
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    typed = {alias.name for node in block.body for alias in node.names}
    assert typed == set(caplab.__all__)
    assert set(caplab._MODULE_OF) <= set(caplab.__all__)


# The attribute is used before or after the module of the same name is imported, or in between.
@pytest.mark.parametrize(
    "code",
    [
        "import caplab.exam",
        "import caplab; caplab.exam; import caplab.exam",
        "from caplab import exam; import caplab.exam; assert callable(exam)",
        "from caplab.exam import score; import caplab",
        "import importlib, caplab; importlib.import_module('caplab.exam')",
    ],
)
def test_exam_stays_the_function_however_its_module_is_imported(code):
    assert fresh(code + "; print(callable(caplab.exam))") == "True\n"


def test_the_module_behind_a_function_is_still_within_reach():
    code = "from caplab.exam import Question, exam; import caplab; print(exam is caplab.exam)"
    assert fresh(code) == "True\n"


def test_a_misspelt_name_is_answered_with_those_that_exist():
    with pytest.raises(AttributeError, match=r"no 'laod'.*load"):
        _ = caplab.laod


@pytest.mark.parametrize("terminal", [True, False])
def test_loading_a_big_library_is_announced_in_a_terminal_only(monkeypatch, capfd, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.delitem(sys.modules, "this_is_big", raising=False)
    monkeypatch.setattr(caplab.importlib, "import_module", lambda name: time.sleep(0.1))
    caplab._load_library("this_is_big")
    line = capfd.readouterr()
    assert line.out == ""
    assert line.err == ("Loading this_is_big ... 0.1 s\n" if terminal else "")


def test_a_missing_library_is_answered_with_what_to_do():
    with pytest.raises(ImportError, match=r"no_such_library is not installed .* python lab.py"):
        caplab._load_library("no_such_library")


def test_what_is_loaded_already_is_not_announced(monkeypatch, capfd):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    caplab._load_library("json")
    assert capfd.readouterr().err == ""


def test_the_package_says_which_version_it_is():
    assert caplab.__version__.count(".") == 2


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({}, "2000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),  # a count would overrule the policy
    ],
)
def test_waiting_threads_spin_for_a_moment_unless_the_user_says_otherwise(given, then):
    ours = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    others = {key: value for key, value in os.environ.items() if key not in ours}
    code = "import caplab, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert fresh(code, env=others | given).strip() == then
