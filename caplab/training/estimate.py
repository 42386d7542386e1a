"""Say before a long run on a big model what it will take here, while minds can still change.

Time is measured: one pass forward through one batch, and what training costs in such passes.
Memory is counted: what a run keeps of every weight, and what lies in between.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset

from caplab.models.subject import Subject, measuring
from caplab.questions.exam import Exam
from caplab.support.text import format_duration
from caplab.training.recipe import Recipe

__all__ = ["RunEstimate", "announce_estimate", "estimate_run"]

BIG = 20_000_000  # weights; a smaller model is trained before anybody has read a forecast
LONG = 30.0  # seconds
_PASSES = {"full": 3.0, "lora": 2.2}  # forward passes that a step costs: forward, then backward
_LOOKS = 9  # points along a run; each asks a fixed sample of questions
_SAMPLE = 80
_BYTES = {"full": 20, "lora": 8}  # per weight: base, copy; for full also gradient and two moments
_LIBRARIES = 0.7e9
_MOVED = 32  # bytes that the optimiser moves per weight and step
_BANDWIDTH = 1e10  # bytes per second, as slow as laptops are
_CHARACTERS = 4  # per token, roughly, in any language with an alphabet


@dataclass(frozen=True)
class RunEstimate:
    """What a run will take: good to about a factor of one and a half."""

    name: str
    recipe: Recipe
    seconds: float
    memory: float  # bytes
    free: float | None  # bytes, where the machine tells

    @property
    def fits(self) -> bool:
        """Tell whether the memory suffices, as far as that is known."""
        return self.free is None or self.memory < self.free

    @property
    def sentence(self) -> str:
        """Say it, with what can be done about it."""
        recipe, gigabytes = self.recipe, f"{self.memory / 1e9:.1f} GB"
        what = f"{self.name}, {recipe.method}, {recipe.steps} steps of {recipe.batch_size} rows"
        told = f"{what}: about {format_duration(self.seconds)} and {gigabytes} of memory."
        if not self.fits:
            free = f"{(self.free or 0) / 1e9:.1f} GB"
            return f'{told} Only {free} are free: method="lora" or a smaller batch_size needs less.'
        return f"{told} You can interrupt it; what was measured by then is kept."


def announce_estimate(subject: Subject, recipe: Recipe, rows: Dataset, *exams: Exam | None) -> None:
    """Print the forecast of a run that is long, or too large for the memory."""
    if subject.parameters >= BIG:
        expected = estimate_run(subject, recipe, rows, *exams)
        if expected.seconds >= LONG or not expected.fits:
            print(expected.sentence, flush=True)


def estimate_run(
    subject: Subject, recipe: Recipe, rows: Dataset, *exams: Exam | None
) -> RunEstimate:
    """Forecast time and memory of a run on this machine."""
    lengths = sorted(len(ids) for ids in rows["input_ids"])
    length = lengths[len(lengths) * 9 // 10]  # rows are padded to the longest of a batch
    tokens = recipe.batch_size * length
    per_token = _forward(subject, recipe.batch_size, length) / tokens
    moves = recipe.method == "full" and subject.device.type == "cpu"
    update = subject.parameters * _MOVED / _BANDWIDTH if moves else 0.0
    seconds = recipe.steps * (_PASSES[recipe.method] * per_token * tokens + update)
    seconds += per_token * sum(_asked(exam) for exam in exams if exam)
    weights = subject.parameters * _BYTES[recipe.method]
    memory = weights + _between(subject.model.config, tokens) + _LIBRARIES
    return RunEstimate(subject.name, recipe, seconds, memory, _free(subject.device))


def _forward(subject: Subject, batch: int, length: int) -> float:
    """Measure one pass forward through a batch, the better of two: the first one warms up."""
    ids = torch.zeros((batch, length), dtype=torch.long, device=subject.device)
    times = []
    with measuring(subject.model):
        for _ in range(2):
            start = time.perf_counter()
            float(subject.model(input_ids=ids, use_cache=False).logits[0, 0, 0])  # waits for a GPU
            times.append(time.perf_counter() - start)
    return min(times)


def _asked(exam: Exam) -> float:
    """Count the tokens that a run reads for an exam: whole before and after, samples between."""
    characters = sum(len(q.prompt) + sum(map(len, q.choices)) for q in exam.questions)
    looks = 2 + _LOOKS * min(1.0, _SAMPLE / 2 / len(exam))
    return looks * characters / _CHARACTERS


def _between(config: Any, tokens: int) -> float:
    """Count what lies between the layers until the way back: activations, and the logits thrice."""
    config = config.get_text_config()
    layers = config.num_hidden_layers * config.hidden_size * 34 * 4
    return float(tokens * (layers + 3 * 4 * config.vocab_size))


def _free(device: torch.device) -> float | None:
    """Ask how much memory is free; what this process has already is counted as used."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    import psutil

    return float(psutil.virtual_memory().available)
