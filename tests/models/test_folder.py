import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from caplab.models.folder import check_folder, damaged_files
from caplab.models.hub import KNOWN, find_folder
from caplab.models.load import load
from caplab.support.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(files, tmp_path):
    """A folder that a test may break."""
    path = tmp_path / "mine"
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def refusal(folder):
    """Check a folder that must be refused; return the message."""
    with pytest.raises(BadInput) as refused:
        check_folder(folder, "mine")
    return str(refused.value)


# ---------------------------------------------------------------- the parts of a model


def test_a_whole_folder_passes(folder):
    check_folder(folder, "mine")


@pytest.mark.parametrize("cut", [0, 5, 8, 100, -4, -1])
def test_cut_weights_are_named_with_both_sizes(folder, files, cut):
    path = folder / "model.safetensors"
    whole = files[path.name]
    path.write_bytes(whole[:cut])
    said = refusal(folder)
    assert str(path) in said
    assert f"{len(whole[:cut]):,}" in said
    assert "should have at least" in said
    assert (f"at least {len(whole):,} bytes" in said) == (cut < 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"PK\3\4 this is a zip file of some length", "not a valid safetensors file"),
        (struct.pack("<Q", 4) + b"{]]}", "not a valid safetensors file"),
        (struct.pack("<Q", 7) + b'{"a":1}', "not a valid safetensors file"),
        (struct.pack("<Q", 2) + b"{}more", "not a valid safetensors file"),
        (bytes(1000), "not a valid safetensors file"),
        (b"<html>404</html>" * 99, "not a valid safetensors file"),
    ],
)
def test_other_than_safetensors_is_refused(folder, content, message):
    (folder / "model.safetensors").write_bytes(content)
    assert message in refusal(folder)


def test_a_pickle_is_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    said = refusal(folder)
    assert "pickle (pytorch_model.bin)" in said
    assert "can run any code" in said


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("config.json", "has no config.json (it contains generation_config.json"),
        ("model.safetensors", "model.safetensors is missing"),
        ("tokenizer.json", "no tokenizer (tokenizer.json)"),
    ],
)
def test_a_missing_part_is_named(folder, gone, message):
    (folder / gone).unlink()
    assert message in refusal(folder)


def test_each_shard_is_checked(folder, files):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    assert "model-2.safetensors is missing" in refusal(folder)
    (folder / "model-2.safetensors").write_bytes(files["model.safetensors"][:-1])
    assert "model-2.safetensors is damaged" in refusal(folder)
    (folder / "model-2.safetensors").write_bytes(files["model.safetensors"])
    check_folder(folder, "mine")
    (folder / "model.safetensors.index.json").write_text("{}")
    assert "index.json is broken" in refusal(folder)


def test_files_are_compared_with_their_checksums(folder, files):
    assert damaged_files(folder) == []  # it comes without any
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (folder / "SHA256SUMS").write_text(lines)
    assert damaged_files(folder) == []
    check_folder(folder, "mine")
    with (folder / "config.json").open("a") as config:
        config.write("\n")
    assert damaged_files(folder) == ["config.json"]
    assert "config.json does not match SHA256SUMS" in refusal(folder)
    (folder / "config.json").write_bytes(files["config.json"])
    (folder / "generation_config.json").unlink()
    assert damaged_files(folder) == ["generation_config.json"]
    assert "generation_config.json is missing" in refusal(folder)


def test_checksums_need_no_library():
    """`python lab.py doctor` compares them before anything is installed: `-S` hides packages."""
    code = "from caplab.models.folder import damaged_files as d; from pathlib import Path as P; "
    code += "print(d(P('caplab/assets/pocket')))"
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


# ---------------------------------------------------------------- finding a folder


def test_a_missing_folder_suggests_others(folder):
    with pytest.raises(BadInput, match=r"no folder .*mime'. Did you mean '.*mine'"):
        find_folder(str(folder.with_name("mime")))


def test_a_file_is_not_a_folder(folder):
    with pytest.raises(BadInput, match=r"is a file. Give the folder that holds it: '.*mine'"):
        find_folder(str(folder / "config.json"))


def test_what_no_hub_has_is_a_missing_folder():
    for name in ("./pocket2", "a/b/c", "~/nowhere", "two words"):
        with pytest.raises(BadInput, match="There is no folder"):
            find_folder(name)


def test_known_names_are_unique():
    assert "pocket" in KNOWN
    assert len(set(KNOWN)) == len(KNOWN)


def test_a_folder_does_not_hide_pocket(folder, monkeypatch):
    folder.rename(folder.with_name("pocket"))
    monkeypatch.chdir(folder.parent)
    monkeypatch.delenv("CAPLAB_MODEL", raising=False)
    assert "assets" in find_folder("pocket").parts
    assert load("./pocket").name == "pocket"
