"""lab.py: what a newcomer's first command does when things go well, and when they do not."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from types import ModuleType

import pytest
from drill import fault

GIGABYTES = namedtuple("GIGABYTES", "free")

# Stands in for .venv's Python: notes what it is asked to do, and fails where fails.txt says so.
FAKE_PYTHON = """#!{python}
import pathlib, sys
here = pathlib.Path({folder!r})
words = sys.argv[1:]
with open(here / "calls.txt", "a") as calls:
    calls.write(" ".join(words) + "\\n")
for line in (here / "fails.txt").read_text().splitlines():
    if line in " ".join(words):
        sys.exit(1)
if "--log" in words:
    with open(words[words.index("--log") + 1], "a") as log:
        log.write("12:30 Downloading it.whl (1.5 MB)\\n12:31 Using cached me.whl (9 MB)\\n")
"""


class Folder:
    """A clone in which every program that lab.py starts is a fake."""

    def __init__(self, lab: ModuleType):
        self.lab = lab
        self.path = lab.HERE
        self.became: list[str] = []
        self.fail("download.pytorch.org")  # no network in unit tests

    def fail(self, *commands: str) -> None:
        """Let every command that contains one of these fail."""
        (self.path / "fails.txt").write_text("\n".join(commands))

    def calls(self) -> list[str]:
        """Return what was asked of .venv's Python so far."""
        calls = self.path / "calls.txt"
        return calls.read_text().splitlines() if calls.exists() else []

    def installs(self) -> list[str]:
        """Return the real installations, without their common options."""
        log = f"--log {self.lab.LOG} "
        return [call.split(log)[1] for call in self.calls() if log in call]

    def run(self, *arguments: str) -> int | str | None:
        """Run `python lab.py ...`; return its exit code, or the message it stops with."""
        try:
            return self.lab.main(list(arguments))
        except SystemExit as stopped:
            return stopped.code
        finally:
            for lock in self.lab.held:
                os.close(lock)
            self.lab.held.clear()


