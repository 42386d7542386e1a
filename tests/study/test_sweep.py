"""Sweeps: every run once, whoever computes it, whoever dies, wherever it was interrupted."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor

import joblib
import psutil
import pytest
import tiny
from drill import fault
from sweeps import QUICK, TWELVE, kept_runs, same_runs

from caplab.study import sweep as sweeping
from caplab.study import workers
from caplab.study.sweep import estimate_sweep, sweep
from caplab.study.workers import SweepSetup
from caplab.support.errors import BadInput
from caplab.training.recipe import Recipe

# ---------------------------------------------------------------- at the door


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"recipes": []}, "no recipe to run"),
        ({"recipes": ["full"]}, "takes Recipes.*'full'"),
        ({"n_jobs": 0}, "n_jobs counts processes"),
        ({"every": 0}, "every counts the steps"),
        ({"subject": "./pokcet"}, "no folder"),
        ({"subject": 3}, "named by a string"),
    ],
)
def test_nonsense_is_refused_at_the_door(given, said):
    with pytest.raises(BadInput, match=said):
        sweep(**{"recipes": QUICK} | given)


def test_a_bad_store_is_refused_before_any_run(model, pretended, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be used"):
        sweep(QUICK, model, n_jobs=1, store=tmp_path / "file")
    assert not pretended


# ---------------------------------------------------------------- once, and kept


def test_equal_recipes_are_run_once(model, pretended):
    assert len(sweep(QUICK * 3, model, n_jobs=1).runs) == len(pretended) == 4


def test_a_second_sweep_runs_what_is_missing(model, pretended, tmp_path):
    sweep(QUICK[:3], model, n_jobs=1, store=tmp_path)
    before = kept_runs(tmp_path)
    atlas = sweep(QUICK, model, n_jobs=1, store=tmp_path)
    assert pretended == QUICK
    assert atlas.recipes == QUICK
    assert kept_runs(tmp_path).items() >= before.items()


def test_other_weights_are_other_runs(model, pretended, tmp_path):
    for options in ({}, {"every": 1}):
        sweep(QUICK[:1], model, n_jobs=1, store=tmp_path, **options)
    sweep(QUICK[:1], tiny.subject(seed=1), n_jobs=1, store=tmp_path)
    assert len(pretended) == len(kept_runs(tmp_path)) == 3


@pytest.mark.parametrize(
    "harm",
    [lambda text: text[: len(text) // 2], lambda text: "", lambda text: text.replace("0.9", "0.8")],
)
@fault("a file in a sweep's store is damaged", "it is set aside, its run made again")
def test_a_damaged_file_is_set_aside(model, pretended, tmp_path, harm):
    whole = sweep(QUICK, model, n_jobs=1, store=tmp_path)
    victim = next(iter(kept_runs(tmp_path)))
    victim.write_text(harm(victim.read_text()))
    with pytest.warns(UserWarning, match=rf"{victim.name} is damaged: it is set aside"):
        again = sweep(QUICK, model, n_jobs=1, store=tmp_path)
    assert same_runs(whole, again)
    assert len(pretended) == 5
    assert victim.with_suffix(".damaged").exists()


def test_a_failure_is_listed_with_its_reason(model, tmp_path):
    broken = Recipe(method="lora", target_modules=("nope",), steps=1)
    atlas = sweep([broken, *QUICK[:1]], model, n_jobs=1, store=tmp_path)
    assert list(atlas.failed["hash"]) == [broken.hash]
    assert "no linear layer 'nope'" in atlas.failed["reason"][0]
    assert atlas.recipes == QUICK[:1]
    assert len(kept_runs(tmp_path)) == 1


def test_a_diverged_run_is_kept(model):
    (row,) = sweep(Recipe(learning_rate=1e6, steps=30), model, n_jobs=1).runs.to_dict("records")
    assert "Diverged" in row["trouble"]
    assert row["classics_accuracy"] != row["classics_accuracy"]  # not a number: nothing came of it


def test_an_interrupt_says_what_is_kept(model, pretended, tmp_path, monkeypatch, capsys):
    run = SweepSetup.run

    def impatient(setup, recipe):
        if len(pretended) == 2:
            raise KeyboardInterrupt
        return run(setup, recipe)

    monkeypatch.setattr(SweepSetup, "run", impatient)
    with pytest.raises(KeyboardInterrupt):
        sweep(QUICK, model, n_jobs=1, store=tmp_path)
    assert f"2 of 4 runs are kept in {tmp_path}" in capsys.readouterr().err
    assert len(kept_runs(tmp_path)) == 2


def test_a_run_cut_short_is_not_kept(model, tmp_path, monkeypatch):
    def cut(subject, recipe, **options):
        def stop(point):
            raise KeyboardInterrupt

        return tune(subject, recipe, every=1, on_point=lambda p: stop(p) if p.step else None)

    tune = workers.fine_tune
    monkeypatch.setattr(workers, "fine_tune", cut)
    with pytest.raises(KeyboardInterrupt):
        sweep(QUICK, model, n_jobs=1, store=tmp_path)
    assert not kept_runs(tmp_path)


@pytest.mark.slow
def test_memory_is_swept_like_a_folder(model, undisturbed):
    who = tiny.subject(n_positions=128)
    atlas = sweep(TWELVE[:2], who, n_jobs=1)
    assert atlas.about["subject"] == "gpt2"
    assert atlas.about["weights"] == undisturbed.about["weights"]
    levels = ["task_accuracy", "classics_accuracy", "smooth", "kl"]
    assert atlas.runs[levels].equals(undisturbed.runs[levels][:2])


# ---------------------------------------------------------------- when a worker dies


class Died(BrokenExecutor):
    pass


def deadly(monkeypatch, victims):
    """Let a worker die whenever it gets a recipe that is still on the list."""
    attempt = workers.attempt_run

    def maybe(setup, recipe):
        if recipe in victims:
            victims.remove(recipe)
            raise Died
        return attempt(setup, recipe)

    monkeypatch.setattr(workers, "attempt_run", maybe)


def test_runs_of_a_dead_worker_are_repeated(model, pretended, monkeypatch):
    deadly(monkeypatch, [QUICK[1]])
    with joblib.parallel_config(backend="threading"):
        atlas = sweep(QUICK, model, n_jobs=2)
    assert atlas.recipes == QUICK
    assert atlas.failed.empty


@fault("a recipe kills every worker", "it is listed with its reason, the others go on")
def test_a_recipe_that_kills_is_given_up(model, pretended, monkeypatch):
    deadly(monkeypatch, [QUICK[1]] * 99)
    with joblib.parallel_config(backend="threading"):
        atlas = sweep(QUICK, model, n_jobs=2)
    assert atlas.recipes == [QUICK[0], *QUICK[2:]]
    assert list(atlas.failed["hash"]) == [QUICK[1].hash]
    assert "its worker died 3 times, at last working alone" in atlas.failed["reason"][0]


@fault("a sweep's worker is killed (SIGKILL)", "every run once, the same numbers")
@pytest.mark.slow
def test_kill_9_of_a_worker_changes_nothing(model, undisturbed, tmp_path):
    store, killed = tmp_path / "store", []

    def murder():
        while len(kept_runs(store)) < 3:
            time.sleep(0.02)
        workers = [p for p in psutil.Process().children() if "loky" in " ".join(p.cmdline())]
        busy = max(workers, key=lambda worker: sum(worker.cpu_times()[:2]))
        busy.send_signal(signal.SIGKILL)
        killed.append(busy)

    threading.Thread(target=murder, daemon=True).start()
    atlas = sweep(TWELVE, model, n_jobs=2, store=store)
    assert killed
    assert same_runs(atlas, undisturbed)
    assert len(kept_runs(store)) == 12


SCRIPT = """
import sys
from caplab.study.grid import grid
from caplab.study.sweep import sweep
recipes = grid(learning_rate=[1e-3, 1e-2], steps=2, batch_size=2, seed=range(6))
sweep(recipes, sys.argv[1], n_jobs=1, store=sys.argv[2])
"""


@fault("a sweep is killed as a whole", "it goes on where it was, nothing is repeated")
@pytest.mark.slow
def test_a_killed_sweep_goes_on(model, undisturbed, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, model, str(tmp_path)])
    while len(kept_runs(tmp_path)) < 3:
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    child.kill()
    child.wait()
    before = kept_runs(tmp_path)
    assert len(before) < 12
    assert same_runs(sweep(TWELVE, model, n_jobs=1, store=tmp_path), undisturbed)
    assert kept_runs(tmp_path).items() >= before.items()
    assert not list(tmp_path.rglob("*.damaged"))


# ---------------------------------------------------------------- before it begins


def test_an_estimate_counts_what_is_missing(model, pretended, tmp_path, monkeypatch):
    sweep(QUICK[:1], model, n_jobs=1, store=tmp_path)
    pace = {5: 1.0, 15: 2.0}
    monkeypatch.setattr(sweeping, "_seconds_of", lambda setup, recipe: pace[recipe.steps])
    recipes = [recipe.change(batch_size=8) for recipe in QUICK]
    found = estimate_sweep([*recipes, QUICK[0]], model, n_jobs=2, store=tmp_path)
    assert (found.runs, found.stored) == (5, 1)
    assert found.seconds == pytest.approx(4 * (0.5 + 2 * 0.1) / 2)
    assert str(found) == "5 runs, 1 of them stored already: about a minute or two in 2 processes"
    assert len(kept_runs(tmp_path)) == 1


# ---------------------------------------------------------------- the command line


def test_the_command_line_writes_an_atlas(model, pretended, tmp_path, capsys):
    from caplab.cli.commands import main
    from caplab.study.atlas import atlas

    path = tmp_path / "mine.toml"
    path.write_text("steps = 2\nseed = [0, 1]\n")
    assert main(["sweep", str(path), "--model", model, "--jobs", "1"]) == 0
    assert len(atlas(tmp_path / "mine.parquet").runs) == 2
    assert main(["sweep", str(path), "--model", model, "--jobs", "1"]) == 0
    assert len(pretended) == 2
    assert "2" in capsys.readouterr().out


def test_the_command_line_fails_with_a_recipe(model, tmp_path, capsys):
    from caplab.cli.commands import main

    path = tmp_path / "mine.toml"
    path.write_text('method = "lora"\ntarget_modules = [["nope"]]\nsteps = 1\n')
    assert main(["sweep", str(path), "--model", model, "--jobs", "1"]) == 2
    assert "no linear layer 'nope'" in capsys.readouterr().err


# ---------------------------------------------------------------- the tool


@pytest.mark.slow
def test_the_tool_takes_any_model(model, root, tmp_path):
    path, out = tmp_path / "grid.toml", tmp_path / "atlas.parquet"
    path.write_text('steps = 2\nevery = 1\n[[grid]]\nmethod = ["full", "lora"]\n')
    command = [sys.executable, str(root / "tools" / "build_atlas.py"), "--model", model]
    command += ["--grid", str(path), "--out", str(out), "--store", str(tmp_path), "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "atlas.parquet: 0.0 MB" in done.stdout
    assert len(kept_runs(tmp_path)) == 2
