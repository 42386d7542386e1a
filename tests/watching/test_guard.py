"""The guard, dropped into scripts as people write them, and its rules one by one."""

import gc
import json
import math
import re
import subprocess
import sys

import pytest
import tiny
import torch
from guarded import BRUTAL, GENTLE, Keep, known, model, rows, sft, tokenizer, trainer
from peft import PeftModel
from transformers import AutoModelForCausalLM, TrainerCallback
from weights import same, weights

from caplab import RegressionGuard
from caplab.measuring.score import score
from caplab.questions.exam import Exam, Question
from caplab.support.errors import BadInput

gc.collect()
gc.freeze()  # each training collects garbage: it need not look through the libraries every time


# ---------------------------------------------------------------- in scripts as people write them


def test_an_sft_script_stops_at_forgetting(tmp_path):
    known().save(tmp_path / "exam.jsonl")

    guard = RegressionGuard(tmp_path / "exam.jsonl", every=2, action="stop")
    script = sft(tmp_path, guard, max_steps=40, learning_rate=BRUTAL)
    script.train()

    assert guard.crossed_at <= 4
    assert script.state.global_step == guard.crossed_at + 2


def test_a_harmless_training_finishes(tmp_path, said):
    guard = RegressionGuard(known(), every=3, action="rollback")
    script = trainer(tmp_path, guard, learning_rate=GENTLE)
    script.train()

    assert script.state.global_step == 8
    assert [check.step for check in guard.checks] == [0, 3, 6, 8]
    assert (guard.crossed_at, guard.restored_step, said()) == (None, None, [])


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("attached", [False, True], ids=["alone", "attached"])
def test_a_watching_guard_changes_no_bit(tmp_path, lora, attached):
    def train(*callbacks):
        torch.manual_seed(0)
        run = trainer(tmp_path, *callbacks, of=model(lora, dropout=0.2))
        for callback in callbacks if attached else ():
            callback.attach(run)
        run.train()
        return weights(run.model)

    guard = RegressionGuard(known(), every=1)

    assert same(train(), train(guard))
    assert len(guard.checks) == 9
    assert guard.crossed_at is not None  # even then


@pytest.mark.parametrize("changes", [{"gradient_accumulation_steps": 3}, {"num_train_epochs": 2}])
def test_steps_are_optimizer_updates(tmp_path, changes):
    guard = RegressionGuard(known(), every=10)
    trainer(tmp_path, guard, learning_rate=GENTLE, **{"max_steps": -1} | changes).train()

    last = {"gradient_accumulation_steps": 18, "num_train_epochs": 32}[next(iter(changes))]
    assert [check.step for check in guard.checks] == sorted({*range(0, last + 1, 10), last})


# ---------------------------------------------------------------- when it acts


@pytest.mark.parametrize(
    ("wrong", "crossed"),
    [
        pytest.param((0, 30, 0, 0, 0), None, id="one dip is forgiven"),
        pytest.param((0, 0, 30, 30, 30), 4, id="two looks in a row are not"),
        pytest.param((0, 0, 0, 0, 30), 8, id="nor is the last look"),
        pytest.param((0, math.nan, 0, 0, 0), 2, id="nor are numbers that are none"),
        pytest.param((0, 3, 3, 3, 3), None, id="a drop that chance explains is no proof"),
    ],
)
def test_what_counts_as_a_crossing(tmp_path, forgetting, wrong, crossed):
    forgetting(*wrong)
    guard = RegressionGuard(known(), every=2)
    trainer(tmp_path, guard).train()

    assert guard.crossed_at == crossed


def test_without_patience_one_look_decides(tmp_path, forgetting):
    forgetting(0, 30)
    guard = RegressionGuard(known(), every=2, action="stop", patience=0)
    trainer(tmp_path, guard).train()

    assert [check.step for check in guard.checks] == [0, 2]


