"""Make the pocket model from nothing: tokenizer, pretraining, model folder.

    python tools/pretrain_pocket.py            # continues where it was interrupted

The batch of a step is a function of the seed and the step's number alone, so a run that was
interrupted goes on exactly as if nothing had happened. The result is an ordinary Hugging Face
folder; it takes about half an hour on one core. Then `python tools/pocket_card.py` measures it.
"""

import argparse
import math
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

from caplab.questions import world  # noqa: E402

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
    steps: int = 6500
    rows: int = 16
    lr: float = 3e-3
    muon_lr: float = 2e-2
    warmup: int = 100
    weight_decay: float = 0.01
    seed: int = 0
    threads: int = 1  # more threads would give other last bits


def make_tokenizer(recipe: Pretraining) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on the world's text; a number stands apart from the space before."""
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
    documents = islice(world.pretraining_documents("tokenizer"), recipe.tokenizer_documents)
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=recipe.context,
        clean_up_tokenization_spaces=False,
    )


def make_model(recipe: Pretraining) -> GPT2LMHeadModel:
    """Build the untrained GPT-2, without dropout: nobody overfits to endless data."""
    torch.manual_seed(recipe.seed)
    config = GPT2Config(
        vocab_size=recipe.vocabulary,
        n_positions=recipe.context,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    model.loss_type = "ForCausalLM"  # GPT-2's class leaves it unset, with a warning
    return model


def batch(recipe: Pretraining, tokenizer: PreTrainedTokenizerFast, step: int) -> torch.Tensor:
    """Fill the rows of one step: whole documents from a row's start, the last one cut."""
    documents = world.pretraining_documents(f"{recipe.seed} step {step}")
    rows: list[list[int]] = []
    row: list[int] = []
    while len(rows) < recipe.rows:
        for ids in tokenizer(list(islice(documents, 64)))["input_ids"]:
            row += [*ids, tokenizer.eos_token_id]
            if len(row) >= recipe.context:
                rows.append(row[: recipe.context])
                row = []
    return torch.tensor(rows[: recipe.rows])  # (rows, context)


def rate(recipe: Pretraining, step: int) -> float:
    """Scale the learning rate: up in a straight line, then down half a cosine to zero."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    part = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return 0.5 * (1 + math.cos(math.pi * part))


def make_optimisers(model: GPT2LMHeadModel, recipe: Pretraining) -> list[torch.optim.Optimizer]:
    """Take Muon for the blocks' matrices, AdamW for the rest: sums need half the steps so."""
    matrices = [p for p in model.transformer.h.parameters() if p.dim() == 2]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    return [
        torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


class Checkpoint:
    """The state of an unfinished pretraining, in one safetensors file."""

    def __init__(self, path: Path, model: GPT2LMHeadModel, optimisers: list[torch.optim.Optimizer]):
        self.path = path
        self.names = {p: name for name, p in model.named_parameters()}
        self.optimisers = optimisers

    def save(self, step: int) -> None:
        """Write weights, the optimisers' memory and the step, whole or not at all."""
        tensors = {"step": torch.tensor(step)}
        tensors |= {f"weight {name}": p.detach() for p, name in self.names.items()}
        for optimiser in self.optimisers:
            for p, state in optimiser.state.items():
                tensors |= {f"{key} {self.names[p]}": value for key, value in state.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        save_file(tensors, temporary)
        temporary.replace(self.path)

    def load(self) -> int:
        """Return the number of steps already done, 0 for a fresh start."""
        if not self.path.exists():
            return 0
        tensors = load_file(self.path)
        owner = {id(p): o for o in self.optimisers for g in o.param_groups for p in g["params"]}
        named = {name: p for p, name in self.names.items()}
        for key, value in tensors.items():
            kind, _, name = key.partition(" ")
            if kind == "weight":
                named[name].data.copy_(value)
            elif name:
                owner[id(named[name])].state[named[name]][kind] = value
        return int(tensors["step"])


def advance(
    model: GPT2LMHeadModel,
    optimisers: list[torch.optim.Optimizer],
    rows: torch.Tensor,
    scale: float,
) -> float:
    """Take one step of training and return its loss."""
    loss = model(rows, labels=rows).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = scale * optimiser.defaults["lr"]
        optimiser.step()
        optimiser.zero_grad()
    return loss.item()


def pretrain(
    recipe: Pretraining, folder: Path, unfinished: Path, every: int = 250
) -> Iterator[tuple[int, float]]:
    """Train into `folder`; every few steps save the unfinished state, yield step and mean loss."""
    tokenizer = make_tokenizer(recipe)
    model = make_model(recipe)
    optimisers = make_optimisers(model, recipe)
    checkpoint = Checkpoint(unfinished, model, optimisers)
    done, losses = checkpoint.load(), []
    for step in tqdm(range(done, recipe.steps), initial=done, total=recipe.steps, unit="step"):
        rows = batch(recipe, tokenizer, step)
        losses.append(advance(model, optimisers, rows, rate(recipe, step)))
        if (step + 1) % every == 0 or step + 1 == recipe.steps:
            checkpoint.save(step + 1)
            yield step + 1, sum(losses) / len(losses)
            losses = []
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Pretrain as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "caplab" / "assets" / "pocket")
    unfinished = ROOT / "build" / "pocket.safetensors"
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
