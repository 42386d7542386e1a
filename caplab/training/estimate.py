"""Estimate the time and memory of a run before it starts.

Time is measured: one forward pass through one batch, times the cost of training in such passes.
Memory is counted: what a run keeps for each weight, and the activations in between.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset

from caplab.models.subject import Subject, measuring
from caplab.questions.exam import Exam
from caplab.support.safe_text import log_text
from caplab.support.text import format_duration
from caplab.training.recipe import Recipe

__all__ = ["RunEstimate", "announce_estimate", "estimate_run"]

BIG = 20_000_000  # weights; a smaller model is trained before anybody has read an estimate
LONG = 30.0  # seconds
_PASSES = {"full": 3.0, "lora": 2.2}  # cost of a step, forward and backward, in forward passes
_POINTS = 9  # along a run; each asks a fixed sample of questions
_SAMPLE = 80  # questions at a point, of both exams together
_BYTES = {"full": 20, "lora": 8}  # per weight: base, copy; for full also gradient and two moments
_LIBRARIES = 0.7e9  # bytes
_MOVED = 32  # bytes that the optimiser moves per weight and step
_BANDWIDTH = 1e10  # bytes per second, as on slow laptops
_ANSWER = 400  # characters' worth of a spoken answer: its tokens are written one at a time
_CHARACTERS = 4  # per token, roughly, in any language with an alphabet


@dataclass(frozen=True)
class RunEstimate:
    """The expected time and memory of a run, accurate to about a factor of one and a half."""

    name: str
    recipe: Recipe
    seconds: float
    memory: float  # bytes
    free: float | None  # bytes; None where the machine does not tell

    @property
    def fits(self) -> bool:
        """Tell whether the free memory is enough; True where it is unknown."""
        return self.free is None or self.memory < self.free

    @property
    def sentence(self) -> str:
        """State the estimate, and what the user can do about it."""
        recipe, gigabytes = self.recipe, f"{self.memory / 1e9:.1f} GB"
        what = f"{self.name}, {recipe.method}, {recipe.steps} steps of {recipe.batch_size} rows"
        if recipe.anchor == "kl":
            what += " and, for the anchor, as many old ones, with the base too"
        told = f"{what}: about {format_duration(self.seconds)} and {gigabytes} of memory."
        if not self.fits:
            free = f"{(self.free or 0) / 1e9:.1f} GB"
            return f'{told} Only {free} are free: method="lora" or a smaller batch_size needs less.'
        return f"{told} You can interrupt it; what was measured by then is kept."


def announce_estimate(subject: Subject, recipe: Recipe, rows: Dataset, *exams: Exam | None) -> None:
    """Print the estimate of a run that is long, or too large for the memory."""
    if subject.parameters >= BIG:
        estimate = estimate_run(subject, recipe, rows, *exams)
        if estimate.seconds >= LONG or not estimate.fits:
            print(log_text(estimate.sentence), flush=True)


def estimate_run(
    subject: Subject, recipe: Recipe, rows: Dataset, *exams: Exam | None
) -> RunEstimate:
    """Estimate the time and memory of a run on this machine."""
    lengths = sorted(len(ids) for ids in rows["input_ids"])
    # Rows are padded to the longest of their batch: the ninth decile comes near that.
    length = lengths[len(lengths) * 9 // 10]
    tokens = recipe.batch_size * length
    per_token = _forward_seconds(subject, recipe.batch_size, length) / tokens
    # A full update on a CPU reads and writes each weight with its moments: memory sets the pace.
    moves = recipe.method == "full" and subject.device.type == "cpu"
    update = subject.parameters * _MOVED / _BANDWIDTH if moves else 0.0
    seconds = recipe.steps * (_passes(recipe) * per_token * tokens + update)
    seconds += per_token * sum(_tokens_read(exam) for exam in exams if exam)
    weights = subject.parameters * _BYTES[recipe.method]
    memory = weights + _activations(subject.model.config, tokens) + _LIBRARIES
    return RunEstimate(subject.name, recipe, seconds, memory, _free(subject.device))


def _passes(recipe: Recipe) -> float:
    """Return the cost of a step in forward passes; a KL anchor reads as many old rows again."""
    passes = _PASSES[recipe.method]
    return 2 * passes + 1 if recipe.anchor == "kl" else passes


def _forward_seconds(subject: Subject, batch: int, length: int) -> float:
    """Time a forward pass through a batch; the faster of two, for the first one warms up."""
    ids = torch.zeros((batch, length), dtype=torch.long, device=subject.device)  # (rows, tokens)
    times = []
    with measuring(subject.model):
        for _ in range(2):
            start = time.perf_counter()
            logits = subject.model(input_ids=ids, use_cache=False).logits  # (rows, tokens, words)
            float(logits[0, 0, 0])  # waits for a GPU
            times.append(time.perf_counter() - start)
    return min(times)


def _tokens_read(exam: Exam) -> float:
    """Count the tokens that a run reads for an exam: all of it twice, and a sample per point."""
    characters = sum(
        len(q.asked) + (_ANSWER if q.spoken else sum(map(len, q.choices))) for q in exam.questions
    )
    times = 2 + _POINTS * min(1.0, _SAMPLE / 2 / len(exam))
    return times * characters / _CHARACTERS


def _activations(config: Any, tokens: int) -> float:
    """Count the bytes that the backward pass needs: activations, and the logits three times."""
    config = config.get_text_config()
    layers = config.num_hidden_layers * config.hidden_size * 34 * 4
    return float(tokens * (layers + 3 * 4 * config.vocab_size))


def _free(device: torch.device) -> float | None:
    """Return the bytes of free memory; None for a device that does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    import psutil

    return float(psutil.virtual_memory().available)
