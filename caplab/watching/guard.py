"""Watch what a model forgets while it trains, and act: warn, stop, or roll back.

`RegressionGuard` is a plain `transformers.TrainerCallback`: one line in any `Trainer` or
`SFTTrainer` script, with or without PEFT. It asks its exam before the first step and then every few
steps, and compares the answers item by item with those before training.

**A dip is not a crossing.** In the first steps accuracy often drops and recovers by itself. So the
guard acts when two looks in a row say REGRESSED (`patience=1`: one look is forgiven), when the last
look does, or when the model answers with NaN.

**Many looks, one promise.** Each look at a run is one more chance of a false alarm. `confidence` is
a promise about the whole run: the error rate is divided equally among the planned looks
(Bonferroni's correction, which holds however strongly the looks are correlated). Two looks in a row
always contain an even one, so only every second look needs a share.

**Stopping and rolling back.** The guard stops a run only if it is sure of a regression. It returns
only to weights with which every row, each capability and the whole, was within its own budget on
the questions asked: that no regression was proved is not enough. Nor does it mean HELD.
"""

import logging
import math
import time
import weakref
from dataclasses import asdict, dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from accelerate.utils import broadcast_object_list
from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from caplab.measuring.compare import check_metric, compare
from caplab.measuring.policy import Policy
from caplab.measuring.report import REGRESSED, Report
from caplab.measuring.score import score
from caplab.measuring.scorecard import Scorecard, as_columns
from caplab.models.subject import Subject
from caplab.questions.exam import Exam
from caplab.questions.exam import exam as load_exam
from caplab.support.errors import BadInput, is_count, require_type, short_repr
from caplab.watching.gate import with_groups
from caplab.watching.reporters import Reporters

if TYPE_CHECKING:
    import pandas as pd
    from transformers import Trainer

__all__ = ["Check", "RegressionGuard"]

Action = Literal["warn", "stop", "rollback"]
_logger = logging.getLogger(__name__)
_WITHIN = "every row within its budget on the questions asked"


@dataclass(frozen=True)
class Check:
    """One look at the model in training."""

    step: int
    report: Report
    seconds: float
    diverged: bool = False

    @property
    def verdict(self) -> str:
        """Say REGRESSED, HELD or UNDERPOWERED."""
        return REGRESSED if self.diverged else self.report.verdict

    @property
    def within_budget(self) -> bool:
        """Tell whether a rollback may return here: each row lost no more than its budget.

        On the questions asked, that is: it does not mean HELD.
        """
        within = all(row.within_budget for row in self.report.deciding)
        return within and self.verdict != REGRESSED

    @property
    def sentence(self) -> str:
        """Say the result in one line."""
        if self.diverged:
            return "the model answers with NaN, its weights have diverged: REGRESSED"
        return self.report.sentence

    @property
    def values(self) -> dict[str, float]:
        """Return what goes into the Trainer's log, and from there to TensorBoard and others."""
        report = self.report
        whole = {report.metric: report.overall.after, "change": report.overall.change}
        whole["regressed"] = self.verdict == REGRESSED
        taken = (*whole, "step", "verdict", "low", "high", "seconds")  # columns of to_pandas()
        levels = as_columns({row.name: row.after for row in report.capabilities}, taken) | whole
        return {f"guard/{name}": float(value) for name, value in levels.items()}


@dataclass
class _Snapshot:
    """The trainable weights after one step: the whole model's, or the adapter's alone."""

    step: int
    task_loss: float
    weights: dict[str, torch.Tensor] = field(repr=False)

    @classmethod
    def take(cls, model: torch.nn.Module, step: int, task_loss: float) -> "_Snapshot":
        # Snapshots stay on the CPU: the device's memory is needed for training.
        weights = {name: p.detach().to("cpu", copy=True) for name, p in _trainable(model)}
        return cls(step, task_loss, weights)

    @torch.no_grad()
    def restore(self, model: torch.nn.Module) -> None:
        for name, parameter in _trainable(model):
            parameter.copy_(self.weights[name])


