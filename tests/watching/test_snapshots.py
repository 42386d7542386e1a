"""The weights that a rollback returns to: when they can be kept, and when that has to be said."""

import shutil
from dataclasses import replace

import pytest
import tiny
import torch
from drill import fault
from guarded import Keep, known, model, trainer
from transformers import AutoModelForCausalLM, TrainerCallback
from weights import same, weights

from caplab import RegressionGuard
from caplab.measuring.score import score
from caplab.support.errors import BadInput
from caplab.support.files import read_sealed, write_sealed
from caplab.watching import guard as guard_module
from caplab.watching.ranks import Ranks
from caplab.watching.snapshots import Snapshots


class Killed(RuntimeError):  # noqa: N818
    """Stands in for SIGKILL: the Trainer tidies nothing up."""


class Kill(TrainerCallback):
    """Ends the training right after a checkpoint."""

    def __init__(self, step):
        self.step = step

    def on_save(self, args, state, control, **_):
        if state.global_step == self.step:
            raise Killed


class Change(TrainerCallback):
    """Changes the model before a step."""

    def __init__(self, step, work):
        self.step, self.work = step, work

    def on_step_begin(self, args, state, control, model, **_):
        if state.global_step == self.step:
            self.work(model)


def freeze(plain, part):
    for name, weight in plain.named_parameters():
        weight.requires_grad = part not in name
    return plain


def thaw(plain):
    for weight in plain.parameters():
        weight.requires_grad = True


# ---------------------------------------------------------------- layers that come and go


@fault("layers are unfrozen after a guard kept weights", "a rollback puts them back, too")
@pytest.mark.parametrize("folder", [None, "kept"])
def test_layers_unfrozen_later_are_put_back(tmp_path, forgetting, folder):
    """They were frozen at the snapshot, and trained since."""
    forgetting(0, 0, 30, 30)
    keep = Keep()
    snapshots = folder and tmp_path / folder
    guard = RegressionGuard(known(), every=2, action="rollback", snapshots=snapshots)
    # As long as the optimiser was told of all layers: it skips those that are frozen.
    run = trainer(tmp_path, keep, guard, Change(2, thaw), of=model())
    run.create_optimizer()
    freeze(run.model, "h.1.")
    run.train()
    assert guard.restored_step == 2
    assert not same(keep.weights[2], keep.weights[6])
    assert same(weights(run.model), keep.weights[2])


def test_layers_frozen_later_are_put_back(tmp_path, forgetting):
    """They were trained after the snapshot, and then frozen as they were."""
    forgetting(0, 30, 30)
    keep, guard = Keep(), RegressionGuard(known(), every=2, action="rollback")
    late = Change(2, lambda plain: freeze(plain, "h.1."))
    run = trainer(tmp_path, keep, guard, late)
    run.train()
    assert guard.restored_step == 0
    assert same(weights(run.model), keep.weights[0])


def longer(plain):
    plain.transformer.wpe = torch.nn.Embedding(70, 32)


def renamed(plain):
    plain.transformer.added = torch.nn.Linear(2, 2)


@fault("a model gets other weights while it trains", "no rollback is claimed")
@pytest.mark.parametrize("work", [longer, renamed])
def test_another_model_cannot_be_put_back(tmp_path, forgetting, work):
    forgetting(0, 0, 30, 30)
    guard = RegressionGuard(known(), every=2, action="rollback")
    run = trainer(tmp_path, guard, Change(5, work))
    with pytest.raises(BadInput, match="cannot roll back: the weights have other names or shapes"):
        run.train()
    assert (tmp_path / "guard-step-6" / "model.safetensors").is_file()


# ---------------------------------------------------------------- killed and resumed


def all_right():
    """A base's answers, all of them right, as `forgetting` counts them."""
    card = replace(score(tiny.subject(), known()), answer=(0,) * 60)
    return replace(card, loglikelihoods=((-1.0, -2.0, -2.0, -2.0),) * 60)


def killed(folder, forgetting, guard, wrong=(0, 0, 0)):
    forgetting(*wrong)
    run = trainer(folder, guard, Kill(4), save_strategy="steps", save_steps=4)
    with pytest.raises(Killed):
        run.train()
    return str(folder / "checkpoint-4")


def resumed(folder, forgetting, guard, checkpoint, wrong, *callbacks):
    forgetting(*wrong)
    run = trainer(folder, guard, *callbacks, of=model())
    run.train(resume_from_checkpoint=checkpoint)
    return run


@fault("a guarded run is killed, resumed and then forgets", "what stands is saved, and it raises")
def test_without_snapshots_a_resumed_run_raises(tmp_path, forgetting, warned):
    """It was fine, was killed, and resumes beyond the budget: nothing is there to return to."""
    checkpoint = killed(tmp_path, forgetting, RegressionGuard(known(), every=2, action="rollback"))
    guard = RegressionGuard(known(), every=2, action="rollback")
    with pytest.raises(BadInput, match="since step 4, where the training was resumed") as error:
        resumed(tmp_path, forgetting, guard, checkpoint, (30, 30))
    folder = tmp_path / "guard-step-6"
    assert str(folder) in str(error.value)
    assert AutoModelForCausalLM.from_pretrained(folder)
    assert any('snapshots="folder"' in message for message in warned())
    assert not hasattr(guard, "_subject")  # it lets go of the model


def test_snapshots_on_disk_outlive_a_kill(tmp_path, forgetting):
    before = RegressionGuard(known(), every=2, action="rollback", snapshots=tmp_path / "kept")
    checkpoint = killed(tmp_path, forgetting, before)
    after = RegressionGuard(known(), every=2, action="rollback", snapshots=tmp_path / "kept")
    run = resumed(tmp_path, forgetting, after, checkpoint, (30, 30))
    assert after.restored_step == 4
    assert same(weights(run.model), weights(AutoModelForCausalLM.from_pretrained(checkpoint)))


