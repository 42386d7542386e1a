"""Look at a model while it trains: what it still knows, what it learned, how far it has moved."""

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn.functional import kl_div
from transformers import TrainerCallback

from caplab.errors import out_of_memory
from caplab.exam import Exam, Scorecard, score
from caplab.feed import digest
from caplab.models import Subject, measuring
from caplab.run import Point
from caplab.trainer import Collator, Diverged, QuietTrainer

__all__ = ["Clock", "Examiner", "Watch", "random_state_kept"]

_ASKED = 48  # questions on the classics at a point; the final scorecard answers all
_ASKED_OF_TASK = 32
_DRIFT_ROWS = 16  # held-out rows on which the KL is measured
_DRIFT_NUMBERS = 2**23  # the base's log-probabilities that are kept at most: 32 MB
_PATIENCE = 2.0  # seconds without a word before a progress line appears
_CARDS_KEPT = 32


class Clock:
    """Count the seconds since a run began."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Return the seconds so far."""
        return time.perf_counter() - self._start


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Leave Python's, numpy's and torch's random states as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


class _Drift:
    """How far a model has moved from its base: KL(base || model) per token of the same texts.

    Prompts count as well as completions. In a trial over 22 runs of the pocket model the whole text
    told better what was forgotten (R squared .89 for the smooth score) than the completions (.69).
    """

    def __init__(self, subject: Subject, rows: Dataset) -> None:
        batch = Collator.of(subject.tokenizer)(list(_spread(rows, subject.model)))
        self.inputs = {
            key: batch[key].to(subject.device) for key in ("input_ids", "attention_mask")
        }
        self.read = self.inputs["attention_mask"][:, 1:].bool()  # (rows, tokens - 1)
        self.base = self._log_chances(subject.model)

    def _log_chances(self, model: Any) -> torch.Tensor:
        with measuring(model):
            logits: torch.Tensor = model(**self.inputs).logits[:, :-1]  # (rows, tokens - 1, words)
            return logits[self.read].float().log_softmax(-1)  # (tokens read, words)

    def from_base(self, model: Any) -> float:
        """Return the divergence in nats per token; 0 for the base itself."""
        moved = self._log_chances(model)
        return kl_div(moved, self.base, reduction="batchmean", log_target=True).item()


