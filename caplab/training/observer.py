"""Watch a training: measure at the chosen steps, show progress, and end it when asked to."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from caplab.support.errors import out_of_memory
from caplab.training.examiner import Examiner
from caplab.training.run import Point
from caplab.training.trainer import Diverged, QuietTrainer

__all__ = ["Clock", "Observer", "random_state_kept"]
_PATIENCE = 2.0  # seconds before a progress line appears


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
    """Restore Python's, numpy's and torch's random states afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


class Observer(TrainerCallback):
    """Measure the model at the chosen steps, pass the points on, and end the run at `stop`."""

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
        # After the caller's callbacks, which may end the run or change the weights.
        trainer.add_callback(self)

    def train(self) -> str | None:
        """Train to the end, or as far as possible; return in words what went wrong, if it did."""
        try:
            self._train()
        except Diverged as reason:
            self.cut_short = True
            return f"Diverged: {reason}. Training ended there; try a lower learning rate."
        except KeyboardInterrupt:
            self.cut_short = True
            if not self.points:  # nothing was measured that would be worth keeping
                raise
        except (RuntimeError, MemoryError) as error:
            if not (self.points and out_of_memory(error)):
                raise
            self.cut_short = True
            return (
                f"Out of memory after step {self.trainer.state.global_step}. Training ended there; "
                'try a smaller batch_size or method="lora".'
            )
        finally:
            self._line.close()
            if self.trainer.average:
                self.trainer.average.swap()
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
        """Measure, if it is time to; end the training, if somebody asked for that."""
        self._line.show(state.global_step)
        if state.global_step in self._steps and not self._heard_stop():
            self._look(self.trainer.model, state.global_step, self.trainer.rate)
        if self._heard_stop():
            control.should_training_stop = True

    def _look(self, model: Any | None, step: int, rate: float) -> None:
        loss, elapsed = self.trainer.mean_task_loss(), self.clock.elapsed
        measured = {"task_loss": loss, "learning_rate": rate, "elapsed": elapsed}
        with self.trainer.as_shipped():
            point = self.examiner.look(model, step, **measured)
        self.points.append(point)
        if self._on_point:
            with random_state_kept(self.examiner.subject.device):
                self._on_point(point)

    def _heard_stop(self) -> bool:
        self.cut_short |= self._stop is not None and self._stop.is_set()
        return self.cut_short


class _ProgressLine:
    """A progress line for a run that takes long and whose points nobody receives."""

    def __init__(self, steps: int, clock: Clock, *, silent: bool) -> None:
        self._steps, self._clock, self._silent = steps, clock, silent
        self._bar: Any = None

    def show(self, step: int) -> None:
        if self._silent or self._clock.elapsed < _PATIENCE:
            return
        if self._bar is None:
            from caplab.support.bars import tqdm

            self._bar = tqdm(total=self._steps, unit="step", leave=False)
            if not self._bar.disable:  # it appears late, and tells the time since the beginning
                self._bar.start_t -= self._clock.elapsed
                self._bar.last_print_t = self._bar.start_t
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.total = self._bar.n  # the run is over, even if it was stopped before its end
            self._bar.close()
