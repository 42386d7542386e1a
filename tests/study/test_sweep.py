"""Sweeps: every run once, whoever computes it, whoever dies, wherever it was broken off."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from pathlib import Path

import caplab.sweep  # noqa: F401  (whose name is that of the function)
import joblib
import pandas as pd
import psutil
import pytest
import tiny
from drill import fault

from caplab.support.errors import BadInput
from caplab.training.recipe import Recipe

sweeping = sys.modules["caplab.sweep"]
grid, sweep = sweeping.grid, sweeping.sweep

QUICK = grid(learning_rate=[1e-3, 1e-2], steps=2, batch_size=2, seed=range(2))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random model in a folder, as users have theirs."""
    folder = tmp_path_factory.mktemp("models") / "stand-in"
    who = tiny.subject(n_positions=128)
    who.model.save_pretrained(folder)
    who.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def undisturbed(model):
    """Twelve runs, one after the other in this process."""
    return sweep(twelve(), model, n_jobs=1)


def twelve(steps=2):
    return grid(learning_rate=[1e-3, 1e-2], steps=steps, batch_size=2, seed=range(6))


def same(one, other):
    """Equal numbers, bit for bit, apart from the time that it took."""
    for table in ("runs", "points"):
        tables = [
            getattr(a, table).drop(columns=["seconds", "elapsed"], errors="ignore")
            for a in (one, other)
        ]
        pd.testing.assert_frame_equal(*tables)
    return True


def files(store):
    return {path: path.stat().st_mtime_ns for path in Path(store).rglob("*.json")}


@pytest.fixture
def pretended(monkeypatch):
    """Runs that take no time; what was run, in order, is in the list."""
    done = []

    def run(bench, recipe):
        done.append(recipe)
        levels = {
            "task": 0.5,
            "classics": 0.9,
            "smooth": 0.5,
            "language_loss": 1.0,
            "capitals": 1.0,
        }
        point = {"step": 0, "task_loss": None, "task_accuracy": 0.5, "classics_accuracy": 0.9}
        point |= {"by_capability": {"capitals": 1.0}, "smooth": 0.5, "language_loss": 1.0}
        point |= {"kl": 0.0, "learning_rate": 0.1, "elapsed": 0.0}
        known = {"replay_fraction": 0.0, "trainable_parameters": 1, "seconds": 1.0, "trouble": None}
        plain = {"recipe": json.loads(recipe.to_json()), "points": [point]}
        return plain | {"before": levels, "after": levels} | known

    monkeypatch.setattr(sweeping._Bench, "run", run)
    return done


# ---------------------------------------------------------------- grids


def test_a_grid_combines_every_value_with_every_other():
    recipes = grid(method="lora", learning_rate=[1e-4, 1e-3], seed=range(3))
    assert len(set(recipes)) == 6
    assert recipes[1] == Recipe(method="lora", learning_rate=1e-4, seed=1)
    assert grid() == [Recipe()]


def test_a_tuple_of_layers_is_one_value_and_a_list_of_them_several():
    assert len(grid(method="lora", target_modules=("c_attn", "c_fc"))) == 1
    assert len(grid(method="lora", target_modules=["attention", ("c_attn", "c_fc")])) == 2


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"lr": 1e-3}, "Did you mean 'learning_rate'"),
        ({"seed": []}, "seed has no value to try"),
        ({"rank": [4, 0]}, "rank must be a whole number from 1"),
    ],
)
def test_a_grid_refuses_what_no_recipe_could_be(axes, said):
    with pytest.raises(BadInput, match=said):
        grid(**axes)


def test_a_grid_in_a_file_shares_what_stands_at_the_top(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'steps = 9\nevery = 3\n[[grid]]\nseed = [0, 1]\n[[grid]]\nmethod = "lora"\nseed = 0\n'
    )
    recipes, every = sweeping.read_grid(path)
    assert every == 3
    assert recipes == [Recipe(steps=9), Recipe(steps=9, seed=1), Recipe(method="lora", steps=9)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps = ", "is not a grid"),
        ("[grid]\nseed = 1", "double brackets"),
        ("rnak = 3", "Did you mean 'rank'"),
        ("every = 0", "every counts the steps"),
        ("[[grid]]\nevery = 3", "no 'every'"),
    ],
)
def test_a_faulty_file_is_refused_by_its_name_and_fault(tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=rf"mine\.toml.*{said}"):
        sweeping.read_grid(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="There is no grid"):
        sweeping.read_grid(tmp_path / "none.toml")


