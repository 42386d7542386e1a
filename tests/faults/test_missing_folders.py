"""A folder that is not there is never looked up on the hub, where a stranger could have put one."""

import pytest
from drill import fault

import caplab as cl
from caplab.cli.commands import main
from caplab.models.hub import find_folder
from caplab.support.errors import BadInput


@pytest.fixture(autouse=True)
def asked(monkeypatch, tmp_path):
    """An empty folder to stand in, and a hub that notes what it is asked."""
    asked = []

    def note(_, name, **__):
        asked.append(name)
        raise TimeoutError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", note)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", note)
    return asked


PATHS = [
    "outputs/final",
    "output/checkpoint-100",
    "Outputs/v2",
    "./x",
    "../x",
    "./org/model",
    "~/x",
    "~/models/x",
    "/nowhere/x",
    "/x",
    "outputs\\final",
    "C:\\models\\x",
    ".\\x",
    "runs/a/b",
    "org/model/main",
    "my-run/checkpoint-500",
    "my-run/final",
    "my-run/ckpt_3",
    "my-run/step-10",
    "my-run/best",
    "checkpoint-500",
    "final",
    "models/x",
    "checkpoints/x",
    "results/x",
    "lora/x",
    "x/",
    "org/model/",
    ".hidden/x",
]


@fault("a model's folder is missing in CI", "said, with where it was looked for; the hub not asked")
@pytest.mark.parametrize("name", PATHS)
def test_the_hub_is_not_asked(name, asked):
    with pytest.raises(BadInput, match="There is no folder") as refused:
        cl.load(name)
    assert repr(name) in str(refused.value)
    assert asked == []


@fault("a relative path is missing", "the folder that it was looked up in is named")
def test_it_says_where(tmp_path):
    with pytest.raises(BadInput) as refused:
        cl.load("outputs/final")
    assert str(tmp_path) in str(refused.value)
    assert "The hub was not asked" in str(refused.value)


@fault("a folder beside it has nearly the same name", "it is suggested")
def test_it_suggests(tmp_path):
    (tmp_path / "outputs" / "finale").mkdir(parents=True)
    with pytest.raises(BadInput, match="Did you mean 'outputs/finale'"):
        cl.load("outputs/final")


@fault("the first part of a name is a folder here", "it is a path, and the hub is not asked")
def test_a_folder_that_is_here(tmp_path, asked):
    (tmp_path / "mine").mkdir()
    with pytest.raises(BadInput, match="looks like a path"):
        cl.load("mine/llama")
    assert asked == []


NAMES = ["gpt2", "org/mine", "Qwen/Qwen2.5-0.5B", "facebook/opt-125m", "user/my-final-model"]


@fault("a name on the hub", "it is still asked for there")
@pytest.mark.parametrize("name", NAMES)
def test_the_hub_is_asked_for_its_own(name, asked):
    with pytest.raises(BadInput, match="cannot be reached"):
        cl.load(name)
    assert asked == [name]


@fault("the gate is given a folder that is missing", "exit code 2, and no verdict")
def test_the_gate_stops(capsys, asked):
    assert main(["gate", "pocket", "outputs/final"]) == 2
    assert "There is no folder 'outputs/final'" in capsys.readouterr().err
    assert asked == []


@fault("a revision of what does not come from the hub", "refused")
@pytest.mark.parametrize("name", ["pocket", "smollm2", "here"])
def test_a_revision_is_the_hubs(name, tmp_path):
    (tmp_path / "here").mkdir()
    with pytest.raises(BadInput, match="has no revision 'v1'"):
        cl.load(name, revision="v1")


def test_a_revision_reaches_the_hub(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "huggingface_hub.HfApi.model_info", lambda *_, **asked: seen.append(asked["revision"])
    )
    with pytest.raises(AttributeError):
        find_folder("org/mine", "v1")
    assert seen == ["v1"]


WRONG = [
    ({"revision": ""}, "revision is a branch"),
    ({"revision": 3}, "revision is a branch"),
    ({"device_map": 7}, "device_map is"),
    ({"device_map": ""}, "device_map is"),
    ({"device_map": "auto", "device": "cpu"}, "not both"),
    ({"dtype": "int8"}, "There is no precision 'int8'"),
    ({"dtype": "half-ish"}, "choose float32"),
]


@pytest.mark.parametrize(("given", "words"), WRONG)
def test_wrong_wishes_are_refused(given, words):
    with pytest.raises(BadInput, match=words):
        cl.load("pocket", **given)


@pytest.mark.parametrize("given", [{"dtype": "auto"}, {"device_map": "auto"}, {"device": "cpu"}])
def test_wishes_are_granted(given):
    who = cl.load("pocket", **given)
    assert cl.score(who, cl.exam("task").sample(3), progress=False).accuracy >= 0
