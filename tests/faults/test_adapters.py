"""An adapter takes effect as a whole, or is refused by name: never is its base judged in its place.

Each case is broken on purpose; `test_the_base_would_have_been_judged` shows what that would give.
"""

import json

import adapters
import pytest
import tiny
import torch
from adapters import CONFIG, declared, renamed, reshaped, trained
from drill import fault
from safetensors.torch import load_file, save_file

import caplab as cl
from caplab.models.load import load_trained
from caplab.support.errors import BadInput
from caplab.watching.gate import gate


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model on the disk; not to be changed."""
    who, folder = tiny.subject(), tmp_path_factory.mktemp("base") / "model"
    who.model.save_pretrained(folder)
    who.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(base, tmp_path):
    """A sound adapter, to be spoiled."""
    return trained(base, tmp_path / "adapter")


def answers(source):
    """What a model answers."""
    return cl.score(cl.load(source), tiny.exam(), progress=False).loglikelihoods


def gap(ours, theirs):
    """The largest difference of two sets of log-likelihoods."""
    pairs = zip(ours, theirs, strict=True)
    return max(abs(a - b) for pair in pairs for a, b in zip(*pair, strict=True))


def other_layer(key):
    """Lose the second layer."""
    return None if ".h.1." in key else key


def longer(key, weight):
    """Begin with another rank."""
    return torch.cat([weight, weight], 0 if "lora_A" in key else 1)


BROKEN = {
    "one layer missing": (lambda a: renamed(a, other_layer), ("are missing", "h.1.attn.c_attn")),
    "one lora_B missing": (
        lambda a: renamed(a, lambda k: None if ".h.0." in k and "lora_B" in k else k),
        ("1 are missing", "h.0.attn.c_attn.lora_B"),
    ),
    "other target_modules": (lambda a: declared(a, target_modules=["c_fc"]), ("c_fc", "c_attn")),
    "one module more declared": (
        lambda a: declared(a, target_modules=["c_attn", "c_fc"]),
        ("4 are missing", "c_fc"),
    ),
    "one module fewer declared": (
        lambda a: declared(trained_two(a), target_modules=["c_attn"]),
        ("belong nowhere", "c_fc"),
    ),
    "no module at all": (lambda a: declared(a, target_modules=["q_proj"]), ("q_proj",)),
    "DoRA declared, not there": (
        lambda a: declared(a, use_dora=True),
        ("are missing", "lora_magnitude_vector"),
    ),
    "DoRA there, not declared": (
        lambda a: declared(trained_again(a, use_dora=True), use_dora=False),
        ("belong nowhere", "lora_magnitude_vector"),
    ),
    "modules_to_save missing": (
        lambda a: declared(a, modules_to_save=["lm_head"]),
        ("lm_head", "modules_to_save"),
    ),
    "a bias declared, not there": (lambda a: declared(a, lora_bias=True), ("lora_B.bias",)),
    "the wrong rank": (lambda a: declared(a, r=4), ("does not fit", "size mismatch")),
    "a rank pattern": (
        lambda a: declared(a, rank_pattern={"h.1.attn.c_attn": 3}),
        ("does not fit", "size mismatch"),
    ),
    "weights of another rank": (lambda a: reshaped(a, longer), ("size mismatch",)),
    "only some layers declared": (
        lambda a: declared(a, layers_to_transform=[0]),
        ("belong nowhere", "h.1"),
    ),
    "an unknown prefix": (
        lambda a: renamed(a, lambda k: k.replace("transformer.", "wrapped.transformer.")),
        ("are missing", "belong nowhere", "wrapped"),
    ),
    "another family's names": (
        lambda a: renamed(a, lambda k: k.replace("transformer.h", "model.layers")),
        ("are missing", "model.layers"),
    ),
    "another adapter's name": (
        lambda a: renamed(a, lambda k: k.replace("lora_A.", "lora_A.french.")),
        ("are missing", "french"),
    ),
    "no weights": (lambda a: renamed(a, lambda _: None), ("no weights",)),
    "every lora_B zero": (
        lambda a: reshaped(a, lambda k, w: w * 0 if "lora_B" in k else w),
        ("changes nothing", "2 lora_B"),
    ),
    "IA3 declared": (
        lambda a: declared(a, peft_type="IA3", feedforward_modules=[]),
        ("adapter",),
    ),
    "a tuned prompt declared": (
        lambda a: declared(a, peft_type="PROMPT_TUNING", num_virtual_tokens=4),
        ("prompt_embeddings",),
    ),
    "tokens without embeddings": (lambda a: more_tokens(a), ("7 tokens more", "random")),
    "embeddings of another size": (
        lambda a: with_embeddings(more_tokens(a), 403),
        ("403", "407", "belong together"),
    ),
}


def trained_again(adapter, **changes):
    """Train in place with other settings."""
    base = json.loads((adapter / CONFIG).read_text())["base_model_name_or_path"]
    return trained(base, adapter, **changes)


def trained_two(adapter):
    """Train two kinds of layers."""
    return trained_again(adapter, target_modules=["c_attn", "c_fc"])


def more_tokens(adapter):
    """Save a tokenizer with seven tokens too many beside the adapter."""
    tokenizer = cl.load(json.loads((adapter / CONFIG).read_text())["base_model_name_or_path"])
    tokenizer = tokenizer.tokenizer
    tokenizer.add_tokens([f"new{n}" for n in range(407 - len(tokenizer))])
    tokenizer.save_pretrained(adapter)
    return adapter


def with_embeddings(adapter, rows):
    """Save embeddings as well, as PEFT does after they were resized."""
    weights = load_file(adapter / adapters.WEIGHTS)
    weights["base_model.model.transformer.wte.weight"] = torch.randn(rows, 32)
    save_file(weights, adapter / adapters.WEIGHTS)
    return adapter


@fault("an adapter of which a part would have no effect", "refused by the names of its weights")
@pytest.mark.parametrize("kind", BROKEN)
def test_it_is_refused(kind, adapter):
    spoil, words = BROKEN[kind]
    spoil(adapter)
    with pytest.raises(BadInput) as refused:
        cl.load(adapter)
    said = str(refused.value)
    assert [word for word in words if word not in said] == [], said
    assert "\n" not in said
    assert len(said) < 700, said


WRAPPED = {
    "compiled": lambda k: k.replace("base_model.model.", "base_model.model._orig_mod."),
    "compiled outside": lambda k: f"_orig_mod.{k}",
    "compiled layers": lambda k: k.replace(".attn.", ".attn._orig_mod."),
    "DDP": lambda k: f"module.{k}",
    "DDP inside": lambda k: k.replace("base_model.model.", "base_model.model.module."),
    "DDP and compiled": lambda k: f"module._orig_mod.{k}",
    "FSDP": lambda k: k.replace(".h.", "._fsdp_wrapped_module.h."),
    "checkpointed": lambda k: k.replace(".attn.", "._checkpoint_wrapped_module.attn."),
    "a bare state_dict": lambda k: k.replace(".weight", ".default.weight"),
    "without PEFT's prefix": lambda k: k.removeprefix("base_model.model."),
}


@fault("an adapter whose names a wrapper changed", "put right with a word, and all of it counts")
@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers_are_taken_off(kind, adapter, base, capsys):
    right = answers(adapter)
    assert capsys.readouterr().err == ""
    renamed(adapter, WRAPPED[kind])
    assert answers(adapter) == right != answers(base)
    assert "4 weights go by other names" in capsys.readouterr().err


SOUND = {
    "rank-stabilised": {"use_rslora": True},
    "alpha pattern": {"alpha_pattern": {"h.1.attn.c_attn": 7}},
    "rank pattern": {"rank_pattern": {"h.1.attn.c_attn": 3}},
    "DoRA": {"use_dora": True},
    "some layers": {"layers_to_transform": [1]},
    "a pattern of names": {"target_modules": r".*h\.1\.attn\.c_attn"},
    "all linear": {"target_modules": "all-linear"},
    "a saved head": {"modules_to_save": ["ln_f"]},
    "a bias": {"bias": "lora_only"},
    "a bias of its own": {"lora_bias": True},
    "an embedding": {"target_modules": ["wte", "c_attn"]},
    "tokens": {"trainable_token_indices": [1, 2, 3]},
}


@fault("an adapter of an unusual kind", "it answers as it did where it was trained")
@pytest.mark.parametrize("kind", SOUND)
@pytest.mark.filterwarnings("ignore")
def test_it_answers_as_trained(kind, base, tmp_path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    who = cl.load(base)
    tuned = get_peft_model(who.model, LoraConfig(**adapters.LORA | SOUND[kind]))
    with torch.no_grad():
        for weight in tuned.parameters():
            weight += 0.3 * torch.randn_like(weight) * weight.requires_grad
    tuned.save_pretrained(tmp_path / "a")
    right = cl.score(cl.Subject(tuned, who.tokenizer, "a"), tiny.exam(), progress=False)
    assert gap(answers(tmp_path / "a"), right.loglikelihoods) < 2e-3
    assert gap(answers(base), right.loglikelihoods) > 0.1


@fault("an adapter with embeddings for new tokens", "the base is resized to exactly those")
@pytest.mark.parametrize("rows", [407, 448])
def test_resized_embeddings(rows, adapter):
    with_embeddings(more_tokens(adapter), rows)
    assert cl.load(adapter).model.get_input_embeddings().num_embeddings == rows


@fault("an adapter of a base of another size", "refused")
@pytest.mark.parametrize("changes", [{"n_layer": 1}, {"n_layer": 3}, {"n_embd": 64}])
def test_another_base(changes, adapter, tmp_path):
    other = tiny.subject(**changes)
    other.model.save_pretrained(tmp_path / "other")
    other.tokenizer.save_pretrained(tmp_path / "other")
    declared(adapter, base_model_name_or_path=str(tmp_path / "other"))
    with pytest.raises(BadInput, match=r"does not fit|belong nowhere|are missing"):
        cl.load(adapter)


@fault("a run whose adapter changes nothing", "the run loads; the adapter alone is refused")
def test_an_idle_run(at):
    still = at.tune(cl.Recipe(method="lora", steps=1, batch_size=2, learning_rate=0.0))
    folder = still.save(at.folder / "still", weights=True)
    assert cl.Run.load(folder).subject is not None
    assert load_trained(folder / "weights").name == "weights"


@fault("a gate is given an adapter that does not fit", "no verdict, and certainly not HELD")
@pytest.mark.parametrize("kind", ["one layer missing", "every lora_B zero", "an unknown prefix"])
def test_no_verdict(kind, adapter, base, tmp_path):
    BROKEN[kind][0](adapter)
    tiny.exam().save(tmp_path / "exam.jsonl")
    with pytest.raises(BadInput):
        gate(base, adapter, exam=tmp_path / "exam.jsonl")


def test_the_base_would_have_been_judged(adapter, base):
    """PEFT itself loads it without an error, and the base answers."""
    from peft import PeftModel

    renamed(adapter, lambda k: k.replace("transformer.", "wrapped.transformer."))
    declared(adapter, init_lora_weights=True)  # else weights that are missing are even random
    with pytest.warns(UserWarning, match="missing adapter keys"):
        silent = PeftModel.from_pretrained(cl.load(base).model, str(adapter))
    silent = cl.Subject(silent, cl.load(base).tokenizer, "silent")
    found = cl.score(silent, tiny.exam(), progress=False).loglikelihoods
    assert gap(found, answers(base)) < 1e-4
