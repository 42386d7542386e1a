import json
import struct

import pytest
import tiny

from caplab.models.folder import check_folder
from caplab.models.hub import KNOWN, find_folder
from caplab.models.load import load
from caplab.support.errors import BadInput


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


# ---------------------------------------------------------------- names


def test_known_names_are_names_that_a_hub_could_have():
    assert "pocket" in KNOWN
    assert len(set(KNOWN)) == len(KNOWN)


def test_a_folder_called_pocket_does_not_hide_the_pocket_model(folder, monkeypatch):
    folder.rename(folder.with_name("pocket"))
    monkeypatch.chdir(folder.parent)
    monkeypatch.delenv("CAPLAB_MODEL", raising=False)
    assert "assets" in find_folder("pocket").parts
    assert load("./pocket").name == "pocket"
