"""Open a real room, and let 30 learners work through lesson 00 in waves, on two cores.

    python benchmarks/classroom_hub.py [--waves 3] [--learners 10] [--cells 99]

classroom/start.py opens the room; the learners are those of classroom/try_room.py, who come over
HTTP and websockets as a browser does. All learners of a wave come at the same moment, which is what
a class does; a wave begins when the one before has left. Memory is what the processes of the room
have of their own, the most at any moment; the libraries, which they share, come once on top.
"""

import argparse
import asyncio
import os
import sys
import threading
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil

ROOT = Path(__file__).resolve().parent.parent
CORES = 2
PASSWORD = "only on this machine"
sys.path.insert(0, str(ROOT / "classroom"))
import try_room  # noqa: E402 - it lies beside start.py, which no package contains


class Watch(threading.Thread):
    """Look every second at the memory and the processor time of a room's processes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.most, self.each, self.cpu = str(folder), 0.0, 0.0, {}
        self.ended = threading.Event()

    def run(self) -> None:
        """Keep the most that was seen."""
        while not self.ended.wait(1):
            sizes = []
            for process in psutil.process_iter():
                try:
                    if not process.cwd().startswith(self.folder):
                        continue
                    sizes.append(process.memory_full_info().uss / 1e6)
                    times = process.cpu_times()
                    self.cpu[process.pid, process.create_time()] = times.user + times.system
                except psutil.Error:
                    continue
            self.most = max(self.most, sum(sizes))
            self.each = max(self.each, max(sizes, default=0))


def row(what: str, values: list[float]) -> str:
    """Write the middle and the slowest of some seconds."""
    return f"| {what} | {median(values):.1f} | {max(values):.1f} |"


def main() -> None:
    """Open, send the waves, print the tables."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--waves", type=int, default=3)
    parser.add_argument("--learners", type=int, default=10, help="in a wave")
    parser.add_argument("--cells", type=int, default=99, help="how many of the lesson's")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with TemporaryDirectory() as folder:
        rooms = Path(folder, "rooms")
        start = time.perf_counter()
        with try_room.opened(rooms, PASSWORD) as hub:
            print(f"The door opened after {time.perf_counter() - start:.1f} s.", flush=True)
            watch = Watch(rooms)
            watch.start()
            visits = list(waves(hub, given))
            watch.ended.set()
            watch.join()
    report(visits, watch, time.perf_counter() - start)


def waves(hub: str, given: argparse.Namespace) -> list[try_room.Visit]:
    """Let one wave after the other come and go."""
    visits: list[try_room.Visit] = []
    for number in range(given.waves):
        first = number * given.learners + 1
        names = [f"learner{n}" for n in range(first, first + given.learners)]
        start = time.perf_counter()
        visits += asyncio.run(try_room.wave(hub, names, PASSWORD, most=given.cells))
        print(f"Wave {number + 1}: {time.perf_counter() - start:.0f} s.", flush=True)
    return visits


def report(visits: list[try_room.Visit], watch: Watch, seconds: float) -> None:
    """Print what the learners waited for, and what the machine had to give."""
    print(f"\n| seconds, of {len(visits)} learners | median | slowest |\n| --- | --- | --- |")
    print(row("from the login to the page", [one.server for one in visits]))
    print(row("from opening the lesson to its first answer", [one.first_answer for one in visits]))
    print(row("the slowest cell of each", [max(one.cells) for one in visits]))
    print(row("all cells of the lesson", [one.work for one in visits]))
    busy = sum(watch.cpu.values())
    print(f"\n{watch.most / 1000:.1f} GB at most in all; a kernel {watch.each:.0f} MB of its own.")
    print(f"{busy:.0f} processor seconds in {seconds:.0f}: {busy / len(visits):.0f} a learner.")
    print(f"Load of the machine in the last minutes: {os.getloadavg()}")


if __name__ == "__main__":
    main()
