import json
import os
import shutil
import subprocess
import sys
import warnings

import pytest
import tiny
import torch
from transformers.utils import logging

from caplab.models import load as loading
from caplab.models.load import load
from caplab.support.errors import BadInput


@pytest.fixture(scope="module")
def mine(saved):
    return load(saved)


@pytest.fixture
def edited(saved, tmp_path):
    """Change the copy of a file of the model, and return its folder."""

    def edit(file, **changes):
        for source in saved.iterdir():
            (tmp_path / source.name).write_bytes(source.read_bytes())
        path = tmp_path / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return tmp_path

    return edit


def test_a_folder_loads_as_it_was_saved(mine, saved):
    original = tiny.subject().model.state_dict()
    assert all(
        torch.equal(weight, original[name]) for name, weight in mine.model.state_dict().items()
    )
    assert mine.name == "mine"
    assert not mine.model.training
    assert {weight.dtype for weight in mine.model.parameters()} == {torch.float32}


def test_loading_prints_nothing(saved, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(saved).ask("A dog says")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bars", [True, False])
def test_loading_keeps_the_log_settings(saved, bars):
    state = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity_info()
        (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
        load(saved)
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled() is bars
    finally:
        logging.set_verbosity(state[0])
        (logging.enable_progress_bar if state[1] else logging.disable_progress_bar)()


def test_the_environment_replaces_pocket_only(saved, monkeypatch, tmp_path):
    monkeypatch.setenv("CAPLAB_MODEL", str(saved))
    assert load().name == load("pocket").name == "mine"
    monkeypatch.setenv("CAPLAB_MODEL", str(tmp_path / "nothing"))
    assert load(saved).name == "mine"
    with pytest.raises(BadInput, match=r"nothing'.*CAPLAB_MODEL"):
        load("pocket")


def test_its_own_padding_token_is_kept(mine, edited):
    assert mine.tokenizer.pad_token == tiny.END
    assert mine.model.config.pad_token_id == mine.model.generation_config.pad_token_id == 0
    own = load(edited("tokenizer_config.json", pad_token="A"))
    assert own.tokenizer.pad_token == "A"
    assert own.model.generation_config.pad_token_id == own.tokenizer.pad_token_id != 0


def test_gpt2_gets_a_loss_type(mine):
    assert tiny.subject().model.loss_type is None  # GPT-2's, unless somebody says otherwise
    assert mine.model.loss_type == "ForCausalLM"


def test_the_precision_can_be_chosen(saved):
    for wanted in ("bfloat16", "torch.bfloat16", torch.bfloat16):
        assert load(saved, dtype=wanted).model.dtype == torch.bfloat16


def test_an_adapter_is_merged_into_its_base(mine, saved, tmp_path):
    from peft import LoraConfig, get_peft_model

    base = load(saved)
    settings = {"target_modules": ["c_attn"], "fan_in_fan_out": True, "init_lora_weights": False}
    tuned = get_peft_model(base.model, LoraConfig(r=2, **settings))
    tuned.save_pretrained(tmp_path / "adapter")
    found = load(tmp_path / "adapter")
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        torch.testing.assert_close(found.model(ids).logits, tuned.eval()(ids).logits)
        assert not torch.allclose(found.model(ids).logits, mine.model(ids).logits, atol=1e-3)
    assert type(found.model) is type(mine.model)
    assert found.name == "adapter"


def test_a_hub_model_keeps_its_name_as_base(mine, saved, monkeypatch):
    assert mine.model.name_or_path == str(saved.resolve())
    monkeypatch.setattr(loading, "find_folder", lambda name, revision: saved)
    assert load("org/model").model.name_or_path == "org/model"


def test_a_tuned_prompt_stays_an_adapter(saved, tmp_path):
    from peft import PromptTuningConfig, get_peft_model

    tuned = get_peft_model(load(saved).model, PromptTuningConfig("CAUSAL_LM", num_virtual_tokens=5))
    tuned.save_pretrained(tmp_path / "prompt")
    found = load(tmp_path / "prompt")
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        torch.testing.assert_close(found.model(ids).logits, tuned.eval()(ids).logits)
    assert found.context == 64 - 5


def test_an_adapter_without_its_base(saved, tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
    config = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "gone")}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(
        BadInput, match=r"is an adapter of .*gone, and that fails: There is no folder"
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": ""}, "named by a string or a path, not ''"),
        ({"name": 7}, "not 7"),
        ({"device": "gpu"}, "no device 'gpu': choose cuda, mps or cpu"),
        ({"device": "cuda:99"}, r"no device 'cuda:99'. It has: .*cpu"),
        ({"dtype": "float23"}, "no precision 'float23'"),
        ({"dtype": "int8"}, "no precision 'int8'"),
    ],
)
def test_wrong_arguments_are_refused(given, message, saved):
    with pytest.raises(BadInput, match=message):
        load(**{"name": saved} | given)


def test_a_file_that_may_not_be_read_is_named(saved, monkeypatch):
    def forbidden(*_):
        raise PermissionError(13, "Permission denied", "model.safetensors")

    monkeypatch.setattr(loading, "check_folder", forbidden)
    with pytest.raises(BadInput, match=r"mine cannot be read: .*Permission.*model\.safetensors"):
        load(saved)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is Unicode")
def test_any_folder_name_can_be_shown(saved, tmp_path):
    folder, link = tmp_path / os.fsdecode(b"caf\xe9"), tmp_path / "link"
    shutil.copytree(saved, folder)
    link.symlink_to(folder)  # safetensors opens no path that is not UTF-8
    assert load(link).name == "caf\ufffd"


def test_other_than_causal_is_refused(edited):
    with pytest.raises(BadInput, match=r"is a T5ForConditionalGeneration.*causal language model"):
        load(edited("config.json", model_type="t5", architectures=["T5ForConditionalGeneration"]))
    with pytest.raises(BadInput, match="is a BertForMaskedLM"):
        load(edited("config.json", model_type="bert", architectures=["BertForMaskedLM"]))


def test_a_model_with_its_own_code_is_refused(edited):
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config"}}
    with pytest.raises(BadInput, match=r"config\.json describes no model that transformers knows"):
        load(edited("config.json", **config))


def test_random_weights_are_refused(edited):
    with pytest.raises(BadInput, match=r"12 are missing and would be random \(transformer\.h\.2\."):
        load(edited("config.json", n_layer=3))


def test_weights_of_another_size_are_refused(edited):
    with pytest.raises(BadInput, match="cannot be loaded"):
        load(edited("config.json", n_embd=64))


def test_a_broken_tokenizer_is_refused(saved, edited):
    broken = edited("config.json")
    (broken / "tokenizer.json").write_text("{")
    with pytest.raises(BadInput, match=r"The tokenizer of .* cannot be read"):
        load(broken)


def test_the_best_device_is_the_default(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert loading._device(None) == torch.device("cuda")
    assert loading._device("cuda:1") == torch.device("cuda:1")
    assert loading._device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert loading._device(None) == torch.device("mps")


def test_importing_loads_no_heavy_library():
    heavy = {"torch", "numpy", "pandas", "transformers"}
    modules = "caplab.models.load, caplab.questions.exam"
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
