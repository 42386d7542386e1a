import json
import os
import subprocess
import sys
import warnings
from contextlib import suppress

import pytest
import tiny
import torch
from transformers.utils import logging

from caplab.models import load as models
from caplab.models.load import load
from caplab.models.subject import Subject, measuring
from caplab.support.errors import BadInput
from caplab.support.machine import cores
from caplab.support.quiet import quiet


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of two layers, as `save_pretrained` writes it."""
    who, path = tiny.subject(), tmp_path_factory.mktemp("models") / "mine"
    who.model.save_pretrained(path)
    who.tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def mine(folder):
    return load(folder)


@pytest.fixture
def edited(folder, tmp_path):
    """Change the copy of a file of the model, and give the folder."""

    def edit(file, **changes):
        for source in folder.iterdir():
            (tmp_path / source.name).write_bytes(source.read_bytes())
        path = tmp_path / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return tmp_path

    return edit


# ---------------------------------------------------------------- loading


def test_a_folder_loads_to_the_weights_that_were_saved(mine, folder):
    original = tiny.subject().model.state_dict()
    assert all(
        torch.equal(weight, original[name]) for name, weight in mine.model.state_dict().items()
    )
    assert mine.name == "mine"
    assert not mine.model.training
    assert {weight.dtype for weight in mine.model.parameters()} == {torch.float32}


def test_loading_writes_nothing_and_warns_of_nothing(folder, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(folder).ask("A dog says")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bars", [True, False])
def test_loading_leaves_the_libraries_as_talkative_as_they_were(folder, bars):
    state = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity_info()
        (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
        load(folder)
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled() is bars
    finally:
        logging.set_verbosity(state[0])
        (logging.enable_progress_bar if state[1] else logging.disable_progress_bar)()


def test_the_environment_stands_in_for_pocket_and_for_nothing_else(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("CAPLAB_MODEL", str(folder))
    assert load().name == load("pocket").name == "mine"
    monkeypatch.setenv("CAPLAB_MODEL", str(tmp_path / "nothing"))
    assert load(folder).name == "mine"
    with pytest.raises(BadInput, match=r"nothing'.*CAPLAB_MODEL"):
        load("pocket")


def test_the_end_of_a_text_pads_only_where_nothing_else_does(mine, edited):
    assert mine.tokenizer.pad_token == tiny.END
    assert mine.model.config.pad_token_id == mine.model.generation_config.pad_token_id == 0
    own = load(edited("tokenizer_config.json", pad_token="A"))
    assert own.tokenizer.pad_token == "A"
    assert own.model.generation_config.pad_token_id == own.tokenizer.pad_token_id != 0


def test_a_trainer_will_divide_the_loss_by_the_predicted_tokens(mine):
    assert tiny.subject().model.loss_type is None  # GPT-2's, unless somebody says otherwise
    assert mine.model.loss_type == "ForCausalLM"


def test_the_precision_can_be_chosen(folder):
    for wanted in ("bfloat16", "torch.bfloat16", torch.bfloat16):
        assert load(folder, dtype=wanted).model.dtype == torch.bfloat16


def test_an_adapter_comes_with_its_base_and_is_merged_into_it(mine, folder, tmp_path):
    from peft import LoraConfig, get_peft_model

    base = load(folder)
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


def test_an_adapter_names_its_base_in_a_way_that_travels(mine, folder, monkeypatch):
    assert mine.model.name_or_path == str(folder.resolve())
    monkeypatch.setattr(models, "find_folder", lambda name: folder)
    assert load("org/model").model.name_or_path == "org/model"


def test_an_adapter_without_its_base_says_which(folder, tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(
        (folder / "model.safetensors").read_bytes()
    )
    config = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "gone")}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(
        BadInput, match=r"is an adapter of .*gone, and that fails: There is no folder"
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": ""}, "named by a text or a path, not ''"),
        ({"name": 7}, "not 7"),
        ({"device": "gpu"}, "no device 'gpu': choose cuda, mps or cpu"),
        ({"device": "cuda:99"}, r"no device 'cuda:99'. It has: .*cpu"),
        ({"dtype": "float23"}, "no precision 'float23'"),
        ({"dtype": "int8"}, "no precision 'int8'"),
    ],
)
def test_what_cannot_be_loaded_is_said_at_the_door(given, message, folder):
    with pytest.raises(BadInput, match=message):
        load(**{"name": folder} | given)


def test_a_model_that_does_not_write_from_left_to_right_is_refused(edited):
    with pytest.raises(BadInput, match=r"is a T5ForConditionalGeneration.*causal language model"):
        load(edited("config.json", model_type="t5", architectures=["T5ForConditionalGeneration"]))
    with pytest.raises(BadInput, match="is a BertForMaskedLM"):
        load(edited("config.json", model_type="bert", architectures=["BertForMaskedLM"]))


def test_a_model_that_needs_code_of_its_own_is_refused(edited):
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config"}}
    with pytest.raises(BadInput, match=r"config\.json describes no model that transformers knows"):
        load(edited("config.json", **config))


def test_weights_that_would_be_random_are_refused(edited):
    with pytest.raises(BadInput, match=r"12 are missing and would be random \(transformer\.h\.2\."):
        load(edited("config.json", n_layer=3))


def test_weights_of_another_size_are_refused(edited):
    with pytest.raises(BadInput, match="cannot be loaded"):
        load(edited("config.json", n_embd=64))


def test_a_broken_tokenizer_is_refused(folder, edited):
    broken = edited("config.json")
    (broken / "tokenizer.json").write_text("{")
    with pytest.raises(BadInput, match=r"The tokenizer of .* cannot be read"):
        load(broken)


# ---------------------------------------------------------------- asking


def test_an_answer_is_the_likeliest_token_each_time(mine):
    ids = mine.tokenizer("A dog says")["input_ids"]
    for _ in range(4):
        with torch.no_grad():
            ids.append(int(mine.model(torch.tensor([ids])).logits[0, -1].argmax()))
    expected = mine.tokenizer.decode(ids[-4:], skip_special_tokens=True).strip()
    assert mine.ask("A dog says", max_new_tokens=4) == expected


def test_a_models_own_sampling_settings_do_not_disturb_an_answer(folder):
    who = load(folder)
    calm = who.ask("A dog says")
    who.model.generation_config.update(do_sample=True, temperature=3.0, repetition_penalty=5.0)
    assert {who.ask("A dog says") for _ in range(3)} == {calm}


def test_an_answer_stops_at_the_end_of_the_text(folder):
    who = load(folder)
    with torch.no_grad():
        who.model.transformer.ln_f.weight.zero_()
        who.model.transformer.ln_f.bias.copy_(10 * who.model.lm_head.weight[0])
    assert who.ask("A dog says") == ""


def test_asking_leaves_mode_and_random_state_alone(folder):
    who = load(folder)
    who.model.train()
    before = torch.get_rng_state()
    who.ask("A dog says")
    assert who.model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_an_answer_ends_where_the_context_ends(mine):
    asked = mine.tokenizer.decode([70] * (mine.context - 2))
    length = len(mine.tokenizer(asked)["input_ids"])
    answer = mine.ask(asked, max_new_tokens=500)
    assert length < mine.context
    assert len(mine.tokenizer(answer)["input_ids"]) <= mine.context


@pytest.mark.parametrize(
    ("question", "tokens", "message"),
    [
        ("", 5, "A question is a text, not ''"),
        (None, 5, "not None"),
        ("Hi", 0, "from 1 on, not 0"),
        ("Hi", 2.5, "not 2.5"),
        ("Hi", True, "not True"),
        ("dog " * 100, 5, r"has \d+ tokens and mine reads 64 at once"),
    ],
)
def test_what_cannot_be_asked_is_said(mine, question, tokens, message):
    with pytest.raises(BadInput, match=message):
        mine.ask(question, tokens)


# ---------------------------------------------------------------- a subject


def test_a_subject_shows_what_a_learner_needs(mine):
    assert repr(mine) == "Subject mine: 40.3 k parameters, GPT-2, 64-token context, cpu"
    assert repr(tiny.subject("mamba")).endswith("MambaForCausalLM, 2048-token context, cpu")
    odd = Subject(mine.model, mine.tokenizer, "<b>")
    assert odd._repr_html_().startswith("<b>Subject &lt;b&gt;</b>: 40.3 k")


def test_tied_weights_count_once(mine):
    assert mine.parameters == mine.model.num_parameters()
    assert mine.parameters < sum(weight.numel() for weight in mine.model.state_dict().values())


# ---------------------------------------------------------------- measuring


def test_measuring_restores_after_a_failure(folder):
    model = load(folder).model.train()
    before = torch.get_rng_state()
    with suppress(KeyError), measuring(model):
        torch.rand(3)
        assert not model.training
        assert not torch.is_grad_enabled()
        assert not (model.lm_head.weight * 2).is_inference()  # a model may keep what it computes
        raise KeyError
    assert model.training
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)


def test_quiet_is_quiet_and_speaks_again_even_after_a_failure():
    before = logging.get_verbosity()
    with suppress(KeyError), warnings.catch_warnings(record=True) as heard, quiet():
        warnings.warn("loud", stacklevel=1)
        assert logging.get_verbosity() == logging.ERROR
        assert not logging.is_progress_bar_enabled()
        raise KeyError
    assert not heard
    assert logging.get_verbosity() == before != logging.ERROR


# ---------------------------------------------------------------- the machine


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 8 cores whose limits a test can set."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("CPU_LIMIT", raising=False)
    limits = {}
    monkeypatch.setattr(models, "_cgroup", lambda name: limits.get(name, ""))
    return limits


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "150000 100000"}, 1),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
    ],
)
def test_a_containers_quota_counts(machine, limits, expected):
    machine.update(limits)
    assert cores() == expected


def test_a_classrooms_limit_counts(machine, monkeypatch):
    monkeypatch.setenv("CPU_LIMIT", "2.0")
    assert cores() == 2
    monkeypatch.setenv("CPU_LIMIT", "none")
    assert cores() == 8


HELPERS = """
import os, torch
from caplab.models import rest

