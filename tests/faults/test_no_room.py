"""No room, no memory or no rights: the message says so, and nothing is lost."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from drill import fault
from programs import LINUX, run

import caplab as cl
from caplab.support.errors import BadInput


@fault("the disk is full while saving", "a clear refusal, the old file as it was")
@LINUX
def test_full_disk_keeps_the_old_file(at):
    at.card.save(at.folder / "card.json")
    before = (at.folder / "card.json").read_bytes()
    said = run(
        """
        import resource, signal, caplab as cl
        from caplab.support.errors import BadInput
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


@fault("the disk fills while a run is saved over an older one", "the older run is still there")
@LINUX
def test_full_disk_keeps_the_older_run(at):
    at.run.save(at.folder / "run", weights=True)
    before = {path: path.read_bytes() for path in at.folder.rglob("*") if path.is_file()}
    said = run(
        """
        import resource, signal, caplab as cl
        from caplab.support.errors import BadInput
        run = cl.Run.load("run")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for room in (100_000, 5_000, 100):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            try:
                run.save("run", weights=True)
            except BadInput as refused:
                print(refused)
        """,
        cwd=at.folder,
    )
    assert said.count("cannot be") == 3
    assert {path: path.read_bytes() for path in at.folder.rglob("*") if path.is_file()} == before
    assert cl.Run.load(at.folder / "run").points == at.run.points


@fault("a folder in which nobody may write", "a clear refusal before anything is lost")
@LINUX
def test_read_only_folder_is_refused(at):
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
def test_unreadable_file_is_named(closed, at):
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
@pytest.mark.slow
def test_too_little_memory_is_said_plainly(at):
    said = run(
        """
        import resource, tiny, caplab as cl
        from bench import Bench, QUICK, TASK
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
