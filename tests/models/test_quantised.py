"""Models in 8 and 4 bits load where bitsandbytes is, and stay as they are."""

import pytest
import tiny
import torch

from caplab.measuring.score import score
from caplab.models.load import load

pytest.importorskip("bitsandbytes")


@pytest.mark.parametrize("bits", [{"load_in_8bit": True}, {"load_in_4bit": True}], ids=str)
def test_a_quantised_model_is_scored(bits, tmp_path):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    who = tiny.subject("llama", hidden_size=64, intermediate_size=128, head_dim=16)
    who.model.save_pretrained(tmp_path / "whole")
    small = AutoModelForCausalLM.from_pretrained(
        tmp_path / "whole", quantization_config=BitsAndBytesConfig(**bits), device_map={"": "cpu"}
    )
    small.save_pretrained(tmp_path / "small")
    who.tokenizer.save_pretrained(tmp_path / "small")
    found = load(tmp_path / "small", device="cpu")
    assert found.model.is_quantized
    assert found.parameters == who.parameters
    assert {weight.dtype for weight in found.model.parameters()} & {torch.int8, torch.uint8}
    pairs = zip(
        score(found, tiny.exam(), progress=False).loglikelihoods,
        score(who, tiny.exam(), progress=False).loglikelihoods,
        strict=True,
    )
    assert all(one == pytest.approx(other, rel=0.3, abs=3) for one, other in pairs)
