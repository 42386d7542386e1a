"""Fine-tuning: TRL's own weights, watched without being disturbed, ended without being lost."""

import gc
import io
import json
import logging
import os
import random
import signal
import threading
import warnings
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
import transformers
from datasets import Dataset, DatasetDict
from peft import LoraConfig, PeftModel
from transformers import Trainer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from caplab.measuring.score import score
from caplab.questions.exam import Exam, Question
from caplab.support.errors import BadInput
from caplab.training import fine_tune as tuning
from caplab.training import observer as watch
from caplab.training import trainer
from caplab.training.fine_tune import fine_tune
from caplab.training.lora import linear_layers
from caplab.training.recipe import Recipe
from caplab.training.run import Run
from caplab.training.task_rows import open_task, tokens
from caplab.training.trainer import make_trainer

WORDS = ["hot", "cold", "big", "small", "pot", "dog", "shelf", "stove", "four", "water"]


def rows(start, end):
    return [
        {"prompt": f"Say {WORDS[n % 10]} and {WORDS[n % 7]}:", "completion": f" {WORDS[n % 7]}."}
        for n in range(start, end)
    ]


TASK = DatasetDict(train=Dataset.from_list(rows(0, 20)), test=Dataset.from_list(rows(20, 30)))
QUICK = Recipe(steps=6, batch_size=4, learning_rate=1e-2, schedule="linear")
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
LORA = QUICK.change(method="lora", rank=2, alpha=16)


def tune(recipe=QUICK, who=None, **given):
    given = {"task": TASK, "exam": tiny.exam()} | given
    return fine_tune(who or tiny.subject(), recipe, **given)


