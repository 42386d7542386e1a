"""TRL's trainer, made quick and quiet for a laptop: what `fine_tune` trains with.

It differs from a plain `SFTTrainer` in three points, none of which changes what is learned. The
loss is that of `transformers.Trainer`: TRL's own computes more metrics, takes a quarter longer on a
CPU and differs in the last bits. A step does only what a single device needs. And nothing is
printed, sent or written to disk.
"""

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
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
from caplab.training.anchors import Anchor, make_anchor
from caplab.training.lora import lora_config
from caplab.training.optimizers import RunningAverage, muon_with_adamw
from caplab.training.recipe import Recipe

__all__ = [
    "Collator",
    "Diverged",
    "QuietTrainer",
    "cheap_collections",
    "dft_loss",
    "make_trainer",
]

_FEW_ROWS = 10_000  # fit into a list without trouble
_COLLECT_EVERY = 10  # trainings


class Diverged(Exception):  # noqa: N818  (it ends a training, and `Observer.train` catches it)
    """End a training that cannot recover."""


class _Config(SFTConfig):
    """TRL's settings for one process on one device; nothing is written to disk."""

    n_gpu = 1
    should_save = False


@dataclass
class Collator(DataCollatorForLanguageModeling):
    """TRL's collator, which also passes on which rows are old texts."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Pad the examples to one length."""
        batch: dict[str, Any] = super().torch_call(examples)  # input_ids, labels: (rows, tokens)
        batch["replayed"] = torch.tensor([r.get("replayed", False) for r in examples])  # (rows,)
        return batch

    @classmethod
    def of(cls, tokenizer: Any) -> "Collator":
        """Pad with a token of the tokenizer; any will do, because padding is masked."""
        ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        return cls(pad_token_id=next(number for number in ids if number is not None))


class QuietTrainer(SFTTrainer):
    """TRL's trainer with transformers' own loss; it counts what the points report."""

    read = replayed = 0
    anchor: Anchor | None = None
    average: RunningAverage | None = None
    loss, muon = "nll", False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._task_losses: list[float] = []
        # Finding these again in each step would take 5 % of a LoRA training of pocket.
        model: Any = self.model
        self._modules = list(model.modules())
        self._trained = [weight for weight in model.parameters() if weight.requires_grad]
        if len(kwargs["train_dataset"]) <= _FEW_ROWS:  # reading rows from Arrow takes longer
            self.train_dataset = kwargs["train_dataset"].to_list()
        # A model that guesses uniformly loses log(vocabulary) per token; ten times that is broken.
        self._worst = 10 * math.log(len(kwargs["processing_class"]))

    def _send_telemetry(self) -> None:
        """Send nothing."""

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: nobody needs the count, and counting walks through the model at each step."""
        return 0

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Take one step on one device; transformers' own handles more cases and takes longer."""
        if not all(module.training for module in self._modules):
            model.train()
        with self.compute_loss_context_manager():
            inputs = self._prepare_inputs(inputs)
            loss = self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        loss.backward()
        return loss.detach()  # type: ignore[no-any-return]

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        """Clip the gradients of the weights that are trained."""
        return clip_grad_norm_(self._trained, self.args.max_grad_norm)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute the loss of the whole batch, and record the loss of its task rows."""
        old = inputs.pop("replayed")
        loss, outputs = Trainer.compute_loss(self, model, inputs, True, num_items_in_batch)
        self._record(loss.item(), outputs.logits, inputs["labels"], old)
        if self.loss == "dft":
            loss = dft_loss(outputs.logits, inputs["labels"], num_items_in_batch)
        if self.anchor:
            loss = loss + self.anchor.penalty(model)
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> Any:
        """Build the optimiser: transformers' AdamW, or Muon beside it."""
        if self.muon and self.optimizer is None:
            rate, decay = self.args.learning_rate, self.args.weight_decay
            self.optimizer = muon_with_adamw(self.model, rate, decay)
        return super().create_optimizer(model)

    def as_shipped(self) -> AbstractContextManager[None]:
        """Show the weights that the run would end with while the body runs."""
        return self.average.shown() if self.average else nullcontext()

    def _record(self, loss: float, logits: Any, labels: Any, old: torch.Tensor) -> None:
        if not loss < self._worst:  # true for NaN as well
            raise Diverged(f"the loss was {loss:.3g} in step {self.state.global_step + 1}")
        replayed = int(old.sum())
        self.read, self.replayed = self.read + len(old), self.replayed + replayed
        if not replayed:
            self._task_losses.append(loss)
        elif replayed < len(old):  # a mixed batch: compute the loss of the task rows alone
            with torch.no_grad():
                # The logits of each token predict the next one, hence the shift by one.
                chances = logits[~old, :-1].flatten(0, 1).float()  # (tokens, vocabulary)
                targets = labels[~old, 1:].flatten()  # (tokens,); -100 is not counted
                self._task_losses.append(cross_entropy(chances, targets).item())

    def mean_task_loss(self) -> float | None:
        """Return the mean task loss since the last call; None without task rows since then."""
        losses, self._task_losses = self._task_losses, []
        return sum(losses) / len(losses) if losses else None

    @property
    def rate(self) -> float:
        """Return the learning rate of the next step."""
        return float(self._get_learning_rate())


