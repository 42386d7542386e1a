"""Answers are found again only where nothing that decides them has changed."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from caplab.measuring import cache
from caplab.measuring.cache import Manner, answers_of
from caplab.questions.exam import Exam, Question

EXAM = Exam((Question("a", "A dog says", ("woof", "meow"), 0),), (), "one")


@pytest.fixture
def folder(tmp_path):
    who = tiny.chatty()
    who.model.save_pretrained(tmp_path / "model")
    who.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def asked(monkeypatch):
    """Count how often a model is asked, by its forward passes."""
    times = []
    score = cache.score

    def counted(*given, **named):
        times.append(given)
        return score(*given, **named)

    monkeypatch.setattr(cache, "score", counted)
    return times


def ask(folder, exam=EXAM, **named):
    return answers_of(str(folder), exam, **named)


def test_the_same_is_asked_once(folder, asked):
    first, second = ask(folder), ask(folder)
    assert first == second
    assert len(asked) == 1
    assert second.subject == "model"


def test_a_model_is_not_even_loaded(folder, asked, monkeypatch):
    ask(folder)
    monkeypatch.setattr(cache, "load", lambda *_: pytest.fail("it was loaded"))
    ask(folder)


def test_it_says_so(folder, capsys):
    ask(folder)
    assert "known answers" not in capsys.readouterr().err
    ask(folder)
    assert f"{folder}: known answers to one are used; --no-cache" in capsys.readouterr().err


def test_a_copy_elsewhere_is_the_same_model(folder, asked):
    copy = shutil.copytree(folder, folder.with_name("copy"))
    ask(folder)
    found = ask(copy)
    assert len(asked) == 1
    assert found.subject == "copy"


def test_without_keeping_nothing_is_read_or_written(folder, asked):
    ask(folder, keep=False)
    assert not cache.answers_folder().exists()
    ask(folder)
    ask(folder, keep=False)
    assert len(asked) == 3


# ---------------------------------------------------------------- what decides


def flip(path):
    """Change one bit in the middle of a file, and nothing else about it."""
    content, before = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def edit(name, **changes):
    def change(folder):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def drop_template(folder):
    for path in folder.glob("chat_template*"):
        path.unlink()
    edit("tokenizer_config.json", chat_template=None)(folder)


CHANGES = {
    "one bit of the weights": lambda folder: flip(folder / "model.safetensors"),
    "the configuration": edit("config.json", rms_norm_eps=0.5),
    "how it generates": edit("generation_config.json", eos_token_id=5),
    "a token": lambda folder: edit("tokenizer_config.json", eos_token="Ġ")(folder),
    "the chat template": drop_template,
    "another template beside it": lambda folder: _template(folder),
}


def _template(folder):
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "x.jinja").write_text("x")


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_model_is_asked_again(change, folder, asked):
    first = ask(folder)
    change(folder)
    second = ask(folder)
    assert len(asked) == 2
    assert ask(folder) == second
    assert len(asked) == 2
    assert first.fingerprint == second.fingerprint


EXAMS = {
    "another choice": Exam((Question("a", "A dog says", ("woof", "moo"), 0),), (), "one"),
    "another answer": Exam((Question("a", "A dog says", ("woof", "meow"), 1),), (), "one"),
    "another group": Exam((Question("a", "A dog says", ("woof", "meow"), 0, "dogs"),), (), "one"),
    "a text more": Exam(EXAM.questions, tiny.exam().texts[:1], "one"),
    "spoken": Exam((Question("a", "A dog says", expect={"contains": "woof"}),), (), "one"),
}


@pytest.mark.parametrize("other", EXAMS.values(), ids=EXAMS)
def test_another_exam_is_asked(other, folder, asked):
    ask(folder)
    ask(folder, other)
    assert len(asked) == 2


def test_the_same_exam_may_have_another_name(folder, asked):
    ask(folder)
    assert ask(folder, replace(EXAM, name="two")).exam == "two"
    assert len(asked) == 1


@pytest.mark.parametrize("manner", [Manner(dtype="bfloat16"), Manner(batch_size=1)])
def test_another_manner_is_another_question(manner, folder, asked):
    ask(folder)
    ask(folder, manner=manner)
    ask(folder, manner=manner)
    assert len(asked) == 2


@pytest.mark.parametrize("what", ["threads", "library", "code", "processor", "gpu"])
def test_another_machine_or_version_asks_again(what, folder, asked, monkeypatch):
    ask(folder)
    if what == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    elif what == "library":
        monkeypatch.setattr(cache, "version", lambda library: f"{library} 99")
    elif what == "code":
        monkeypatch.setattr(cache, "_digest_of_code", lambda: "other")
    elif what == "processor":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "SSE")
    else:
        monkeypatch.setattr(cache, "_machine", lambda: {"gpus": ["another"]})
    ask(folder)
    assert len(asked) == 2


def test_a_change_of_the_code_is_seen(monkeypatch, tmp_path):
    package = tmp_path / "caplab" / "measuring"
    package.mkdir(parents=True)
    (package / "cache.py").write_text("a = 1\n")
    monkeypatch.setattr(cache, "__file__", str(package / "cache.py"))
    digest = cache._digest_of_code.__wrapped__
    before = digest()
    (package / "cache.py").write_text("a = 2\n")
    assert digest() != before


def test_the_base_of_an_adapter_counts(folder, asked, tmp_path):
    from peft import LoraConfig, get_peft_model

    from caplab.models.load import load

    torch.manual_seed(1)
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(load(folder).model, config).save_pretrained(tmp_path / "adapter")
    ask(tmp_path / "adapter")
    ask(tmp_path / "adapter")
    assert len(asked) == 1
    flip(folder / "model.safetensors")
    ask(tmp_path / "adapter")
    assert len(asked) == 2


def test_the_name_of_pocket_may_mean_another(folder, asked, monkeypatch):
    monkeypatch.setenv("CAPLAB_MODEL", str(folder))
    assert ask("pocket").subject == "model"
    assert ask("pocket").subject == "model"
    assert len(asked) == 1
    monkeypatch.delenv("CAPLAB_MODEL")
    assert ask("pocket").subject == "pocket"
    assert len(asked) == 2


def test_a_model_that_changes_while_it_is_asked_is_not_kept(folder, monkeypatch):
    score = cache.score

    def meanwhile(*given, **named):
        flip(folder / "model.safetensors")
        return score(*given, **named)

    monkeypatch.setattr(cache, "score", meanwhile)
    ask(folder)
    assert cache.kept_files() == [] or all(p.name == "digests.json" for p in cache.kept_files())


def test_a_file_that_changes_while_it_is_read_has_no_digest(folder, asked, monkeypatch):
    digest = cache.hashlib.file_digest

    def meanwhile(file, kind):
        found = digest(file, kind)
        os.utime(file.name)  # as the last bytes of a write do, after the first were read
        return found

    monkeypatch.setattr(cache.hashlib, "file_digest", meanwhile)
    ask(folder)
    ask(folder)
    assert len(asked) == 2
    assert cache.kept_files() == []


def test_what_is_not_on_this_disk_is_not_looked_up(monkeypatch):
    monkeypatch.setattr(cache, "load", lambda name, **_: tiny.subject())
    monkeypatch.setattr(cache, "local_folder", lambda *_: None)
    ask("somebody/something")
    assert not cache.answers_folder().exists()


# ---------------------------------------------------------------- digests


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file whose digest is worth keeping, and a count of how often it is read."""
    monkeypatch.setattr(cache, "_LARGE", 10)
    monkeypatch.setattr(cache, "_SETTLED", 0.0)
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"x" * 1000)
    reads = []
    digest = cache.hashlib.file_digest
    monkeypatch.setattr(
        cache.hashlib, "file_digest", lambda *given: reads.append(given) or digest(*given)
    )
    time.sleep(0.02)
    return path, reads


