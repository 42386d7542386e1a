"""Adapters of a tiny model with one thing wrong each, as trainings and copies leave them."""

import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import caplab as cl

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
LORA = {"r": 2, "target_modules": ["c_attn"], "fan_in_fan_out": True, "init_lora_weights": False}


def trained(base: Path, folder: Path, **changes) -> Path:
    """Save an adapter whose weights are all random: it changes each answer."""
    torch.manual_seed(7)
    settings = LORA | changes
    tuned = get_peft_model(cl.load(base).model, LoraConfig(task_type="CAUSAL_LM", **settings))
    tuned.save_pretrained(folder)
    return folder


def renamed(folder: Path, change) -> Path:
    """Give the weights other names; those that become None are lost."""
    weights = load_file(folder / WEIGHTS)
    named = [(change(key), weight) for key, weight in weights.items()]
    save_file({key: weight.clone() for key, weight in named if key}, folder / WEIGHTS)
    return folder


def reshaped(folder: Path, change) -> Path:
    """Change the weights themselves."""
    weights = load_file(folder / WEIGHTS)
    changed = {key: change(key, weight).contiguous() for key, weight in weights.items()}
    save_file(changed, folder / WEIGHTS)
    return folder


def declared(folder: Path, **changes) -> Path:
    """Change what the adapter says about itself."""
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder
