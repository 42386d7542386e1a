"""Killed, deleted or cut short while a run is watched: what is left can be gone on with."""

import random
import shutil
import time

import pytest
import tiny
from drill import fault
from guarded import known, model
from programs import LINUX, finish, start

from caplab.measuring.policy import Policy
from caplab.watching import checkpoints, watch
from caplab.watching.ranks import Ranks
from caplab.watching.snapshots import Snapshots
from caplab.watching.watch import Watch
from caplab.watching.watch_log import WatchLog

KEEP = """
from pathlib import Path
from guarded import model
from caplab.watching.ranks import Ranks
from caplab.watching.snapshots import Snapshots

plain = model()
kept = Snapshots(plain, Ranks(plain), "exam", Path("kept"))
kept.begin(0)
kept.keep(0, 9.0, good=True)
print("ready", flush=True)
step = 0
while True:
    step += 1
    kept.keep(step, 9.0 - step, good=True)
"""

LOG = """
from caplab.watching.watch_log import WatchLog

log = WatchLog("log.jsonl")
print("ready", flush=True)
while True:
    log.append({"kind": "checkpoint", "name": "x" * 5000, "n": len(log.entries)})
"""


def killed(code, folder, times=4):
    """Start a program again and again, and kill it at any moment."""
    rng = random.Random(0)
    for _ in range(times):
        program = start(code, cwd=folder)
        assert program.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.1))
        program.kill()
        finish(program)
        yield


@fault("killed (SIGKILL) while a guard keeps weights on disk", "the resumed run finds whole ones")
@pytest.mark.slow
@LINUX
def test_kill_while_weights_are_kept(tmp_path):
    for _ in killed(KEEP, tmp_path, times=2):
        plain = model()
        kept = Snapshots(plain, Ranks(plain), "exam", tmp_path / "kept")
        assert kept.begin(1) == ""
        assert kept.best or kept.latest
        kept.keep(10**6, 0.0, good=False)
        assert kept.restore() >= 0


@fault("killed (SIGKILL) while `caplab watch` writes its log", "the next watch goes on with it")
@pytest.mark.slow
@LINUX
def test_kill_while_a_watch_writes(tmp_path):
    count = 0
    for _ in killed(LOG, tmp_path):
        entries = WatchLog(tmp_path / "log.jsonl").entries
        assert [entry["n"] for entry in entries] == list(range(len(entries)))
        assert len(entries) >= count
        count = len(entries)


@fault("a checkpoint is deleted while it is scored", "the watch goes on with the next one")
def test_a_checkpoint_vanishes(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SETTLED", 0.0)
    monkeypatch.setattr(watch, "SETTLED", 0.01)
    plain, score = tiny.subject(), watch.scorecard_of
    for name in ("base", "run/checkpoint-1", "run/checkpoint-2"):
        plain.model.save_pretrained(tmp_path / name)
        plain.tokenizer.save_pretrained(tmp_path / name)

    def vanishing(source, *given, **options):
        if str(source).endswith("checkpoint-1"):
            shutil.rmtree(source)  # as a trainer does that keeps the last few only
        return score(source, *given, **options)

    monkeypatch.setattr(watch, "scorecard_of", vanishing)
    said = []
    run = Watch(
        tmp_path / "run", str(tmp_path / "base"), known(), Policy(budget=0.2), say=said.append
    )
    assert run.once() == 0
    assert [line.split(":")[0] for line in said] == ["checkpoint-2"]