class RegressionGuard(TrainerCallback):
    """Ask an exam every few training steps; on a regression beyond the budget, act.

    - `action="warn"` logs a warning, once per crossing, and changes nothing: the weights are bit
      for bit those of a run without the guard.
    - `"stop"` also ends the training at that step.
    - `"rollback"` also restores, bit for bit, the best weights of all looks: the lowest task loss
      with every capability within its budget on the questions asked, step 0 included. The
      optimiser's moments are cleared, because they belong to the weights that were given up. Then
      save, or train on.

    `budget` is the loss that you accept, overall and in each capability (.05); a `policy`, or the
    path of one, gives capabilities budgets and tiers of their own.

    The base is the model before its first step, or the scorecard given as `before`. Checkpoints
    carry the base's answers, so a resumed run is still compared with the base. The snapshots for a
    rollback are kept in memory only and start again after a resume.

    The task loss is what the Trainer logs: the evaluation loss if it evaluates (with several sets
    the first one, unless you name another: `task_loss="eval_task_loss"`), else the training loss.

    `callbacks=[guard]` is enough. The values go into the Trainer's history and to TensorBoard, W&B
    and Trackio, if `report_to` names them; `attach(trainer)` sends them to every callback.

    In distributed training the main process asks, and all processes act on its verdict.
    """

    def __init__(
        self,
        exam: Exam | str | Path = "classics",
        *,
        budget: float | None = None,
        every: int = 10,
        action: Action = "warn",
        patience: int = 1,
        confidence: float | None = None,
        metric: str = "accuracy",
        policy: Policy | str | Path | None = None,
        before: Scorecard | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        task_loss: str | None = None,
    ) -> None:
        self.exam = exam if isinstance(exam, Exam) else load_exam(exam)
        self.policy = Policy.taken(policy, budget, confidence)
        self.every, self.action, self.patience, self.metric = every, action, patience, metric
        self.before, self._given = before, before is not None
        self.tokenizer, self.task_loss = tokenizer, task_loss
        self._watched: weakref.ref[torch.nn.Module] | None = None
        self._trainer: weakref.ref[Trainer] | None = None
        _check_options(self)
        self._begin()

    @property
    def budget(self) -> float:
        """Return the loss that is acceptable overall."""
        return self.policy.budget

    @property
    def confidence(self) -> float:
        """Return what is promised about the whole run, however many looks it takes."""
        return self.policy.confidence

    def _begin(self) -> None:
        """Reset what belongs to one training."""
        self.checks: list[Check] = []
        self.crossed_at: int | None = None
        self._over = False  # the current crossing has been reported
        self.restored_step: int | None = None
        self._loss_name, self._loss = self.task_loss, math.inf
        self._latest: _Snapshot | None = None  # of the last look: its task loss may come later
        self._best: _Snapshot | None = None

    def attach(self, trainer: "Trainer") -> "RegressionGuard":
        """Watch a Trainer, and send the values of each look to all of its callbacks."""
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        self._trainer = weakref.ref(trainer)
        return self

    # ------------------------------------------------------------ what the Trainer calls

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **told: Any
    ) -> None:
        """Get ready; a new model gets a new base."""
        _check_replicated(args)
        model, tokenizer = told["model"], _tokenizer(self.tokenizer, told["processing_class"])
        self._begin()
        self._subject = Subject(model, tokenizer, "in training")
        self._reporters = Reporters(args)
        looks = math.ceil(state.max_steps / self.every)
        self._chances = math.ceil(looks / (1 + self.patience))
        if not self._given and not (self._watched and self._watched() is model):
            self.before = None
        self._watched = weakref.ref(model)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **told: Any
    ) -> None:
        """Look before the first step; every callback is ready for values by now."""
        if not self.checks:
            self._look(args, state, control, told["optimizer"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **told: Any
    ) -> None:
        """Look every few steps and after the last one, before anything is saved."""
        if state.global_step % self.every == 0 or control.should_training_stop:
            self._look(args, state, control, told["optimizer"])

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **told: Any
    ) -> None:
        """Look once more if an evaluation has ended the training."""
        if control.should_training_stop and self.checks[-1].step < state.global_step:
            self._look(args, state, control, told["optimizer"])

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **told: Any
    ) -> None:
        """Read the task loss from the Trainer's own log."""
        logs = told["logs"]
        self._loss_name = self._loss_name or _loss_name(logs, args.eval_strategy != "no")
        self._loss = logs.get(self._loss_name, self._loss)
        if self._latest and self._latest.step == state.global_step:
            self._latest.task_loss = self._loss

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Roll back again if the Trainer has loaded its own best model since."""
        if self._best and self.restored_step is not None:
            self._best.restore(self._subject.model)
        self._best = self._latest = None
        del self._subject  # a guard that is kept for its history must not keep the model alive
        self._reporters.close(args, state, control)

    # ------------------------------------------------------------ one look

    def _look(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any
    ) -> None:
        """Ask, compare, write the result into the log, and act on it."""
        check = self._check(state) if state.is_world_process_zero else None
        (check,) = broadcast_object_list([check])
        self.checks.append(check)
        self._log(check.values, args, state, control)
        if self.action == "rollback":
            self._remember(check)
        if self._crossed(last=control.should_training_stop):
            self._act(control, optimizer)
            if state.is_world_process_zero:
                _logger.warning("Step %d: %s. %s", check.step, check.sentence, self._consequence)

    def _check(self, state: TrainerState) -> Check:
        """Score the model as it is, and compare it with the base."""
        start = time.perf_counter()
        card, diverged = self._ask()
        self.before = self._base(state, card)
        confidence = 1 - (1 - self.confidence) / self._chances
        policy = replace(self.policy, confidence=confidence)
        report = compare(self.before, card, policy=policy, metric=self.metric)
        return Check(state.global_step, report, time.perf_counter() - start, diverged)

    def _ask(self) -> tuple[Scorecard, bool]:
        """Score the model; if it could answer before and now cannot, it has diverged."""
        try:
            return score(self._subject, self.exam, progress=False), False
        except BadInput:
            if self.before is None or not self.checks:
                raise
            nothing = tuple((-math.inf,) * len(row) for row in self.before.loglikelihoods)
            return replace(self.before, loglikelihoods=nothing, text_losses=()), True

    def _base(self, state: TrainerState, card: Scorecard) -> Scorecard:
        """Return the base's answers: given, from the checkpoint, or from before the first step.

        Checkpoints save `state`, so the answers are stored there for a run that resumes.
        """
        memory: Any = state.stateful_callbacks
        key = f"RegressionGuard on {self.exam.fingerprint}"
        kept = memory.get(key)
        if self.before is None and kept is None and state.global_step > 0:
            raise BadInput(
                f"Training resumes at step {state.global_step}, and its checkpoint does not hold "
                "the base's answers to this exam. Score the base and give its answers to the "
                "guard: RegressionGuard(..., before=score(base, exam))."
            )
        base = self.before or (Scorecard(**kept) if kept else card)
        base = with_groups(base, self.exam)  # which caplab 0.1 did not know
        memory[key] = asdict(base)
        return base

    def _remember(self, check: Check) -> None:
        """Keep the best weights so far, and the latest ones until their task loss is known."""
        latest, best = self._latest, self._best
        if latest and (best is None or latest.task_loss <= best.task_loss):
            self._best = latest
        self._latest = None
        if check.within_budget:
            self._latest = _Snapshot.take(self._subject.model, check.step, self._loss)

    def _crossed(self, last: bool) -> bool:
        """Tell whether the latest looks are a new crossing; each one is reported once."""
        streak = list(takewhile(lambda check: check.verdict == REGRESSED, reversed(self.checks)))
        if not streak:
            self._over = False
        elif not self._over and (len(streak) > self.patience or last or streak[0].diverged):
            self._over = True
            self.crossed_at = streak[-1].step if self.crossed_at is None else self.crossed_at
            return True
        return False

    def _act(self, control: TrainerControl, optimizer: Any) -> None:
        """Stop and roll back, as `action` says."""
        if self.action != "warn":
            control.should_training_stop = True
        if self.action == "rollback" and self._best:
            self._best.restore(self._subject.model)
            self.restored_step = self._best.step
            optimizer.state.clear()

    @property
    def _consequence(self) -> str:
        if self.action == "warn":
            return "Training goes on."
        if self.action == "stop":
            return "Training stops."
        if self.restored_step is None:
            return f"Training stops; at no look was {_WITHIN}: the weights stay as they are."
        return f"Training stops; the weights of step {self.restored_step} are restored: {_WITHIN}."

    def _log(
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
        values["epoch"] = state.epoch
        state.log_history.append({**values, "step": state.global_step})
        trainer = self._trainer and self._trainer()
        if trainer and trainer.state is state:  # not another Trainer, which was attached earlier
            should_log = control.should_log
            trainer.callback_handler.on_log(args, state, control, logs=values)
            control.should_log = should_log  # the handler takes this for the Trainer's own log
        elif state.is_world_process_zero:
            self._reporters.log(values, args, state, control)

    # ------------------------------------------------------------ what is left to read

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table with one line per look."""
        import pandas as pd

        rows = [
            {"step": check.step, "verdict": check.verdict}
            | {name.removeprefix("guard/"): value for name, value in check.values.items()}
            | {"low": check.report.overall.low, "high": check.report.overall.high}
            | {"seconds": check.seconds}
            for check in self.checks
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        rules = f"budget {self.budget:g}, every {self.every} steps, {self.action}"
        return f"RegressionGuard on {self.exam.name}: {rules}; {self._history}"

    @property
    def _history(self) -> str:
        if not self.checks:
            return "has not looked yet"
        looks = f"{len(self.checks)} looks up to step {self.checks[-1].step}"
        if self.crossed_at is None:
            return f"{looks}, {self.checks[-1].verdict}"
        back = "" if self.restored_step is None else f", rolled back to step {self.restored_step}"
        return f"{looks}, crossed the budget at step {self.crossed_at}{back}"


def _trainable(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _loss_name(logs: dict[str, float], evaluated: bool) -> str | None:
    """Find the task loss among the logged values: the evaluation's, if there is one."""
    wanted = (name for name in logs if name.startswith("eval_") and name.endswith("loss"))
    return next(wanted, None) if evaluated else "loss"


def _tokenizer(*candidates: Any) -> PreTrainedTokenizerBase:
    """Return the first tokenizer; a processor for several media has one inside."""
    for candidate in candidates:
        inside = getattr(candidate, "tokenizer", candidate)
        if isinstance(inside, PreTrainedTokenizerBase):
            return inside
    raise BadInput(
        "The guard needs a tokenizer to ask its exam, and this Trainer has none: give one to the "
        "Trainer (processing_class=tokenizer) or to the guard (tokenizer=tokenizer)."
    )


def _check_options(guard: RegressionGuard) -> None:
    if guard.action not in get_args(Action):
        choices = ", ".join(get_args(Action))
        raise BadInput(f"action is {short_repr(guard.action)}: choose one of {choices}.")
    for name, least in (("every", 1), ("patience", 0)):
        value = getattr(guard, name)
        if not is_count(value, least):
            raise BadInput(f"{name} is {short_repr(value)}: give a whole number, at least {least}.")
    check_metric(guard.metric)
    guard.policy.check_covers(guard.exam.name, guard.exam.capabilities)
    require_type(
        guard.tokenizer, (PreTrainedTokenizerBase, type(None)), "tokenizer is the model's own"
    )
    require_type(
        guard.task_loss, (str, type(None)), "task_loss names a value that the Trainer logs"
    )
    _check_before(guard.before, guard.exam)


def _check_before(before: Scorecard | None, exam: Exam) -> None:
    """Refuse a base's answers to another exam now, not after hours of training."""
    if before is None:
        return
    require_type(before, Scorecard, "before is the base's Scorecard, score(base, exam)")
    if before.fingerprint != exam.fingerprint:
        raise BadInput(f"before answers {before.exam!r}, but the guard asks {exam.name!r}.")


def _check_replicated(args: TrainingArguments) -> None:
    """Refuse sharded weights: no single process could ask the model."""
    if args.fsdp or args.deepspeed:
        raise BadInput(
            "The guard asks the model in one process, but FSDP and DeepSpeed shard its weights. "
            "Guard a run on one device or with plain data parallelism (DDP)."
        )
