"""The cores and threads of this machine."""

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cores", "limit_threads_to_cores", "one_thread", "release_openmp_threads"]


def cores() -> int:
    """Count the cores that this process may use.

    The quota of a container and the `CPU_LIMIT` of a JupyterHub count too. Torch does not see them,
    and threads beyond the quota spend their time waiting for one another.
    """
    # Not joblib.cpu_count(): it ignores CPU_LIMIT, rounds a quota of 1.5 cores up to 2, where two
    # threads would wait for each other, and its import takes 0.3 s.
    affinity = getattr(os, "sched_getaffinity", None)
    limits = [float(len(affinity(0)) if affinity else os.cpu_count() or 1), *_quotas()]
    return max(1, int(min(limits)))


def _quotas() -> Iterator[float]:
    """Yield the limits, in cores, that a container (cgroup v2 or v1) or a JupyterHub sets."""
    version_1 = f"{_cgroup('cpu/cpu.cfs_quota_us')} {_cgroup('cpu/cpu.cfs_period_us')}"
    for limit in (_cgroup("cpu.max"), version_1):
        if match := re.fullmatch(r"(\d+) (\d+)", limit):
            yield int(match[1]) / int(match[2])
    if re.fullmatch(r"\d+(\.\d+)?", limit := os.environ.get("CPU_LIMIT", "")):
        yield float(limit)


def _cgroup(name: str) -> str:
    """Read one of the container's limits; empty if there is none."""
    try:
        return Path("/sys/fs/cgroup", name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def limit_threads_to_cores() -> None:
    """Lower torch's number of threads to `cores()`, unless the user set `OMP_NUM_THREADS`."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores():
        torch.set_num_threads(cores())


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with a single thread inside this block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def release_openmp_threads() -> None:
    """End the OpenMP threads of the calling thread; its next computation starts them again.

    OpenMP counts the threads of all its teams against the cores. Where there are more, each of them
    sleeps at once instead of spinning for its next work, and a training in another thread takes
    half as long again.
    """
    if sys.platform == "linux":
        omp_pause_soft = 1  # keeps OpenMP's settings
        pause = getattr(ctypes.CDLL(None), "omp_pause_resource_all", lambda _: None)
        pause(omp_pause_soft)
