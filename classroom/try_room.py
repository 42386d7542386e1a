"""Let learners made of HTTP and websockets work through a lesson in a room, to try it out.

    python classroom/try_room.py --learners 4
    CAPLAB_ROOM_PASSWORD=... python classroom/try_room.py --learners 4 --hub http://127.0.0.1:8000

The first command opens a room on this machine for the purpose, and closes it. Learners come in at
the password door under the names learner1, learner2 and so on, open the lesson, and run its cells
from top to bottom as a browser would. It prints how long each waited.
"""

import argparse
import asyncio
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import aiohttp

LESSON = "notebooks/00_start_here.ipynb"
CELL_SECONDS = 600


class RoomError(Exception):
    """Say what a learner ran into."""


@dataclass
class Visit:
    """What one learner waited for, in seconds from the click."""

    name: str
    server: float = 0.0  # until the page could be shown
    first_answer: float = 0.0  # until the first cell that computes had answered
    cells: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  # the text that each cell showed

    @property
    def work(self) -> float:
        """Return the seconds of all cells together."""
        return sum(self.cells)


class Learner:
    """One browser: cookies, a server, a kernel."""

    def __init__(self, session: aiohttp.ClientSession, hub: str, name: str) -> None:
        self.session, self.hub, self.name = session, hub.rstrip("/"), name
        self.home = f"{self.hub}/user/{name}"

    async def enter(self, password: str) -> None:
        """Come in at the door."""
        async with self.session.get(f"{self.hub}/hub/login") as page:
            page.raise_for_status()
        form = {"username": self.name, "password": password, "_xsrf": self._xsrf("/hub/")}
        login = f"{self.hub}/hub/login"
        async with self.session.post(login, data=form, allow_redirects=False) as page:
            if page.status != 302:
                raise RoomError(f"{self.name} was not let in: {page.status}")

    async def open(self, seconds: float = 600) -> None:
        """Ask for a server, and wait until it answers."""
        end = time.monotonic() + seconds
        async with self.session.get(f"{self.hub}/hub/spawn") as page:
            if page.status >= 400:
                why = re.search("<h1>(.*?)</h1>", await page.text(), re.DOTALL)
                raise RoomError(f"{self.name} got no server: {why[1] if why else page.status}")
        while time.monotonic() < end:
            async with self.session.get(f"{self.home}/lab") as page:
                if page.status == 200 and page.url.path.startswith(f"/user/{self.name}/"):
                    return
            await asyncio.sleep(0.5)
        raise RoomError(f"{self.name} waited {seconds:.0f} seconds for a server")

    def _xsrf(self, path: str) -> str:
        """Return the token that a form of a path must carry."""
        cookies = self.session.cookie_jar.filter_cookies(aiohttp.client.URL(f"{self.hub}{path}"))
        return cookies["_xsrf"].value if "_xsrf" in cookies else ""

    async def ask(self, method: str, path: str, **content: Any) -> Any:
        """Call the server's REST interface."""
        headers = {"X-XSRFToken": self._xsrf(f"/user/{self.name}/")}
        url = f"{self.home}/api/{path}"
        async with self.session.request(method, url, headers=headers, **content) as answer:
            if answer.status >= 400:
                raise RoomError(f"{method} {path}: {answer.status} {await answer.text()}")
            return await answer.json() if answer.content_type == "application/json" else None

    async def work_through(self, lesson: str, most: int | None, visit: Visit) -> None:
        """Run the lesson's code cells, or the first so many, in a kernel of one's own."""
        notebook = await self.ask("GET", f"contents/{lesson}")
        cells = [c["source"] for c in notebook["content"]["cells"] if c["cell_type"] == "code"]
        wanted = {"path": lesson, "type": "notebook", "name": "", "kernel": {"name": "python3"}}
        begun = await self.ask("POST", "sessions", json=wanted)
        kernel = begun["kernel"]["id"]
        address = f"{self.home}/api/kernels/{kernel}/channels?session_id={uuid4().hex}"
        address = address.replace("http", "ws", 1)
        start = time.monotonic()
        async with self.session.ws_connect(address, max_msg_size=0) as channel:
            for number, source in enumerate(cells[:most]):
                before = time.monotonic()
                visit.said.append(await run(channel, source))
                visit.cells.append(time.monotonic() - before)
                if number == 1:  # the first cell is the setup, the second the lesson's own
                    visit.first_answer = time.monotonic() - start
        await self.ask("DELETE", f"sessions/{begun['id']}")

    async def leave(self) -> None:
        """Stop the server."""
        headers = {"X-XSRFToken": self._xsrf("/hub/")}
        url = f"{self.hub}/hub/api/users/{self.name}/server"
        async with self.session.delete(url, headers=headers) as answer:
            if answer.status not in (202, 204):
                raise RoomError(f"{self.name} could not leave: {answer.status}")


