"""Models from the hub, and nine things that can go wrong, tested against a local stand-in.

Each process below is new, speaks HTTP with the stand-in and has its own cache of models.
"""

import json
import mmap
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from drill import fault
from hub import hub
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2Model

from caplab.models.hub import find_folder
from caplab.models.load import load
from caplab.support.errors import BadInput

pytestmark = pytest.mark.slow

GONE = "http://127.0.0.1:9"  # no server listens there
OTHERS = ("rust_model.ot", "tf_model.h5", "flax_model.msgpack", "pytorch_model.bin")
ASK = """
import json, sys, time
from caplab.models.hub import find_folder
for name in sys.argv[1:]:
    start = time.perf_counter()
    try:
        answer = str(find_folder(name))
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print(json.dumps([answer, time.perf_counter() - start]))
"""


@pytest.fixture(scope="module")
def files(saved, files):
    """A small model with the file layout of the real gpt2, as {name: bytes}."""
    return files | _around(saved)


def _around(path):
    """What else the hub has beside a model: older tokenizer files, other frameworks."""
    bpe = json.loads((path / "tokenizer.json").read_text())["model"]
    merges = "".join(" ".join(pair) + "\n" for pair in bpe["merges"])
    old = {"vocab.json": json.dumps(bpe["vocab"]), "merges.txt": f"#version: 0.2\n{merges}"}
    words = {".gitattributes": "*.h5 filter=lfs", "README.md": "# GPT-2", "onnx/config.json": "{}"}
    small = {name: text.encode() for name, text in (old | words).items()}
    return small | dict.fromkeys(OTHERS, b"x" * 1000000) | {"64.tflite": b"x"}


def ask(address, cache, *names, code=ASK, **how):
    """Find models in a fresh process, whose hub is ours; return answers, seconds and messages."""
    environment = os.environ | {
        "HF_ENDPOINT": address,
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-c", code, *names]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, **how
    )
    assert done.returncode == 0, done.stderr
    answers, seconds = zip(*map(json.loads, done.stdout.splitlines()), strict=True)
    return answers, seconds, done.stderr


@pytest.fixture(scope="module")
def visit(files, tmp_path_factory):
    """Ask a hub for models twice: while it is there, and after it is gone."""
    pickled = {"config.json": b"{}", "pytorch_model.bin": b"x", "onnx/model.safetensors": b"x"}
    models = {"openai-community/gpt2": files, "org/pickled": pickled, "org/gated": files}
    cache = tmp_path_factory.mktemp("cache")
    with hub(models, gated=["org/gated"], moved={"gpt2": "openai-community/gpt2"}) as there:
        met = ask(there.address, cache, "gpt2", "org/pickled", "org/gated", "gtp2", "gpt2")
    return there, met, ask(GONE, cache, "gpt2", "gtp2")


def weights_sent(there):
    return [(start, size) for file, start, size in there.sent if file == "model.safetensors"]


# ---------------------------------------------------------------- 1: the first download


def test_the_first_download_gets_what_it_needs(visit, files):
    there, (answers, _, messages), _ = visit
    assert messages.count("Downloading gpt2: 0 MB, once.") == 1
    assert answers[0] == answers[-1]
    brought = {path.name: path.read_bytes() for path in Path(answers[0]).iterdir()}
    left = {*OTHERS, "64.tflite", ".gitattributes", "README.md", "onnx/config.json"}
    assert brought == {name: content for name, content in files.items() if name not in left}
    assert weights_sent(there) == [(0, len(files["model.safetensors"]))]
    assert load(answers[0]).parameters == tiny.subject().parameters


def test_a_pickle_is_not_even_downloaded(visit):
    there, (answers, *_), _ = visit
    assert "only as a pickle (pytorch_model.bin)" in answers[1]
    assert "pytorch_model.bin" not in {file for file, *_ in there.sent}


# ---------------------------------------------------------------- 2: a cut connection


