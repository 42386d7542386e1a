"""A long evening with one kernel: two hundred runs, and nothing grows."""

import pytest
from drill import fault
from test_faults import LINUX, run

EVENING = """
    import gc, json, os, tempfile, threading
    import tiny, caplab as cl
    from bad_inputs import TASK
    from datasets import Dataset

    def resident():
        gc.collect()
        return int(open("/proc/self/statm").read().split()[1])

    panel = cl.explorer(
        "full_vs_lora", tiny.subject(), task=Dataset.from_list(TASK * 4), exam=tiny.exam(),
        live=False, steps=8,
    )
    seen = {}
    for number in range(1, 201):
        method = panel.controls["method"]
        method.value = ("full", "lora")[number % 2]
        panel.run()
        assert panel.state.phase == "done", (panel.state.phase, panel.state.message)
        if number in (20, 200):
            files = os.listdir(tempfile.gettempdir())
            seen[number] = [resident(), threading.active_count(), len(files), len(os.listdir("."))]
    print(json.dumps(seen))
    """


@fault("two hundred runs in one kernel", "memory, threads and temporary files do not grow")
@pytest.mark.slow
@LINUX
def test_two_hundred_runs_leave_no_trace(tmp_path):
    import json

    (tmp_path / "tmp").mkdir()
    out = run(EVENING, cwd=tmp_path, env={"TMPDIR": str(tmp_path / "tmp")}, seconds=600)
    seen = json.loads(out.splitlines()[-1])
    (memory, *others), (memory_at_end, *others_at_end) = seen["20"], seen["200"]
    assert memory_at_end <= 1.1 * memory
    assert others_at_end == others