def threads():
    return len(os.listdir("/proc/self/task"))

torch.set_num_threads(4)
numbers, alone, found = torch.rand(1000, 1000), threads(), []
for _ in range(2):
    before = torch.exp(numbers)
    found.append(threads() - alone)
    rest()
    found.append(threads() - alone)
assert torch.equal(before, torch.exp(numbers))
print(found)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only there OpenMP is GNU's")
def test_helpers_rest_until_something_is_computed_again():
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    out = subprocess.run(
        [sys.executable, "-c", HELPERS], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(out.stdout) == [3, 0, 3, 0]


def test_threads_are_lowered_to_the_cores_at_hand_and_never_raised(machine, monkeypatch):
    set_to = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    machine["cpu.max"] = "200000 100000"
    for threads in (8, 2, 1):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        models._share_cores()
    assert set_to == [2]
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    models._share_cores()
    assert set_to == [2]


def test_the_best_device_is_taken_unless_another_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert models._device(None) == torch.device("cuda")
    assert models._device("cuda:1") == torch.device("cuda:1")
    assert models._device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert models._device(None) == torch.device("mps")


def test_importing_models_and_exams_loads_no_heavy_library():
    heavy = {"torch", "numpy", "pandas", "transformers"}
    code = f"import sys, caplab.models, caplab.exam; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