@fault("a download's connection is cut", "it goes on where it was cut")
def test_a_cut_download_goes_on(files, tmp_path):
    """The library remembers whole chunks of 10 MB; here they are smaller, as the model is."""
    chunks = "from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = 10_000"
    size, code = len(files["model.safetensors"]), f"{chunks}\n{ASK}"
    with hub({"org/mine": files}, cut={"model.safetensors": 50_000}) as there:
        (answer,), *_ = ask(there.address, tmp_path, "org/mine", code=code)
    assert weights_sent(there) == [(0, 50_000), (50_000, size - 50_000)]
    assert load(answer).parameters == tiny.subject().parameters


@fault("the hub goes down in mid-download", "what arrived is kept, the next call goes on")
def test_a_stopped_download_keeps_what_came(files, tmp_path):
    class Always(dict):
        def pop(self, file, default):
            return self.get(file, default)

    with hub({"org/mine": files}, cut=Always({"model.safetensors": 0})) as there:
        (answer,), _, messages = ask(there.address, tmp_path, "org/mine")
        assert "BadInput: The download of org/mine stopped. Load it again: the files that" in answer
        assert "Traceback" not in messages
        there.cut = {}
        there.sent.clear()
        (answer,), *_ = ask(there.address, tmp_path, "org/mine")
    assert {file for file, *_ in there.sent if file != "model.safetensors"} == set()
    assert load(answer).parameters == tiny.subject().parameters


# ---------------------------------------------------------------- 3 and 4: no network


def test_offline_a_downloaded_model_loads(visit):
    _, (there, *_), (answers, *_) = visit
    assert answers[0] == there[0]


def test_offline_another_is_refused_at_once(visit):
    *_, (answers, seconds, _) = visit
    assert "is not on this disk and the hub cannot be reached" in answers[1]
    assert "Did you mean 'gpt2'" in answers[1]
    assert 'load("pocket")' in answers[1]
    assert seconds[1] < 5


@fault("offline, with half a model", "it is not taken for a whole one")
def test_half_a_model_is_not_used(files, tmp_path):
    half = tmp_path / "models--org--mine" / "snapshots" / "abc"
    half.mkdir(parents=True)
    (half.parents[1] / "refs").mkdir()
    (half.parents[1] / "refs" / "main").write_text("abc")
    (half / "config.json").write_bytes(files["config.json"])
    (answer,), *_ = ask(GONE, tmp_path, "org/mine")
    assert "is not on this disk" in answer
    for name in ("model.safetensors", "tokenizer.json"):
        (half / name).write_bytes(files[name])
    (answer,), *_ = ask(GONE, tmp_path, "org/mine")
    assert answer == str(half)


# ---------------------------------------------------------------- 5 and 6: unknown, gated


def test_an_unknown_model_is_refused(visit):
    _, (answers, *_), _ = visit
    assert "BadInput: There is no model 'gtp2', neither as a folder here nor on" in answers[3]
    assert "Did you mean 'gpt2'" in answers[3]


def test_a_gated_model_is_refused(visit):
    _, (answers, *_), _ = visit
    assert "BadInput: org/gated is gated: accept its terms" in answers[2]
    assert "hf auth login" in answers[2]


# ---------------------------------------------------------------- 7: a slow server


def test_a_slow_server_is_waited_for(files, tmp_path):
    chunks = len(files["model.safetensors"]) // (1 << 16)
    with hub({"org/mine": files}, pause={"model.safetensors": 0.6}) as there:
        (answer,), (seconds,), _ = ask(there.address, tmp_path, "org/mine")
    assert seconds > 0.6 * chunks > 1  # longer than the timeout, which counts silence
    assert len(weights_sent(there)) == 1
    assert load(answer).parameters == tiny.subject().parameters


