"""Send a guard's values to TensorBoard, W&B and Trackio, as the Trainer's `report_to` says."""

import weakref
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import integration_utils

from caplab.watching.records import Table

if TYPE_CHECKING:
    from transformers import Trainer

__all__ = ["Reporters"]

_integrations: Any = integration_utils  # has no type hints


class Reporters:
    """TensorBoard, W&B and Trackio, as far as `report_to` names them.

    W&B and Trackio know the current run of a process, so values join the Trainer's. TensorBoard
    shows one event file per folder, so values go to a run named `guard` beside the Trainer's.
    """

    def __init__(self, args: TrainingArguments, attached: "Trainer | None" = None) -> None:
        self._attached = weakref.ref(attached) if attached else None
        names = args.report_to or []
        self._trackers = [name for name in ("wandb", "trackio") if name in names]
        self._board = _integrations.TensorBoardCallback() if "tensorboard" in names else None
        if self._board is not None:
            folder = self._board.logging_dir or Path(
                str(args.output_dir), _integrations.default_logdir()
            )
            self._board.logging_dir = str(Path(folder, "guard"))

    def log(
        self,
        values: dict[str, float],
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
    ) -> None:
        """Write the values into the Trainer's history and to its dashboards.

        transformers gives a callback no means to log, and calls its reporters before a user's
        callbacks, so values added to `logs` in `on_log` would come too late. An attached Trainer's
        handler tells every callback, reporters included. `Trainer.log` itself would not do:
        SFTTrainer's adds its running metrics to the values and then resets them.
        """
        values["epoch"] = float(state.epoch or 0)
        state.log_history.append({**values, "step": state.global_step})
        trainer = self._attached and self._attached()
        if trainer and trainer.state is state:  # not another Trainer, which was attached earlier
            should_log = control.should_log
            trainer.callback_handler.on_log(args, state, control, logs=values)
            control.should_log = should_log  # the handler takes this for the Trainer's own log
        elif state.is_world_process_zero:
            self._log_here(values, args, state, control)

    def _log_here(
        self,
        values: dict[str, float],
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
    ) -> None:
        """Write the values at the current step, under the names that the Trainer would use."""
        if self._board is not None:
            self._board.on_log(args, state, control, logs=values)
        for name in self._trackers:
            tracker = import_module(name)
            if _current_run(tracker) is not None:
                named = _integrations.rewrite_logs(values)
                tracker.log({**named, "train/global_step": state.global_step})

    def show(self, made: Callable[[], dict[str, Table]], state: TrainerState) -> None:
        """Show tables at the current step: as text in TensorBoard, as tables elsewhere."""
        board = self._writer(state)
        if not state.is_world_process_zero or not (board or self._trackers):
            return
        tables = made()
        if board:
            for name, table in tables.items():
                board.add_text(f"train/{name}", table.markdown, state.global_step)
        for name in self._trackers:
            tracker = import_module(name)
            if _current_run(tracker) is not None:
                shown = {f"train/{key}": tracker.Table(*table) for key, table in tables.items()}
                tracker.log({**shown, "train/global_step": state.global_step})

    def _writer(self, state: TrainerState) -> Any:
        """Return what writes TensorBoard's files: the Trainer's own, if it is attached."""
        trainer = self._attached and self._attached()
        own = _integrations.TensorBoardCallback
        boards = [self._board] if self._board else []
        if trainer and trainer.state is state:
            boards = [each for each in trainer.callback_handler.callbacks if isinstance(each, own)]
        return next((board.tb_writer for board in boards), None)

    def close(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        """Close the event file."""
        if self._board is not None:
            self._board.on_train_end(args, state, control)


def _current_run(tracker: Any) -> Any:
    """Return the run that the Trainer has begun; without one a tracker's `log` would raise."""
    if tracker.__name__ == "trackio":
        return tracker.context_vars.current_run.get()
    return tracker.run
