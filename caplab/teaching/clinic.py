"""Cause errors where they do no harm, for the error clinic, lesson 06."""

import inspect
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from caplab.models.subject import Subject, measuring
from caplab.questions.world import task
from caplab.support.errors import BadInput
from caplab.support.quiet import quiet
from caplab.support.safe_text import log_text

__all__ = ["MemoryTrial", "chance_of_end", "in_little_memory", "symptom", "train", "trainer"]

# A path on this machine: from a root to the next space or bracket, or a path in brackets.
_PATH = re.compile(r"\s*\((?:/|[A-Z]:\\)[^)]*\)|(?<!\S)(?:/|[A-Z]:\\)[^\s)]+")
_TORCHS_SOURCE_LINE = re.compile(r"\[enforce fail at [^]]*\] *(?:err == 0\. *)?")
FITS = "fits"


@contextmanager
def symptom() -> Iterator[None]:
    """Run a block, print the last line of its error, and go on."""
    try:
        with quiet():
            yield
    except Exception as error:
        print(log_text(textwrap.fill(_last_line(type(error).__name__, str(error)), 79)))
    else:
        print("No error.")


def _last_line(name: str, message: str, longest: int = 240) -> str:
    """Write an error as one line, without paths on this machine."""
    for pattern in (_TORCHS_SOURCE_LINE, _PATH):
        message = pattern.sub("", message)
    message = " ".join(message.split()) or "(no message)"
    return f"{name}: {textwrap.shorten(message, longest, placeholder=' ...')}"


def trainer(subject: Subject, *rows: Any, **settings: Any) -> Any:
    """Build TRL's `SFTTrainer` for four steps on a copy of the model.

    `rows` are its data arguments in their order: training data, evaluation data, collator. The
    `settings` go to `SFTConfig`. Nothing is corrected: errors must occur as in a learner's script.
    """
    with quiet(), TemporaryDirectory() as folder:
        return _build(subject, folder, *rows, **settings)


def train(subject: Subject, *rows: Any, **settings: Any) -> Any:
    """Build a trainer as `trainer` does, train without output, and return it."""
    with quiet(), TemporaryDirectory() as folder:
        made = _build(subject, folder, *rows, **settings)
        made.train()
        return made


def _build(
    subject: Subject,
    folder: str,
    train_dataset: Any = None,
    eval_dataset: Any = None,
    data_collator: Any = None,
    **settings: Any,
) -> Any:
    from transformers import PrinterCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    if train_dataset is None:
        train_dataset = task()["train"].select(range(8))
    with _no_bars():
        made = SFTTrainer(
            model=deepcopy(subject.model),
            args=SFTConfig(folder, **_plain(subject) | settings),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=data_collator,
            processing_class=subject.tokenizer,
        )
    made.remove_callback(PrinterCallback)
    return made


@contextmanager
def _no_bars() -> Iterator[None]:
    """Hide the progress bars of `datasets`."""
    from datasets.utils.logging import (
        disable_progress_bar,
        enable_progress_bar,
        is_progress_bar_enabled,
    )

    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()


def _plain(subject: Subject) -> dict[str, Any]:
    """Return settings that write and print nothing, in float32 on the subject's device."""
    return {
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "use_cpu": subject.device.type == "cpu",
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def chance_of_end(subject: Subject, texts: Sequence[str]) -> float:
    """Return the mean probability of the end token after each text."""
    end = subject.tokenizer.eos_token_id
    chances = []
    with measuring(subject.model):
        for text in texts:
            read = subject.tokenizer(text, return_tensors="pt").to(subject.device)
            logits = subject.model(input_ids=read["input_ids"]).logits  # (1, tokens, words)
            chances.append(float(logits[0, -1].softmax(-1)[end]))
    return sum(chances) / len(chances)


_CHILD = """
import json, resource, sys
import torch
from torch.nn.functional import cross_entropy

torch.set_num_threads(1)
exec(sys.stdin.read())
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + {megabytes} * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for size in {sizes}:
    try:
        {step}(size)
        print(json.dumps([size, None, None]))
    except Exception as error:
        print(json.dumps([size, type(error).__name__, str(error)]))
"""


@dataclass(frozen=True)
class MemoryTrial:
    """The outcome of each size in a limited memory; empty if nothing was run."""

    megabytes: int
    outcomes: dict[int, str]

    @property
    def largest(self) -> int:
        """Return the largest size that fitted, or 0."""
        return max((size for size, outcome in self.outcomes.items() if outcome == FITS), default=0)

    def __repr__(self) -> str:
        if not self.outcomes:
            return "Not run: only Linux lets a program limit its own memory. See the solution."
        width = max(len(str(size)) for size in self.outcomes)
        lines = [f"{size:{width}}: {outcome}" for size, outcome in self.outcomes.items()]
        return "\n".join([f"In {self.megabytes} MB:", *lines])


def in_little_memory(
    step: Callable[[int], object],
    sizes: Sequence[int],
    *helpers: Callable[..., object],
    megabytes: int,
) -> MemoryTrial:
    """Call `step(size)` for each size in a process that may use `megabytes` more memory.

    It needs a process of its own, because a limit on the address space cannot be lifted again. The
    functions are sent as source code: they see `torch`, `cross_entropy` and one another only.
    """
    if not sys.platform.startswith("linux"):
        return MemoryTrial(megabytes, {})
    source = "\n".join(textwrap.dedent(inspect.getsource(part)) for part in (*helpers, step))
    program = _CHILD.format(megabytes=megabytes, sizes=list(sizes), step=step.__name__)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadInput(f"The trial failed: {(done.stderr.splitlines() or ['no message'])[-1]}")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return MemoryTrial(
        megabytes, {size: _last_line(name, text, 50) if name else FITS for size, name, text in rows}
    )
