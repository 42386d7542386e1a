"""Sweep the same recipes in one process, in two, on Dask and with a worker killed, side by side.

    python benchmarks/sweep_scaling.py [--runs 64] [--steps 20] [--model pocket]

Workers are started and have run once before the clock starts, as in a long sweep. With two
processes: at least 1.7 times as fast as one. With a Dask cluster of two workers: within 10 % of
that. With kill -9 of one of two workers in the middle: every run once, and the same numbers.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import psutil
from distributed import LocalCluster

import caplab as cl
from caplab.study.workers import on_dask
from caplab.support.machine import cores

Sweep = Callable[[list[cl.Recipe]], cl.Atlas]


def timed(sweep: Sweep, recipes: list[cl.Recipe], warm_up: list[cl.Recipe]) -> tuple[float, Any]:
    """Let the workers start, then time a sweep."""
    sweep(warm_up)
    start = time.perf_counter()
    atlas = sweep(recipes)
    return time.perf_counter() - start, atlas


def with_a_murder(recipes: list[cl.Recipe], **options: Any) -> tuple[float, cl.Atlas, int]:
    """Kill -9 the busiest worker when a third of the runs is kept."""
    with TemporaryDirectory() as store:
        killed: list[int] = []
        watch = threading.Thread(target=murder, args=(Path(store), len(recipes) // 3, killed))
        watch.start()
        start = time.perf_counter()
        atlas = cl.sweep(recipes, store=store, **options)
        wall = time.perf_counter() - start
        watch.join()
        return wall, atlas, len(list(Path(store).rglob("*.json")))


def murder(store: Path, after: int, killed: list[int]) -> None:
    """Wait until so many runs are kept, then kill a worker."""
    while len(list(store.rglob("*.json"))) < after:
        time.sleep(0.05)
    workers = [p for p in psutil.Process().children() if "loky" in " ".join(p.cmdline())]
    busy = max(workers, key=lambda worker: sum(worker.cpu_times()[:2]))
    killed.append(busy.pid)
    os.kill(busy.pid, signal.SIGKILL)


def same(one: cl.Atlas, other: cl.Atlas) -> bool:
    """Tell whether two sweeps found the same numbers, bit for bit."""
    timings = ["seconds", "elapsed"]
    pairs = ((one.runs, other.runs), (one.points, other.points))
    return all(plain(a, timings).equals(plain(b, timings)) for a, b in pairs)


def plain(table: pd.DataFrame, without: list[str]) -> pd.DataFrame:
    """Leave out what no two runs share."""
    return table.drop(columns=[name for name in without if name in table])


def on_a_cluster(recipes: list[cl.Recipe], warm_up: list[cl.Recipe], **options: Any) -> Any:
    """Time a sweep on a Dask cluster of two worker processes on this machine."""
    cluster = LocalCluster(2, threads_per_worker=1, dashboard_address=None)
    with cluster, on_dask(cluster.scheduler_address):
        return timed(lambda r: cl.sweep(r, **options), recipes, warm_up)


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--model", default="pocket")
    return parser.parse_args()


def main() -> int:
    """Measure and print."""
    given = options()
    recipes = cl.grid(learning_rate=[5e-4, 1e-3], steps=given.steps, seed=range(given.runs // 2))
    warm_up = cl.grid(steps=1, seed=range(4))
    known: dict[str, Any] = {"subject": given.model, "every": given.steps}
    one, alone = timed(lambda r: cl.sweep(r, n_jobs=1, **known), recipes, warm_up)
    two, both = timed(lambda r: cl.sweep(r, n_jobs=2, **known), recipes, warm_up)
    wall, survived, kept = with_a_murder(recipes, n_jobs=2, **known)
    dask, spread = on_a_cluster(recipes, warm_up, **known)
    print(f"{len(recipes)} runs of {given.steps} steps of {given.model}, {cores()} cores\n")
    print("| engine | seconds | times as fast | same numbers |\n| --- | --- | --- | --- |")
    print(f"| one process | {one:.1f} | 1.00 | |")
    print(f"| two processes | {two:.1f} | {one / two:.2f} | {same(alone, both)} |")
    print(f"| Dask, two workers | {dask:.1f} | {one / dask:.2f} | {same(alone, spread)} |")
    killed = f"{wall:.1f} | {one / wall:.2f} | {same(alone, survived)}"
    print(f"| two processes, kill -9 of one | {killed}, {kept} of {len(recipes)} kept |")
    right = all(same(alone, other) for other in (both, spread, survived)) and kept == len(recipes)
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