def _spread(rows: Dataset, model: Any) -> Dataset:
    """Pick rows at equal distances, as many as the memory set aside for them holds."""
    vocabulary = model.get_output_embeddings().weight.shape[0]
    predicted = sum(len(row["input_ids"]) - 1 for row in rows)
    fitting = _DRIFT_NUMBERS * len(rows) // (vocabulary * predicted)
    count = min(len(rows), _DRIFT_ROWS, max(1, fitting))
    return rows.select([at * len(rows) // count for at in range(count)])


_last_drift: dict[tuple[str, str, str], _Drift] = {}


def _drift(subject: Subject, rows: Dataset, weights: str) -> _Drift:
    """Return the distance from this base: the next run mostly begins at the same one."""
    key = (weights, rows._fingerprint, str(subject.device))
    if key not in _last_drift:
        _last_drift.clear()
        _last_drift[key] = _Drift(subject, rows)
    return _last_drift[key]


_base_cards: dict[tuple[str, str], Scorecard] = {}


class Examiner:
    """Ask what a point reports: a sample of either exam, and the distance from the base."""

    def __init__(
        self,
        subject: Subject,
        exam: Exam,
        task_exam: Exam | None,
        rows: Dataset,
        *,
        progress: bool = False,
    ) -> None:
        self.subject, self.exam, self.task_exam = subject, exam, task_exam
        self._progress = progress
        self.weights = digest(subject.model)
        self._classics = exam.sample(min(_ASKED, len(exam)))
        self._task = task_exam.sample(min(_ASKED_OF_TASK, len(task_exam))) if task_exam else None
        self._drift = _drift(subject, rows, self.weights)

    def cards(self, tuned: Subject | None) -> dict[str, Scorecard]:
        """Ask the base, and the tuned subject if one is given, the exams in full."""
        found = {}
        for suffix, exam in (("", self.exam), ("_task", self.task_exam)):
            if exam:
                found[f"before{suffix}"] = self._base_card(exam)
            if exam and tuned:
                found[f"final{suffix}"] = score(tuned, exam, progress=self._progress)
        return found

    def _base_card(self, exam: Exam) -> Scorecard:
        """Score the base; what it answered once, in whatever run, is not asked again."""
        key = (self.weights, exam.fingerprint)
        if key not in _base_cards:
            _base_cards[key] = score(self.subject, exam, progress=self._progress)
            for oldest in list(_base_cards)[:-_CARDS_KEPT]:
                _base_cards.pop(oldest)
        return replace(_base_cards[key], subject=self.subject.name)

    def look(self, model: Any | None, step: int, **known: Any) -> Point:
        """Ask the model, or the base where none is given."""
        kl = 0.0 if model is None else self._drift.from_base(model)
        if not math.isfinite(kl):
            raise Diverged(f"the weights were no numbers any more after step {step}")
        classics = self._ask(model, self._classics)
        return Point(
            step=step,
            task_accuracy=self._ask(model, self._task).accuracy if self._task else None,
            classics_accuracy=classics.accuracy,
            by_capability=classics.by_capability,
            smooth=classics.smooth,
            language_loss=classics.language_loss if self._classics.texts else None,
            kl=kl,
            **known,
        )

    def _ask(self, model: Any | None, exam: Exam) -> Scorecard:
        if model is None:
            return self._base_card(exam)
        return score(Subject(model, self.subject.tokenizer, "in training"), exam, progress=False)


class Watch(TrainerCallback):
    """Look at the model at the chosen steps, pass the points on, and listen for `stop`."""

    def __init__(
        self,
        trainer: QuietTrainer,
        examiner: Examiner,
        steps: set[int],
        clock: Clock,
        on_point: Callable[[Point], object] | None,
        stop: threading.Event | None,
    ) -> None:
        self.points: list[Point] = []
        self.cut_short = False
        self.trainer, self.examiner, self.clock = trainer, examiner, clock
        self._steps, self._on_point, self._stop = steps, on_point, stop
        watched = on_point is None and threading.current_thread() is threading.main_thread()
        self._line = _ProgressLine(trainer.args.max_steps, clock, silent=not watched)
        trainer.add_callback(self)  # behind the caller's: they may stop it or change the weights

    def train(self) -> str | None:
        """Train to the end, or as far as it goes; say in words what went wrong, if it did."""
        try:
            self._train()
        except Diverged as reason:
            self.cut_short = True
            return f"Diverged: {reason}. It was ended there; try a lower learning rate."
        except KeyboardInterrupt:
            self.cut_short = True
            if not self.points:
                raise
        except (RuntimeError, MemoryError) as error:
            if not (self.points and out_of_memory(error)):
                raise
            self.cut_short = True
            return (
                f"Out of memory after step {self.trainer.state.global_step}. It was ended there; "
                'try a smaller batch_size or method="lora".'
            )
        finally:
            self._line.close()
        return None

    def _train(self) -> None:
        trainer = self.trainer
        self._look(None, 0, 0.0 if trainer.args.warmup_steps else trainer.args.learning_rate)
        if self._heard_stop():
            return
        trainer.train()
        made = trainer.state.global_step
        if self.points[-1].step < made and not self._heard_stop():
            self._look(trainer.model, made, trainer.rate)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Look, if it is time; stop, if somebody asked."""
        self._line.show(state.global_step)
        if state.global_step in self._steps and not self._heard_stop():
            self._look(self.trainer.model, state.global_step, self.trainer.rate)
        if self._heard_stop():
            control.should_training_stop = True

    def _look(self, model: Any | None, step: int, rate: float) -> None:
        loss, elapsed = self.trainer.mean_task_loss(), self.clock.elapsed
        point = self.examiner.look(model, step, task_loss=loss, learning_rate=rate, elapsed=elapsed)
        self.points.append(point)
        if self._on_point:
            with random_state_kept(self.examiner.subject.device):
                self._on_point(point)

    def _heard_stop(self) -> bool:
        self.cut_short |= self._stop is not None and self._stop.is_set()
        return self.cut_short


class _ProgressLine:
    """A line that says how far a run is, if it takes long and nobody listens to its points."""

    def __init__(self, steps: int, clock: Clock, *, silent: bool) -> None:
        self._steps, self._clock, self._silent = steps, clock, silent
        self._bar: Any = None

    def show(self, step: int) -> None:
        if self._silent or self._clock.elapsed < _PATIENCE:
            return
        if self._bar is None:
            from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]

            self._bar = tqdm(total=self._steps, initial=step, unit="step", leave=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.total = self._bar.n  # else a notebook keeps the line of a run cut short
            self._bar.close()
