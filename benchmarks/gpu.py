"""Train a model of GPT-2's size on a GPU: fine_tune beside a bare loop of the same steps.

    python benchmarks/gpu.py [--steps 60] [--rounds 3] [--batch-size 32] [--length 512]

124 M parameters with random weights, in full and with LoRA, in bf16, on rows of equal length, so
that tokens per second mean the same for both. The share is that of the peak which this GPU reaches
in multiplying large bf16 matrices, measured here, and counts six operations per parameter and token
(four with LoRA, which needs no gradient for frozen weights). Where no GPU is, it says so.
"""

import argparse
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from statistics import median
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from train_overhead import open_subject

import caplab as cl
from caplab.support.quiet import quiet
from caplab.training.trainer import make_trainer

METHODS = {"full": 6, "lora": 4}  # operations per parameter and token
DEVICE = "cuda"
SIDE, REPEATS = 8192, 30
RATE = 1e-5  # random weights learn nothing: the rate only has to be harmless


def peak() -> float:
    """Return the operations per second of large bf16 matrix products."""
    left, right = (torch.randn(SIDE, SIDE, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        left @ right
    return 2 * SIDE**3 * REPEATS / timed(lambda: [left @ right for _ in range(REPEATS)])


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds until the GPU has done the work."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def rows(count: int, length: int, vocabulary: int) -> Dataset:
    """Make rows of random tokens, all of one length."""
    ids = torch.randint(vocabulary, (count, length), generator=torch.Generator().manual_seed(0))
    return Dataset.from_dict({"input_ids": ids.tolist(), "labels": ids.tolist()})


def bare(subject: cl.Subject, recipe: cl.Recipe, fed: Dataset) -> float:
    """Train in a loop of plain PyTorch; return the seconds of its steps."""
    model = deepcopy(subject.model)
    if recipe.method == "lora":
        adapter = LoraConfig(
            r=recipe.rank, lora_alpha=recipe.alpha, target_modules="all-linear", fan_in_fan_out=True
        )
        model = get_peft_model(model, adapter)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0, fused=True)
    ids = torch.tensor(fed["input_ids"]).split(recipe.batch_size)  # (rows, tokens) each
    model.train()

    def steps() -> None:
        for batch in ids:
            batch = batch.to(DEVICE, non_blocking=True)
            with torch.autocast(DEVICE, torch.bfloat16):
                loss = model(input_ids=batch, labels=batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            optimiser.zero_grad()

    return timed(steps)


def ours(subject: cl.Subject, recipe: cl.Recipe, fed: Dataset) -> float:
    """Train as `fine_tune` does, without its looks at the model; return the seconds."""
    trainer = make_trainer(subject, recipe, fed)
    return timed(trainer.train)


def compare(subject: cl.Subject, recipe: cl.Recipe, fed: Dataset, rounds: int) -> tuple[float, ...]:
    """Run both in turn; return the median seconds of each. The first round is for warming up."""
    ways = (bare, ours)
    times = [[way(subject, recipe, fed) for way in ways] for _ in range(rounds + 1)][1:]
    return tuple(median(turn[n] for turn in times) for n in range(len(ways)))


def report(subject: cl.Subject, given: argparse.Namespace) -> None:
    """Measure both methods and print the table."""
    most = peak()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    print(f"matrix products in bf16: {most / 1e12:.0f} TFLOP/s measured\n")
    print("| method | bare, tokens/s | fine_tune, tokens/s | share of bare | share of the peak |")
    print("| --- " * 5 + "|")
    count = given.steps * given.batch_size
    fed = rows(count, given.length, len(subject.tokenizer))
    for method, operations in METHODS.items():
        recipe = cl.Recipe(
            method=method, learning_rate=RATE, steps=given.steps, batch_size=given.batch_size
        )
        loop, mine = compare(subject, recipe, fed, given.rounds)
        speed = count * given.length / mine
        share = operations * subject.parameters * speed / most
        print(
            f"| {method} | {count * given.length / loop:,.0f} | {speed:,.0f} | {loop / mine:.2f} | "
            f"{share:.2f} |",
            flush=True,
        )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for name, default in (("steps", 60), ("rounds", 3), ("batch-size", 32), ("length", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no GPU here that PyTorch can use, so nothing was measured.")
        return 0
    subject = open_subject("random-124m")
    subject.model.to(DEVICE)
    with quiet():
        report(subject, given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
