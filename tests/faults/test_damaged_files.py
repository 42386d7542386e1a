"""A file that was changed or cut short is refused by name."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
from drill import fault
from weights import same, weights

import caplab as cl
from caplab.models.hub import find_folder
from caplab.support.errors import BadInput


def spoiled(path, at_share=0.5):
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * at_share)] ^= 4
    path.write_bytes(content)


def pocket_copy(folder):
    """Copy the shipped model, to be spoiled."""
    return Path(shutil.copytree(find_folder("pocket"), folder / "pocket"))


@fault("one bit of the model flipped", "refused by name, never a silent wrong number")
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_flipped_bit_in_a_model(name, share, tmp_path):
    folder = pocket_copy(tmp_path)
    spoiled(folder / name, share)
    with pytest.raises(BadInput, match=rf"{name}|damaged|safetensors"):
        cl.load(folder)


@fault("the model cut short", "refused by name, with what to do")
@pytest.mark.parametrize("share", [0, 0.0001, 0.5, 0.999])
def test_truncated_model(share, tmp_path):
    folder = pocket_copy(tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(BadInput, match=r"model\.safetensors|damaged"):
        cl.load(folder)


@fault("one bit of a saved scorecard, report or run flipped", "refused, wherever the bit is")
@pytest.mark.parametrize("kind", ["scorecard", "report", "run"])
def test_flipped_bit_in_a_saved_file(kind, at):
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
def test_damaged_atlas(tmp_path):
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
def test_truncated_saved_file(share, at):
    path = at.run.save(at.folder / "run") / "run.json"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(BadInput, match=r"run\.json"):
        cl.Run.load(path.parent)


def test_these_tests_would_notice(at):
    """The tools of the drill can tell a broken file from a sound one."""
    path = at.folder / "card.json"
    at.card.save(path)
    text = path.read_text(encoding="utf-8")
    path.write_text(json.dumps(json.loads(text) | {"subject": "x"}), encoding="utf-8")
    with pytest.raises(BadInput, match="changed or damaged"):
        cl.Scorecard.load(path)
    assert not same(weights(tiny.subject(seed=0).model), weights(tiny.subject(seed=1).model))