def test_each_crossing_is_told_once(tmp_path, forgetting, said):
    forgetting(0, 30, 30, 30, 0, 30, 30, 30, 30)
    guard = RegressionGuard(known(), every=1)
    trainer(tmp_path, guard).train()

    first, second = said()
    assert first.startswith("Step 2: known .50, was 1.00: REGRESSED")
    assert first.endswith("Training goes on.")
    assert second.startswith("Step 6: ")
    assert "\n" not in first
    assert guard.crossed_at == 1


@pytest.mark.parametrize(
    ("every", "patience", "chances"), [(8, 0, 1), (1, 0, 8), (1, 1, 4), (3, 1, 2)]
)
def test_the_promise_covers_the_whole_run(tmp_path, forgetting, every, patience, chances):
    forgetting(*[0] * 9)
    guard = RegressionGuard(known(), every=every, patience=patience, confidence=0.9)
    trainer(tmp_path, guard).train()

    assert guard.checks[-1].report.confidence == pytest.approx(1 - 0.1 / chances)


def test_an_early_end_gets_a_last_look(tmp_path, forgetting):
    class Enough(TrainerCallback):
        def on_evaluate(self, args, state, control, **_):
            control.should_training_stop = True

    forgetting(0, 0, 30)
    guard = RegressionGuard(known(), every=2)
    evaluated = {"eval_dataset": rows(), "eval_strategy": "steps", "eval_steps": 3}
    trainer(tmp_path, guard, Enough(), **evaluated).train()

    assert [check.step for check in guard.checks] == [0, 2, 3]
    assert guard.crossed_at == 3


# ---------------------------------------------------------------- rolling back


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_rollback_restores_every_bit(tmp_path, forgetting, lora):
    forgetting(0, 0, 0, 30, 30)
    keep, guard = Keep(), RegressionGuard(known(), every=2, action="rollback")
    run = trainer(tmp_path, keep, guard, of=model(lora), max_steps=20)
    run.train()

    assert (run.state.global_step, guard.crossed_at, guard.restored_step) == (8, 6, 4)
    assert same(weights(run.model), keep.weights[4])
    assert not same(keep.weights[4], keep.weights[8])


def test_a_rollback_may_go_to_the_base(tmp_path, forgetting):
    forgetting(0, 30, 30)
    keep, guard = Keep(), RegressionGuard(known(), every=2, action="rollback")
    run = trainer(tmp_path, keep, guard)
    run.train()

    assert guard.restored_step == 0
    assert same(weights(run.model), keep.weights[0])


def test_lack_of_proof_keeps_no_weights(tmp_path, forgetting):
    forgetting(0, 3, 4, 30, 30)
    guard = RegressionGuard(known(), every=2, action="rollback")
    trainer(tmp_path, guard).train()

    assert [check.verdict for check in guard.checks[1:3]] == ["UNDERPOWERED"] * 2
    assert guard.restored_step == 2  # three of sixty are within the budget, four are not


