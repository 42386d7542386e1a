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
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from caplab.measuring.compare import compare
from caplab.measuring.lost import lost_answers
from caplab.measuring.policy import Policy
from caplab.measuring.report import REGRESSED
from caplab.measuring.score import score
from caplab.measuring.scorecard import Scorecard
from caplab.models.subject import Diverged, Subject
from caplab.questions.exam import Exam
from caplab.questions.exam import exam as load_exam
from caplab.support.bars import without_bars
from caplab.support.errors import BadInput
from caplab.support.safe_text import log_text
from caplab.watching.beforehand import blind_spots, practised_sentence
from caplab.watching.gate import with_groups
from caplab.watching.guard_options import Action, check_options, find_tokenizer, loss_name
from caplab.watching.looks import WITHIN, Check, crossing, nothing_said
from caplab.watching.ranks import Ranks, layout_problem, zero_stage
from caplab.watching.records import Table, tables
from caplab.watching.reporters import Reporters
from caplab.watching.snapshots import Snapshots, save_as_it_stands

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from transformers import Trainer

__all__ = ["Check", "RegressionGuard"]

_logger = logging.getLogger(__name__)
_MUCH = 100e6  # bytes of copies that are worth a warning


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
    carry the base's answers, so a resumed run is still compared with the base. A rollback needs two
    copies of the trainable weights: in memory, or in the folder `snapshots`, where a run that was
    killed and resumed finds them. If there is nothing to return to when it is needed, the guard
    saves the weights as they stand, and raises.

    The task loss is what the Trainer logs: the evaluation loss if it evaluates (with several sets
    the first one, unless you name another: `task_loss="eval_task_loss"`), else the training loss.

    `callbacks=[guard]` is enough. The values go into the Trainer's history and to TensorBoard, W&B
    and Trackio, if `report_to` names them; `attach(trainer)` sends them to every callback.

    In distributed training each process asks its share of the exam, and all act on one verdict: one
    device, DDP, FSDP2, DeepSpeed's ZeRO 1 and 2. Give the guard to every process. `ranks` has more.
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
        snapshots: str | Path | None = None,
    ) -> None:
        self.exam = exam if isinstance(exam, Exam) else load_exam(exam)
        self.policy = Policy.taken(policy, budget, confidence)
        self.every, self.action, self.patience, self.metric = every, action, patience, metric
        self.before, self._given = before, before is not None
        self.tokenizer, self.task_loss, self.snapshots = tokenizer, task_loss, snapshots
        self._watched: weakref.ref[torch.nn.Module] | None = None
        self._trainer: weakref.ref[Trainer] | None = None
        check_options(self)
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
        self._kept: Snapshots | None = None
        self._resumed_at = 0

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
        model = told["model"]
        self._begin()
        self._ranks = Ranks(model)
        agreed = self._ranks.together(lambda: self._ready(model, told["processing_class"]))
        if {*agreed} != {agreed[0]}:
            listed = "; ".join(f"process {n} {said}" for n, said in enumerate(agreed))
            raise BadInput(f"Each process needs the same guard, and they differ: {listed}.")
        self._reporters = Reporters(args, self._trainer() if self._trainer else None)
        looks = math.ceil(state.max_steps / self.every)
        self._chances = math.ceil(looks / (1 + self.patience))
        if not self._given and not (self._watched and self._watched() is model):
            self.before = None
        self._watched = weakref.ref(model)
        self._resumed_at = state.global_step
        if self.action == "rollback":
            self._keep_snapshots(model)
        self._ranks.together(lambda: self._say_practised(told.get("train_dataloader")))

    def _ready(self, model: Any, tokenizer: Any) -> str:
        """Check that this training can be guarded; return what all processes must agree on."""
        if problem := layout_problem(model):
            raise BadInput(problem)
        if self.action == "rollback" and zero_stage():
            raise BadInput(
                "DeepSpeed's optimiser keeps weights of its own, and they would overwrite those "
                'that a rollback restores. Choose action="stop".'
            )
        self._subject = Subject(model, find_tokenizer(self.tokenizer, tokenizer), "in training")
        asks = f"asks {self.exam.name} ({self.exam.fingerprint}) every {self.every} steps"
        return f"{asks}, action {self.action}, {self.policy}"

    def _keep_snapshots(self, model: Any) -> None:
        """Say what the snapshots will take; after a resume, find the earlier ones."""
        folder = None if self.snapshots is None else Path(self.snapshots)
        self._kept = Snapshots(model, self._ranks, self.exam.fingerprint, folder)
        level = logging.WARNING if 2 * self._kept.bytes > _MUCH else logging.INFO
        self._say(self._kept.sentence, level)
        self._say(self._kept.begin(self._resumed_at))

    def _say_practised(self, loader: Any) -> None:
        if self._ranks.main:
            rows = getattr(loader, "dataset", None)
            self._say(practised_sentence(rows, self._subject.tokenizer, self.exam))

    def _say(self, what: str, level: int = logging.WARNING) -> None:
        """Write into the log, once for all processes; names may hold anything."""
        if what and self._ranks.main:
            with without_bars():
                _logger.log(level, "%s", log_text(what))

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **told: Any
    ) -> None:
        """Look before the first step; every callback is ready for values by now."""
        if not self.checks:
            self._look(args, state, control, told["optimizer"])

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **told: Any
    ) -> None:
        """Keep layers that were unfrozen, before the first step that changes them."""
        if self._kept:
            self._kept.complete()

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
        self._loss_name = self._loss_name or loss_name(logs, args.eval_strategy != "no")
        self._loss = logs.get(self._loss_name, self._loss)
        if self._kept and self._kept.latest and self._kept.latest.step == state.global_step:
            self._kept.latest.task_loss = self._loss

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Roll back again if the Trainer has loaded its own best model since."""
        if self._kept and self.restored_step is not None:
            self._kept.restore()
        self._end(args, state, control)

    def _end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        """Let go: a guard that is kept for its history must not keep the model alive."""
        self._kept = None
        del self._subject
        self._reporters.close(args, state, control)

    # ------------------------------------------------------------ one look

    def _look(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any
    ) -> None:
        """Ask, compare, write the result into the log, and act on it."""
        check = self._check(state)
        self.checks.append(check)
        self._reporters.log(check.values, args, state, control)
        self._reporters.show(lambda: self._tables(check), state)
        if self._kept:
            self._kept.keep(check.step, self._loss, good=check.within_budget)
        if self._crossed(last=control.should_training_stop):
            if self.action != "warn":
                control.should_training_stop = True
            if self.action == "rollback":
                self._roll_back(check, args, state, control, optimizer)
            self._say(f"Step {check.step}: {check.sentence}. {self._consequence}")

    def _tables(self, check: Check) -> dict[str, Table]:
        assert self.before is not None
        return tables(check.report, lost_answers(self.before, self._card, self.exam))

    @property
    def _policy(self) -> Policy:
        """Return the policy of one look: the whole run's confidence is divided among all looks."""
        return replace(self.policy, confidence=1 - (1 - self.confidence) / self._chances)

    def _check(self, state: TrainerState) -> Check:
        """Score the model as it is, and compare it with the base; every process gets the result."""
        start = time.perf_counter()
        card, diverged = self._ask()
        self.before, self._card = self._base(state, card), card

        def judged() -> Check | None:
            if not self._ranks.main:
                return None
            assert self.before is not None
            if not self.checks:
                for said in blind_spots(self.before, self._policy, self.metric):
                    self._say(said)
            report = compare(self.before, card, policy=self._policy, metric=self.metric)
            return Check(state.global_step, report, time.perf_counter() - start, diverged)

        check = self._ranks.together(judged)[0]
        assert check is not None
        return check

    def _ask(self) -> tuple[Scorecard, bool]:
        """Score the model; if it could answer before and now cannot, it has diverged."""
        try:
            return self._ranks.ask(self._subject, self.exam, _score), False
        except Diverged:
            if self.before is None or not self.checks:
                raise
            return nothing_said(self.before), True

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

    def _crossed(self, last: bool) -> bool:
        """Tell whether the latest looks are a new crossing; each one is reported once."""
        if not self.checks or self.checks[-1].verdict != REGRESSED:
            self._over = False
            return False
        step = crossing(self.checks, self.patience, last=last)
        if step is None or self._over:
            return False
        self._over = True
        self.crossed_at = step if self.crossed_at is None else self.crossed_at
        return True

    def _roll_back(
        self,
        check: Check,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Any,
    ) -> None:
        """Restore the best weights; if that cannot be, save what stands, and raise."""
        assert self._kept is not None
        try:
            self.restored_step = self._kept.restore()
        except BadInput as error:
            folder = Path(str(args.output_dir), f"guard-step-{check.step}")
            subject, ranks = self._subject, self._ranks
            save_as_it_stands(subject.model, subject.tokenizer, folder, ranks)
            self._end(args, state, control)
            why = str(error).rstrip(".")
            raise BadInput(
                log_text(
                    f"Step {check.step}: {check.sentence}. The guard cannot roll back: {why}. "
                    f"Training stops; the weights as they stand are in {folder}."
                )
            ) from error
        optimizer.state.clear()

    @property
    def _consequence(self) -> str:
        if self.action == "warn":
            return "Training goes on."
        if self.restored_step is None:
            return "Training stops."
        return f"Training stops; the weights of step {self.restored_step} are restored: {WITHIN}."

    # ------------------------------------------------------------ what is left to read

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table with one line per look."""
        import pandas as pd

        return pd.DataFrame([check.row for check in self.checks])

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


def _score(subject: Subject, exam: Exam) -> Scorecard:
    return score(subject, exam, progress=False)
