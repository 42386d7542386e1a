"""What must stay true when the world around the lab breaks, and not only what is given to it.

Each row is one fault: what breaks, and what is promised. `docs/reliability.md` lists them.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny
from bad_inputs import QUICK, TASK, Bench
from drill import fault

import caplab as cl
from caplab.support.errors import BadInput

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a way of breaking that Linux has")
HERE = Path(__file__).parent


@pytest.fixture
def at(tmp_path):
    (tmp_path / "mine").mkdir()
    return Bench(tmp_path / "mine")


def start(code, **options):
    """Run Python code as a program of its own, in which `tiny` and the drill's parts are known."""
    paths = [str(HERE), str(HERE.parent / "unit")]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    options["env"] = os.environ | environment | options.pop("env", {})
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **options,
    )


def finish(program, seconds=120):
    """Wait for a program and return its exit code and what it wrote."""
    out, err = program.communicate(timeout=seconds)
    return program.returncode, out, err


def run(code, seconds=120, **options):
    """Run Python code to its end; it must succeed."""
    code, out, err = finish(start(code, **options), seconds)
    assert code == 0, err
    return out


def weights(subject):
    return [weight.clone() for weight in subject.model.parameters()]


def equal(one, other):
    return all((a == b).all() for a, b in zip(one, other, strict=True))


# ---------------------------------------------------------------- ended in the middle


@fault("killed (SIGKILL) while saving", "every file is the old one or the new one, whole")
@LINUX
def test_a_kill_while_saving_leaves_whole_files(at):
    card, path = at.card, at.folder / "card.json"
    card.save(path)
    rng = random.Random(0)
    for _ in range(4):
        program = start(
            """
            import sys, tiny, caplab as cl
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
def test_a_kill_while_a_run_is_saved_leaves_a_run_or_none(at):
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
def test_an_interrupt_in_any_phase_harms_nothing(after, at):
    undisturbed, before = at.tune(), weights(at.subject)

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
    assert equal(before, weights(at.subject))
    again = at.tune()
    assert equal(weights(again.subject), weights(undisturbed.subject))


@fault("killed in the middle of a training", "nothing is left behind, the next run is exact")
@LINUX
def test_a_kill_in_the_middle_of_a_training_leaves_nothing_behind(at):
    code = """
        import tiny, caplab as cl
        from bad_inputs import Bench, QUICK
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
def test_a_stop_from_another_thread_ends_within_a_step(at):
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


# ---------------------------------------------------------------- no room, no right


@fault("the disk is full while saving", "a clear refusal, the old file as it was")
@LINUX
def test_a_full_disk_keeps_the_old_file(at):
    at.card.save(at.folder / "card.json")
    before = (at.folder / "card.json").read_bytes()
    said = run(
        """
        import resource, signal, caplab as cl
        from caplab.errors import BadInput
        card = cl.Scorecard.load("card.json")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            card.save("card.json")
        except BadInput as refused:
            print(refused)
        """,
        cwd=at.folder,
    )
    assert "card.json cannot be written: File too large." in said
    assert (at.folder / "card.json").read_bytes() == before
    assert [path.name for path in at.folder.iterdir()] == ["card.json"]


@fault("a folder in which nobody may write", "a clear refusal before anything is lost")
@LINUX
def test_a_read_only_folder_is_refused_in_words(at):
    folder = Path("/proc/self") if os.geteuid() == 0 else at.folder
    folder.chmod(0o500) if os.geteuid() else None
    for save in (at.card.save, at.exam.save, cl.compare(at.card, at.card).save):
        with pytest.raises(BadInput, match="cannot be written"):
            save(folder / "thing.json")
    with pytest.raises(BadInput, match="cannot be written"):
        at.run.save(folder / "run")
    assert at.run.final == at.run.cards["final"], "what could not be saved is still there"


@contextmanager
def stranger():
    """Be somebody with no rights for a while; who is no superuser is that already."""
    root = os.geteuid() == 0
    os.seteuid(65534) if root else None
    try:
        yield
    finally:
        os.seteuid(0) if root else None


@fault("a file or folder that may not be read", "named, and not a trace")
@LINUX
@pytest.mark.parametrize(
    "closed", ["model", "model/model.safetensors", "card.json", "run/run.json"]
)
def test_what_may_not_be_read_is_named(closed, at):
    with tempfile.TemporaryDirectory() as open_to_all:
        at.folder = Path(open_to_all)
        at.folder.chmod(0o755)
        at.folder_of_model()
        at.card.save(at.folder / "card.json")
        at.run.save(at.folder / "run")
        (at.folder / closed).chmod(0)
        read = {"model": cl.load, "card.json": cl.Scorecard.load, "run": cl.Run.load}
        name = closed.split("/")[0]
        with stranger(), pytest.raises(BadInput, match=r"cannot be (read|used).*ermission denied"):
            read[name](at.folder / name)
        (at.folder / closed).chmod(0o700)


@fault("the memory limit is reached in a training", "plain words with what to do, not a trace")
@LINUX
def test_too_little_memory_is_said_in_plain_words(at):
    said = run(
        """
        import resource, tiny, caplab as cl
        from bad_inputs import Bench, QUICK, TASK
        from datasets import Dataset
        at = Bench(".")
        at.tune()
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, -1))
        many = Dataset.from_list(TASK * 4000)
        ended = at.tune(QUICK.change(batch_size=8000), task=many)
        print(ended.trouble)
        print(len(ended.points), ended.stopped)
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        print(at.tune().trouble)
        """,
        cwd=at.folder,
    )
    lines = said.splitlines()
    assert lines[0].startswith("Out of memory")
    assert "batch_size" in lines[0]
    assert lines[1] == "1 True"
    assert lines[2] == "None", "the same kernel goes on working"


# ---------------------------------------------------------------- damaged files


def spoiled(path, at_share=0.5):
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * at_share)] ^= 4
    path.write_bytes(content)