@pytest.mark.parametrize(
    ("evaluated", "task_loss", "restored"),
    [
        pytest.param({}, None, 4, id="the training loss falls"),
        pytest.param(
            {"eval": "gibberish"}, None, 2, id="the evaluation loss rises and has the word"
        ),
        pytest.param({"a": "gibberish", "b": "task"}, None, 2, id="of two sets the first"),
        pytest.param({"a": "gibberish", "b": "task"}, "eval_b_loss", 4, id="or the one named"),
    ],
)
def test_the_lowest_task_loss_is_kept(tmp_path, forgetting, evaluated, task_loss, restored):
    texts = {"task": rows(), "gibberish": rows("Rome stove, Paris woof: pot shelf 2+2 bubbles.")}
    sets = {name: texts[kind] for name, kind in evaluated.items()}
    changes = {"eval_strategy": "steps", "eval_steps": 2} if evaluated else {}
    forgetting(0, 0, 0, 30, 30)
    guard = RegressionGuard(known(), every=2, action="rollback", task_loss=task_loss)
    sets = sets.get("eval", sets) or None
    trainer(tmp_path, guard, eval_dataset=sets, learning_rate=0.01, **changes).train()

    assert guard.restored_step == restored


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_after_a_rollback_training_goes_on(tmp_path, forgetting, lora):
    forgetting(0, 0, 30, 30, 0, 0, 0)
    guard = RegressionGuard(known(), every=2, action="rollback")
    run = trainer(tmp_path, guard, of=model(lora))
    run.train()
    assert guard.restored_step == 2
    assert not run.optimizer.state
    base = guard.before

    run.args.max_steps = 4
    run.train()
    run.save_model(tmp_path / "saved")

    assert guard.before is base
    assert [check.step for check in guard.checks] == [0, 2, 4]
    if lora:
        loaded = PeftModel.from_pretrained(model(), tmp_path / "saved")
    else:
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    tokens = torch.tensor([tokenizer()("A dog says")["input_ids"]])
    assert torch.equal(loaded(tokens).logits, run.model.eval()(tokens).logits)


def test_the_last_look_precedes_the_last_save(tmp_path, forgetting):
    forgetting(0, 0, 30)
    guard = RegressionGuard(known(), every=5, action="rollback")
    run = trainer(tmp_path, guard, save_strategy="steps", save_steps=6)
    run.train()
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-8")

    assert guard.restored_step == 5
    assert same(weights(saved), weights(run.model))


def test_a_rollback_outlives_the_best_model(tmp_path, forgetting):
    forgetting(0, 0, 30, 30)
    keep, guard = Keep(), RegressionGuard(known(), every=2, action="rollback")
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    steps = {f"{what}_strategy": "steps" for what in ("eval", "save")} | {"save_steps": 4}
    run = trainer(
        tmp_path, keep, guard, eval_dataset=rows(), eval_steps=2, learning_rate=0.01, **best | steps
    )
    run.train()

    assert run.state.best_model_checkpoint.endswith("checkpoint-4")
    assert same(weights(run.model), keep.weights[2])


# ---------------------------------------------------------------- the base


def test_a_resumed_run_keeps_its_base(tmp_path):
    first = RegressionGuard(known(), every=2)
    trainer(tmp_path, first, save_strategy="steps", save_steps=4).train()
    second = RegressionGuard(known(), every=2)
    checkpoint = str(tmp_path / "checkpoint-4")
    trainer(tmp_path, second, of=model()).train(resume_from_checkpoint=checkpoint)

    assert second.before == first.before
    assert [check.step for check in second.checks] == [4, 6, 8]
    assert second.checks[0].report == first.checks[2].report


