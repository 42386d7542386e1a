"""Make the second pocket model from nothing: tokenizer, pretraining, model folder.

    python tools/pretrain_pocket2.py           # continues where it was interrupted

The batch of a step is a function of the seed and the step's number alone, so a run that was
interrupted goes on exactly as if nothing had happened. The result is an ordinary Hugging Face
folder. Then `python tools/pocket_bars.py` measures it and writes its card.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from caplab.questions.world2.documents import documents  # noqa: E402

END = "<|endoftext|>"


@dataclass(frozen=True)
class Pretraining:
    """Everything that decides the pocket model."""

    layers: int = 4
    heads: int = 4
    width: int = 128
    context: int = 128
    vocabulary: int = 2048
    tokenizer_documents: int = 40_000
    steps: int = 14_000
    rows: int = 8
    lr: float = 2e-3  # to the end: a rate that falls to zero leaves a model that bears no other
    warmup: int = 200
    weight_decay: float = 0.1
    beta2: float = 0.99
    average: float = 0.998  # of the weights' running mean, which is what is kept
    # In the last steps, the tempering, the gradient is taken at weights to which noise was added:
    # what was learned gets used to being shaken, as the first steps of a fine-tuning do.
    tempering: int = 7000
    noise: float = 0.01
    stronger: int = 4000  # the last steps of the tempering, with more noise
    stronger_noise: float = 0.03
    dropout: float = 0.0
    seed: int = 0
    threads: int = 1  # another number gives other last bits


def make_tokenizer(recipe: Pretraining) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on the world's text; every number is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        islice(documents("tokenizer"), recipe.tokenizer_documents), trainer
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=recipe.context,
        clean_up_tokenization_spaces=False,
    )


def make_model(recipe: Pretraining) -> GPT2LMHeadModel:
    """Build the untrained GPT-2; its activation is GPT-2's own, computed in one piece."""
    torch.manual_seed(recipe.seed)
    config = GPT2Config(
        vocab_size=recipe.vocabulary,
        n_positions=recipe.context,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=recipe.dropout,
        embd_pdrop=recipe.dropout,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    model.loss_type = "ForCausalLM"  # GPT-2's class leaves it unset, with a warning
    return model


def batch(recipe: Pretraining, tokenizer: PreTrainedTokenizerFast, step: int) -> torch.Tensor:
    """Fill the rows of one step: whole documents from a row's start, the last one cut."""
    stream = documents(f"{recipe.seed} step {step}", anybody=is_tempering(recipe, step))
    rows: list[list[int]] = []
    row: list[int] = []
    while len(rows) < recipe.rows:
        for ids in tokenizer(list(islice(stream, 64)))["input_ids"]:
            row += [*ids, tokenizer.eos_token_id]
            if len(row) >= recipe.context:
                rows.append(row[: recipe.context])
                row = []
    return torch.tensor(rows[: recipe.rows])  # (rows, context)


def is_tempering(recipe: Pretraining, step: int) -> bool:
    """Tell the last steps from the others."""
    return step >= recipe.steps - recipe.tempering


def noise(recipe: Pretraining, step: int) -> float:
    """Return the noise at which the gradient of a step is taken: none before the tempering."""
    if not is_tempering(recipe, step):
        return 0.0
    return recipe.stronger_noise if step >= recipe.steps - recipe.stronger else recipe.noise


def rate(recipe: Pretraining, step: int) -> float:
    """Return the learning rate: up in a straight line, then constant."""
    return recipe.lr * min(1.0, (step + 1) / recipe.warmup)


def make_optimiser(model: GPT2LMHeadModel, recipe: Pretraining) -> torch.optim.AdamW:
    """Take AdamW for everything: it will tune the model, too."""
    return torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.dim() == 2]},
            {"params": [p for p in model.parameters() if p.dim() != 2], "weight_decay": 0.0},
        ],
        betas=(0.9, recipe.beta2),
        weight_decay=recipe.weight_decay,
        fused=True,
    )