def pocket_copy(folder):
    """Copy the shipped model, to be spoiled."""
    import shutil

    from caplab.cli.doctor import ASSETS

    return Path(shutil.copytree(ASSETS / "pocket", folder / "pocket"))


@fault("one bit of the model flipped", "refused by name, never a silent wrong number")
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_a_flipped_bit_in_the_model_is_noticed(name, share, tmp_path):
    folder = pocket_copy(tmp_path)
    spoiled(folder / name, share)
    with pytest.raises(BadInput, match=rf"{name}|damaged|safetensors"):
        cl.load(folder)


@fault("the model cut short", "refused by name, with what to do")
@pytest.mark.parametrize("share", [0, 0.0001, 0.5, 0.999])
def test_a_truncated_model_is_refused(share, tmp_path):
    folder = pocket_copy(tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(BadInput, match=r"model\.safetensors|damaged"):
        cl.load(folder)


@fault("one bit of a saved scorecard, report or run flipped", "refused, wherever the bit is")
@pytest.mark.parametrize("kind", ["scorecard", "report", "run"])
def test_a_flipped_bit_in_a_saved_file_is_noticed(kind, at):
    path = at.folder / "file.json"
    if kind == "run":
        path = at.run.save(at.folder / "run") / "run.json"
        read = lambda: cl.Run.load(path.parent)  # noqa: E731
    else:
        thing = at.card if kind == "scorecard" else cl.compare(at.card, at.card)
        thing.save(path)
        read = lambda: type(thing).load(path)  # noqa: E731
    sound = path.read_bytes()
    for share in [n / 60 for n in range(60)]:
        spoiled(path, share)
        with pytest.raises(BadInput):
            read()
        path.write_bytes(sound)


@fault("one bit of an atlas flipped, or its end cut off", "refused by name, or the same numbers")
def test_a_damaged_atlas_is_refused(tmp_path):
    sound = cl.atlas()
    path = sound.select(method="full", replay=0.0, schedule="constant").save(tmp_path / "a.parquet")
    small, content = cl.atlas(path), path.read_bytes()
    for share in [n / 40 for n in range(40)]:
        spoiled(path, share)
        try:
            assert cl.atlas(path).runs.equals(small.runs)
        except BadInput as refused:
            assert "a.parquet" in str(refused)  # noqa: PT017 (either is right)
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(BadInput, match=r"a\.parquet"):
            cl.atlas(path)
        path.write_bytes(content)


@fault("a saved file cut short", "refused by name")
@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.999])
def test_a_truncated_saved_file_is_refused(share, at):
    path = at.run.save(at.folder / "run") / "run.json"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(BadInput, match=r"run\.json"):
        cl.Run.load(path.parent)


