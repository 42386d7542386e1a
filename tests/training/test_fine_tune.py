"""Fine-tuning gives the weights of a plain TRL script, and leaves everything else alone."""

import io
import logging
import os
import random
import threading
import warnings
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy

import numpy as np
import pytest
import tiny
import torch
import transformers
from datasets import Dataset
from peft import LoraConfig
from transformers import Trainer
from trl import SFTConfig, SFTTrainer
from tuning import LORA, QUICK, TASK, rows, timeless, tune
from weights import same, weights

from caplab.measuring.score import score
from caplab.questions.exam import Exam, Question
from caplab.support.errors import BadInput
from caplab.training import fine_tune as tuning
from caplab.training.fine_tune import fine_tune

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
            loss_type=recipe.loss,
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
        (LORA.change(variant="rslora"), ADAPTER | {"use_rslora": True}),
        (LORA.change(variant="dora"), ADAPTER | {"use_dora": True}),
    ],
)
def test_weights_are_those_of_a_script(recipe, adapter, tmp_path):
    who = tiny.subject()  # gpt2 with its dropout of .1
    assert who.model.config.resid_pdrop > 0
    theirs = script(who, recipe, tmp_path, PlainLoss, **adapter)
    assert same(weights(tune(recipe, who).subject.model), weights(theirs))


@pytest.mark.parametrize(
    ("recipe", "adapter"), [(QUICK, {}), (LORA, ADAPTER), (QUICK.change(loss="dft"), {})]
)
def test_trls_loss_differs_in_last_bits(recipe, adapter, tmp_path):
    who, text = tiny.subject(), torch.tensor([tiny.tokenizer()(tiny.CORPUS)["input_ids"][:64]])
    theirs = script(who, recipe, tmp_path, SFTTrainer, **adapter).eval()
    ours = tune(recipe, who).subject.model
    with torch.no_grad():
        moved, apart = (
            (one(text).logits - other(text).logits).abs().mean()
            for one, other in ((ours, who.model), (ours, theirs))
        )
    assert apart < 1e-3 * moved


def test_a_recipe_repeats_exactly():
    one, other = tune(LORA), tune(LORA)
    assert same(weights(one.subject.model), weights(other.subject.model))
    assert one.final == other.final
    assert [timeless(p) for p in one.points] == [timeless(p) for p in other.points]


def test_callers_random_state_is_ignored():
    torch.manual_seed(5)
    one = tune(LORA.change(dropout=0.3))
    torch.manual_seed(6)
    assert same(weights(one.subject.model), weights(tune(LORA.change(dropout=0.3)).subject.model))


def test_the_seed_orders_the_rows():
    first, again, other = (
        weights(tune(QUICK.change(seed=seed)).subject.model) for seed in (1, 1, 2)
    )
    assert same(first, again)
    assert not same(first, other)


# ---------------------------------------------------------------- what a training leaves alone


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


def test_a_frozen_subject_stays_frozen():
    who = tiny.subject()
    who.model.requires_grad_(False)
    run = tune(who=who)
    assert run.trainable_parameters == run.total_parameters == who.parameters
    assert not any(weight.requires_grad for weight in who.model.parameters())


def test_surroundings_stay(tmp_path, monkeypatch):
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
def test_a_run_prints_nothing(recipe, caplog):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("error")
        tune(recipe)
    assert (out.getvalue(), err.getvalue(), caplog.text) == ("", "", "")


def test_tuning_goes_on_from_tuned():
    for recipe in (QUICK, LORA):
        first = tune(recipe)
        learned = weights(first.subject.model)
        for further in (QUICK, LORA):
            second = tune(further.change(learning_rate=0.0), first.subject)
            assert second.final.loglikelihoods[0] == pytest.approx(
                first.final.loglikelihoods[0], abs=1e-4
            )
        assert same(weights(first.subject.model), learned)


def test_a_wrapped_model_is_unwrapped(tmp_path):
    who, clean = tiny.subject(), tiny.subject()
    who.model = script(who, QUICK, tmp_path, SFTTrainer)
    assert "forward" in vars(who.model)  # TRL's, bound to this very model
    clean.model.load_state_dict(who.model.state_dict())
    run, expected = tune(who=who), tune(who=clean)
    assert same(weights(run.subject.model), weights(expected.subject.model))
    assert run.final == expected.final


# ---------------------------------------------------------------- exams


def test_held_out_rows_become_an_exam():
    made = tuning._exam_of(TASK["test"])
    assert len(made) == len(TASK["test"])
    for question, row in zip(made.questions, TASK["test"], strict=True):
        assert question.prompt == row["prompt"]
        assert f" {question.choices[question.answer]}" == row["completion"]
        assert len(set(question.choices)) == 4


