"""A room is started for real: learners come in, run a lesson, stay apart, and it ends."""

import asyncio
import json
import os
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "waltz by waltz"
LIMIT = 3.0  # GB, the usual one
GREEDY = """
try:
    hoard = bytearray(4 * 2**30)
    print("it got them")
except MemoryError:
    print("no room for them")
"""


@pytest.fixture(scope="module")
def tools():
    """Import what a teacher starts; skip in words where its parts are not installed."""
    for name in ("jupyterhub", "nativeauthenticator"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install the extra `classroom`")
    sys.path.insert(0, str(ROOT / "classroom"))
    import start
    import try_room

    sys.path.remove(str(ROOT / "classroom"))
    if start.proxy() is None:
        pytest.skip("no proxy: npm install --prefix classroom --no-package-lock")
    return start, try_room


@pytest.fixture(scope="module")
def room(tools, tmp_path_factory):
    """Open one room for all tests of this file."""
    folder = tmp_path_factory.mktemp("room") / "rooms"
    with tools[1].opened(folder, PASSWORD) as address:
        yield tools[1], address, folder


def processes(folder):
    """List the processes that belong to a room: hub, proxy, servers, kernels."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            # The hub works in a folder of the room, and a learner's processes have a home there.
            where = os.readlink(place / "cwd")
        except OSError:
            continue
        found += [place.name] * where.startswith(str(folder))
    return found


def test_a_learner_opens_a_lesson_and_runs_it(room):
    try_room, address, folder = room
    (visit,) = asyncio.run(try_room.wave(address, ["ada"], PASSWORD, most=3))
    strip, drift, _ = visit.said
    assert "The course so far: 0 of" in strip
    assert "Castle" in drift or "SmolLM2" in drift
    home = folder / "ada"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {"notebooks", "docs", "solutions"} <= {path.name for path in home.iterdir()}


def test_nobody_enters_without_the_password(room):
    try_room, address, folder = room
    with pytest.raises(try_room.RoomError, match="was not let in"):
        asyncio.run(try_room.wave(address, ["eve"], "guessed", most=1))
    assert not (folder / "eve").exists()


@pytest.mark.parametrize("name", ["../eve", ".hub", "a/b", "root eve"])
def test_a_name_that_is_no_folder_is_refused(room, name):
    try_room, address, folder = room
    before = sorted(folder.iterdir())
    with pytest.raises(try_room.RoomError, match="was not let in"):
        asyncio.run(try_room.wave(address, [name], PASSWORD, most=1))
    assert sorted(folder.iterdir()) == before


@pytest.mark.weekly
def test_a_kernel_has_one_thread_and_a_limit_and_goes_on_after_it(room):
    try_room, address, folder = room
    cells = [GREEDY, "import os; print(os.environ['OMP_NUM_THREADS'], os.environ.get('HOME'))"]
    cells += ["print([name for name in os.environ if 'ROOM' in name])"]
    made = {"cells": [code(source) for source in cells], "metadata": {}}
    asyncio.run(try_room.wave(address, ["bob"], PASSWORD, most=0))
    (folder / "bob/own.ipynb").write_text(json.dumps({**made, "nbformat": 4, "nbformat_minor": 5}))
    (visit,) = asyncio.run(try_room.wave(address, ["bob"], PASSWORD, "own.ipynb"))
    assert visit.said == ["no room for them\n", f"1 {folder / 'bob'}\n", "[]\n"]


def code(source):
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "id": "a"} | {
        "execution_count": None
    }


@pytest.mark.weekly
def test_four_learners_work_through_a_whole_lesson_and_the_room_ends(tools, tmp_path):
    try_room = tools[1]
    names = ["ada", "bob", "cem", "dua"]
    with try_room.opened(tmp_path / "rooms", PASSWORD) as address:
        visits = asyncio.run(try_room.wave(address, names, PASSWORD))
        assert processes(tmp_path / "rooms")
    assert [visit.name for visit in visits] == names
    assert all(len(visit.cells) > 20 for visit in visits)
    assert all("REGRESSED" in "".join(visit.said) for visit in visits)
    assert processes(tmp_path / "rooms") == []


@pytest.mark.weekly
def test_a_class_comes_at_one_moment_and_nobody_is_sent_away(room):
    try_room, address, _ = room
    names = [f"learner{n}" for n in range(8)]
    visits = asyncio.run(try_room.wave(address, names, PASSWORD, most=1))
    assert [len(visit.said) for visit in visits] == [1] * 8


# ---------------------------------------------------------------- how it is not opened


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "Choose how learners enter"),
        (("--door", "native"), "somebody has to let learners in"),
        (("--door", "password", "--address", "0.0.0.0:8000"), "passwords would travel in clear"),
        (("--door", "password", "--address", "here"), "HOST:PORT"),
        (("--door", "open"), "invalid choice"),
    ],
)
def test_a_room_that_would_be_open_is_refused(options, said, tmp_path):
    command = [sys.executable, "classroom/start.py", "--rooms", str(tmp_path / "rooms"), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert said in done.stderr
    assert not (tmp_path / "rooms").exists()


def test_a_short_password_is_refused(tools, tmp_path):
    with (
        pytest.raises(tools[1].RoomError, match="at least 8 characters"),
        tools[1].opened(tmp_path / "rooms", "short"),
    ):
        pass