# ---------------------------------------------------------------- an odd machine


@fault("the clock jumps backwards", "times only grow, the run is exact")
def test_a_jumping_clock_changes_nothing(at, monkeypatch):
    undisturbed = at.tune()
    rng = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: rng.uniform(-1e9, 1e9))
    jumped = at.tune()
    elapsed = [point.elapsed for point in jumped.points]
    assert elapsed == sorted(elapsed)
    assert 0 < elapsed[-1] <= jumped.seconds < 60
    assert equal(weights(jumped.subject), weights(undisturbed.subject))


@fault("a locale that is not UTF-8", "files are UTF-8 all the same, and every table prints")
@LINUX
def test_another_locale_reads_and_prints_the_same(at):
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
    assert done.returncode == 0, done.stderr
    assert b"HELD" in done.stdout
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
    assert equal(weights(again.subject), weights(at.run.subject))
    at.exam.save(folder / "prüfung.jsonl")
    assert cl.exam(folder / "prüfung.jsonl").fingerprint == at.exam.fingerprint


@fault("HOME is not set", "the lab loads, asks and trains")
@LINUX
def test_a_machine_without_a_home(tmp_path):
    code = """
        import os
        for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "HF_HOME"):
            os.environ.pop(name, None)
        import caplab as cl
        print(cl.load("pocket").ask("What is the capital of France?"))
        """
    assert "Paris" in run(code, cwd=tmp_path)


@fault("two notebooks train at once", "both get the same exact result")
def test_two_at_once_get_the_same_result(at):
    code = """
        import tiny, caplab as cl
        from bad_inputs import Bench
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
def test_half_a_core_gives_the_same_answers(at):
    code = """
        import tiny, caplab as cl
        from bad_inputs import Bench
        print(repr(Bench(".").card.loglikelihoods))
        """
    whole = run(code, cwd=at.folder)
    group = QUOTA / f"drill-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text("50000")
        program = start("input()\n" + textwrap.dedent(code), cwd=at.folder, stdin=subprocess.PIPE)
        (group / "tasks").write_text(str(program.pid))
        out, err = program.communicate("\n", timeout=240)
        assert program.returncode == 0, err
        assert out == whole
    finally:
        group.rmdir()


@fault("the reader of a command's output goes away", "no trace is printed")
@LINUX
def test_a_closed_pipe_is_no_error(at):
    shell = f"{sys.executable} -m caplab doctor | head -1"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, cwd=at.folder, timeout=120
    )
    assert "Traceback" not in done.stderr
    assert done.stdout.count("\n") == 1


@fault("the hub cannot be reached", "one sentence that names the model and what to do")
def test_no_hub_is_said_in_one_sentence(tmp_path):
    code = """
        import caplab as cl
        from caplab.errors import BadInput
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
def test_a_closed_output_changes_no_verdict(closed, at):
    at.card.save(at.folder / "card.json")
    shell = f"{sys.executable} -m caplab gate card.json card.json {closed}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, cwd=at.folder, timeout=120)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)


