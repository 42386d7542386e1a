"""Train the same model on the same batches in four ways, side by side.

    python benchmarks/train_overhead.py [--model pocket | random-124m] [--method full | lora]

Whole runs, construction included, one process, the ways in turn; medians. `fine_tune` is measured
without its looks at the model (default_run.py has those). It fails if the bare loop and `fine_tune`
do not end at the same weights, bit for bit: then they would not have done the same work.
"""

import argparse
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from statistics import median
from typing import Any

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, PrinterCallback, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

import caplab as cl
from caplab.support.quiet import quiet
from caplab.training.recipe import Recipe
from caplab.training.task_rows import open_task, tokens
from caplab.training.trainer import Collator, make_trainer

ADAPTER = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear", "fan_in_fan_out": True}
SHARED = {
    "report_to": "none",
    "save_strategy": "no",
    "logging_strategy": "no",
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
}


def open_subject(name: str) -> cl.Subject:
    """Load a model, or make one of GPT-2's size with random weights."""
    if name != "random-124m":
        return cl.load(name, device="cpu")
    torch.manual_seed(0)
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # as in the pocket model
    model = GPT2LMHeadModel(GPT2Config(**off))
    model.loss_type = "ForCausalLM"
    return cl.Subject(model.eval(), cl.load("pocket", device="cpu").tokenizer, name)


# ---------------------------------------------------------------- four ways to train


def bare(subject: cl.Subject, recipe: Recipe) -> Any:
    """Train in a loop of plain PyTorch."""
    model = deepcopy(subject.model)
    torch.manual_seed(recipe.seed)
    if recipe.method == "lora":
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **ADAPTER))
    model.config.use_cache = False  # as the trainers do: nothing is generated here
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    rate, steps = recipe.learning_rate, recipe.steps
    optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: (steps - step) / steps)
    model.train()
    for batch in batches(subject, recipe):
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    return model


def batches(subject: cl.Subject, recipe: Recipe) -> Iterator[dict[str, torch.Tensor]]:
    """Walk through the task, in another order each time, as the trainers do."""
    rows = list(tokens(open_task(None)[0], subject))
    collate, made, epoch = Collator.of(subject.tokenizer), 0, 0
    while True:
        generator = torch.Generator().manual_seed(recipe.seed + epoch)
        order = torch.randperm(len(rows), generator=generator).tolist()
        for start in range(0, len(rows), recipe.batch_size):
            batch = collate([rows[at] for at in order[start : start + recipe.batch_size]])
            del batch["replayed"]
            yield batch
            made += 1
            if made == recipe.steps:
                return
        epoch += 1


def ours(subject: cl.Subject, recipe: Recipe) -> Any:
    """Train as `fine_tune` does."""
    trainer = make_trainer(subject, recipe, tokens(open_task(None)[0], subject))
    trainer.train()
    return trainer.model


def plain_trainer(subject: cl.Subject, recipe: Recipe) -> Any:
    """Train with transformers' own trainer, on rows that are tokenised already."""
    model = deepcopy(subject.model)
    if recipe.method == "lora":
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **ADAPTER))
    collate = Collator.of(subject.tokenizer)

    def collated(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = collate(rows)
        del batch["replayed"]
        return batch

    rows = tokens(open_task(None)[0], subject)
    return run(Trainer(model, arguments(TrainingArguments, recipe), collated, rows))


def stock_sft(subject: cl.Subject, recipe: Recipe) -> Any:
    """Train with TRL's trainer as it comes, from text."""
    task: Dataset = open_task(None)[0]
    return run(
        SFTTrainer(
            model=deepcopy(subject.model),
            args=arguments(SFTConfig, recipe),
            train_dataset=task,
            processing_class=subject.tokenizer,
            peft_config=LoraConfig(task_type="CAUSAL_LM", **ADAPTER)
            if recipe.method == "lora"
            else None,
        )
    )


def arguments(kind: type, recipe: Recipe) -> Any:
    """Translate the recipe."""
    return kind(
        tempfile.gettempdir(),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        seed=recipe.seed,
        **SHARED,
    )


def run(trainer: Trainer) -> Any:
    """Train in silence."""
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer.model


WAYS: dict[str, Callable[[cl.Subject, Recipe], Any]] = {
    "bare PyTorch loop": bare,
    "fine_tune, training alone": ours,
    "transformers Trainer": plain_trainer,
    "SFTTrainer, defaults in fp32": stock_sft,
}


# ---------------------------------------------------------------- measuring


def measure(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, float]]:
    """Run the calls in turn; return the median seconds of each, by the clock and of the CPU."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            gc.collect()  # what the one before left behind is not to be swept up on this one's time
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if turn:  # the first round is for warming up
                taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: (median(wall for wall, _ in times), median(cpu for _, cpu in times))
        for name, times in taken.items()
    }


def table(measured: dict[str, tuple[float, float]]) -> str:
    """Write the times as Markdown, each against the first."""
    first = next(iter(measured.values()))
    lines = [
        "| what | seconds | x bare | CPU seconds | x bare |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {wall:.3f} | {wall / first[0]:.3f} | {cpu:.3f} | {cpu / first[1]:.3f} |"
        for name, (wall, cpu) in measured.items()
    ]
    return "\n".join(lines)


def same_weights(one: Any, other: Any) -> bool:
    """Tell whether two models are equal bit for bit."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def options(description: str | None, steps: int) -> argparse.Namespace:
    """Read the command line that the training benchmarks share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--method", default="full", choices=["full", "lora"])
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


def common_recipe(given: argparse.Namespace) -> Recipe:
    """Return what every way of training is to do: the bare loop's decay and LoRA's old alpha."""
    plain = Recipe(schedule="linear", alpha=ADAPTER["lora_alpha"])
    return plain.change(method=given.method, steps=given.steps, batch_size=given.batch_size)


def main() -> int:
    """Measure, compare and print."""
    given = options(__doc__, steps=60)
    subject = open_subject(given.model)
    recipe = common_recipe(given)
    disable_progress_bars()
    with quiet():
        calls = {name: lambda way=way: way(subject, recipe) for name, way in WAYS.items()}
        measured = measure(calls, given.rounds)
        same = same_weights(bare(subject, recipe), ours(subject, recipe))
    print(f"{subject}; {recipe}; {torch.get_num_threads()} threads\n\n{table(measured)}\n")
    print(f"the bare loop and fine_tune end at the same weights, bit for bit: {same}")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
