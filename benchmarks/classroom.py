"""Let 1, 4 and 8 learners share two cores, each doing lesson 03's default run in a kernel.

    python benchmarks/classroom.py [--kernels 1 4 8] [--rounds 5] [--set OMP_NUM_THREADS=1]

All start at the same moment, after a run for warming up. The ideal is the time of one kernel alone
times the number of kernels: work is shared, and nothing is lost by sharing. `--set` gives the
kernels a variable of their environment, to compare. Memory is what is resident, and what of it is a
kernel's own (Linux): libraries are in memory once, however many kernels read them.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import mean, median
from typing import Any

import psutil
from jupyter_client.manager import start_new_kernel

CORES = 2
BEGIN = """
import time
import caplab as cl

base = cl.load("pocket", device="cpu")

def train():
    wall, cpu = time.perf_counter(), time.process_time()
    cl.fine_tune(base, cl.Recipe(), on_point=lambda point: None)
    return time.perf_counter() - wall, time.process_time() - cpu

train()
"""


@dataclass(frozen=True)
class Measured:
    """What a kernel took, the median of its rounds."""

    seconds: float
    cpu: float
    resident: float  # MB
    own: float  # MB


def tell(client: Any, code: str) -> str:
    """Run code in a kernel and return what it printed; stop if it fails there."""
    said: list[str] = []
    reply = client.execute_interactive(
        code,
        timeout=600,
        output_hook=lambda message: said.append(message["content"].get("text", "")),
    )
    if reply["content"]["status"] != "ok":
        sys.exit("\n".join(reply["content"]["traceback"]))
    return "".join(said)


@contextmanager
def kernel(variables: dict[str, str]) -> Iterator[tuple[Any, psutil.Process]]:
    """Start a kernel, and end it."""
    manager, client = start_new_kernel(
        kernel_name="python3", startup_timeout=300, env=os.environ | variables
    )
    try:
        yield client, psutil.Process(manager.provisioner.pid)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def share(count: int, rounds: int, variables: dict[str, str]) -> list[Measured]:
    """Let so many kernels train side by side."""
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        kernels = [stack.enter_context(kernel(variables)) for _ in range(count)]
        clients = [client for client, _ in kernels]
        list(pool.map(lambda client: tell(client, BEGIN), clients))
        # Every kernel of a round starts when all have ended the one before.
        times = [
            list(pool.map(lambda client: tell(client, "print(*train())").split(), clients))
            for _ in range(rounds)
        ]
        memory = [held(process) for _, process in kernels]
    return [
        Measured(
            *(median(float(turn[which][at]) for turn in times) for at in (0, 1)), *memory[which]
        )
        for which in range(count)
    ]


def held(process: psutil.Process) -> tuple[float, float]:
    """Return the megabytes that are resident, and those that no other process uses too."""
    info = process.memory_full_info()
    return info.rss / 2**20, info.uss / 2**20


def row(found: list[Measured], alone: float) -> str:
    """Write one line of the table."""
    seconds, cpu = mean(one.seconds for one in found), mean(one.cpu for one in found)
    resident, own = mean(one.resident for one in found), mean(one.own for one in found)
    ideal = alone * len(found)
    slowest = max(one.seconds for one in found)
    return (
        f"| {len(found)} | {seconds:.2f} | {slowest:.2f} | {ideal:.2f} | {slowest / ideal:.2f} | "
        f"{cpu:.2f} | {resident:.0f} | {own:.0f} |"
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kernels", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    measure = partial(
        share, rounds=given.rounds, variables=dict(pair.split("=", 1) for pair in given.set)
    )
    print(f"{CORES} cores; {' '.join(given.set) or 'as it comes'}\n")
    print("| kernels | seconds | slowest | ideal | slowest / ideal | CPU s | MB | MB of its own |")
    print("| --- " * 8 + "|")
    alone = 0.0
    for count in given.kernels:
        found = measure(count)
        alone = alone or found[0].seconds / count
        print(row(found, alone), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
