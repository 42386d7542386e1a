"""Workers: the same numbers wherever they are, and never those of another model."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from sweeps import QUICK, TWELVE, same_runs

from caplab.study import workers
from caplab.study.sweep import sweep
from caplab.study.workers import SweepSetup, attempt_run, on_dask
from caplab.support.errors import BadInput


def test_other_weights_are_refused(model, tmp_path):
    setup = SweepSetup.of(model, None)
    other = replace(setup, weights="another digest")
    assert "other weights in this process" in attempt_run(other, QUICK[0])["reason"]


def test_the_callers_threads_stay(model):
    import torch

    before = torch.get_num_threads()
    sweep(QUICK[:1], model, n_jobs=1)
    assert torch.get_num_threads() == before


FREED_AND_TAKEN = """
import resource, sys
import torch
from caplab.study import workers
if sys.argv[1] == "kept":
    workers._keep_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        torch.ones(1_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone reads the variable")
def test_memory_is_kept_between_steps():
    where = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}

    def faults(how):
        run = [sys.executable, "-c", FREED_AND_TAKEN, how]
        return int(subprocess.run(run, env=where, capture_output=True, check=True).stdout)

    assert faults("given back") > 10_000
    assert faults("kept") < 1_000


@pytest.mark.slow
def test_dask_finds_the_same_numbers(model, undisturbed):
    from distributed import LocalCluster

    options = {"processes": False, "protocol": "tcp://", "dashboard_address": None}
    cluster = LocalCluster(2, threads_per_worker=1, **options)
    with cluster, on_dask(cluster.scheduler_address):
        assert same_runs(sweep(TWELVE, model), undisturbed)


def test_a_silent_cluster_is_named(monkeypatch):
    monkeypatch.setattr(workers, "_PATIENCE_FOR_DASK", 0.5)
    answers = pytest.raises(BadInput, match=r"No Dask scheduler answers at tcp://127.0.0.1:9")
    with answers, on_dask("tcp://127.0.0.1:9"):
        pytest.fail("it answered")
