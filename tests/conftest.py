"""What several kinds of tests share: the root, and the order in which workers take the files."""

import os
from pathlib import Path
from uuid import uuid4

import pytest
from xdist.scheduler import LoadScopeScheduling

# The longest work comes first, so that no worker ends long after the others.
LONGEST_FIRST = ("tests/browser/", "tests/web/", "tests/notebooks/test_running.py", "tests/faults/")

if "PYTEST_XDIST_WORKER" in os.environ:  # tests beside this one: each computes with one thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return Path(__file__).resolve().parents[1]


class Scheduler(LoadScopeScheduling):
    """Give a worker whole files, whose tests share fixtures; but notebooks one by one."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith("tests/notebooks/test_running.py"):
            return nodeid
        if nodeid.startswith("tests/browser/"):  # they share the server
            return "tests/browser"
        if nodeid.startswith("tests/web/test_site"):  # they share the site, which takes a while
            return "tests/web"
        return nodeid.partition("::")[0]


@pytest.fixture(autouse=True)
def no_answers_of_earlier_tests(tmp_path_factory, monkeypatch):
    """Let every test keep answers in a folder of its own: none of another run, none left behind."""
    from caplab.measuring import cache

    folder = tmp_path_factory.getbasetemp() / "answers" / uuid4().hex
    monkeypatch.setattr(cache, "answers_folder", lambda: folder)


@pytest.fixture(autouse=True)
def progress_of_nobody(tmp_path_factory, monkeypatch):
    """Let every test solve exercises for a learner of its own, kernels that it starts included."""
    folder = tmp_path_factory.getbasetemp() / "progress" / uuid4().hex
    monkeypatch.setenv("CAPLAB_PROGRESS", str(folder / "progress.json"))


def pytest_xdist_make_scheduler(config, log):
    """Replace `--dist=loadfile`, which `python lab.py test` asks for."""
    config.option.loadscopereorder = False  # the files have their order already
    return Scheduler(config, log) if config.option.dist == "loadfile" else None


def pytest_collection_modifyitems(items):
    """Order the files by what they cost, and leave the tests of a file in their order."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def rank(item):
        names = enumerate(LONGEST_FIRST)
        listed = [number for number, name in names if item.nodeid.startswith(name)]
        return listed or [len(LONGEST_FIRST)], item.path not in slow

    items.sort(key=rank)
