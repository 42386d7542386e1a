"""TRL's trainer, quick and quiet on a laptop: what `fine_tune` trains with.

Three things differ from a plain `SFTTrainer`, and none changes what is learned. The loss is that
of `transformers.Trainer`: TRL's own computes more metrics, takes a quarter longer on a CPU and
differs in the last bits. A step does what one device needs, and no more. And nothing is printed,
sent or written to disk.
"""

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from transformers import PrinterCallback, Trainer, TrainerCallback
from transformers.trainer_utils import align_special_tokens
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from caplab.models.subject import Subject
from caplab.models.weights import merged_copy, set_base_name
from caplab.support.quiet import quiet
from caplab.training.lora import lora_config
from caplab.training.recipe import Recipe

__all__ = ["Collator", "Diverged", "QuietTrainer", "make_trainer"]

_FEW_ROWS = 10_000


class Diverged(Exception):  # noqa: N818  (it is how a training ends, and `fine_tune` catches it)
    """End a training that cannot get better."""


class _Config(SFTConfig):
    """TRL's settings for one process on one device that leaves nothing on the disk."""

    n_gpu = 1
    should_save = False


@dataclass
class Collator(DataCollatorForLanguageModeling):
    """TRL's collator; it also passes on which rows are old texts."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Pad the examples to one length."""
        batch: dict[str, Any] = super().torch_call(examples)
        batch["replayed"] = torch.tensor([row.get("replayed", False) for row in examples])
        return batch

    @classmethod
    def of(cls, tokenizer: Any) -> "Collator":
        """Pad with the tokenizer's own padding; which token it is never matters, it is masked."""
        ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        return cls(pad_token_id=next(number for number in ids if number is not None))


class QuietTrainer(SFTTrainer):
    """TRL's trainer with the loss of transformers' own, counting what the points report."""

    read = replayed = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._task_losses: list[float] = []
        # To find these anew in each step takes 5 % of a LoRA training of pocket.
        model: Any = self.model
        self._modules = list(model.modules())
        self._trained = [weight for weight in model.parameters() if weight.requires_grad]
        if len(kwargs["train_dataset"]) <= _FEW_ROWS:  # reading them from Arrow takes longer
            self.train_dataset = kwargs["train_dataset"].to_list()
        # Nobody who guesses blindly among all the words is ten times worse than that.
        self._worst = 10 * math.log(len(kwargs["processing_class"]))

    def _send_telemetry(self) -> None:
        """Send nothing."""

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Count none: nobody asks, and counting walks through the model at each step."""
        return 0

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Learn from one batch on one device; transformers' own asks for more, and takes longer."""
        if not all(module.training for module in self._modules):
            model.train()
        with self.compute_loss_context_manager():
            inputs = self._prepare_inputs(inputs)
            loss = self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        loss.backward()
        return loss.detach()  # type: ignore[no-any-return]

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        """Clip the gradients of what is trained."""
        return clip_grad_norm_(self._trained, self.args.max_grad_norm)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute the loss of the whole batch; note down that of its task rows."""
        old = inputs.pop("replayed")
        loss, outputs = Trainer.compute_loss(self, model, inputs, True, num_items_in_batch)
        self._note(loss.item(), outputs.logits, inputs["labels"], old)
        return (loss, outputs) if return_outputs else loss

    def _note(self, loss: float, logits: Any, labels: Any, old: torch.Tensor) -> None:
        if not loss < self._worst:  # true for NaN as well
            raise Diverged(f"the loss was {loss:.3g} in step {self.state.global_step + 1}")
        count = int(old.sum())
        self.read, self.replayed = self.read + len(old), self.replayed + count
        if not count:
            self._task_losses.append(loss)
        elif count < len(old):
            with torch.no_grad():
                task = logits[~old, :-1].flatten(0, 1).float(), labels[~old, 1:].flatten()
                self._task_losses.append(cross_entropy(*task).item())

    def mean_task_loss(self) -> float | None:
        """Return the mean over the steps since it was last asked for."""
        losses, self._task_losses = self._task_losses, []
        return sum(losses) / len(losses) if losses else None

    @property
    def rate(self) -> float:
        """Return the learning rate of the next step."""
        return float(self._get_learning_rate())


def make_trainer(
    subject: Subject, recipe: Recipe, rows: Dataset, callbacks: Sequence[TrainerCallback] = ()
) -> QuietTrainer:
    """Put TRL's trainer around a copy of the subject's model."""
    _set_libraries_aside()
    with quiet():
        model = _own_copy(subject)
        trainer = QuietTrainer(
            model=model,
            args=_Config(**_settings(subject, recipe, logs=bool(callbacks))),
            train_dataset=rows,
            data_collator=Collator.of(subject.tokenizer),
            processing_class=subject.tokenizer,
            peft_config=lora_config(model, recipe) if recipe.method == "lora" else None,
            callbacks=list(callbacks),
        )
        # Here, in silence: where the two disagree, train() would do it with a warning.
        align_special_tokens(trainer.model, subject.tokenizer)  # type: ignore[no-untyped-call]
    trainer.remove_callback(PrinterCallback)
    return trainer


@cache
def _set_libraries_aside() -> None:
    """Spare the libraries from garbage collection, once.

    Each training begins with a collection. What has been imported by now will never be garbage, and
    to look through it every time takes as long as the pocket model's first two steps.
    """
    gc.collect()
    gc.freeze()


def _settings(subject: Subject, recipe: Recipe, *, logs: bool) -> dict[str, Any]:
    """Translate a recipe into TRL's words."""
    device = subject.device.type
    warm_constant = recipe.schedule == "constant" and recipe.warmup
    return {
        "output_dir": "unused",
        "max_steps": recipe.steps,
        "per_device_train_batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if warm_constant else recipe.schedule,
        "warmup_steps": recipe.warmup,
        "weight_decay": recipe.weight_decay,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "optim": "adamw_torch_fused",
        "use_cpu": device == "cpu",
        "bf16": device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False),
        "gradient_checkpointing": False,
        "max_length": subject.context,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False,
        "dataloader_pin_memory": device == "cuda",
        "logging_strategy": "steps"
        if logs
        else "no",  # a guard learns the task's loss from the log
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _own_copy(subject: Subject) -> Any:
    """Copy the model, an adapter of its own merged, every weight ready to be trained."""
    model = merged_copy(subject.model)
    if hasattr(subject.model, "merge_and_unload"):
        set_base_name(model, "")
    model.requires_grad_(True)
    model.zero_grad()
    if getattr(model, "loss_type", None) is None:
        model.loss_type = "ForCausalLM"  # else the Trainer divides by all tokens, not those learned
    return model