def test_the_course_grid_covers_what_was_promised(root):
    recipes, every = sweeping.read_grid(root / "tools" / "atlas.toml")
    rates = {recipe.learning_rate for recipe in recipes}
    assert len(rates) >= 9
    assert (min(rates), max(rates)) == (1e-5, 1e-2)
    assert {recipe.rank for recipe in recipes} >= {1, 32}
    assert {recipe.replay for recipe in recipes} >= {0, 0.01, 0.5}
    assert {recipe.replay_source for recipe in recipes} == {"original", "self"}
    assert {recipe.seed for recipe in recipes} == set(range(5))
    assert every == 10


# ---------------------------------------------------------------- at the door


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"recipes": []}, "no recipe to run"),
        ({"recipes": ["full"]}, "takes Recipes.*'full'"),
        ({"n_jobs": 0}, "n_jobs counts processes"),
        ({"every": 0}, "every counts the steps"),
        ({"subject": "./pokcet"}, "no folder"),
        ({"subject": 3}, "named by a text"),
    ],
)
def test_a_sweep_refuses_at_the_door(given, said):
    with pytest.raises(BadInput, match=said):
        sweep(**{"recipes": QUICK} | given)


def test_a_store_that_cannot_be_is_refused_before_anything_is_computed(model, pretended, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be used"):
        sweep(QUICK, model, n_jobs=1, store=tmp_path / "file")
    assert not pretended


# ---------------------------------------------------------------- once, and kept


def test_equal_recipes_are_run_once(model, pretended):
    assert len(sweep(QUICK * 3, model, n_jobs=1).runs) == len(pretended) == 4


def test_a_second_sweep_runs_only_what_the_store_lacks(model, pretended, tmp_path):
    sweep(QUICK[:3], model, n_jobs=1, store=tmp_path)
    before = files(tmp_path)
    atlas = sweep(QUICK, model, n_jobs=1, store=tmp_path)
    assert pretended == QUICK
    assert atlas.recipes == QUICK
    assert files(tmp_path).items() >= before.items()


def test_other_weights_or_other_looks_are_other_runs(model, pretended, tmp_path):
    for options in ({}, {"every": 1}):
        sweep(QUICK[:1], model, n_jobs=1, store=tmp_path, **options)
    sweep(QUICK[:1], tiny.subject(seed=1), n_jobs=1, store=tmp_path)
    assert len(pretended) == len(files(tmp_path)) == 3


@pytest.mark.parametrize(
    "harm",
    [lambda text: text[: len(text) // 2], lambda text: "", lambda text: text.replace("0.9", "0.8")],
)
@fault("a file in a sweep's store is damaged", "it is set aside, its run made again")
def test_a_damaged_file_is_set_aside_and_its_run_made_again(model, pretended, tmp_path, harm):
    whole = sweep(QUICK, model, n_jobs=1, store=tmp_path)
    victim = next(iter(files(tmp_path)))
    victim.write_text(harm(victim.read_text()))
    with pytest.warns(UserWarning, match=rf"{victim.name} is damaged: it is set aside"):
        again = sweep(QUICK, model, n_jobs=1, store=tmp_path)
    assert same(whole, again)
    assert len(pretended) == 5
    assert victim.with_suffix(".damaged").exists()


def test_a_recipe_that_fails_is_listed_with_its_reason_and_tried_again(model, tmp_path):
    broken = Recipe(method="lora", target_modules=("nope",), steps=1)
    atlas = sweep([broken, *QUICK[:1]], model, n_jobs=1, store=tmp_path)
    assert list(atlas.failed["hash"]) == [broken.hash]
    assert "no linear layer 'nope'" in atlas.failed["reason"][0]
    assert atlas.recipes == QUICK[:1]
    assert len(files(tmp_path)) == 1


def test_a_run_that_diverged_is_kept_with_its_trouble(model):
    (row,) = sweep(Recipe(learning_rate=1e6, steps=30), model, n_jobs=1).runs.to_dict("records")
    assert "Diverged" in row["trouble"]
    assert row["classics"] != row["classics"]  # not a number: nothing came of it


def test_a_sweep_that_is_interrupted_says_what_is_kept(
    model, pretended, tmp_path, monkeypatch, capsys
):
    run = sweeping._Bench.run

    def impatient(bench, recipe):
        if len(pretended) == 2:
            raise KeyboardInterrupt
        return run(bench, recipe)

    monkeypatch.setattr(sweeping._Bench, "run", impatient)
    with pytest.raises(KeyboardInterrupt):
        sweep(QUICK, model, n_jobs=1, store=tmp_path)
    assert f"2 of 4 runs are kept in {tmp_path}" in capsys.readouterr().err
    assert len(files(tmp_path)) == 2


def test_a_run_cut_short_by_ctrl_c_is_never_taken_for_a_whole_one(model, tmp_path, monkeypatch):
    def cut(subject, recipe, **options):
        def stop(point):
            raise KeyboardInterrupt

        return tune(subject, recipe, every=1, on_point=lambda p: stop(p) if p.step else None)

    tune = sweeping.fine_tune
    monkeypatch.setattr(sweeping, "fine_tune", cut)
    with pytest.raises(KeyboardInterrupt):
        sweep(QUICK, model, n_jobs=1, store=tmp_path)
    assert not files(tmp_path)


# ---------------------------------------------------------------- whoever computes it


def test_a_subject_in_memory_is_swept_like_its_folder(model, undisturbed):
    who = tiny.subject(n_positions=128)
    atlas = sweep(twelve()[:2], who, n_jobs=1)
    assert atlas.about["subject"] == "gpt2"
    assert atlas.about["weights"] == undisturbed.about["weights"]
    levels = ["task", "classics", "smooth", "kl"]
    assert atlas.runs[levels].equals(undisturbed.runs[levels][:2])


def test_a_worker_that_finds_other_weights_refuses(model, tmp_path):
    bench = sweeping._Bench.of(model, None)
    other = replace(bench, weights="another digest")
    assert "other weights in this process" in sweeping._attempt(other, QUICK[0])["reason"]


def test_the_callers_number_of_threads_is_left_as_it_was(model):
    import torch

    before = torch.get_num_threads()
    sweep(QUICK[:1], model, n_jobs=1)
    assert torch.get_num_threads() == before


class Died(BrokenExecutor):
    pass


def deadly(monkeypatch, victims):
    """Let a worker die whenever it gets a recipe that is still on the list."""
    attempt = sweeping._attempt

    def maybe(bench, recipe):
        if recipe in victims:
            victims.remove(recipe)
            raise Died
        return attempt(bench, recipe)

    monkeypatch.setattr(sweeping, "_attempt", maybe)


def test_what_a_dead_worker_had_in_hand_is_done_again(model, pretended, monkeypatch):
    deadly(monkeypatch, [QUICK[1]])
    with joblib.parallel_config(backend="threading"):
        atlas = sweep(QUICK, model, n_jobs=2)
    assert atlas.recipes == QUICK
    assert atlas.failed.empty


@fault("a recipe kills every worker", "it is listed with its reason, the others go on")
def test_a_recipe_that_kills_every_worker_is_given_up_and_the_others_are_not(
    model, pretended, monkeypatch
):
    deadly(monkeypatch, [QUICK[1]] * 99)
    with joblib.parallel_config(backend="threading"):
        atlas = sweep(QUICK, model, n_jobs=2)
    assert atlas.recipes == [QUICK[0], *QUICK[2:]]
    assert list(atlas.failed["hash"]) == [QUICK[1].hash]
    assert "its worker died 3 times, at last working alone" in atlas.failed["reason"][0]


@fault("a sweep's worker is killed (SIGKILL)", "every run once, the same numbers")
@pytest.mark.slow
def test_kill_9_of_a_worker_in_the_middle_loses_and_changes_nothing(model, undisturbed, tmp_path):
    store, killed = tmp_path / "store", []

    def murder():
        while len(files(store)) < 3:
            time.sleep(0.02)
        workers = [p for p in psutil.Process().children() if "loky" in " ".join(p.cmdline())]
        busy = max(workers, key=lambda worker: sum(worker.cpu_times()[:2]))
        busy.send_signal(signal.SIGKILL)
        killed.append(busy)

    threading.Thread(target=murder, daemon=True).start()
    atlas = sweep(twelve(), model, n_jobs=2, store=store)
    assert killed
    assert same(atlas, undisturbed)
    assert len(files(store)) == 12


SCRIPT = """
import sys
from caplab.sweep import grid, sweep
recipes = grid(learning_rate=[1e-3, 1e-2], steps=2, batch_size=2, seed=range(6))
sweep(recipes, sys.argv[1], n_jobs=1, store=sys.argv[2])
"""


@fault("a sweep is killed as a whole", "it goes on where it was, nothing is repeated")
@pytest.mark.slow
def test_a_sweep_killed_as_a_whole_goes_on_where_it_was(model, undisturbed, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, model, str(tmp_path)])
    while len(files(tmp_path)) < 3:
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    child.kill()
    child.wait()
    before = files(tmp_path)
    assert len(before) < 12
    assert same(sweep(twelve(), model, n_jobs=1, store=tmp_path), undisturbed)
    assert files(tmp_path).items() >= before.items()
    assert not list(tmp_path.rglob("*.damaged"))


FREED_AND_TAKEN = """
import resource, sys
import torch
from caplab import sweep
module = sys.modules["caplab.sweep"]
if sys.argv[1] == "kept":
    module._keep_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        torch.ones(1_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone reads the variable")
def test_memory_is_kept_between_steps_where_dask_would_have_it_given_back():
    where = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}

    def faults(how):
        run = [sys.executable, "-c", FREED_AND_TAKEN, how]
        return int(subprocess.run(run, env=where, capture_output=True, check=True).stdout)

    assert faults("given back") > 10_000
    assert faults("kept") < 1_000


@pytest.mark.slow
def test_dask_finds_the_same_numbers(model, undisturbed):
    from distributed import LocalCluster

    options = {"processes": False, "protocol": "tcp://", "dashboard_address": None}
    cluster = LocalCluster(2, threads_per_worker=1, **options)
    with cluster, sweeping.on_dask(cluster.scheduler_address):
        assert same(sweep(twelve(), model), undisturbed)


def test_a_cluster_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(sweeping, "_PATIENCE_FOR_DASK", 0.5)
    answers = pytest.raises(BadInput, match=r"No Dask scheduler answers at tcp://127.0.0.1:9")
    with answers, sweeping.on_dask("tcp://127.0.0.1:9"):
        pytest.fail("it answered")


# ---------------------------------------------------------------- before it begins


def test_a_forecast_counts_what_is_missing_and_leaves_nothing_behind(
    model, pretended, tmp_path, monkeypatch
):
    sweep(QUICK[:1], model, n_jobs=1, store=tmp_path)
    pace = {5: 1.0, 15: 2.0}
    monkeypatch.setattr(sweeping, "_timed", lambda bench, recipe: pace[recipe.steps])
    recipes = [recipe.change(batch_size=8) for recipe in QUICK]
    found = sweeping.forecast([*recipes, QUICK[0]], model, n_jobs=2, store=tmp_path)
    assert (found.runs, found.stored) == (5, 1)
    assert found.seconds == pytest.approx(4 * (0.5 + 2 * 0.1) / 2)
    assert str(found) == "5 runs, 1 of them stored already: about a minute or two in 2 processes"
    assert len(files(tmp_path)) == 1


# ---------------------------------------------------------------- the command line


def test_the_command_line_sweeps_a_grid_and_writes_the_atlas(model, pretended, tmp_path, capsys):
    from caplab.cli.commands import main
    from caplab.study.atlas import atlas

    path = tmp_path / "mine.toml"
    path.write_text("steps = 2\nseed = [0, 1]\n")
    assert main(["sweep", str(path), "--model", model, "--jobs", "1"]) == 0
    assert len(atlas(tmp_path / "mine.parquet").runs) == 2
    assert main(["sweep", str(path), "--model", model, "--jobs", "1"]) == 0
    assert len(pretended) == 2
    assert "2" in capsys.readouterr().out


def test_the_command_line_fails_when_a_recipe_does(model, tmp_path, capsys):
    from caplab.cli.commands import main

    path = tmp_path / "mine.toml"
    path.write_text('method = "lora"\ntarget_modules = [["nope"]]\nsteps = 1\n')
    assert main(["sweep", str(path), "--model", model, "--jobs", "1"]) == 2
    assert "no linear layer 'nope'" in capsys.readouterr().err


# ---------------------------------------------------------------- the tool


def test_the_tool_makes_an_atlas_of_any_model_with_the_same_command(model, root, tmp_path):
    path, out = tmp_path / "grid.toml", tmp_path / "atlas.parquet"
    path.write_text('steps = 2\nevery = 1\n[[grid]]\nmethod = ["full", "lora"]\n')
    command = [sys.executable, str(root / "tools" / "build_atlas.py"), "--model", model]
    command += ["--grid", str(path), "--out", str(out), "--store", str(tmp_path), "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "atlas.parquet: 0.0 MB" in done.stdout
    assert len(files(tmp_path)) == 2
