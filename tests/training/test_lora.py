"""LoRA: which layers of an architecture are adapted, and how many weights that takes."""

import pytest
import tiny
from peft import PeftModel
from tuning import LORA, tune

from caplab.support.errors import BadInput
from caplab.training.lora import linear_layers


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2", "opt", "gpt_neox", "bloom"])
@pytest.mark.parametrize("target", ["all-linear", "attention", "mlp"])
def test_layers_of_every_architecture(kind, target):
    who = tiny.subject(kind)
    run = tune(LORA.change(steps=2, target_modules=target), who)
    model = run.subject.model
    assert isinstance(model, PeftModel)
    adapted = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    found = {name.removeprefix("base_model.model.") for name in adapted}
    layers = set(linear_layers(who.model))
    attention = {name for name in layers if "att" in name}
    expected = {"all-linear": layers, "attention": attention, "mlp": layers - attention}
    assert found == expected[target]
    assert attention < layers
    assert run.final.loglikelihoods != run.before.loglikelihoods


def test_size_is_that_of_the_formula():
    run = tune(LORA.change(target_modules=("c_attn",), rank=8))
    assert run.trainable_parameters == 2 * 8 * (32 + 96)  # layers x rank x (in + out)
    assert run.total_parameters == tiny.subject().parameters + run.trainable_parameters


@pytest.mark.parametrize("name", ["q_proj", "c_atn", "lm_head"])
def test_unknown_module_lists_the_known(name):
    with pytest.raises(
        BadInput, match=f"no linear layer '{name}'.*There are: c_attn, c_fc, c_proj"
    ):
        tune(LORA.change(target_modules=(name,)))


def test_unknown_module_gets_a_hint():
    with pytest.raises(BadInput, match="Did you mean 'c_attn'"):
        tune(LORA.change(target_modules=("c_atn",)))