async def run(kernel: aiohttp.ClientWebSocketResponse, source: str) -> str:
    """Run one cell, wait until the kernel is idle again, and return the text that it showed."""
    ask = uuid4().hex
    header = {"msg_id": ask, "msg_type": "execute_request", "session": ask, "username": ""}
    content = {"code": source, "silent": False, "store_history": True, "allow_stdin": False}
    message = {"header": {**header, "version": "5.3"}, "content": content, "channel": "shell"}
    await kernel.send_json({**message, "parent_header": {}, "metadata": {}})
    said: list[str] = []
    while True:
        got = await kernel.receive(timeout=CELL_SECONDS)
        if got.type is not aiohttp.WSMsgType.TEXT:
            raise RoomError(f"The connection to the kernel ended: {got.type.name}")
        answer = got.json()
        if answer["parent_header"].get("msg_id") != ask:
            continue
        kind, content = answer["header"]["msg_type"], answer["content"]
        if kind == "error":
            raise RoomError(f"{content['ename']}: {content['evalue']}\nin\n{source}")
        said.append(content.get("text", "") if kind == "stream" else _plain(content))
        if kind == "status" and content["execution_state"] == "idle":
            return "".join(said)


def _plain(content: dict[str, Any]) -> str:
    return str(content.get("data", {}).get("text/plain", "") if "data" in content else "")


async def visit(hub: str, name: str, password: str, lesson: str, most: int | None) -> Visit:
    """Come in, work through a lesson, and leave."""
    made, jar = Visit(name), aiohttp.CookieJar(unsafe=True)  # unsafe: of an address, not a name
    timeout = aiohttp.ClientTimeout(total=None, sock_read=CELL_SECONDS)
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=timeout) as session:
        learner = Learner(session, hub, name)
        start = time.monotonic()
        await learner.enter(password)
        await learner.open()
        made.server = time.monotonic() - start
        try:
            await learner.work_through(lesson, most, made)
        finally:
            await learner.leave()
    return made


async def wave(
    hub: str, names: list[str], password: str, lesson: str = LESSON, most: int | None = None
) -> list[Visit]:
    """Let several learners come at the same moment."""
    return await asyncio.gather(*(visit(hub, name, password, lesson, most) for name in names))


def table(visits: list[Visit]) -> list[str]:
    """Write what each waited for."""
    rows = [f"{'learner':12} {'server':>7} {'first answer':>13} {'all cells':>10}   seconds"]
    return rows + [
        f"{one.name:12} {one.server:7.1f} {one.first_answer:13.1f} {one.work:10.1f}"
        for one in visits
    ]


# ---------------------------------------------------------------- a room for the purpose


@contextmanager
def opened(rooms: Path, password: str, *options: str, seconds: float = 120) -> Iterator[str]:
    """Open a room on this machine, yield its address, and close it with all that it started."""
    port = free_ports(3)
    address = f"127.0.0.1:{port}"
    start = [sys.executable, str(Path(__file__).parent / "start.py"), "--rooms", str(rooms)]
    command = [*start, "--door", "password", "--one-account", "--address", address, *options]
    environment = {**os.environ, "CAPLAB_ROOM_PASSWORD": password}
    log = rooms.with_suffix(".log")
    with log.open("w") as said:
        hub = subprocess.Popen(
            command, env=environment, stdout=said, stderr=said, start_new_session=True
        )
    try:
        _wait(hub, f"http://{address}", seconds, log)
        yield f"http://{address}"
    finally:
        hub.send_signal(signal.SIGTERM)  # the hub ends its proxy and all servers
        try:
            hub.wait(60)
        finally:
            hub.kill()


def free_ports(count: int) -> int:
    """Return the first of so many neighbouring ports that nobody listens on."""
    for first in range(20_000 + os.getpid() % 10_000, 60_000, count):
        try:
            for port in range(first, first + count):
                with closing(socket.socket()) as tried:
                    tried.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise RoomError("No port is free.")


def _wait(hub: subprocess.Popen[bytes], address: str, seconds: float, log: Path) -> None:
    """Wait until the door of a hub opens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and hub.poll() is None:
        try:
            with urlopen(f"{address}/hub/login", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise RoomError(f"The room did not open:\n{log.read_text()[-2000:]}")


def main() -> int:
    """Send learners, and say what they waited for."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--hub", help="the address of a room that is open")
    parser.add_argument("--learners", type=int, default=4)
    parser.add_argument("--lesson", default=LESSON)
    given = parser.parse_args()
    names = [f"learner{n + 1}" for n in range(given.learners)]
    password = os.environ.get("CAPLAB_ROOM_PASSWORD") or secrets.token_hex(8)
    try:
        if given.hub:
            visits = asyncio.run(wave(given.hub, names, password, given.lesson))
        else:
            with TemporaryDirectory() as folder, opened(Path(folder, "rooms"), password) as hub:
                visits = asyncio.run(wave(hub, names, password, given.lesson))
    except (RoomError, aiohttp.ClientError) as error:
        sys.exit(str(error))
    print(*table(visits), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
