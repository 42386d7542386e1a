"""No output of a command harms what it reads, or a file that no earlier command of ours wrote."""

import os
import shutil
from pathlib import Path

import pytest
from drill import fault
from gated import exam_of, saved

from caplab.cli import commands
from caplab.models import hub
from caplab.watching import gate as gating

FORMS = ("json", "html", "markdown", "junit")
LINKS = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")


@pytest.fixture
def here(at, monkeypatch):
    """An exam, answers before and after, and a model; no command may come to compute anything."""
    saved(at.folder, exam_of())
    at.folder_of_model()
    (at.folder / "policy.toml").write_text("budget = 0.1\n")
    (at.folder / "good.toml").write_text("steps = 2\n")
    (at.folder / "notes.txt").write_text("what somebody wrote\n")
    for name in ("scorecard_of", "gate"):
        monkeypatch.setattr(gating, name, lambda *_, **__: pytest.fail("it computed something"))
    monkeypatch.chdir(at.folder)
    return at.folder


def everything(folder):
    """What lies in a folder: contents, modes and where links lead."""
    paths = sorted(folder.rglob("*"))
    return {
        path: (path.lstat().st_mode, path.is_symlink() and os.readlink(path), _content(path))
        for path in paths
    }


def _content(path):
    return path.read_bytes() if path.is_file() else None


def refuses(line, folder, capsys, *words):
    """Check that a command ends at once, says why, and leaves everything as it was."""
    before = everything(folder)
    assert commands.main(line.split()) == 2
    said = capsys.readouterr().err
    assert everything(folder) == before
    assert said.count("\n") == 1, said
    assert [word for word in words if word not in said] == [], said


GATE = "gate before.json after.json --exam exam.jsonl"


@fault("a result is to go where an input lies", "refused before anything is deleted or computed")
@pytest.mark.parametrize(
    "line",
    [
        "score model --exam exam.jsonl --json exam.jsonl",
        "score model --exam ./exam.jsonl --json model/../exam.jsonl",
        "score before.json --json before.json",
        *(f"{GATE} --{form} exam.jsonl" for form in FORMS),
        *(f"{GATE} --{form} after.json" for form in FORMS),
        f"{GATE} --policy policy.toml --html policy.toml",
        "sweep good.toml --out good.toml",
        "score model --exam exam.jsonl --json EXAM.jsonl",
        f"{GATE} --html Before.JSON",
    ],
)
def test_output_that_is_an_input(line, here, capsys):
    refuses(line, here, capsys, "is an input")


@fault("a result is to go into a model's folder", "refused before anything is deleted or computed")
@pytest.mark.parametrize(
    "line",
    [
        *(f"gate model after.json --{form} model/config.json" for form in FORMS),
        *(f"gate model model --{form} model/new.file" for form in FORMS),
        "score model --json model/card.json",
        "score . --json card.json",
        "score model --json model/../model/sub/../card.json",
        "sweep good.toml --model model --out model/atlas.parquet",
        "sweep good.toml --model model --store model/runs",
    ],
)
def test_output_inside_an_input(line, here, capsys):
    (here / "model" / "sub").mkdir()
    refuses(line, here, capsys, "inside", "model" if "score ." not in line else ".")


@fault("a watch is to write where an input or a checkpoint lies", "refused; nothing is cut")
@pytest.mark.parametrize(
    "line",
    [
        "--log exam.jsonl --exam exam.jsonl",
        "--log one.jsonl --exam one.jsonl",
        "--log policy.toml --policy policy.toml",
        "--log model/log.jsonl",
        "--log model/config.json",
        "--log run/checkpoint-1/config.json",
        "--log run/checkpoint-1/log.jsonl",
        "--log notes.txt",
        "--stop-file model/stop",
        "--stop-file exam.jsonl --exam exam.jsonl",
        "--board model/board",
        "--log a --stop-file a",
    ],
)
def test_watch_that_would_write_over_an_input(line, here, capsys):
    (here / "run" / "checkpoint-1").mkdir(parents=True)
    shutil.copytree(here / "model", here / "run" / "checkpoint-1", dirs_exist_ok=True)
    question = '{"capability": "a", "prompt": "b", "choices": ["c", "d"], "answer": 0}'
    (here / "one.jsonl").write_text(question)  # one line, and no line break at its end
    refuses(f"watch run --once --base model {line}", here, capsys)


@fault("a result is to go into the base of an adapter", "refused, although nobody named the base")
def test_output_inside_a_base(here, capsys):
    (here / "adapter").mkdir()
    config = f'{{"base_model_name_or_path": "{here / "model"}"}}'
    (here / "adapter" / "adapter_config.json").write_text(config)
    (here / "inner").mkdir()
    (here / "inner" / "adapter_config.json").write_text('{"base_model_name_or_path": "adapter"}')
    for name in ("adapter", "inner"):
        refuses(f"score {name} --json model/card.json", here, capsys, "inside")


@fault("a result is to go into the model that comes with the lab", "refused")
@pytest.mark.parametrize("name", ["config.json", "card.json", "../classics.jsonl"])
def test_output_inside_pocket(name, here, monkeypatch, capsys):
    (here / "assets").mkdir()
    (here / "model").rename(here / "assets" / "pocket")
    (here / "exam.jsonl").rename(here / "assets" / "classics.jsonl")
    monkeypatch.setattr(hub, "files", lambda _: here)
    refuses(f"score pocket --json assets/pocket/{name}", here, capsys)


