"""What is loaded between two cells."""

import asyncio

from caplab.support import idle


def test_modules_are_loaded_after_the_cell(monkeypatch):
    loaded = []

    def load(name):
        loaded.append(name)
        if name == "broken":
            raise OSError("no such library")

    monkeypatch.setattr(idle, "import_module", load)
    monkeypatch.setattr(idle, "_REST", 0)
    monkeypatch.setattr(idle, "in_kernel", lambda: True)

    async def kernel():
        idle.load_when_idle(["first", "broken", "last"])
        assert loaded == [], "the cell ends first"
        for _ in range(6):
            await asyncio.sleep(0.01)

    asyncio.run(kernel())
    assert loaded == ["first", "broken", "last"]


def test_outside_a_notebook_nothing_is_loaded(monkeypatch):
    monkeypatch.setattr(idle, "import_module", lambda name: 1 / 0)
    monkeypatch.setattr(idle, "in_kernel", lambda: True)
    idle.load_when_idle(["first"])  # no loop runs

    async def server():
        idle.load_when_idle(["first"])
        await asyncio.sleep(0.3)

    monkeypatch.undo()
    assert not idle.in_kernel()
    monkeypatch.setattr(idle, "import_module", lambda name: 1 / 0)
    asyncio.run(server())
