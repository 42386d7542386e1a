"""A long evening with one kernel: many runs, and nothing grows."""

import json

import pytest
from drill import fault
from programs import LINUX, run

EVENING = """
    import gc, json, os, tempfile, threading
    import tiny, caplab as cl
    from bench import TASK
    from datasets import Dataset

    def resident():
        gc.collect()
        return int(open("/proc/self/statm").read().split()[1])

    panel = cl.explorer(
        "full_vs_lora", tiny.subject(), task=Dataset.from_list(TASK * 4), exam=tiny.exam(),
        live=False, steps=8,
    )
    seen = []
    for number in range(1, {runs} + 1):
        method = panel.controls["method"]
        method.value = ("full", "lora")[number % 2]
        panel.run()
        assert panel.state.phase == "done", (panel.state.phase, panel.state.message)
        if number in ({runs} // 10, {runs}):
            files = os.listdir(tempfile.gettempdir())
            seen.append([resident(), threading.active_count(), len(files), len(os.listdir("."))])
    print(json.dumps(seen))
    """


@fault("two hundred runs in one kernel", "memory, threads and temporary files do not grow")
@pytest.mark.slow
@pytest.mark.parametrize("runs", [40, pytest.param(200, marks=pytest.mark.weekly)])
@LINUX
def test_many_runs_leave_no_trace(runs, tmp_path):
    (tmp_path / "tmp").mkdir()
    temporary = {"TMPDIR": str(tmp_path / "tmp")}
    out = run(EVENING.format(runs=runs), cwd=tmp_path, env=temporary, seconds=600)
    (memory, *others), (memory_at_end, *others_at_end) = json.loads(out.splitlines()[-1])
    assert memory_at_end <= 1.1 * memory
    assert others_at_end == others