def test_a_resumed_run_without_base_is_refused(tmp_path):
    trainer(tmp_path, save_strategy="steps", save_steps=4).train()
    resumed = trainer(tmp_path, RegressionGuard(known()))

    with pytest.raises(BadInput, match=r"resumes at step 4.*before=score\(base, exam\)"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


def test_another_base_can_be_given(tmp_path):
    before = score(tiny.subject(), known())
    tuned = tiny.subject(seed=1).model
    guard = RegressionGuard(known(), every=2, action="stop", before=before)
    trainer(tmp_path, guard, of=tuned, learning_rate=GENTLE).train()

    assert guard.checks[0].verdict == "REGRESSED"
    assert guard.crossed_at == 0


def test_another_model_brings_its_own_base(tmp_path):
    guard = RegressionGuard(known())
    trainer(tmp_path, guard, max_steps=1, learning_rate=GENTLE).train()
    accuracy = guard.before.accuracy
    trainer(tmp_path, guard, of=tiny.subject(seed=1).model, max_steps=1).train()

    assert accuracy == 1
    assert guard.before.accuracy < 0.6


# ---------------------------------------------------------------- what it says


def test_its_history_can_be_read(tmp_path, forgetting):
    forgetting(0, 0, 30, 30)
    guard = RegressionGuard(known(), every=2, action="rollback")
    assert repr(guard).endswith("has not looked yet")
    trainer(tmp_path, guard).train()

    assert repr(guard) == (
        "RegressionGuard on known: budget 0.05, every 2 steps, rollback; "
        "4 looks up to step 6, crossed the budget at step 4, rolled back to step 2"
    )
    table = guard.to_pandas()
    assert table["step"].tolist() == [0, 2, 4, 6]
    assert table["accuracy"].tolist() == [1.0, 1.0, 0.5, 0.5]
    assert table["regressed"].tolist() == [0, 0, 1, 1]


TWO_PROCESSES = """
import json, os, sys
import torch
import caplab as cl
from trl import SFTConfig, SFTTrainer

base = cl.load("pocket")
start = [weight.clone() for weight in base.model.parameters()]
guard = cl.RegressionGuard("classics", budget=0.05, every=5, action="rollback")
settings = SFTConfig(
    output_dir=sys.argv[1], max_steps=40, learning_rate=1e-2, bf16=False, save_strategy="no",
    report_to="none", use_cpu=True, ddp_backend="gloo",
)
trainer = SFTTrainer(
    model=base.model, processing_class=base.tokenizer, args=settings,
    train_dataset=cl.task()["train"], callbacks=[guard],
)
trainer.train()
now = trainer.accelerator.unwrap_model(trainer.model).parameters()
found = {
    "processes": trainer.accelerator.num_processes,
    "steps": trainer.state.global_step,
    "restored": guard.restored_step,
    "as before": all(map(torch.equal, start, now)),
}
with open(os.path.join(sys.argv[1], os.environ["RANK"]), "w") as file:
    json.dump(found, file)
"""


@pytest.mark.weekly  # test_ranks.py has a shorter one
def test_two_processes_roll_back_together(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*launch, str(script), str(tmp_path)], check=True, timeout=300)
    one, other = (json.loads((tmp_path / rank).read_text()) for rank in "01")
    assert one == other == {"processes": 2, "steps": 10, "restored": 0, "as before": True}


# ---------------------------------------------------------------- at the door


def test_a_missing_tokenizer_is_asked_for(tmp_path):
    script = trainer(tmp_path, RegressionGuard(known()))
    script.callback_handler.processing_class = None
    with pytest.raises(BadInput, match="processing_class=tokenizer"):
        script.train()

    script = trainer(tmp_path, RegressionGuard(known(), tokenizer=tokenizer()), max_steps=1)
    script.callback_handler.processing_class = None
    script.train()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action": "panic"}, "'panic'.*warn, stop, rollback"),
        ({"every": 0}, "every is 0"),
        ({"every": 2.5}, "every is 2.5"),
        ({"patience": -1}, "patience is -1"),
        ({"exam": "clasics"}, "Did you mean 'classics'"),
    ],
)
def test_a_wrong_option_is_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        RegressionGuard(**options)


def test_a_guard_listens_to_what_is_said(tmp_path):
    """The right answers are what the base says, whatever that is."""
    said = score(tiny.subject(), spoken_exam([{"matches": "."}] * 60)).said
    opening = [{"matches": f"^{re.escape(answer[:6])}"} for answer in said]
    guard = RegressionGuard(spoken_exam(opening), every=4, action="stop", patience=0)
    sft(tmp_path, guard, max_steps=12, learning_rate=BRUTAL).train()
    assert guard.checks[0].report is None or guard.checks[0].step == 0
    assert guard.checks[-1].report.verdict == "REGRESSED"
    assert guard.checks[-1].report.overall.kind == "said"


def spoken_exam(rules):
    prompts = [question.prompt for question in known().questions]
    pairs = zip(prompts, rules, strict=True)
    return Exam(tuple(Question("words", prompt, expect=rule) for prompt, rule in pairs))