@fault("a model was tuned, and tuned again", "what is loaded answers as what was saved")
@pytest.mark.parametrize("first", ["full", "lora"])
def test_an_adapter_of_weights_that_lie_nowhere_is_saved_whole(first, at):
    tuned = saved_base(at, first)
    again = cl.fine_tune(
        tuned, QUICK.change(method="lora", learning_rate=0.05), TASK, at.exam, on_point=print
    )
    loaded = cl.Run.load(again.save(at.folder / "again", weights=True))
    answers = cl.score(loaded.subject, at.exam, progress=False)
    for one, other in zip(answers.loglikelihoods, again.final.loglikelihoods, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def saved_base(at, method):
    """Tune a model that lies on the disk; the tuned one does not."""
    recipe = QUICK.change(method=method, learning_rate=0.05, steps=6)
    base = cl.load(at.folder_of_model())
    return cl.fine_tune(base, recipe, TASK, at.exam, on_point=print).subject


NAMES = ["a$b$ \\frac{", "_x^", "<b>bold</b>", "x" * 3000, "word " * 600, "日本", "step", "%s {}"]


@fault("capabilities called like formulas, markup or a whole page", "drawn, shown and saved")
@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:6])
def test_a_name_is_only_a_name(name, at):
    asked = [cl.Question(name, f"{word}?", ("dog", "cat"), 0) for word in ("hot", "cold")]
    exam = cl.Exam((*asked, cl.Question("other", "Rome?", ("a", "b"), 0)), (), name)
    guard = cl.RegressionGuard(exam, every=1)
    run = at.tune(exam=exam, callbacks=[guard])
    report = cl.compare(run.before, run.final)
    pictures = cl.plots.scorecard(run.final), cl.plots.before_after(report), cl.plots.looks(guard)
    for picture in (*pictures, cl.plots.run(run, capabilities=True)):
        assert picture.png().startswith(b"\x89PNG")
    for thing in (run.final, report, run):
        assert "<b>bold" not in thing._repr_html_()
    run.final.save(at.folder / "card.json")
    assert cl.Scorecard.load(at.folder / "card.json") == run.final
    assert list(run.to_pandas()["step"]) == [point.step for point in run.points]
    assert list(guard.to_pandas()["step"]) == [check.step for check in guard.checks]


@fault("an exam with three hundred capabilities", "a picture of those that matter, within seconds")
def test_three_hundred_capabilities_are_drawn(at):
    exam = cl.Exam(tuple(cl.Question(f"c{n}", f"{n}?", ("dog", "cat"), 0) for n in range(300)))
    card = cl.score(at.subject, exam, progress=False)
    report = cl.compare(card, card)
    assert len(report.rows) == 301
    for picture in (cl.plots.scorecard(card), cl.plots.before_after(report)):
        rows = [label.get_text() for label in picture.axes[0].get_yticklabels()]
        assert len(rows) == cl.plots.MOST_ROWS
        assert rows[-1] == "overall (300)"
        assert picture.get_size_inches()[1] < 20


@fault("a model that answers with control characters", "the picture of the panel is sound XML")
def test_what_xml_cannot_hold_is_replaced(at):
    from dataclasses import replace
    from xml.etree.ElementTree import fromstring

    from caplab.exploring.drawing import picture
    from caplab.exploring.state import Answer

    panel = cl.explorer("first_look", at.subject, task=TASK, exam=at.exam, live=False)
    state = replace(panel.state, answers=(Answer("What?", "\x13\ufffe <b>"),))
    assert "\ufffd" in picture(state)
    assert fromstring(picture(state)).tag.endswith("svg")


@fault("a stored run lies under another recipe's name", "set aside, never taken for it")
def test_a_stored_run_of_another_recipe_is_set_aside(at):
    one, other = QUICK, QUICK.change(seed=1)
    store = at.folder / "store"
    before = cl.sweep([one], store=store, n_jobs=1)
    (path,) = store.glob("*/*.json")
    path.rename(path.with_name(f"{other.hash}.json"))
    with pytest.warns(UserWarning, match="set aside"):
        after = cl.sweep([other], store=store, n_jobs=1)
    assert list(before.runs["hash"]) == [one.hash]
    assert list(after.runs["hash"]) == [other.hash]
    assert list(after.runs["seed"]) == [1]


def test_this_drill_would_notice(at):
    """The tools of the drill can tell a broken file from a sound one."""
    path = at.folder / "card.json"
    at.card.save(path)
    text = path.read_text(encoding="utf-8")
    path.write_text(json.dumps(json.loads(text) | {"subject": "x"}), encoding="utf-8")
    with pytest.raises(BadInput, match="changed or damaged"):
        cl.Scorecard.load(path)
    assert not equal(weights(tiny.subject(seed=0)), weights(tiny.subject(seed=1)))
