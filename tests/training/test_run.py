"""A run: saved and loaded, as a table, in words."""

import json
import os
from dataclasses import asdict

import pytest
import tiny
from tuning import LORA, QUICK, tune

from caplab.measuring.score import score
from caplab.support.errors import BadInput
from caplab.training.run import Run


def test_a_run_comes_back_from_its_folder(tmp_path):
    run = tune(QUICK.change(replay=0.5))
    folder = run.save(tmp_path / "a" / "run")
    again = Run.load(folder)
    names = ("before", "before_task", "final", "final_task", "run")
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.json" for name in names]
    assert again.subject is None
    for name in ("recipe", "points", "cards", "versions", "seconds", "replay_fraction", "base"):
        assert getattr(again, name) == getattr(run, name)
    assert repr(again) == repr(run)
    with pytest.raises(BadInput, match="without weights"):
        again.save(tmp_path / "b", weights=True)


@pytest.mark.parametrize("recipe", [QUICK, LORA])
def test_saved_weights_answer_as_before(recipe, tmp_path):
    base = tiny.subject()
    base.model.save_pretrained(tmp_path / "base")
    base.tokenizer.save_pretrained(tmp_path / "base")
    base.model.name_or_path = base.model.config.name_or_path = str(tmp_path / "base")
    run = tune(recipe, base)
    folder = run.save(tmp_path / "run", weights=True)
    names = {path.name for path in (folder / "weights").iterdir()}
    assert ("adapter_model.safetensors" in names) == (recipe.method == "lora")
    assert ("model.safetensors" in names) == (recipe.method == "full")
    tuned = Run.load(folder).subject
    for mine, theirs in zip(
        score(tuned, tiny.exam()).loglikelihoods, run.final.loglikelihoods, strict=True
    ):
        assert mine == pytest.approx(theirs, abs=1e-4)


def test_an_unfinished_run_is_refused(tmp_path, monkeypatch):
    run = tune()
    with monkeypatch.context() as broken:
        broken.setattr(json, "dumps", None)  # the pen breaks
        with pytest.raises(TypeError):
            run.save(tmp_path / "run")
    with pytest.raises(BadInput, match="no complete run"):
        Run.load(tmp_path / "run")


@pytest.mark.parametrize("fails_at", range(12))
def test_the_older_run_stays_until_the_newer_is_whole(fails_at, tmp_path, monkeypatch):
    older, newer = tune(), tune(QUICK.change(steps=3))
    folder = older.save(tmp_path / "run", weights=True)
    (folder / "notes.txt").write_text("mine")
    (folder / "run.json").chmod(0o600)
    moves, replace = [], os.replace

    def move(*paths):
        moves.append(paths)
        if len(moves) == fails_at:
            raise OSError(28, "No space left on device")
        replace(*paths)

    monkeypatch.setattr(os, "replace", move)
    expected = newer
    try:
        newer.save(folder)
    except BadInput:
        expected = older
    monkeypatch.undo()
    assert Run.load(folder).points == expected.points
    assert (Run.load(folder).subject is None) == (expected is newer)
    assert (folder / "run.json").stat().st_mode & 0o777 == 0o600
    assert (folder / "notes.txt").read_text() == "mine"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_the_table_of_points():
    run = tune(every=3)
    table = run.to_pandas()
    assert list(table.step) == [0, 3, 6]
    assert set(table.columns) >= {"task_loss", "kl", "capitals", "arithmetic", "how-to"}
    assert list(table["how-to"]) == [point.by_capability["how-to"] for point in run.points]


def test_names_are_escaped():
    who = tiny.subject()
    who.name = "<script>alert(1)</script>"
    run = tune(who=who)
    assert "<script>" not in run._repr_html_()
    assert "steps: 6 in" in repr(run)


def test_a_point_is_plain_data():
    point = tune().points[-1]
    assert type(point)(**json.loads(json.dumps(asdict(point)))) == point