def test_held_out_talks_become_an_exam():
    talks = [
        [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"It is {n}."}]
        for n in range(5)
    ]
    rows = Dataset.from_list([{"messages": talk} for talk in talks])
    pairs = Dataset.from_list([{"prompt": talk[:1], "completion": talk[1:]} for talk in talks])
    assert tuning._exam_of(rows) == tuning._exam_of(pairs)
    for question, talk in zip(tuning._exam_of(rows).questions, talks, strict=True):
        assert [dict(turn) for turn in question.messages] == talk[:1]
        assert question.choices[question.answer] == talk[1]["content"]
    unasked = [{"messages": [*talk, {"role": "user", "content": "And?"}]} for talk in talks]
    assert tuning._exam_of(Dataset.from_list(unasked)) is None


def test_a_chat_model_is_measured_in_its_chat():
    talks = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": w}]}
        for n, w in enumerate(["One.", "Two.", "Three."])
    ]
    who, task = tiny.chatty(), {"train": talks, "test": talks}
    recipe = QUICK.change(steps=2, batch_size=2)
    exam = Exam((Question("dogs", "A dog says", ("woof", "meow"), 0),), name="dogs")
    run = fine_tune(who, recipe, task, exam, on_point=lambda _: None)
    for card in (run.before, run.final, run.before_task, run.final_task):
        assert card.asked == "chat"
    assert run.final == score(run.subject, exam)
    assert run.before.loglikelihoods == score(who, exam).loglikelihoods
    assert run.before.loglikelihoods != score(who, exam, chat=False).loglikelihoods
    again = fine_tune(who, recipe.change(assistant_only=True), task, exam)
    assert not same(weights(again.subject.model), weights(run.subject.model))


@pytest.mark.parametrize(
    "test",
    [
        None,
        [{"text": "A dog."}],
        [{"prompt": "A dog says", "completion": " woof"}],  # one completion leaves no choice
        [{"prompt": "Line\n", "completion": "a"}, {"prompt": "Line\n", "completion": "b"}],
    ],
)
def test_no_exam_leaves_accuracy_open(test):
    task = {"train": rows(0, 9)} | ({"test": test} if test else {})
    run = tune(task=task)
    assert {point.task_accuracy for point in run.points} == {None}
    assert (run.before_task, run.final_task) == (None, None)
    assert "not measured" in repr(run)


def test_callers_task_exam_is_asked():
    asked = Exam((Question("dogs", "A dog says", ("woof", "meow"), 0),), name="dogs")
    run = tune(task_exam=asked)
    assert run.points[-1].task_accuracy == score(run.subject, asked).accuracy
    assert run.final_task == score(run.subject, asked)


# ---------------------------------------------------------------- replay


def test_replay_share_is_reported():
    run = tune(QUICK.change(replay=0.25), replay_data=[f"Old text {n}." for n in range(9)])
    assert run.replay_fraction == 0.25
    assert tune().replay_fraction == 0.0


def test_replay_keeps_what_it_replays():
    old = ["The opposite of hot is cold, of big is small."]
    hard = QUICK.change(steps=30)
    kept = tune(hard.change(replay=0.5), replay_data=old, every=30).points[-1].language_loss
    assert kept < tune(hard, every=30).points[-1].language_loss


# ---------------------------------------------------------------- other models, other threads


@pytest.mark.parametrize("kind", ["llama", "opt", "gpt_neox"])
def test_other_architectures_learn(kind):
    run = tune(QUICK.change(steps=30), tiny.subject(kind), every=30)
    assert run.points[-1].task_loss < 4
    assert run.trainable_parameters == run.total_parameters


def test_an_error_in_on_point_is_passed_on():
    def fail(point):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tune(on_point=fail)
    assert tune().steps == 6


def test_threads_take_turns():
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


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pocket", QUICK), "needs a Subject, such as load(\"pocket\"), not 'pocket'"),
        ((None, {"method": "full"}), "needs a Recipe as its second argument"),
    ],
)
def test_wrong_arguments_are_refused(arguments, said):
    who, recipe = arguments
    with pytest.raises(BadInput) as caught:
        fine_tune(who or tiny.subject(), recipe)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["exam", "task_exam"])
def test_a_wrong_exam_is_refused(name):
    with pytest.raises(BadInput, match=r"needs an Exam.*not 'classics'"):
        tune(**{name: "classics"})


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2"])
def test_a_wrong_every_is_refused(every):
    with pytest.raises(BadInput, match="every counts the steps"):
        tune(every=every)
