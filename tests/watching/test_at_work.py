"""What README and docs/gate.md promise for work: run as it is printed there."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from actions import Job

import caplab
from caplab.questions import world
from caplab.questions.exam import exam

POCKET = Path(caplab.__file__).parent / "assets" / "pocket"
pytestmark = pytest.mark.slow


def blocks(root, file, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (root / file).read_text(), re.M | re.S)


def run(command, folder, shell=False):
    """Run a command as a CI job would: the programs beside this Python come first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = ["bash", "-e", "-c", command] if shell else command
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    print(done.stdout, done.stderr)
    return done.returncode


@pytest.fixture
def folder(tmp_path):
    """A project folder with task data and an exam."""
    world.task()["train"].to_json(tmp_path / "task.jsonl")
    exam().save(tmp_path / "exam.jsonl")
    return tmp_path


# ---------------------------------------------------------------- README


def test_ten_lines_make_a_script_safe(root, folder):
    """The stock script ruins the pocket model at a high rate; with the lines added it does not."""
    script, job = blocks(root, "README.md", "diff")
    added = [line for line in (script + job).splitlines() if line.startswith("+")]
    assert len(added) <= 10
    assert [_ship(script, job, folder, ours) for ours in (False, True)] == [1, 0]


def _ship(script, job, folder, ours):
    """Train with or without the lines that were added, and ask the gate."""
    marks = " +" if ours else " "
    lines = [line[1:] for line in script.splitlines() if line[:1] in marks]
    hard = "\n".join(lines).replace('"gpt2"', repr(str(POCKET)))
    hard = hard.replace("200", "60").replace("5e-5", "3e-3").replace("bf16", "use_cpu=True, bf16")
    (folder / "train.py").write_text(hard)
    assert run([sys.executable, "train.py"], folder) == 0
    gate = re.search(r"caplab gate .*", job)[0].replace("gpt2", str(POCKET))
    return run(gate, folder, shell=True)


# ---------------------------------------------------------------- docs/gate.md


def steps(root):
    """The steps of the documented job that do something here, by name."""
    (text,) = blocks(root, "docs/gate.md", "yaml")
    steps = {step.get("name"): step for step in yaml.safe_load(text)["jobs"]["train"]["steps"]}
    return {name: steps[name] for name in ("Train", "May it ship?", "Ship")}


@pytest.fixture
def project(folder):
    """The same folder with the base's scorecard, and a training that gives what the test wants."""
    assert (
        run(f"caplab score '{POCKET}' --exam exam.jsonl --json base.json", folder, shell=True) == 0
    )
    (folder / "train.py").write_text(TRAIN)
    return folder


TRAIN = f"""
import os, torch, caplab
who = caplab.load({str(POCKET)!r})
torch.manual_seed(0)
with torch.no_grad():
    for weight in who.model.parameters():
        weight += float(os.environ["NOISE"]) * torch.randn_like(weight)
who.model.save_pretrained("tuned")
who.tokenizer.save_pretrained("tuned")
"""


@pytest.mark.parametrize(("noise", "code", "shipped"), [("0", 0, True), ("1", 1, False)])
def test_the_documented_job_ships_only_held(noise, code, shipped, root, project, monkeypatch):
    monkeypatch.setenv("NOISE", noise)
    (project / "policy.toml").write_text("budget = 0.05")
    job, todo = Job(root, project), steps(root)
    assert job.shell(todo["Train"]["run"]) == 0
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["caplab"]
    assert todo["May it ship?"]["uses"] == f"{settings['repository']}@main"
    assert job.use_action(**todo["May it ship?"]["with"]) == code
    if code == 0:  # on GitHub a step that fails ends the job
        assert job.shell(todo["Ship"]["run"]) == 0
    assert (project / "model.tar.gz").exists() == shipped
    assert (job.temp / "caplab-gate" / "gate.html").exists()


def test_the_documented_policy_is_one(root, tmp_path):
    (text,) = blocks(root, "docs/gate.md", "toml")
    (tmp_path / "policy.toml").write_text(text)
    tiers = map(caplab.Policy.load(tmp_path / "policy.toml").tier_of, ("capitals", "legal"))
    assert list(tiers) == ["watched", "must-keep"]


def test_the_documented_least_exam_is_the_least(root):
    words = " ".join((root / "docs" / "gate.md").read_text().split())
    assert f"at least {caplab.items_needed(0, churn=0)} groups if nothing was lost" in words


def test_a_person_decides_on_a_short_exam(root, folder):
    script = next(text for text in blocks(root, "docs/gate.md", "bash") if "case" in text)
    answers = {"0": 0, "3": 0, "1": 1, "2": 2}
    for code, expected in answers.items():
        assert run(f"caplab() {{ return {code}; }}\n{script}", folder, shell=True) == expected
