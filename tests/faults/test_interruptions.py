"""Killed, interrupted or stopped: what is left is whole, and the next run is exact."""

import random
import signal
import subprocess
import threading
import time

import pytest
from bench import QUICK
from drill import fault
from programs import LINUX, finish, run, start
from weights import same, weights

import caplab as cl
from caplab.support.errors import BadInput


@fault("killed (SIGKILL) while saving", "every file is the old one or the new one, whole")
@LINUX
def test_kill_while_saving(at):
    card, path = at.card, at.folder / "card.json"
    card.save(path)
    rng = random.Random(0)
    for _ in range(4):
        program = start(
            """
            import sys, caplab as cl
            card = cl.Scorecard.load(sys.stdin.readline().strip())
            print("ready", flush=True)
            while True:
                card.save(sys.argv[1] if len(sys.argv) > 1 else "card.json")
            """,
            cwd=at.folder,
            stdin=subprocess.PIPE,
        )
        program.stdin.write(f"{path}\n")
        program.stdin.flush()
        assert program.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.05))
        program.kill()
        finish(program)
        assert cl.Scorecard.load(path) == card


@fault("killed (SIGKILL) while a run is saved over an older one", "a folder is complete or refused")
@LINUX
def test_kill_while_saving_a_run(at):
    folder = at.run.save(at.folder / "run")
    rng = random.Random(1)
    for _ in range(4):
        program = start(
            """
            import caplab as cl
            run = cl.Run.load("run")
            print("ready", flush=True)
            while True:
                run.save("run")
            """,
            cwd=at.folder,
        )
        if program.stdout.readline() == "ready\n":
            time.sleep(rng.uniform(0, 0.05))
        program.kill()
        finish(program)
        if (folder / "run.json").exists():
            assert cl.Run.load(folder).points == at.run.points
        else:
            with pytest.raises(BadInput, match="holds no complete run"):
                cl.Run.load(folder)
            at.run.save(folder)


@fault("interrupted (Ctrl-C) in each phase of a fine-tuning", "base untouched, the next run exact")
@pytest.mark.parametrize("after", [0.0, 0.01, 0.03, 0.1, 0.2, 0.4])
@LINUX
def test_interrupt_in_any_phase(after, at):
    undisturbed, before = at.tune(), weights(at.subject.model)

    def interrupt(*_):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        # Python loses one that falls into a callback of its own: then a person presses again.
        signal.setitimer(signal.ITIMER_REAL, max(after, 1e-4), 1.0)
        ended = at.tune(QUICK.change(steps=500))
        assert ended.stopped
        assert ended.points
    except KeyboardInterrupt:
        pass  # before there was a point to keep
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert same(before, weights(at.subject.model))
    again = at.tune()
    assert same(weights(again.subject.model), weights(undisturbed.subject.model))


@fault("killed in the middle of a training", "nothing is left behind, the next run is exact")
@LINUX
@pytest.mark.slow
def test_kill_while_training(at):
    code = """
        import tiny, caplab as cl
        from bench import Bench, QUICK
        at = Bench(".")
        print("ready", flush=True)
        run = at.tune(QUICK.change(steps={steps}))
        print(sum(float(p.detach().double().sum()) for p in run.subject.model.parameters()))
        """
    program = start(code.format(steps=100_000), cwd=at.folder)
    assert program.stdout.readline() == "ready\n"
    time.sleep(1.0)
    program.kill()
    finish(program)
    assert list(at.folder.iterdir()) == []
    first, second = (run(code.format(steps=2), cwd=at.folder) for _ in range(2))
    assert first == second


@fault("the stop event set while points are being shown", "a valid run, within one step")
def test_stop_ends_within_a_step(at):
    stop, seen = threading.Event(), []

    def on_point(point):
        seen.append(point.step)
        threading.Thread(target=stop.set).start()
        stop.wait(5)

    ended = cl.fine_tune(
        at.subject, QUICK.change(steps=50), exam=at.exam, on_point=on_point, stop=stop, every=1,
        task=[{"prompt": "Say hot:", "completion": " hot."}] * 4,
    )  # fmt: skip
    assert seen == [0]
    assert ended.stopped
    assert ended.final.accuracy >= 0