def load(path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("lab_under_test", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def clone(root, tmp_path, monkeypatch) -> Folder:
    folder = tmp_path / "Mein Labor für Ärzte"
    folder.mkdir()
    for name in ["lab.py", "requirements.lock", "pyproject.toml"]:
        shutil.copy(root / name, folder)
    lab = load(folder / "lab.py")
    fake = FAKE_PYTHON.format(python=sys.executable, folder=str(folder))

    def make(command, **options):
        if command[0] == sys.executable:  # -m venv
            lab.PYTHON.parent.mkdir(parents=True, exist_ok=True)
            lab.PYTHON.write_text(fake)
            lab.PYTHON.chmod(0o755)
            return 0
        return subprocess.call(command, **options, pass_fds=lab.held)

    monkeypatch.setattr(lab, "call", make)
    monkeypatch.setattr(lab.platform, "system", lambda: "Linux")
    monkeypatch.setattr(lab.shutil, "which", lambda name: None)
    monkeypatch.setattr(lab.shutil, "disk_usage", lambda path: GIGABYTES(100e9))
    clone = Folder(lab)
    monkeypatch.setattr(lab, "become", lambda module: clone.became.append(" ".join(module)) or 0)
    return clone


def start(clone: Folder, code: str) -> subprocess.Popen:
    """Use lab.py in a process of its own."""
    code = f"import sys; sys.path.insert(0, {str(clone.path)!r}); import lab; {code}"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="the fake Python is a script with a shebang"
)


def test_the_first_start_installs_and_opens(clone, capfd):
    assert clone.run() == 0
    pip, torch, project = clone.installs()
    assert pip == "pip setuptools"
    assert torch.startswith("torch==")
    assert project == "--no-build-isolation --editable .[lab]"
    assert all(
        "--constraint requirements.lock" in call for call in clone.calls() if "--log" in call
    )
    (became,) = clone.became
    assert "/lab/tree/notebooks/00_start_here.ipynb" in became
    assert "--ServerApp.ip=localhost" in became
    printed = capfd.readouterr().out
    assert "Needed once: up to 0.6 GB to download" in printed
    assert "4 MB were downloaded" in printed  # three times 1.5 MB; what was cached does not count


def test_the_second_start_runs_no_installer(clone):
    clone.run()
    before = clone.calls()
    assert clone.run("--no-browser", "--port", "9999") == 0
    assert clone.calls()[len(before) :] == ["-c "]  # only whether .venv's Python still starts
    assert "--no-browser" in clone.became[-1]
    assert "--ServerApp.port=9999" in clone.became[-1]


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_changed_lock_installs_again(clone, name):
    clone.run("test")
    (clone.path / name).open("a").write("\n# changed")
    clone.run()
    assert clone.installs()[-1].endswith(".[lab,test]")  # the tests' tools do not grow stale
    assert "-m pip --version" in clone.calls()


def test_a_moved_folder_installs_again(clone):
    clone.run()
    assert clone.lab.stamp()[0] == clone.lab.fingerprint()
    moved = load(clone.path.rename(clone.path.with_name("moved")) / "lab.py")
    assert moved.stamp()[0] != moved.fingerprint()


def test_the_tests_get_their_tools(clone):
    clone.run()
    assert clone.run("test", "-k", "exam", "--maxfail=1") == 0
    assert clone.installs()[-1].endswith(".[lab,test]")
    assert clone.became[-1].startswith("pytest -nlogical ")
    assert clone.became[-1].endswith(" -k exam --maxfail=1")


@fault("the set-up fails in any stage", "the next start begins afresh")
@pytest.mark.parametrize("stage", ["pip setuptools", "torch==2", "--no-build-isolation"])
def test_after_a_failure_all_begins_afresh(clone, stage):
    clone.fail("download.pytorch.org", f"pip.log {stage}")
    assert "lab.py again" in str(clone.run())
    assert clone.became == []
    leftover = clone.lab.VENV / "half-written.py"
    leftover.write_text("")
    clone.fail("download.pytorch.org")
    assert clone.run() == 0
    assert not leftover.exists()
    assert clone.became


def test_a_failed_update_is_remembered(clone):
    clone.run()
    (clone.path / "requirements.lock").open("a").write("\n# a new lock")
    clone.fail("download.pytorch.org", "pip.log torch==2")
    clone.run()
    assert clone.lab.stamp() == ["installing"]


@fault("the set-up is interrupted (Ctrl-C)", "the next start begins afresh")
def test_ctrl_c_is_remembered_too(clone, monkeypatch):
    def interrupt(title, *arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(clone.lab, "pip", interrupt)
        with pytest.raises(KeyboardInterrupt):
            clone.run()
    assert clone.lab.stamp() == ["installing"]
    assert clone.run() == 0
    assert clone.lab.stamp() == [clone.lab.fingerprint(), "lab"]


def test_a_broken_environment_is_made_again(clone):
    clone.run()
    clone.lab.PYTHON.unlink()  # as when the Python it was made with is uninstalled
    assert clone.run() == 0
    assert len(clone.installs()) == 6


@fault("requirements.lock is cut short or flipped", "refused before anything is installed")
@pytest.mark.parametrize(
    "harm",
    [
        lambda lock: b"",
        lambda lock: lock[: lock.index(b"\ntorch==")],
        lambda lock: lock[: lock.index(b"transformers==") + 12],
        lambda lock: lock.replace(b"numpy==", b"num\xf0y==", 1),
        lambda lock: lock.replace(b"pandas==", b"pandas-=", 1),
    ],
)
def test_a_damaged_lock_installs_nothing(clone, harm):
    lock = clone.path / "requirements.lock"
    lock.write_bytes(harm(lock.read_bytes()))
    assert "git restore requirements.lock" in str(clone.run())
    assert clone.installs() == []


def test_a_half_deleted_environment_goes(clone):
    old = clone.path / ".venv.old"
    old.mkdir()
    (old / "file").write_text("")
    clone.run()
    assert not old.exists()


def test_without_a_gpu_the_cpu_build_is_taken(clone):
    clone.run()
    _, torch, _ = clone.installs()
    assert torch.endswith("+cpu")


def test_pytorchs_own_index_comes_second(clone, capfd):
    clone.fail("--dry-run")
    clone.run()
    _, torch, _ = clone.installs()
    assert torch.endswith("+cpu --extra-index-url https://download.pytorch.org/whl/cpu")
    assert "up to 0.6 GB" in capfd.readouterr().out


def test_the_default_build_comes_last(clone, capfd):
    clone.fail("--dry-run", "download.pytorch.org")
    clone.run()
    _, torch, _ = clone.installs()
    assert "cpu" not in torch
    printed = capfd.readouterr().out
    assert "large default build" in printed
    assert "up to 3.1 GB" in printed


def dribble(server: socket.socket) -> None:
    """Answer a letter at a time, so that no single wait is long."""
    with contextlib.suppress(OSError):
        connection = server.accept()[0]
        while connection.send(b"H"):
            time.sleep(0.2)


def test_the_index_gets_two_seconds(clone, monkeypatch):
    runs = clone.lab.runs
    monkeypatch.setattr(
        clone.lab, "runs", lambda *words, **more: words[0] == "-c" and runs(*words, **more)
    )
    clone.lab.PYTHON.parent.mkdir(parents=True)
    clone.lab.PYTHON.symlink_to(sys.executable)
    with socket.create_server(("localhost", 0)) as server:
        threading.Thread(target=dribble, args=[server], daemon=True).start()
        address = f"http://localhost:{server.getsockname()[1]}"
        monkeypatch.setattr(clone.lab, "CPU_INDEX", address)
        start = time.monotonic()
        assert clone.lab.torch_build()[1] == "CUDA"
    assert 1.9 < time.monotonic() - start < 10  # the machine may be busy


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_other_systems_take_the_default_build(clone, monkeypatch, system):
    monkeypatch.setattr(clone.lab.platform, "system", lambda: system)
    clone.run()
    _, torch, _ = clone.installs()
    assert "+cpu" not in torch


def test_an_nvidia_gpu_gets_the_default_build(clone, monkeypatch):
    monkeypatch.setattr(clone.lab.shutil, "which", {"nvidia-smi": "/usr/bin/nvidia-smi"}.get)
    clone.run()
    _, torch, _ = clone.installs()
    assert "+cpu" not in torch


def test_a_small_disk_downloads_nothing(clone, monkeypatch):
    monkeypatch.setattr(clone.lab.shutil, "disk_usage", lambda path: GIGABYTES(1e9))
    assert "Make room" in str(clone.run())
    assert clone.installs() == []


@fault("the disk fills up in the set-up", "that is said, and what to do")
def test_a_disk_that_fills_up_is_named(clone, monkeypatch):
    sizes = iter([GIGABYTES(100e9), GIGABYTES(1e6)])
    monkeypatch.setattr(clone.lab.shutil, "disk_usage", lambda path: next(sizes))
    clone.fail("torch==2")
    assert "disk is full" in str(clone.run())


def test_a_python_without_venv_is_told(clone, monkeypatch):
    monkeypatch.setattr(clone.lab.importlib.util, "find_spec", lambda name: None)
    assert "sudo apt install python3-venv" in str(clone.run())
    assert not clone.lab.VENV.exists()


def test_a_second_lab_waits_for_the_first(clone):
    clone.lab.wait_for_turn()
    second = start(clone, "lab.wait_for_turn(); print(lab.stamp())")
    assert "waiting for it" in second.stdout.readline()
    clone.lab.VENV.mkdir()
    clone.lab.STAMP.write_text("done")
    os.close(clone.lab.held.pop())
    assert second.communicate(timeout=20)[0] == "['done']\n"


@fault("the set-up is killed (SIGKILL)", "nobody touches what its pip still fills")
def test_pip_keeps_the_lock_of_a_killed_lab(clone):
    """A kill -9 leaves pip running: nobody may tear down what it still fills."""
    sleep = [sys.executable, "-c", "import time; print('busy', flush=True); time.sleep(60)"]
    killed = start(clone, f"lab.wait_for_turn(); lab.call({sleep!r})")
    assert killed.stdout.readline() == "busy\n"
    killed.kill()
    killed.wait()
    try:
        second = start(clone, "lab.wait_for_turn(); print('mine')")
        assert "waiting for it" in second.stdout.readline()
    finally:
        os.killpg(killed.pid, signal.SIGKILL)  # the orphan
    assert second.communicate(timeout=20)[0] == "mine\n"


def test_other_pythons_settings_stay_out(root, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    monkeypatch.setenv("PIP_USER", "1")
    lab = load(root / "lab.py")
    assert "PYTHONPATH" not in lab.ENVIRONMENT
    assert lab.ENVIRONMENT["PIP_USER"] == "0"


@pytest.mark.parametrize("version", [(3, 10), (3, 15), (4, 0)])
def test_a_wrong_python_names_one_that_fits(clone, monkeypatch, version):
    monkeypatch.setattr(clone.lab.sys, "version_info", (*version, 0, "final", 0))
    monkeypatch.setattr(clone.lab, "runs", lambda *arguments, by: by == "python3.12")
    with pytest.raises(SystemExit, match=r"(?s)needs Python 3.11 to 3.14.*python3.12 lab.py"):
        clone.lab.check_python()
    monkeypatch.setattr(clone.lab, "runs", lambda *arguments, by: False)
    with pytest.raises(SystemExit, match=r"python.org/downloads"):
        clone.lab.check_python()


@pytest.mark.parametrize("version", [(3, 11), (3, 14)])
def test_oldest_and_newest_python_are_welcome(clone, monkeypatch, version):
    monkeypatch.setattr(clone.lab.sys, "version_info", (*version, 0, "final", 0))
    monkeypatch.setattr(clone.lab.platform, "machine", lambda: "x86_64")
    clone.lab.check_python()


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "x86_64"), ("Windows", "ARM64")])
def test_a_machine_without_pytorch_is_told_so(clone, monkeypatch, system, machine):
    monkeypatch.setattr(clone.lab.platform, "system", lambda: system)
    monkeypatch.setattr(clone.lab.platform, "machine", lambda: machine)
    with pytest.raises(SystemExit, match=f"PyTorch offers nothing .* \\({system} {machine}"):
        clone.lab.check_python()


def test_an_old_python_can_read_lab_py(root):
    """Its syntax is that of Python 3.6, whose message is better than a SyntaxError."""
    import ast

    ast.parse((root / "lab.py").read_text(), feature_version=(3, 6))


def test_lab_py_needs_nothing_but_python(root):
    import ast

    text = (root / "lab.py").read_text()
    assert len(text.splitlines()) < 250
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import)]
    imported = {alias.name.split(".")[0] for node in imports for alias in node.names}
    froms = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    assert imported | {node.module for node in froms} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("done", [True, False])
def test_the_doctor_needs_no_set_up(clone, monkeypatch, capfd, done):
    if done:
        clone.run()
    asked = []
    monkeypatch.setattr(clone.lab, "call", lambda command, **options: asked.append(command) or 0)
    assert clone.run("doctor") == 0
    assert asked[-1] == [
        str(clone.lab.PYTHON) if done else sys.executable,
        "-m",
        "caplab",
        "doctor",
    ]
    line = "[OK]   set-up: finished" if done else "[WARN] set-up: not finished -> python lab.py"
    assert line in capfd.readouterr().out
    assert len(clone.installs()) == (3 if done else 0)  # it only looks