def weights(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(autouse=True)
def calm(monkeypatch):
    monkeypatch.setattr(SFTTrainer, "_send_telemetry", lambda self: None)
    monkeypatch.setattr(watch, "_PATIENCE", 1e9)  # a busy machine is no reason for a line


# ---------------------------------------------------------------- the same as TRL


class PlainLoss(SFTTrainer):
    """TRL's trainer without TRL's extra metrics."""

    compute_loss = Trainer.compute_loss


def script(who, recipe, folder, trainer_class, **adapter):
    """What a learner writes: nothing of ours in it."""
    trainer = trainer_class(
        model=deepcopy(who.model),
        args=SFTConfig(
            output_dir=str(folder),
            max_steps=recipe.steps,
            per_device_train_batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type=recipe.schedule,
            warmup_steps=recipe.warmup,
            weight_decay=recipe.weight_decay,
            seed=recipe.seed,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
        ),
        train_dataset=TASK["train"],
        processing_class=who.tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", **adapter) if adapter else None,
    )
    trainer.train()
    return trainer.model


ADAPTER = {"r": 2, "lora_alpha": 16, "target_modules": "all-linear", "fan_in_fan_out": True}


@pytest.mark.parametrize(
    ("recipe", "adapter"),
    [
        (QUICK, {}),
        (QUICK.change(seed=3, schedule="cosine", warmup=2, weight_decay=0.1), {}),
        (LORA, ADAPTER),
        (LORA.change(target_modules=("c_attn",)), ADAPTER | {"target_modules": ["c_attn"]}),
        (LORA.change(dropout=0.5), ADAPTER | {"lora_dropout": 0.5}),
    ],
)
def test_the_weights_are_bit_for_bit_those_of_a_plain_script(recipe, adapter, tmp_path):
    who = tiny.subject()  # gpt2 with its dropout of .1
    assert who.model.config.resid_pdrop > 0
    theirs = script(who, recipe, tmp_path, PlainLoss, **adapter)
    assert same(weights(tune(recipe, who).subject.model), weights(theirs))


@pytest.mark.parametrize(("recipe", "adapter"), [(QUICK, {}), (LORA, ADAPTER)])
def test_trls_own_loss_differs_in_the_last_bits_only(recipe, adapter, tmp_path):
    who, text = tiny.subject(), torch.tensor([tiny.tokenizer()(tiny.CORPUS)["input_ids"][:64]])
    theirs = script(who, recipe, tmp_path, SFTTrainer, **adapter).eval()
    ours = tune(recipe, who).subject.model
    with torch.no_grad():
        moved, apart = (
            (one(text).logits - other(text).logits).abs().mean()
            for one, other in ((ours, who.model), (ours, theirs))
        )
    assert apart < 1e-3 * moved


def test_a_recipe_gives_the_same_run_twice():
    one, other = tune(LORA), tune(LORA)
    assert same(weights(one.subject.model), weights(other.subject.model))
    assert one.final == other.final
    assert [timeless(p) for p in one.points] == [timeless(p) for p in other.points]


def timeless(point):
    return replace(point, elapsed=0.0)


def test_the_random_state_of_the_caller_decides_nothing():
    torch.manual_seed(5)
    one = tune(LORA.change(dropout=0.3))
    torch.manual_seed(6)
    assert same(weights(one.subject.model), weights(tune(LORA.change(dropout=0.3)).subject.model))


def test_the_seed_decides_the_order_of_the_rows():
    first, again, other = (
        weights(tune(QUICK.change(seed=seed)).subject.model) for seed in (1, 1, 2)
    )
    assert same(first, again)
    assert not same(first, other)


def test_the_seed_alone_decides_the_order_whatever_others_do_with_torchs():
    who = tiny.subject(**NO_DROPOUT)
    trainer = make_trainer(who, QUICK, tokens(open_task(TASK)[0], who))
    torch.manual_seed(99)
    trainer.train()
    assert same(weights(trainer.model), weights(tune(QUICK, who).subject.model))


# ---------------------------------------------------------------- watching disturbs nothing


@pytest.mark.parametrize("recipe", [QUICK, LORA.change(dropout=0.5)])
def test_looking_changes_no_bit(recipe):
    who = tiny.subject()
    trainer = make_trainer(who, recipe, tokens(open_task(TASK)[0], who))
    with watch.random_state_kept(who.device):
        trainer.train()

    def draw(point):
        torch.rand(3), random.random(), np.random.rand()

    looked_at = tune(recipe, who, every=1, on_point=draw)
    assert same(weights(looked_at.subject.model), weights(trainer.model))


def test_the_subject_stays_as_it_was():
    who = tiny.subject()
    who.model.train()
    before, config = weights(who.model), who.model.config.to_dict()
    pads = who.tokenizer.pad_token
    for recipe in (QUICK, LORA):
        run = tune(recipe, who)
        assert same(weights(who.model), before)
        assert who.model.config.to_dict() == config
        assert who.model.training
        assert "forward" not in vars(who.model)
        assert all(weight.grad is None for weight in who.model.parameters())
        assert run.subject.tokenizer is who.tokenizer
    assert who.tokenizer.pad_token == pads


def test_a_frozen_subject_is_trained_and_stays_frozen():
    who = tiny.subject()
    who.model.requires_grad_(False)
    run = tune(who=who)
    assert run.trainable_parameters == run.total_parameters == who.parameters
    assert not any(weight.requires_grad for weight in who.model.parameters())


def test_nothing_around_a_run_is_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tune()  # what is loaded once is loaded now

    def surroundings():
        return (
            dict(os.environ),
            list(warnings.filters),
            {name: logging.getLogger(name).level for name in ("", "transformers", "trl", "peft")},
            transformers.utils.logging.get_verbosity(),
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.random.get_rng_state().tolist(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            threading.active_count(),
        )

    before = surroundings()
    tune(LORA.change(replay=0.5))
    assert surroundings() == before
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("recipe", [QUICK, LORA, QUICK.change(replay=0.5, replay_source="self")])
def test_a_run_says_nothing(recipe, caplog):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("error")
        tune(recipe)
    assert (out.getvalue(), err.getvalue(), caplog.text) == ("", "", "")


@pytest.mark.parametrize(("listening", "shown"), [(False, True), (True, False)])
def test_a_line_shows_up_when_a_run_takes_long_and_nobody_listens(monkeypatch, listening, shown):
    monkeypatch.setattr(watch, "_PATIENCE", 0.0)
    err = io.StringIO()
    with redirect_stderr(err):
        tune(on_point=(lambda point: None) if listening else None)
    assert ("step" in err.getvalue()) == shown


def test_a_run_in_a_thread_never_shows_a_line(monkeypatch):
    monkeypatch.setattr(watch, "_PATIENCE", 0.0)
    err = io.StringIO()
    with redirect_stderr(err):
        thread = threading.Thread(target=tune)
        thread.start()
        thread.join()
    assert err.getvalue() == ""


def test_a_tuned_subject_can_be_tuned_again_from_where_it_is():
    for recipe in (QUICK, LORA):
        first = tune(recipe)
        learned = weights(first.subject.model)
        for further in (QUICK, LORA):
            second = tune(further.change(learning_rate=0.0), first.subject)
            assert second.final.loglikelihoods[0] == pytest.approx(
                first.final.loglikelihoods[0], abs=1e-4
            )
        assert same(weights(first.subject.model), learned)


def test_a_model_that_a_trainer_has_wrapped_is_copied_with_its_own_forward(tmp_path):
    who, clean = tiny.subject(), tiny.subject()
    who.model = script(who, QUICK, tmp_path, SFTTrainer)
    assert "forward" in vars(who.model)  # TRL's, bound to this very model
    clean.model.load_state_dict(who.model.state_dict())
    run, expected = tune(who=who), tune(who=clean)
    assert same(weights(run.subject.model), weights(expected.subject.model))
    assert run.final == expected.final


# ---------------------------------------------------------------- the points


def test_a_rate_of_zero_changes_no_score():
    run = tune(QUICK.change(learning_rate=0.0))
    assert run.final.loglikelihoods == run.before.loglikelihoods
    assert {point.kl for point in run.points} == {0.0}
    assert len({point.task_loss for point in run.points[1:]}) >= 1
    assert len({point.smooth for point in run.points}) == 1


@pytest.mark.parametrize(
    ("steps", "every", "looked"),
    [
        (6, None, [0, 1, 2, 3, 4, 5, 6]),
        (60, None, [0, 8, 15, 22, 30, 38, 45, 52, 60]),
        (7, 3, [0, 3, 6, 7]),
        (6, 3, [0, 3, 6]),
        (2, 5, [0, 2]),
        (1, None, [0, 1]),
    ],
)
def test_points_come_at_the_start_on_the_way_and_at_the_end(steps, every, looked):
    assert sorted({0} | tuning._steps_to_look(steps, every)) == looked


def test_points_stream_as_they_are_made():
    seen = []
    run = tune(every=2, on_point=seen.append)
    assert [point.step for point in seen] == [0, 2, 4, 6]
    assert seen == run.points
    assert [point.elapsed for point in seen] == sorted(point.elapsed for point in seen)


def test_a_point_says_what_is_true_of_the_model_at_that_step():
    whole, half = tune(every=3), tune(QUICK.change(steps=3, schedule="constant"))
    constant = tune(QUICK.change(schedule="constant"), every=3)
    point, last = constant.points[1], half.points[-1]
    assert timeless(point) == replace(timeless(last), task_loss=point.task_loss)
    final = whole.points[-1]
    assert final.classics_accuracy == whole.final.accuracy  # the exam is shorter than a sample
    assert final.by_capability == whole.final.by_capability
    assert final.smooth == whole.final.smooth
    assert final.language_loss == whole.final.language_loss
    assert final.task_accuracy == whole.final_task.accuracy
    assert constant.points[0].task_accuracy == constant.before_task.accuracy


def test_the_learning_rate_follows_the_schedule():
    rates = [point.learning_rate for point in tune(QUICK.change(warmup=2), every=1).points]
    assert rates == pytest.approx([0, 5e-3, 1e-2, 7.5e-3, 5e-3, 2.5e-3, 0])
    rates = [point.learning_rate for point in tune(QUICK.change(schedule="constant")).points]
    assert rates == [1e-2] * 7
    warm = QUICK.change(schedule="constant", warmup=4)
    assert [p.learning_rate for p in tune(warm, every=2).points] == [0, 5e-3, 1e-2, 1e-2]


def test_the_task_is_learned_and_the_loss_tells():
    run = tune(QUICK.change(steps=60))
    losses = [point.task_loss for point in run.points]
    assert losses[0] is None
    assert losses[-1] < losses[1] / 4
    assert run.points[-1].task_accuracy > run.points[0].task_accuracy
    assert run.points[0].kl == 0
    assert run.points[-1].kl > 0.1


def test_the_loss_is_the_mean_over_the_words_to_predict():
    who, text = tiny.subject(**NO_DROPOUT), "The opposite of hot is cold."
    nats, count = tiny.naive_loss(who, text + tiny.END)
    run = tune(QUICK.change(learning_rate=0.0, batch_size=1), who, task=[text])
    assert run.points[-1].task_loss == pytest.approx(nats / count, rel=1e-5)


def test_the_kl_is_the_one_of_the_definition():
    who = tiny.subject()
    run = tune(who=who)
    total, count = 0.0, 0
    for row in tokens(TASK["test"], who):  # ten rows: all of them are used
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            base, tuned = (m(ids).logits[0].log_softmax(-1) for m in (who.model, run.subject.model))
        for place in range(ids.shape[1] - 1):
            total += float((base[place].exp() * (base[place] - tuned[place])).sum())
            count += 1
    assert run.points[-1].kl == pytest.approx(total / count, rel=1e-4)


def test_the_kl_keeps_to_its_memory(monkeypatch):
    monkeypatch.setattr(watch, "_DRIFT_NUMBERS", 400 * 120)
    who = tiny.subject()
    drift = watch._Drift(who, tokens(TASK["test"], who))
    assert 60 <= len(drift.base) <= 120


def test_own_held_out_rows_become_the_task_exam():
    made = tuning._exam_of(TASK["test"])
    assert len(made) == len(TASK["test"])
    for question, row in zip(made.questions, TASK["test"], strict=True):
        assert question.prompt == row["prompt"]
        assert f" {question.choices[question.answer]}" == row["completion"]
        assert len(set(question.choices)) == 4


@pytest.mark.parametrize(
    "test",
    [
        None,
        [{"text": "A dog."}],
        [{"prompt": "A dog says", "completion": " woof"}],  # one completion leaves no choice
        [{"prompt": "Line\n", "completion": "a"}, {"prompt": "Line\n", "completion": "b"}],
    ],
)
def test_rows_of_which_no_exam_can_be_made_leave_the_accuracy_open(test):
    task = {"train": rows(0, 9)} | ({"test": test} if test else {})
    run = tune(task=task)
    assert {point.task_accuracy for point in run.points} == {None}
    assert (run.before_task, run.final_task) == (None, None)
    assert "not measured" in repr(run)


def test_a_task_exam_of_the_caller_is_asked():
    asked = Exam((Question("dogs", "A dog says", ("woof", "meow"), 0),), name="dogs")
    run = tune(task_exam=asked)
    assert run.points[-1].task_accuracy == score(run.subject, asked).accuracy
    assert run.final_task == score(run.subject, asked)


def test_the_base_is_asked_once_however_many_runs_there_are(monkeypatch):
    tune()
    asked = []
    monkeypatch.setattr(watch, "score", lambda who, *_, **__: asked.append(who.name))
    examiner = watch.Examiner(
        tiny.subject(), tiny.exam(), None, tokens(TASK["test"], tiny.subject())
    )
    examiner.look(None, 0, task_loss=None, learning_rate=0.0, elapsed=0.0)
    assert asked == []


# ---------------------------------------------------------------- replay


def test_the_realised_share_of_old_texts_is_reported():
    run = tune(QUICK.change(replay=0.25), replay_data=[f"Old text {n}." for n in range(9)])
    assert run.replay_fraction == 0.25
    assert tune().replay_fraction == 0.0


def test_the_task_loss_is_that_of_the_task_alone():
    who, text = tiny.subject(**NO_DROPOUT), "The opposite of hot is cold."
    nats, count = tiny.naive_loss(who, text + tiny.END)
    still = QUICK.change(learning_rate=0.0, replay=0.5)
    run = tune(still, who, task=[text], replay_data=["\u2603 xyzzy \u00e9t\u00e9 qwerty"])
    for point in run.points[1:]:
        assert point.task_loss in (None, pytest.approx(nats / count, rel=1e-5))
    assert any(point.task_loss for point in run.points)


def test_old_texts_alone_leave_no_task_loss():
    run = tune(QUICK.change(replay=1.0), replay_data=["A dog says woof."])
    assert run.replay_fraction == 1.0
    assert {point.task_loss for point in run.points} == {None}


def test_replay_keeps_what_it_replays():
    old = ["The opposite of hot is cold, of big is small."]
    hard = QUICK.change(steps=30)
    kept = tune(hard.change(replay=0.5), replay_data=old, every=30).points[-1].language_loss
    assert kept < tune(hard, every=30).points[-1].language_loss


# ---------------------------------------------------------------- other architectures, LoRA


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2", "opt", "gpt_neox", "bloom"])
@pytest.mark.parametrize("target", ["all-linear", "attention"])
def test_lora_finds_the_layers_of_every_architecture(kind, target):
    who = tiny.subject(kind)
    run = tune(LORA.change(steps=2, target_modules=target), who)
    model = run.subject.model
    assert isinstance(model, PeftModel)
    adapted = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    found = {name.removeprefix("base_model.model.") for name in adapted}
    layers = set(linear_layers(who.model))
    attention = {name for name in layers if "att" in name}
    assert found == (layers if target == "all-linear" else attention)
    assert attention < layers
    assert run.final.loglikelihoods != run.before.loglikelihoods


@pytest.mark.parametrize("kind", ["llama", "opt", "gpt_neox"])
def test_full_fine_tuning_works_on_other_architectures(kind):
    run = tune(QUICK.change(steps=30), tiny.subject(kind), every=30)
    assert run.points[-1].task_loss < 4
    assert run.trainable_parameters == run.total_parameters


def test_lora_trains_what_the_formula_says():
    run = tune(LORA.change(target_modules=("c_attn",), rank=8))
    assert run.trainable_parameters == 2 * 8 * (32 + 96)  # layers x rank x (in + out)
    assert run.total_parameters == tiny.subject().parameters + run.trainable_parameters


@pytest.mark.parametrize("name", ["q_proj", "c_atn", "lm_head"])
def test_an_unknown_module_is_refused_with_those_that_exist(name):
    with pytest.raises(
        BadInput, match=f"no linear layer '{name}'.*There are: c_attn, c_fc, c_proj"
    ):
        tune(LORA.change(target_modules=(name,)))


def test_an_unknown_module_is_refused_with_the_one_that_was_meant():
    with pytest.raises(BadInput, match="Did you mean 'c_attn'"):
        tune(LORA.change(target_modules=("c_atn",)))


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize("recipe", [QUICK, LORA])
def test_stop_ends_within_one_step_with_a_valid_run(recipe):
    stop = threading.Event()

    def listen(point):
        if point.step == 2:
            stop.set()

    run = tune(recipe, on_point=listen, stop=stop)
    assert run.steps == 2
    assert run.stopped
    assert run.trouble is None
    assert [point.step for point in run.points] == [0, 1, 2]
    assert "final" not in run.cards  # whoever stopped it was in a hurry
    assert run.final == score(run.subject, tiny.exam())
    assert run.final_task.accuracy == run.points[-1].task_accuracy
    assert run.final.accuracy == run.points[-1].classics_accuracy
    assert "2 of 6" in repr(run)


def test_a_run_that_is_stopped_before_it_begins_is_the_base():
    stop = threading.Event()
    stop.set()
    run = tune(stop=stop)
    assert (run.steps, run.stopped, len(run.points)) == (0, True, 1)
    assert run.final.loglikelihoods == run.before.loglikelihoods


def test_stop_from_another_thread_ends_a_long_run():
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    run = tune(QUICK.change(steps=100_000), stop=stop, every=100_000, on_point=lambda point: None)
    assert 0 < run.steps < 100_000


def test_an_interrupt_keeps_the_points():
    def interrupt(point):
        if point.step == 3:
            signal.raise_signal(signal.SIGINT)

    run = tune(on_point=interrupt)
    assert run.stopped
    assert [point.step for point in run.points][:3] == [0, 1, 2]
    assert run.final.accuracy >= 0


def test_a_diverging_run_ends_with_its_points_and_plain_words():
    run = tune(QUICK.change(learning_rate=1e4, steps=50), every=1)
    assert run.stopped
    assert run.steps < 50
    assert run.trouble.startswith("Diverged: the loss was ")
    assert "lower learning rate" in run.trouble
    assert [point.step for point in run.points] == list(range(len(run.points)))
    assert run.trouble in repr(run)


class Poison(TrainerCallback):
    """Break the weights after a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, model, **_):
        if state.global_step == self.step:
            with torch.no_grad():
                next(model.parameters()).fill_(torch.nan)


@pytest.mark.parametrize(("step", "every"), [(3, 6), (3, 3), (6, 6)])
def test_weights_that_are_no_numbers_end_a_run_with_its_points(step, every):
    run = tune(every=every, callbacks=[Poison(step)])
    assert run.trouble.startswith("Diverged")
    assert run.points
    assert all(np.isfinite(point.classics_accuracy) for point in run.points)
    assert run.stopped == (step < 6)


def test_what_a_diverged_run_went_through_can_be_saved(tmp_path):
    run = tune(every=2, callbacks=[Poison(5)])
    again = Run.load(run.save(tmp_path / "run"))
    assert again.trouble == run.trouble
    assert again.points == run.points
    assert again.before == run.before


def test_a_callback_of_the_caller_can_end_the_run_and_comes_before_the_last_look():
    class Early(TrainerCallback):
        def on_step_end(self, args, state, control, model, **_):
            if state.global_step == 2:
                with torch.no_grad():
                    model.lm_head.weight.zero_()
                control.should_training_stop = True

    run = tune(callbacks=[Early()], every=6)
    assert (run.steps, run.stopped) == (2, True)
    assert run.points[-1].step == 2
    assert len(set(run.final.loglikelihoods[0])) == 1  # every word is as likely


def test_a_callback_of_the_caller_sees_the_loss_in_the_log():
    logged = []

    class Log(TrainerCallback):
        def on_log(self, args, state, control, logs, **_):
            logged.append(logs)

    tune(QUICK.change(steps=20), callbacks=[Log()])
    assert any("loss" in logs for logs in logged)


def test_an_error_of_on_point_is_passed_on_and_the_next_run_works():
    def fail(point):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tune(on_point=fail)
    assert tune().steps == 6


def test_two_threads_take_turns_and_get_the_runs_they_would_have_got_alone():
    who, recipes = tiny.subject(), [LORA.change(seed=seed, dropout=0.3) for seed in (1, 2)]
    alone = [weights(tune(recipe, who).subject.model) for recipe in recipes]
    runs = {}
    threads = [
        threading.Thread(target=lambda r=r: runs.update({r.seed: tune(r, who)})) for r in recipes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for recipe, expected in zip(recipes, alone, strict=True):
        assert same(weights(runs[recipe.seed].subject.model), expected)


def test_a_finished_run_leaves_no_trainer_behind():
    run = tune()
    gc.collect()
    trainers = [o for o in gc.get_objects() if isinstance(o, SFTTrainer)]
    assert not [trainer for trainer in trainers if trainer.model is run.subject.model]
    assert not run.subject.model.training
    assert run.subject.model.config.use_cache


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pocket", QUICK), "needs a Subject, such as load(\"pocket\"), not 'pocket'"),
        ((None, {"method": "full"}), "needs a Recipe as its second argument"),
    ],
)
def test_wrong_arguments_are_refused_at_the_door(arguments, said):
    who, recipe = arguments
    with pytest.raises(BadInput) as caught:
        fine_tune(who or tiny.subject(), recipe)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["exam", "task_exam"])
def test_what_is_no_exam_is_refused(name):
    with pytest.raises(BadInput, match=r"needs an Exam.*not 'classics'"):
        tune(**{name: "classics"})


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2"])
def test_a_wrong_every_is_refused(every):
    with pytest.raises(BadInput, match="every counts the steps"):
        tune(every=every)


# ---------------------------------------------------------------- Run


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


def test_a_folder_without_a_finished_run_is_refused(tmp_path, monkeypatch):
    run = tune()
    run.save(tmp_path / "run")
    monkeypatch.setattr(json, "dumps", None)  # the pen breaks
    with pytest.raises(TypeError):
        run.save(tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(BadInput, match="no complete run"):
        Run.load(tmp_path / "run")


def test_the_table_has_a_row_for_each_point_and_a_column_for_each_capability():
    run = tune(every=3)
    table = run.to_pandas()
    assert list(table.step) == [0, 3, 6]
    assert set(table.columns) >= {"task_loss", "kl", "capitals", "arithmetic", "how-to"}
    assert list(table["how-to"]) == [point.by_capability["how-to"] for point in run.points]


def test_a_run_shows_itself_safely():
    who = tiny.subject()
    who.name = "<script>alert(1)</script>"
    run = tune(who=who)
    assert "<script>" not in run._repr_html_()
    assert "steps: 6 in" in repr(run)


def test_a_point_is_plain_data():
    point = tune().points[-1]
    assert type(point)(**json.loads(json.dumps(asdict(point)))) == point


def test_the_line_of_a_run_that_was_cut_short_goes_away(monkeypatch):
    from tqdm.notebook import tqdm_notebook

    monkeypatch.setattr("tqdm.auto.tqdm", tqdm_notebook)
    monkeypatch.setattr(watch, "_PATIENCE", -1.0)
    line = watch._ProgressLine(20, watch.Clock(), silent=False)
    line.show(1)
    bar = line._bar.container
    line.close()
    assert bar.comm is None


@pytest.mark.parametrize("native", [True, False])
def test_on_a_gpu_bf16_is_taken_where_the_chip_has_it(native, monkeypatch):
    asked = {"including_emulation": False}
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **how: native and how == asked)
    gpu = SimpleNamespace(device=torch.device("cuda"), context=64)
    settings = trainer._settings(gpu, Recipe(), logs=False)
    assert settings["bf16"] is native
    assert not settings["use_cpu"]
    assert settings["dataloader_pin_memory"]
