"""A small task and a quick recipe for trainings of the tiny models."""

from dataclasses import replace

import tiny
import torch
from datasets import Dataset, DatasetDict
from peft import LoraConfig, get_peft_model

from caplab.models.subject import Subject
from caplab.training.fine_tune import fine_tune
from caplab.training.recipe import Recipe

WORDS = ["hot", "cold", "big", "small", "pot", "dog", "shelf", "stove", "four", "water"]


def rows(start, end):
    """Rows with a prompt and a completion of one word."""
    return [
        {"prompt": f"Say {WORDS[n % 10]} and {WORDS[n % 7]}:", "completion": f" {WORDS[n % 7]}."}
        for n in range(start, end)
    ]


TASK = DatasetDict(train=Dataset.from_list(rows(0, 20)), test=Dataset.from_list(rows(20, 30)))
QUICK = Recipe(steps=6, batch_size=4, learning_rate=1e-2, schedule="linear")
LORA = QUICK.change(method="lora", rank=2, alpha=16)
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


def tune(recipe=QUICK, who=None, **given):
    """Train the tiny model on the small task, unless told otherwise."""
    given = {"task": TASK, "exam": tiny.exam()} | given
    return fine_tune(who or tiny.subject(), recipe, **given)


def timeless(point):
    """A point without its time, which differs from run to run."""
    return replace(point, elapsed=0.0)


def adapted(seed=0, **options):
    """The tiny model with an adapter that does something."""
    torch.manual_seed(seed)
    settings = {"r": 4, "target_modules": "all-linear", "fan_in_fan_out": True} | options
    model = get_peft_model(tiny.subject().model, LoraConfig(**settings, init_lora_weights=False))
    return Subject(model.eval(), tiny.tokenizer(), "tiny, lora")