def test_a_new_run_begins_afresh(tmp_path, forgetting, said):
    """What an older run left in the folder is no place to return to."""
    kept = tmp_path / "kept"
    forgetting(*[0] * 5)
    trainer(tmp_path, RegressionGuard(known(), every=2, action="rollback", snapshots=kept)).train()
    right = all_right()
    forgetting(30, 30)
    guard = RegressionGuard(known(), every=2, action="rollback", snapshots=kept, before=right)
    with pytest.raises(BadInput, match="cannot roll back: at no look"):
        trainer(tmp_path, guard).train()
    assert [path.name for path in kept.iterdir()] == ["snapshots.json"]


def test_only_two_files_are_kept(tmp_path, forgetting):
    forgetting(*[0] * 9)
    guard = RegressionGuard(known(), every=1, action="rollback", snapshots=tmp_path / "kept")
    trainer(tmp_path, guard).train()
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names[0] == "snapshots.json"
    assert len(names) in (2, 3)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


SPOILED = {
    "a bit of the weights": lambda kept: flip(next(kept.glob("*.safetensors"))),
    "weights cut short": lambda kept: [
        path.write_bytes(path.read_bytes()[:-9]) for path in kept.glob("*.safetensors")
    ],
    "no weights": lambda kept: [path.unlink() for path in kept.glob("*.safetensors")],
    "the list": lambda kept: flip(kept / "snapshots.json"),
    "a list of something else": lambda kept: (kept / "snapshots.json").write_text("{}"),
    "the list names a file elsewhere": lambda kept: resealed(kept, "../../secret.safetensors"),
}


def resealed(kept, file):
    content = read_sealed(kept / "snapshots.json", "list")
    for entry in content["kept"].values():
        if entry:
            entry["file"] = file
    write_sealed(kept / "snapshots.json", content)


@fault("weights that a guard kept on disk are damaged", "refused when the run resumes")
@pytest.mark.parametrize("what", SPOILED)
def test_damaged_snapshots_are_refused_at_once(tmp_path, forgetting, what):
    kept = tmp_path / "kept"
    first = RegressionGuard(known(), every=2, action="rollback", snapshots=kept)
    checkpoint = killed(tmp_path, forgetting, first)
    SPOILED[what](kept)
    guard = RegressionGuard(known(), every=2, action="rollback", snapshots=kept)
    with pytest.raises(BadInput, match="snapshot"):
        resumed(tmp_path, forgetting, guard, checkpoint, (30, 30))


def test_another_exams_snapshots_are_not_taken(tmp_path, forgetting):
    kept = tmp_path / "kept"
    first = RegressionGuard(known(), every=2, action="rollback", snapshots=kept)
    checkpoint = killed(tmp_path, forgetting, first)
    content = read_sealed(kept / "snapshots.json", "list")
    write_sealed(kept / "snapshots.json", content | {"exam": "another"})
    guard = RegressionGuard(known(), every=2, action="rollback", snapshots=kept)
    with pytest.raises(BadInput, match="cannot roll back"):
        resumed(tmp_path, forgetting, guard, checkpoint, (30, 30))


# ---------------------------------------------------------------- what is said


def test_with_nothing_to_return_to_it_raises(tmp_path, forgetting):
    """Even the first look is beyond the budget: of a base that was given."""
    right = all_right()
    forgetting(4, 4, 30, 30)
    guard = RegressionGuard(known(), every=2, action="rollback", before=right)
    keep = Keep()
    run = trainer(tmp_path, keep, guard)
    with pytest.raises(BadInput, match="cannot roll back: at no look was every row within"):
        run.train()
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "guard-step-6")
    assert same(weights(saved), weights(run.model))
    assert guard.restored_step is None
    assert guard.crossed_at == 4


@pytest.mark.parametrize("lora", [False, True])
def test_the_memory_is_said_beforehand(tmp_path, monkeypatch, warned, lora):
    monkeypatch.setattr(guard_module, "_MUCH", 0)
    plain = model(lora)
    guard = RegressionGuard(known(), every=8, action="rollback")
    trainer(tmp_path, guard, of=plain, learning_rate=1e-6).train()
    size = 2 * sum(p.nbytes for p in plain.parameters() if p.requires_grad)
    amount = f"{size / 1e6:.2g} MB"
    assert (
        warned()[0] == f"A rollback keeps two copies of the trained weights, {amount}, in memory."
    )


def test_only_trained_weights_are_kept():
    tuned = model(lora=True)
    kept = Snapshots(tuned, Ranks(tuned), "exam", None)
    kept.keep(0, 0.0, good=True)
    assert kept.latest.weights
    assert all("lora_" in name for name in kept.latest.weights)


def test_a_full_disk_is_said(tmp_path, forgetting):
    forgetting(0, 0)
    (tmp_path / "kept").mkdir()
    guard = RegressionGuard(known(), every=2, action="rollback", snapshots=tmp_path / "kept")

    class Full(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            shutil.rmtree(tmp_path / "kept", ignore_errors=True)

    with pytest.raises(BadInput, match="cannot be written"):
        trainer(tmp_path, Full(), guard).train()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snapshots": 5, "action": "rollback"}, "snapshots is the folder"),
        ({"snapshots": "kept"}, 'snapshots are for action="rollback"'),
    ],
)
def test_snapshots_are_checked_at_the_door(options, message):
    with pytest.raises(BadInput, match=message):
        RegressionGuard(known(), **options)
