import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from hub import hub

from caplab.errors import BadInput
from caplab.folders import KNOWN, check_folder, find_folder
from caplab.models import load


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of a small model, as {name: bytes}."""
    who, path = tiny.subject(), tmp_path_factory.mktemp("files")
    who.model.save_pretrained(path)
    who.tokenizer.save_pretrained(path)
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.fixture
def folder(files, tmp_path):
    """A folder that a test may break."""
    place = tmp_path / "mine"
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)
    return place


def refused(folder):
    with pytest.raises(BadInput) as refusal:
        check_folder(folder, "mine")
    return str(refusal.value)


# ---------------------------------------------------------------- a folder on this disk


def test_a_whole_folder_passes(folder):
    check_folder(folder, "mine")


@pytest.mark.parametrize("cut", [0, 5, 8, 100, -4, -1])
def test_weights_that_were_cut_short_are_named_with_both_sizes(folder, files, cut):
    path = folder / "model.safetensors"
    whole = files[path.name]
    path.write_bytes(whole[:cut])
    said = refused(folder)
    assert str(path) in said
    assert f"{len(whole[:cut]):,}" in said
    assert f"{len(whole):,}" in said or "at least" in said or cut < 8
    assert (f"should have {len(whole):,} bytes" in said) == (cut < 0)


def test_weights_with_something_behind_them_are_damaged(folder, files):
    (folder / "model.safetensors").write_bytes(files["model.safetensors"] + b"\0")
    assert "damaged" in refused(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"PK\3\4 this is a zip file of some length", "not a safetensors file"),
        (struct.pack("<Q", 4) + b"{]]}", "not a safetensors file"),
        (struct.pack("<Q", 7) + b'{"a":1}', "not a safetensors file"),
    ],
)
def test_what_is_not_safetensors_is_said_to_be_not(folder, content, message):
    (folder / "model.safetensors").write_bytes(content)
    assert message in refused(folder)


def test_a_pickle_is_refused_even_if_it_would_load(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    said = refused(folder)
    assert "pickle (pytorch_model.bin)" in said
    assert "can run any code" in said


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("config.json", "has no config.json (it holds generation_config.json"),
        ("model.safetensors", "model.safetensors is missing"),
        ("tokenizer.json", "no tokenizer (tokenizer.json)"),
    ],
)
def test_a_missing_part_is_named(folder, gone, message):
    (folder / gone).unlink()
    assert message in refused(folder)


def test_each_shard_of_an_index_must_be_there_and_whole(folder, files):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    assert "model-2.safetensors is missing" in refused(folder)
    (folder / "model-2.safetensors").write_bytes(files["model.safetensors"][:-1])
    assert "model-2.safetensors is damaged" in refused(folder)
    (folder / "model-2.safetensors").write_bytes(files["model.safetensors"])
    check_folder(folder, "mine")
    (folder / "model.safetensors.index.json").write_text("{}")
    assert "index.json is broken" in refused(folder)


def test_a_folder_that_is_not_there_brings_its_neighbours_to_mind(folder):
    with pytest.raises(BadInput, match=r"no folder .*mime'. Did you mean '.*mine'"):
        find_folder(str(folder.with_name("mime")))


def test_a_file_is_not_a_folder(folder):
    with pytest.raises(BadInput, match=r"is a file. Give the folder that holds it: '.*mine'"):
        find_folder(str(folder / "config.json"))


def test_a_name_that_no_hub_has_is_a_folder_that_is_not_there():
    for name in ("./pocket2", "a/b/c", "~/nowhere", "two words"):
        with pytest.raises(BadInput, match="There is no folder"):
            find_folder(name)


# ---------------------------------------------------------------- the hub

ASK = """
import json, sys, time
from caplab.folders import find_folder
for name in sys.argv[1:]:
    start = time.perf_counter()
    try:
        answer = str(find_folder(name))
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print(json.dumps([answer, time.perf_counter() - start]))
"""


def ask(endpoint, cache, *names):
    """Find models in a fresh process, whose hub is ours; return answers, seconds and messages."""
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-c", ASK, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    answers, seconds = zip(*map(json.loads, done.stdout.splitlines()), strict=True)
    return answers, seconds, done.stderr


@pytest.fixture(scope="module")
def downloads(files, tmp_path_factory):
    """What comes of asking a hub for models: first with the hub there, then with it gone."""
    pickled = {"config.json": b"{}", "pytorch_model.bin": b"x", "onnx/model.safetensors": b"x"}
    models = {
        "org/mine": files | {"rust_model.ot": b"x" * 1_000_000, "onnx/config.json": b"{}"},
        "org/pickled": pickled,
        "org/gated": files,
    }
    cache = tmp_path_factory.mktemp("cache")
    with hub(models, gated=["org/gated"]) as address:
        names = ("org/mine", "org/pickled", "org/gated", "gtp2", "org/mine")
        there = ask(address, cache, *names)
    gone = ask(address, cache, "org/mine", "gtp2")
    return cache, there, gone


@pytest.mark.slow
def test_a_model_of_the_hub_is_downloaded_once_and_its_size_said_beforehand(downloads, files):
    _, (answers, _, messages), _ = downloads
    assert messages.count("Downloading org/mine: 0 MB, once.") == 1
    assert answers[0] == answers[-1]
    assert {path.name: path.read_bytes() for path in Path(answers[0]).iterdir()} == files
    assert load(answers[0]).parameters == tiny.subject().parameters


@pytest.mark.slow
def test_what_the_hub_does_not_give_is_said(downloads):
    _, (answers, _, _), _ = downloads
    assert "only as a pickle (pytorch_model.bin)" in answers[1]
    assert "org/gated is gated: accept its terms" in answers[2]
    assert "no model 'gtp2', neither as a folder here nor on the hub" in answers[3]
    assert "Did you mean 'gpt2'" in answers[3]
    assert all(answer.startswith("BadInput") for answer in answers[1:4])


@pytest.mark.slow
def test_without_a_network_a_downloaded_model_loads_and_another_is_refused_at_once(downloads):
    _, (there, *_), (answers, seconds, _) = downloads
    assert answers[0] == there[0]
    assert "is not on this disk and the hub cannot be reached" in answers[1]
    assert "Did you mean 'gpt2'" in answers[1]
    assert 'load("pocket")' in answers[1]
    assert seconds[1] < 5


@pytest.mark.slow
def test_a_half_downloaded_model_is_not_taken_for_a_whole_one(files, tmp_path):
    half = tmp_path / "models--org--mine" / "snapshots" / "abc"
    half.mkdir(parents=True)
    (half.parents[1] / "refs").mkdir()
    (half.parents[1] / "refs" / "main").write_text("abc")
    (half / "config.json").write_bytes(files["config.json"])
    (answer,), _, _ = ask("http://127.0.0.1:9", tmp_path, "org/mine")
    assert "is not on this disk" in answer
    for name, content in files.items():
        (half / name).write_bytes(content)
    (answer,), _, _ = ask("http://127.0.0.1:9", tmp_path, "org/mine")
    assert answer == str(half)


def test_a_hub_that_is_silent_is_given_up_after_five_seconds(monkeypatch):
    def silent(self, name, *, files_metadata, timeout):
        raise TimeoutError(f"{timeout} seconds")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", silent)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(BadInput, match=r"cannot be reached \(TimeoutError\)") as refusal:
        find_folder("org/mine")
    assert str(refusal.value.__cause__) == "5 seconds"


def test_known_names_are_names_that_a_hub_could_have():
    assert "pocket" in KNOWN
    assert len(set(KNOWN)) == len(KNOWN)


def test_a_folder_called_pocket_does_not_hide_the_pocket_model(folder, monkeypatch):
    folder.rename(folder.with_name("pocket"))
    monkeypatch.chdir(folder.parent)
    monkeypatch.delenv("CAPLAB_MODEL", raising=False)
    assert "assets" in find_folder("pocket").parts
    assert load("./pocket").name == "pocket"