@fault("the hub accepts and says nothing", "it is given up after seconds, in words")
def test_a_silent_server_is_given_up(files, tmp_path):
    with hub({"org/mine": files}, pause={"org/mine": 30}) as there:
        (answer,), (seconds,), _ = ask(there.address, tmp_path, "org/mine")
    assert "hub cannot be reached (ReadTimeout)" in answer
    assert 4 < seconds < 15


# ---------------------------------------------------------------- 8: a full disk


def test_a_download_without_room_never_starts(files, tmp_path, monkeypatch):
    code = f"import shutil; shutil.disk_usage = lambda _: shutil._ntuple_diskusage(9, 8, 1)\n{ASK}"
    with hub({"org/mine": files}) as there:
        (answer,), *_ = ask(there.address, tmp_path, "org/mine", code=code)
    assert re.search(r"BadInput: org/mine takes \d+ MB, and only 0 MB are free where", answer)
    assert str(tmp_path) in answer
    assert there.sent == []


@fault("the disk fills up in mid-download", "the download ends in words, nothing half is used")
def test_a_disk_that_fills_up_ends_it(files, tmp_path):
    """No file may grow beyond 50 kB here: to the program that is a disk which takes no more."""

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    with hub({"org/mine": files}) as there:
        (answer,), *_ = ask(there.address, tmp_path, "org/mine", preexec_fn=small_disk)
        assert "BadInput: The download of org/mine stopped. Load it again" in answer
        assert "File too large" in answer
        (answer,), *_ = ask(there.address, tmp_path, "org/mine")
    assert load(answer).parameters == tiny.subject().parameters


# ---------------------------------------------------------------- 9: a wrong checksum


@fault("weights are changed on the way", "their checksum refuses them, nothing is kept")
def test_changed_weights_are_deleted(files, tmp_path):
    with hub({"org/mine": files}, damaged=("model.safetensors",)) as there:
        (answer,), *_ = ask(there.address, tmp_path, "org/mine")
        assert "org/mine arrived damaged: the checksum of model.safetensors" in answer
        (offline,), *_ = ask(GONE, tmp_path, "org/mine")
        assert "is not on this disk" in offline
        there.damaged = ()
        (answer,), *_ = ask(there.address, tmp_path, "org/mine")
    assert load(answer).parameters == tiny.subject().parameters


# ---------------------------------------------------------------- real size

LOAD = """
import json, sys, time
import caplab as cl
start = time.perf_counter()
who = cl.load("gpt2")
print(json.dumps([[repr(who), who.parameters, who.ask("Hello", 2)], time.perf_counter() - start]))
"""


def test_a_gpt2_of_real_size_loads(files, tmp_path):
    """The hub's file names the layers without `transformer.` and brings attention masks along."""
    path = tmp_path / "model.safetensors"
    model = GPT2Model(config := GPT2Config(architectures=["GPT2LMHeadModel"]))
    masks = {f"h.{n}.attn.bias": _mask(config.n_positions) for n in range(config.n_layer)}
    save_file(model.state_dict() | masks, path, metadata={"format": "pt"})
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as big:
        gpt2 = files | {"config.json": config.to_json_string().encode(), path.name: big}
        with hub({"gpt2": gpt2}) as there:
            ((shown, parameters, _),), _, messages = ask(
                there.address, tmp_path / "cache", code=LOAD
            )
    assert parameters == 124_439_808
    assert shown == "Subject gpt2: 124.4 M parameters, GPT-2, 1024-token context, cpu"
    assert "Downloading gpt2: 548 MB, once." in messages


def _mask(size):
    import torch

    return torch.ones(size, size).tril()[None, None]


# ---------------------------------------------------------------- without a stand-in


def test_the_hub_gets_five_seconds(monkeypatch):
    def silent(self, name, *, files_metadata, timeout, revision):
        raise TimeoutError(f"{timeout} seconds")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", silent)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(BadInput, match=r"cannot be reached \(TimeoutError\)") as refusal:
        find_folder("org/mine")
    assert str(refusal.value.__cause__) == "5 seconds"