def test_a_large_file_is_read_once(large):
    path, reads = large
    assert cache._digests(path.parent) == cache._digests(path.parent)
    assert len(reads) == 1


@pytest.mark.parametrize("how", ["in place, with its old time", "replaced", "copied over"])
def test_a_changed_file_is_read_again(how, large, tmp_path):
    path, reads = large
    before = cache._digests(path.parent)
    if how == "replaced":
        (tmp_path / "new").write_bytes(b"y" * 1000)
        shutil.copystat(path, tmp_path / "new")
        os.replace(tmp_path / "new", path)
    elif how == "copied over":
        times = path.stat()
        with path.open("r+b") as file:
            file.write(b"y")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    else:
        flip(path)
    assert cache._digests(path.parent) != before
    assert len(reads) == 2


def test_a_file_that_was_just_written_is_not_trusted(large, monkeypatch):
    path, reads = large
    monkeypatch.setattr(cache, "_SETTLED", 60.0)
    cache._digests(path.parent)
    cache._digests(path.parent)
    assert len(reads) == 2, "a second change within the clock's tick would go unseen"


def test_a_forged_digest_is_not_believed(large):
    path, reads = large
    found = cache._digests(path.parent)
    kept = cache.answers_folder() / "digests.json"
    kept.write_text(kept.read_text().replace(found["a.safetensors"], "0" * 64))
    assert cache._digests(path.parent) == found
    assert len(reads) == 2


# ---------------------------------------------------------------- what is kept


def answers():
    return [path for path in cache.kept_files() if path.name != "digests.json"]


def test_the_oldest_go_first(folder, asked, monkeypatch):
    exams = [
        Exam((Question("a", f"{n} dogs say", ("woof", "meow"), 0),), (), "one") for n in range(4)
    ]
    for number, exam in enumerate(exams[:3]):
        ask(folder, exam)
        for path in answers():
            os.utime(path, (number, number)) if path.stat().st_mtime > 1000 else None
    ask(folder, exams[0])  # used again: now the second is the oldest
    size = answers()[0].stat().st_size
    monkeypatch.setattr(cache, "_MOST", 3.5 * size)
    ask(folder, exams[3])
    assert len(asked) == 4
    ask(folder, exams[0])
    assert len(asked) == 4
    ask(folder, exams[1])
    assert len(asked) == 5, "it is gone"
    assert sum(path.stat().st_size for path in answers()) < 3.5 * size


def test_drafts_of_killed_processes_go(folder):
    kept = cache.answers_folder()
    kept.mkdir(parents=True)
    (kept / ".old").touch()
    os.utime(kept / ".old", (0, 0))
    (kept / ".new").touch()
    ask(folder)
    assert not (kept / ".old").exists()
    assert (kept / ".new").exists()


def test_others_cannot_read_them(folder):
    ask(folder)
    assert cache.answers_folder().stat().st_mode & 0o077 == 0 or os.name == "nt"


def test_all_can_be_removed(folder, asked):
    ask(folder)
    assert cache.clear() >= 1
    assert cache.kept_files() == []
    assert cache.clear() == 0
    ask(folder)
    assert len(asked) == 2


def test_answers_lie_beside_what_was_fetched(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setenv("CAPLAB_CACHE", str(tmp_path))
    assert cache.answers_folder() == Path(tmp_path, "answers")
