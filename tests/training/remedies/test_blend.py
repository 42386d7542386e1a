"""Between base and tuned: the ends are exact, the middle is the mean, the originals stay."""

from types import SimpleNamespace

import pytest
import tiny
import torch
from tuning import adapted
from weights import same, weights

from caplab.support.errors import BadInput
from caplab.training.remedies.blend import Blend, interpolate, scale_lora


@torch.no_grad()
def logits(subject, text="A dog says woof"):
    return subject.model(**subject.tokenizer(text, return_tensors="pt")).logits


def test_the_ends_are_base_and_tuned():
    base, tuned = tiny.subject(seed=0), tiny.subject(seed=1)

    assert same(weights(interpolate(base, tuned, 0).model), weights(base.model))
    assert same(weights(interpolate(base, tuned, 1).model), weights(tuned.model))


def test_between_is_the_weighted_mean():
    base, tuned = tiny.subject(seed=0), tiny.subject(seed=1)
    mixed = weights(interpolate(base, tuned, 0.3).model)

    for name, weight in mixed.items():
        mean = 0.7 * weights(base.model)[name] + 0.3 * weights(tuned.model)[name]
        torch.testing.assert_close(weight, mean)


def test_with_an_adapter_the_ends_answer():
    base, tuned = tiny.subject(), adapted()

    assert torch.equal(logits(interpolate(base, tuned, 0)), logits(base))
    torch.testing.assert_close(logits(interpolate(base, tuned, 1)), logits(tuned))


def test_scaling_an_adapter_is_interpolation():
    base, tuned = tiny.subject(), adapted()

    for amount in (0, 0.25, 1):
        scaled, mixed = scale_lora(tuned, amount), interpolate(base, tuned, amount)
        torch.testing.assert_close(logits(scaled), logits(mixed), rtol=1e-4, atol=1e-4)


def test_a_scale_is_absolute():
    tuned = adapted(r=4, lora_alpha=64, use_rslora=True)

    assert torch.equal(logits(scale_lora(tuned, 1)), logits(tuned))
    twice = scale_lora(scale_lora(tuned, 0.5), 0.5)  # a scale is a setting, no step
    assert torch.equal(logits(twice), logits(scale_lora(tuned, 0.5)))


@pytest.mark.parametrize("remedy", ["interpolate", "scale_lora"])
def test_the_originals_stay_as_they_are(remedy):
    base, tuned = tiny.subject(), adapted()
    before = weights(base.model), weights(tuned.model), logits(tuned)
    changed = interpolate(base, tuned, 0.5) if remedy == "interpolate" else scale_lora(tuned, 0.5)
    with torch.no_grad():
        for parameter in changed.model.parameters():
            parameter.zero_()

    assert same(weights(base.model), before[0])
    assert same(weights(tuned.model), before[1])
    assert torch.equal(logits(tuned), before[2])


def test_a_slider_moves_one_subject():
    base, tuned = tiny.subject(seed=0), tiny.subject(seed=1)
    blend = Blend(base, tuned)
    middle = weights(blend.at(0.5).model)
    blend.at(0.9)

    assert blend.at(0.5) is blend.subject
    assert same(weights(blend.subject.model), middle)
    assert blend.subject.name == "gpt2, 50% of the way"


def test_a_run_stands_for_its_subject():
    base, tuned = tiny.subject(seed=0), tiny.subject(seed=1)
    run = SimpleNamespace(subject=tuned)

    assert same(weights(interpolate(base, run, 1).model), weights(tuned.model))
    with pytest.raises(BadInput, match="weights=True"):
        interpolate(base, SimpleNamespace(subject=None), 1)


@pytest.mark.parametrize("alpha", [-0.1, 1.01, float("nan")])
def test_there_is_nothing_beyond_the_ends(alpha):
    with pytest.raises(BadInput, match=r"from 0 .* to 1"):
        interpolate(tiny.subject(), tiny.subject(), alpha)


def test_strangers_are_not_mixed():
    with pytest.raises(BadInput, match="llama was not tuned from gpt2"):
        interpolate(tiny.subject("gpt2"), tiny.subject("llama"), 0.5)
    with pytest.raises(
        BadInput, match=r"transformer.wte.weight is \(50, 32\), float32, cpu in gpt2"
    ):
        interpolate(tiny.subject(), tiny.subject(vocab_size=50), 0.5)


def test_no_adapter_to_scale():
    with pytest.raises(BadInput, match="no LoRA adapter"):
        scale_lora(tiny.subject(), 0.5)
    with pytest.raises(BadInput, match="scale is nan"):
        scale_lora(adapted(), float("nan"))
