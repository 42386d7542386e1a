"""What this machine has to compute with: cores, threads, and OpenMP's helpers."""

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

__all__ = ["cores", "one_thread", "release_openmp_threads"]


def cores() -> int:
    """Count the cores that this process may use.

    The quota of a container and the `CPU_LIMIT` of a JupyterHub count too. Torch does not see them,
    and threads beyond the quota spend their time waiting for one another.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    limits = [float(len(affinity(0)) if affinity else os.cpu_count() or 1), *_quotas()]
    return max(1, int(min(limits)))


def _quotas() -> Iterator[float]:
    """Yield the limits, in cores, that a container or a classroom sets."""
    version_1 = f"{_cgroup('cpu/cpu.cfs_quota_us')} {_cgroup('cpu/cpu.cfs_period_us')}"
    for limit in (_cgroup("cpu.max"), version_1):
        if match := re.fullmatch(r"(\d+) (\d+)", limit):
            yield int(match[1]) / int(match[2])
    if re.fullmatch(r"\d+(\.\d+)?", limit := os.environ.get("CPU_LIMIT", "")):
        yield float(limit)


def _cgroup(name: str) -> str:
    """Read one of the container's limits; nothing where there is none."""
    try:
        return Path("/sys/fs/cgroup", name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def limit_threads_to_cores() -> None:
    """Lower torch's threads to the cores at hand, unless `OMP_NUM_THREADS` has spoken."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores():
        torch.set_num_threads(cores())


@contextmanager
def one_thread() -> "Iterator[None]":
    """Compute with a single thread for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def release_openmp_threads() -> None:
    """Send this thread's OpenMP helpers home; they are called again when it computes something.

    OpenMP counts the helpers of all threads against the cores. Where there are too many, each falls
    asleep at once instead of waiting a moment for its next work, and what another thread trains
    takes half as long again.
    """
    if sys.platform == "linux":
        softly = 1  # OpenMP's own settings stay
        pause = getattr(ctypes.CDLL(None), "omp_pause_resource_all", lambda _: None)
        pause(softly)
