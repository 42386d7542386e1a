import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model

from caplab.models.weights import (
    digest,
    input_device,
    merged_copy,
    set_base_name,
    unwrapped,
    without_adapter,
)

IDS = torch.tensor([[1, 2, 3]])


@pytest.fixture
def tuned():
    """A model with a LoRA adapter that changes what it answers."""
    settings = {"target_modules": ["c_attn"], "fan_in_fan_out": True, "init_lora_weights": False}
    return get_peft_model(tiny.subject().model, LoraConfig(r=2, **settings)).eval()


def wrap(model):
    """Wrap `forward` in a plain function, as accelerate does for mixed precision.

    A copy of a bound method is bound to the copy; a copy of this still calls the original.
    """
    model._original_forward = inner = model.forward
    model.forward = lambda *given, **named: inner(*given, **named)


def test_equal_weights_have_equal_digests():
    one, same, other = (tiny.subject(seed=seed).model for seed in (0, 0, 1))
    assert digest(one) == digest(same) != digest(other)
    with torch.no_grad():
        next(same.parameters()).view(-1)[0] += 1e-6
    assert digest(one) != digest(same)


def test_the_base_name_is_set_everywhere():
    model = tiny.subject().model
    set_base_name(model, "org/mine")
    assert model.name_or_path == model.config.name_or_path == "org/mine"


@torch.no_grad()
def test_a_merged_copy_answers_like_the_adapter(tuned):
    before = digest(tuned)
    merged = merged_copy(tuned)
    assert not hasattr(merged, "merge_and_unload")
    torch.testing.assert_close(merged(IDS).logits, tuned(IDS).logits)
    assert digest(tuned) == before


def test_a_model_without_an_adapter_is_itself(tuned):
    model = tiny.subject().model
    assert without_adapter(model) is model
    assert digest(merged_copy(model)) == digest(model)
    assert not hasattr(without_adapter(tuned), "merge_and_unload")


@torch.no_grad()
def test_a_copy_does_not_call_the_original():
    model = tiny.subject().model
    wrap(model)
    copied = merged_copy(model)
    for weight in model.parameters():
        weight.zero_()
    torch.testing.assert_close(copied(IDS).logits, tiny.subject().model(IDS).logits)


def test_a_forward_is_unwrapped_but_for_a_hook():
    model = tiny.subject().model
    wrap(model)
    assert unwrapped(model) is model
    assert "forward" not in vars(model)
    wrap(model)
    model._hf_hook = object()
    assert "forward" in vars(unwrapped(model))


def test_tokens_go_where_an_unloaded_model_computes():
    model = tiny.subject().model.to("meta")
    assert input_device(model) == torch.device("meta"), "nobody placed it: it has no content"
    for places, found in (([0, "disk"], "cuda:0"), (["cpu", "disk"], "cpu"), (["disk"], "cpu")):
        model.hf_device_map = dict(enumerate(places))
        assert input_device(model) == torch.device(found)
    assert input_device(tiny.subject().model) == torch.device("cpu")
