"""Answers that are kept on this disk: damaged, forged, in a race, or with no place to be kept."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from drill import fault
from programs import LINUX, finish, start

import caplab as cl
from caplab.cli import commands
from caplab.measuring import cache
from caplab.measuring.cache import answers_of
from caplab.support.files import as_path


@pytest.fixture
def passes(monkeypatch):
    """Count the forward passes of any model."""
    counted = []

    def count(module, *_):
        counted.append(module) if hasattr(module, "generation_config") else None

    hook = torch.nn.modules.module.register_module_forward_hook(count)
    yield counted
    hook.remove()


@pytest.fixture
def here(at, monkeypatch):
    """A base and an exam; its answers are known after the first command."""
    at.folder_of_model()
    at.exam.save(at.folder / "exam.jsonl")
    monkeypatch.chdir(at.folder)
    return at.folder


GATE = ["gate", "model", "model", "--exam", "exam.jsonl"]


def gate(*more):
    assert commands.main([*GATE, *more]) in (0, 3)


@fault("the base is gated a second time", "no forward pass, and the same report to the letter")
def test_the_base_is_asked_once(here, passes, capsys):
    gate("--json=first.json")
    first = capsys.readouterr().out
    assert passes
    passes.clear()
    gate("--json=second.json")
    assert capsys.readouterr().out == first
    assert passes == []
    assert (here / "first.json").read_bytes() == (here / "second.json").read_bytes()
    gate("--no-cache")
    assert capsys.readouterr().out == first
    assert passes


def files():
    return [path for path in cache.kept_files() if path.name != "digests.json"]


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


def improve(path):
    path.write_text(path.read_text().replace('"answer": [0', '"answer": [1'))


def rewrite(path):
    """Write another card with a sound seal, as any old file of the lab has one."""
    from caplab.support.files import write_sealed

    content = json.loads(path.read_text())
    write_sealed(path, {"format": content["format"], "card": content["card"]})


DAMAGES = {
    "cut short": halve,
    "a bit flipped": flip,
    "an answer improved": improve,
    "sealed again, with less in it": rewrite,
    "empty": lambda path: path.write_bytes(b""),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "JSON of another kind": lambda path: path.write_text("[1, 2]"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@fault("kept answers are damaged or forged", "not believed: the model is asked again")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_answers_are_not_believed(damage, at, here, passes, capsys):
    expected = answers_of("model", at.exam)
    (kept,) = files()
    damage(kept)
    passes.clear()
    assert answers_of("model", at.exam) == expected
    assert passes
    assert "known answers" not in capsys.readouterr().err


@fault("a model's answers are put under another model's name", "not believed: asked again")
def test_answers_of_another_are_not_believed(at, here, passes):
    one = answers_of("model", at.exam)
    (kept,) = files()
    shutil.copy(kept, here / "kept.json")
    other = cl.load("model")
    with torch.no_grad():
        for weight in other.model.parameters():
            weight += torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    other.model.save_pretrained("other")
    other.tokenizer.save_pretrained("other")
    two = answers_of("other", at.exam)
    assert two.loglikelihoods != one.loglikelihoods
    (second,) = {*files()} - {kept}
    shutil.copy(here / "kept.json", second)
    passes.clear()
    assert answers_of("other", at.exam) == two
    assert passes


@fault("a model is trained in memory after its folder was scored", "always asked itself")
def test_a_trained_subject_is_asked_itself(at, here, passes):
    gate()
    base = cl.load("model")
    with torch.no_grad():
        next(base.model.parameters()).mul_(-3)
    passes.clear()
    card = cl.score(base, at.exam, progress=False)
    assert passes
    assert card.loglikelihoods != answers_of("model", at.exam).loglikelihoods


@fault("the home is read-only, full or no folder", "scored as if there were no cache")
@LINUX
@pytest.mark.parametrize("place", ["/proc/caplab", "/dev/null", "a file", "a\0b", "x" * 300])
def test_no_place_for_answers(place, at, here, passes, monkeypatch, capsys):
    (here / "a file").touch()
    monkeypatch.undo()
    monkeypatch.chdir(here)
    monkeypatch.setattr(cache, "cache_folder", lambda: as_path(place))
    for _ in range(2):
        passes.clear()
        assert commands.main(GATE) in (0, 3)
        assert passes
    assert "Traceback" not in capsys.readouterr().err


@fault("the disk is full when answers are to be kept", "scored, and nothing half-written")
def test_a_full_disk_keeps_no_answers(at, here, passes, monkeypatch, capsys):
    expected = answers_of("model", at.exam, keep=False)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert answers_of("model", at.exam) == expected
    assert files() == []
    assert not list(cache.answers_folder().glob(".*"))


@fault("two processes score one model at once", "all get the same answers, and one is kept whole")
@LINUX
def test_processes_at_once(at, here):
    code = """
        import sys, caplab as cl
        from caplab.measuring import cache
        exam = cl.exam("exam.jsonl")
        for turn in range(3):
            card = cache.answers_of("model", exam)
            cache.clear() if turn == 1 and sys.argv[0] == "-c" else None
        print(hash(card.loglikelihoods))
    """
    place = {"CAPLAB_CACHE": str(here / "cache"), "OMP_NUM_THREADS": "1"}
    programs = [start(code, cwd=here, env=place) for _ in range(2)]
    ended = [finish(program) for program in programs]
    assert [code for code, _, _ in ended] == [0] * 2, ended
    assert len({out for _, out, _ in ended}) == 1
    kept = list((here / "cache" / "answers").glob("*"))
    assert not [path for path in kept if path.name.startswith(".")]


@fault("answers are to be removed by somebody who may not", "named, code 2")
def test_clearing_without_rights(here, monkeypatch, capsys):
    gate()

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", forbidden)
    assert commands.main(["cache", "--clear"]) == 2
    assert "cannot be removed" in capsys.readouterr().err


@fault("somebody asks what is kept", "where, how much, and it can be removed")
def test_what_is_kept_is_said(here, passes, capsys):
    assert commands.main(["cache"]) == 0
    assert ": 0 files, 0.0 MB" in capsys.readouterr().out
    gate()
    capsys.readouterr()
    assert commands.main(["cache"]) == 0
    said = capsys.readouterr().out
    assert str(cache.answers_folder()) in said
    assert f": {len(cache.kept_files())} files" in said
    assert commands.main(["cache", "--clear"]) == 0
    passes.clear()
    gate()
    assert passes


@fault("an exam asks for all of a group, and the groups change", "judged anew, not by old answers")
def test_groups_that_must_be_right_together(at, here, passes):
    asked = [
        cl.Question("m", "A dog", expect={"matches": "."}, group="a", together=True),
        cl.Question("m", "A cat", expect={"equals": "never said"}, group="b", together=True),
    ]
    apart = cl.Exam(tuple(asked), (), "pair")
    joined = cl.Exam(tuple(replace(each, group="a") for each in asked), (), "pair")
    first, second = answers_of("model", apart), answers_of("model", joined)
    assert first.correct == [True, False]
    assert second.correct == [False, False]