@fault("a result is to go into a model of the hub's cache", "refused")
def test_output_inside_the_hub_cache(here, capsys, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(here / "hub"))
    snapshot = here / "hub" / "models--some--model" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    refuses(f"score some/model --json {snapshot / 'card.json'}", here, capsys, "inside")


@fault("an output is the weights of a model under another name", "refused")
@LINKS
def test_output_that_is_a_models_file(here, capsys):
    (here / "weights").hardlink_to(here / "model" / "model.safetensors")
    refuses("score model --json weights", here, capsys, "is an input")


@fault("an input and a result are one file under two names", "seen through links of both kinds")
@LINKS
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("target", ["exam.jsonl", "before.json", "model/config.json"])
def test_output_that_links_to_an_input(link, target, here, capsys):
    link(here / "other.json", here / target)
    refuses("gate before.json model --exam exam.jsonl --json other.json", here, capsys, "other")


@fault("an input is a link, and a result is to go where it leads", "refused")
@LINKS
def test_output_where_an_input_leads(here, capsys):
    (here / "link.jsonl").symlink_to("exam.jsonl")
    refuses("score model --exam link.jsonl --json exam.jsonl", here, capsys, "is an input")
    (here / "short").symlink_to("model")
    refuses("score short --json model/card.json", here, capsys, "inside")
    refuses("score model --json short/card.json", here, capsys, "inside")
    weights = here / "model" / "model.safetensors"
    (here / "store").mkdir()
    weights.rename(here / "store" / "blob")
    weights.symlink_to(here / "store" / "blob")
    refuses("score model --json store/blob", here, capsys, "blob")


@fault("two results are to go to one place", "refused, under whatever names")
@LINKS
@pytest.mark.parametrize(
    "pair",
    ["a.out a.out", "a.out ./a.out", "a.out A.OUT", "é.out é.out", "a.out link", "b.out hard"],
)
def test_two_outputs_in_one_place(pair, here, capsys):
    (here / "link").symlink_to("a.out")
    (here / "b.out").touch()
    (here / "hard").hardlink_to("b.out")
    one, other = pair.split()
    refuses(f"{GATE} --html {one} --junit {other}", here, capsys, "another output")


@fault("a result is to replace what somebody else wrote", "refused; an earlier result is replaced")
@pytest.mark.parametrize(
    "line",
    [
        *(f"{GATE} --{form} notes.txt" for form in FORMS),
        "score model --json notes.txt",
        "score model --json model.json",
        "sweep good.toml --model model --out notes.txt",
        "score before.json --json after.html",
        f"{GATE} --json third.json",
    ],
)
def test_output_over_a_file_of_others(line, here, capsys):
    (here / "model.json").write_text('{"format": "mine"}')
    (here / "after.html").write_text("<!doctype html><p>caplab gate</p>")
    shutil.copy(here / "after.json", here / "third.json")
    refuses(line, here, capsys, "not an earlier")


@fault("one of several results cannot be written", "all are checked before the first is deleted")
@pytest.mark.parametrize("bad", ["no/a.xml", "model", "notes.txt", "exam.jsonl"])
def test_nothing_is_deleted_before_all_is_checked(bad, here, capsys):
    (here / "gate.json").write_text('{\n "format": "caplab gate 2"\n}')
    refuses(f"{GATE} --json gate.json --junit {bad}", here, capsys, Path(bad).name)


@fault("the job's summary is an input, or lies in a model's folder", "refused")
@pytest.mark.parametrize("name", ["exam.jsonl", "model/summary.md", "model/config.json", "link"])
def test_summary_that_is_an_input(name, here, capsys, monkeypatch):
    (here / "link").symlink_to("before.json")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(here / name))
    refuses("gate before.json model --exam exam.jsonl", here, capsys, "input")


@fault("an earlier result is a link, or may be read by few", "the link and the mode are kept")
@LINKS
@pytest.mark.parametrize("form", FORMS)
def test_link_and_mode_are_kept(form, at, capsys):
    given = saved(at.folder, exam_of())
    (at.folder / "there").mkdir()
    real, link = at.folder / "there" / "real", at.folder / "result"
    link.symlink_to("there/real")
    before = None
    for mode in (0o600, 0o640, 0o444):
        assert commands.main([*given, f"--{form}={link}"]) == 0, capsys.readouterr().err
        assert link.is_symlink()
        assert os.readlink(link) == "there/real"
        assert real.stat().st_size > 100
        assert before in (None, real.stat().st_mode & 0o777), "the mode is lost"
        real.chmod(mode)
        before = mode


@fault("a link leads to where no folder is", "refused before anything is computed")
@LINKS
def test_link_to_no_folder(here, capsys):
    (here / "dangling").symlink_to("no/where.json")
    refuses(f"{GATE} --json dangling", here, capsys, "dangling")


@fault("a command fails after its earlier results were removed", "no old result, no empty file")
@pytest.mark.parametrize("form", FORMS)
def test_a_failed_command_leaves_no_result(form, at, monkeypatch, capsys):
    given, out = saved(at.folder, exam_of()), at.folder / "result"
    assert commands.main([*given, f"--{form}={out}"]) == 0

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert commands.main([*given, f"--{form}={out}"]) == 2
    assert "No space left" in capsys.readouterr().err
    assert not out.exists()
