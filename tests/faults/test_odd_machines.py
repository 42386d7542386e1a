"""An odd clock, locale, path or home, a slow machine, a second process: the same results."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from answers_made import pair
from drill import fault
from programs import LINUX, finish, run, start
from weights import same, weights

import caplab as cl


@fault("the clock jumps backwards", "times only grow, the run is exact")
def test_jumping_clock_changes_nothing(at, monkeypatch):
    undisturbed = at.tune()
    rng = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: rng.uniform(-1e9, 1e9))
    jumped = at.tune()
    elapsed = [point.elapsed for point in jumped.points]
    assert elapsed == sorted(elapsed)
    assert 0 < elapsed[-1] <= jumped.seconds < 60
    assert same(weights(jumped.subject.model), weights(undisturbed.subject.model))


@fault("a locale that is not UTF-8", "files are UTF-8 all the same, and every table prints")
@LINUX
@pytest.mark.slow
def test_another_locale_prints_the_same(at):
    path = at.lines(
        {"capability": "Städte", "prompt": "日本?", "choices": ["東京", "大阪"], "answer": 0}
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LANG": ""}
    code = f"""
        import tiny, caplab as cl
        exam = cl.exam({str(path)!r})
        card = cl.score(tiny.subject(), exam, progress=False)
        card.save("card.json")
        """
    run(code, cwd=at.folder, env=plain)
    command = [sys.executable, "-m", "caplab", "gate", "card.json", "card.json"]
    done = subprocess.run(
        command, capture_output=True, cwd=at.folder, env=os.environ | plain, timeout=120
    )
    assert done.returncode == 3, done.stderr  # one question cannot tell
    assert b"UNDERPOWERED" in done.stdout
    card = cl.Scorecard.load(at.folder / "card.json")
    assert card.capability == ("Städte",)


@fault("paths with spaces and letters of other alphabets", "everything is saved and read there")
def test_odd_paths_are_paths(at):
    folder = at.folder / "Übung 1 – 日本 'x' & $HOME"
    folder.mkdir()
    at.card.save(folder / "karte ä.json")
    assert cl.Scorecard.load(folder / "karte ä.json") == at.card
    saved = at.run.save(folder / "ein lauf", weights=True)
    again = cl.Run.load(saved)
    assert same(weights(again.subject.model), weights(at.run.subject.model))
    at.exam.save(folder / "prüfung.jsonl")
    assert cl.exam(folder / "prüfung.jsonl").fingerprint == at.exam.fingerprint


@fault("HOME is not set", "the lab loads, asks and trains")
@LINUX
@pytest.mark.slow
def test_machine_without_a_home(tmp_path):
    code = """
        import os
        for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "HF_HOME"):
            os.environ.pop(name, None)
        import caplab as cl
        print(cl.load("pocket").ask("What is the capital of France?"))
        """
    assert "Paris" in run(code, cwd=tmp_path)


@fault("two notebooks train at once", "both get the same exact result")
@pytest.mark.slow
def test_two_at_once_train_the_same(at):
    code = """
        import tiny, caplab as cl
        from bench import Bench
        at = Bench(".")
        run = at.tune()
        print([float(p.detach().double().sum()) for p in run.subject.model.parameters()])
        """
    programs = [start(code, cwd=at.folder) for _ in range(2)]
    (first, one, err), (second, other, _) = map(finish, programs)
    assert (first, second) == (0, 0), err
    assert one == other != ""


@fault("two processes write one file again and again", "who reads always reads a whole one")
def test_two_writers_and_a_reader(at):
    path = at.folder / "card.json"
    at.card.save(path)
    code = """
        import caplab as cl
        card = cl.Scorecard.load("card.json")
        for _ in range(300):
            card.save("card.json")
        """
    programs = [start(code, cwd=at.folder) for _ in range(2)]
    while any(program.poll() is None for program in programs):
        assert cl.Scorecard.load(path) == at.card
    for program in programs:
        code, _, err = finish(program)
        assert code == 0, err
    assert [found.name for found in at.folder.iterdir()] == ["card.json"]


QUOTA = Path("/sys/fs/cgroup/cpu")


@fault("a container with half a core", "the same answers, later")
@pytest.mark.skipif(
    not os.access(QUOTA, os.W_OK) or not (QUOTA / "cpu.cfs_quota_us").exists(),
    reason="needs a CPU controller that this user may write to",
)
def test_half_a_core_answers_the_same(at):
    code = """
        import caplab as cl
        from bench import Bench
        print(repr(Bench(".").card.loglikelihoods), flush=True)
        input()  # now this process gets half a core
        print(repr(Bench(".").card.loglikelihoods))
        """
    group = QUOTA / f"drill-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text("50000")
        program = start(code, cwd=at.folder, stdin=subprocess.PIPE)
        whole = program.stdout.readline()
        (group / "tasks").write_text(str(program.pid))
        out, err = program.communicate("\n", timeout=240)
        assert program.returncode == 0, err
        assert out == whole
    finally:
        group.rmdir()


@fault("the reader of a command's output goes away", "no trace is printed")
@LINUX
def test_closed_pipe_is_no_error(at):
    shell = f"{sys.executable} -m caplab doctor | head -1"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, cwd=at.folder, timeout=120
    )
    assert "Traceback" not in done.stderr
    assert done.stdout.count("\n") == 1


@fault("the hub cannot be reached", "one sentence that names the model and what to do")
def test_no_hub_is_said_plainly(tmp_path):
    code = """
        import caplab as cl
        from caplab.support.errors import BadInput
        try:
            cl.load("gpt2")
        except BadInput as refused:
            print(refused)
        """
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "cache")}
    said = run(code, cwd=tmp_path, env=environment)
    assert "gpt2" in said
    assert "internet" in said or "reached" in said


@fault("standard output is closed", "the exit code is the verdict's all the same")
@LINUX
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_output_changes_no_verdict(closed, at):
    enough, _ = pair(80)
    enough.save(at.folder / "card.json")
    shell = f"{sys.executable} -m caplab gate card.json card.json {closed}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, cwd=at.folder, timeout=120)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
