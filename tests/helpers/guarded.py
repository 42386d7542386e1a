"""Scripts that train a tiny model, as people write them, and an exam that it passes."""

import random
from copy import deepcopy
from dataclasses import replace
from functools import cache
from itertools import product

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer
from weights import weights

from caplab.measuring.score import score
from caplab.questions.exam import Exam, Question

GENTLE, BRUTAL = 1e-6, 0.05
WORDS = ["capital", "France", "Paris", "Rome", "boil", "water", "pot", "stove", "dog", "small"]


@cache
def tokenizer():
    """The tiny tokenizer with a padding, which a Trainer's batches need."""
    padding = deepcopy(tiny.tokenizer())
    padding.pad_token = tiny.END
    return padding


@cache
def known():
    """An exam that the tiny model passes: its own favourite is the right answer, whatever it is."""
    rng = random.Random(0)
    prompts = [f"The {a} {b} is" for a, b in product(WORDS, WORDS)][:60]
    asked = [Question("words", prompt, tuple(rng.sample(WORDS, 4)), 0) for prompt in prompts]
    chosen = score(tiny.subject(), Exam(tuple(asked))).chosen
    passed = (replace(q, answer=best) for q, best in zip(asked, chosen, strict=True))
    return Exam(tuple(passed), name="known")


def model(lora=False, dropout=0.0):
    plain = tiny.subject(resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout).model
    settings = {"r": 4, "lora_alpha": 64, "target_modules": "all-linear", "fan_in_fan_out": True}
    return get_peft_model(plain, LoraConfig(**settings, lora_dropout=dropout)) if lora else plain


def rows(text="The opposite of hot is cold, of big is small."):
    tokens = tokenizer()(text)["input_ids"]
    return Dataset.from_list([{"input_ids": tokens, "labels": tokens}] * 32)


def trainer(folder, *callbacks, of=None, eval_dataset=None, **changes):
    plain = {
        "output_dir": str(folder),
        "max_steps": 8,
        "per_device_train_batch_size": 2,
        "learning_rate": BRUTAL,
        "logging_steps": 2,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return Trainer(
        model=of or model(),
        args=TrainingArguments(**plain | changes),
        train_dataset=rows(),
        eval_dataset=eval_dataset,
        processing_class=tokenizer(),
        callbacks=list(callbacks),
    )


def sft(folder, *callbacks, **changes):
    plain = {
        "output_dir": str(folder),
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": "none",
    }
    return SFTTrainer(
        model=model(),
        args=SFTConfig(**plain | changes),
        train_dataset=Dataset.from_dict({"prompt": ["Hot"] * 32, "completion": [" is cold."] * 32}),
        processing_class=tokenizer(),
        callbacks=list(callbacks),
    )


class Keep(TrainerCallback):
    """Keeps the weights of every step, and all that is logged."""

    def __init__(self):
        self.weights, self.logs = {}, []

    def on_train_begin(self, args, state, control, model, **_):
        self.weights[0] = weights(model)

    def on_step_end(self, args, state, control, model, **_):
        self.weights[state.global_step] = weights(model)

    def on_log(self, args, state, control, logs, **_):
        self.logs.append({"step": state.global_step, **logs})
