"""A config.json that its weights cannot fill is refused before anything is built."""

import json
import time

import pytest
import tiny
from safetensors.torch import load_file, save_file

from caplab.models.load import load
from caplab.support.errors import BadInput


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of a sound model."""
    for source in saved.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    return tmp_path


def says(folder, **changes):
    """Change config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


ABSURD = {
    "ten million layers": {"n_layer": 10_000_000},
    "a few layers too many for the file": {"n_layer": 500},
    "a negative number": {"n_layer": -2},
    "a width of a billion": {"n_embd": 10**9},
    "an inner width of 10^12": {"n_inner": 10**12},
    "a vocabulary of 10^12": {"vocab_size": 10**12},
    "ten million heads": {"n_head": 10_000_000},
    "inside a part": {"text_config": {"num_hidden_layers": 10**7}},
    "a number of thousands of digits": {"n_embd": 10**4000},
}


@pytest.mark.parametrize("kind", ABSURD)
def test_absurd_numbers_are_refused_at_once(kind, folder):
    start = time.process_time()
    with pytest.raises(BadInput, match=r"config\.json says .*do not belong together"):
        load(says(folder, **ABSURD[kind]))
    assert time.process_time() - start < 2


@pytest.mark.parametrize("positions", [10**9, 10**12])
def test_absurd_positions_end_in_words(positions, folder):
    with pytest.raises(BadInput, match=r"cannot be loaded|do not fit"):
        load(says(folder, n_positions=positions))


@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
def test_sound_models_pass(kind, tmp_path):
    who = tiny.subject(kind)
    who.model.save_pretrained(tmp_path)
    who.tokenizer.save_pretrained(tmp_path)
    assert load(tmp_path).parameters == who.parameters


def test_left_over_layers_are_refused(folder):
    with pytest.raises(BadInput, match=r"11 are left over.*h\.1\.") as refused:
        load(says(folder, n_layer=1))
    assert "\n" not in str(refused.value)


LEFT_OVER = ["v_head.summary.weight", "lm_head.bias", "transformer.h.2.ln_1.weight", "score.weight"]


@pytest.mark.parametrize("key", LEFT_OVER)
def test_a_left_over_weight_is_named(key, folder):
    weights = load_file(folder / "model.safetensors")
    weights[key] = weights["transformer.ln_f.weight"].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match="1 are left over") as refused:
        load(folder)
    assert key in str(refused.value)


def test_old_buffers_are_no_weights(folder):
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.0.attn.bias"] = weights["transformer.ln_f.weight"].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert load(folder).parameters


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
def test_a_wrapped_model_is_refused_by_name(prefix, folder):
    weights = load_file(folder / "model.safetensors")
    renamed = {prefix + key: weight for key, weight in weights.items()}
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match="missing and would be random"):
        load(folder)


QUANTISED = {
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "gptq": {"quant_method": "gptq", "bits": 4},
    "quanto": {"quant_method": "quanto", "weights": "int8"},
}


@pytest.mark.parametrize("method", QUANTISED)
def test_a_missing_package_is_named(method, folder, monkeypatch):
    monkeypatch.setattr("caplab.models.config_check.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=f"quantised with {method}.*pip install"):
        load(says(folder, quantization_config=QUANTISED[method]))