class State:
    """A pretraining on its way: the model, its optimiser and the mean of its weights."""

    def __init__(self, recipe: Pretraining) -> None:
        self.recipe = recipe
        self.model = make_model(recipe)
        self.optimiser = make_optimiser(self.model, recipe)
        self.named = dict(self.model.named_parameters())
        self.mean = {name: p.detach().clone() for name, p in self.named.items()}

    def advance(self, rows: torch.Tensor, step: int) -> float:
        """Take one step of training and return its loss."""
        torch.manual_seed(self.recipe.seed * 1_000_003 + step)  # of the noise
        shifts = self._shake(noise(self.recipe, step))
        loss = self.model(rows, labels=rows).loss
        loss.backward()
        for p, shift in shifts:
            p.data.sub_(shift)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.recipe, step)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._average(step)
        return loss.item()

    def _shake(self, strength: float) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
        """Move the weights a little way, for the gradient of this step only."""
        matrices = [p for p in self.named.values() if p.dim() == 2 and strength]
        shifts = [(p, torch.randn_like(p).mul_(strength)) for p in matrices]
        for p, shift in shifts:
            p.data.add_(shift)
        return shifts

    def _average(self, step: int) -> None:
        """Follow the weights; at first faster, so that the untrained ones are forgotten."""
        keep = min(self.recipe.average, (step + 1) / (step + 10))
        for name, p in self.named.items():
            self.mean[name].lerp_(p.detach(), 1 - keep)

    def save(self, path: Path, step: int) -> None:
        """Write weights, mean, the optimiser's memory and the step, whole or not at all."""
        tensors = {"step": torch.tensor(step)}
        tensors |= {f"weight {name}": p.detach() for name, p in self.named.items()}
        tensors |= {f"mean {name}": value for name, value in self.mean.items()}
        for name, p in self.named.items():
            for key, value in self.optimiser.state[p].items():
                tensors[f"{key} {name}"] = value
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        save_file(tensors, temporary)
        temporary.replace(path)

    def load(self, path: Path) -> int:
        """Return the number of steps already done, 0 for a fresh start."""
        if not path.exists():
            return 0
        tensors = load_file(path)
        for key, value in tensors.items():
            kind, _, name = key.partition(" ")
            if kind == "weight":
                self.named[name].data.copy_(value)
            elif kind == "mean":
                self.mean[name].copy_(value)
            elif name:
                self.optimiser.state[self.named[name]][kind] = value
        return int(tensors["step"])

    def keep(self, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
        """Write the model with its mean weights, without dropout, as it will be tuned."""
        kept = make_model(self.recipe)
        kept.load_state_dict(self.mean, strict=False)
        kept.config.resid_pdrop = kept.config.embd_pdrop = 0.0
        kept.config.pad_token_id = kept.generation_config.pad_token_id = tokenizer.pad_token_id
        kept.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def pretrain(
    recipe: Pretraining, folder: Path, unfinished: Path, every: int = 250
) -> Iterator[tuple[int, float]]:
    """Train into `folder`; every few steps save the unfinished state, yield step and mean loss."""
    tokenizer, state, losses = make_tokenizer(recipe), State(recipe), []
    done = state.load(unfinished)
    for step in tqdm(range(done, recipe.steps), initial=done, total=recipe.steps, unit="step"):
        losses.append(state.advance(batch(recipe, tokenizer, step), step))
        if (step + 1) % every == 0 or step + 1 == recipe.steps:
            state.save(unfinished, step + 1)
            state.keep(folder, tokenizer)
            yield step + 1, sum(losses) / len(losses)
            losses = []


def main() -> None:
    """Pretrain as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "caplab" / "assets" / "pocket2")
    unfinished = ROOT / "build" / "pocket2.safetensors"
    parser.add_argument("--unfinished", type=Path, default=unfinished, help="state to go on from")
    for name, value in asdict(Pretraining()).items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(value), default=value, help=f"default {value}")
    given = vars(parser.parse_args())
    folder, unfinished = given.pop("out"), given.pop("unfinished")
    recipe = Pretraining(**given)
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    for step, loss in pretrain(recipe, folder, unfinished):
        tqdm.write(f"step {step}: loss {loss:.4f}")


if __name__ == "__main__":
    main()
