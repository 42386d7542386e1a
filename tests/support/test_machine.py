import json
import os
import subprocess
import sys
from contextlib import suppress

import pytest
import torch

from caplab.support import machine as machines
from caplab.support.machine import cores, limit_threads_to_cores, one_thread


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 8 cores whose limits a test can set."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("CPU_LIMIT", raising=False)
    limits = {}
    monkeypatch.setattr(machines, "_cgroup", lambda name: limits.get(name, ""))
    return limits


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "150000 100000"}, 1),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
    ],
)
def test_a_containers_quota_counts(machine, limits, expected):
    machine.update(limits)
    assert cores() == expected


def test_the_limit_of_a_jupyterhub_counts(machine, monkeypatch):
    monkeypatch.setenv("CPU_LIMIT", "2.0")
    assert cores() == 2
    monkeypatch.setenv("CPU_LIMIT", "none")
    assert cores() == 8


OPENMP = """
import os, torch
from caplab.support.machine import release_openmp_threads

def threads():
    return len(os.listdir("/proc/self/task"))

torch.set_num_threads(4)
numbers, alone, found = torch.rand(1000, 1000), threads(), []
for _ in range(2):
    before = torch.exp(numbers)
    found.append(threads() - alone)
    release_openmp_threads()
    found.append(threads() - alone)
assert torch.equal(before, torch.exp(numbers))
print(found)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only there OpenMP is GNU's")
def test_openmp_threads_end_and_come_back():
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    out = subprocess.run(
        [sys.executable, "-c", OPENMP], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(out.stdout) == [3, 0, 3, 0]


def test_threads_are_lowered_never_raised(machine, monkeypatch):
    set_to = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    machine["cpu.max"] = "200000 100000"
    for threads in (8, 2, 1):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        limit_threads_to_cores()
    assert set_to == [2]
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    limit_threads_to_cores()
    assert set_to == [2]


def test_one_thread_ends_even_after_a_failure():
    before = torch.get_num_threads()
    with suppress(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before