def dft_loss(logits: Any, labels: Any, learned: Any = None) -> torch.Tensor:
    """Weigh the loss of each token by its probability (Wu et al. 2025, arXiv 2508.05629).

    What the model finds unlikely pulls less. It is TRL's own loss, from logits (rows, tokens,
    words); `learned` counts the tokens of the whole batch that are learned.
    """
    targets = labels[:, 1:].flatten()  # (tokens,); -100 is not learned
    chances = logits[:, :-1].flatten(0, 1).float()  # (tokens, words)
    lost = cross_entropy(chances, targets, reduction="none")  # 0 where nothing is learned
    count = (targets != -100).sum() if learned is None else torch.as_tensor(learned)
    return (lost * (-lost).exp().detach()).sum() / count.clamp(min=1)


def make_trainer(
    subject: Subject,
    recipe: Recipe,
    rows: Dataset,
    callbacks: Sequence[TrainerCallback] = (),
    anchored: Dataset | None = None,
) -> QuietTrainer:
    """Build TRL's trainer around a copy of the subject's model.

    `anchored` holds the old texts that a KL anchor reads.
    """
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
        # Done here, quietly: where the two disagree, train() would do it with a warning.
        align_special_tokens(trainer.model, subject.tokenizer)  # type: ignore[no-untyped-call]
    trainer.remove_callback(PrinterCallback)
    pad = Collator.of(subject.tokenizer)
    trainer.anchor = make_anchor(recipe, subject, trainer.model, anchored, pad)
    trainer.loss, trainer.muon = recipe.loss, recipe.optimizer == "muon"
    if recipe.average:
        trainer.average = RunningAverage(trainer.model, recipe.average)
        trainer.add_callback(trainer.average)
    return trainer


_trainings = count()


@contextmanager
def cheap_collections(*, collect: bool) -> Iterator[None]:
    """Freeze all objects that exist now while the body runs, so that collections skip them.

    Each training begins with a full garbage collection. Without the freeze it would walk through
    everything that the libraries have made, which takes as long as several steps of pocket. The
    price is that older garbage stays until after the training. So that it never piles up, every
    tenth training collects it first; with `collect` every one does: big models need the memory.

    Freezing is global, so one training at a time may do it: `fine_tune` holds its lock. Where
    objects are frozen already, by an outer training or by the user, `gc.unfreeze` would thaw those
    as well; then this does nothing.
    """
    if gc.get_freeze_count():
        yield
        return
    if next(_trainings) % _COLLECT_EVERY == 0 or collect:
        gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()  # quick, since only the training's own objects are looked at
        gc.unfreeze()


def _settings(subject: Subject, recipe: Recipe, *, logs: bool) -> dict[str, Any]:
    """Translate a recipe into TRL's arguments."""
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
        "logging_strategy": "steps" if logs else "no",  # callbacks may read the loss from the log
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _own_copy(subject: Subject) -> Any:
    """Copy the model, with any adapter merged into it and every weight trainable."""
    model = merged_copy(subject.model)
    if hasattr(subject.model, "merge_and_unload"):
        set_base_name(model, "")
    model.requires_grad_(True)
    model.zero_grad()
    if getattr(model, "loss_type", None) is None:
        # Else the Trainer divides the loss by all tokens instead of those that are learned.
        model.loss_type = "ForCausalLM"
    return model
