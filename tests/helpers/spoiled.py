"""Inputs with one thing wrong, each made from what is sound, for the table of bad inputs."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import QUICK, TASK, Bench

import caplab as cl

LINE = {"capability": "sums", "prompt": "1+1?", "choices": ["2", "3"], "answer": 0}


def question(**changes: Any) -> dict[str, Any]:
    """One sound line of an exam file, with a part of it spoiled."""
    return LINE | changes


COLUMNS = {"prompt": ["Say hot:"], "completion": [" hot."]}
HUGE = QUICK.change(method="lora", rank=10**9)


def keeping(capability: str, tier: str = "must-keep") -> cl.Policy:
    """Agree that a capability must be kept."""
    return cl.Policy(capability={capability: {"tier": tier}})


def overall() -> cl.Question:
    """Name a capability as the last row of each table."""
    return cl.Question("overall", "1+1?", ("2", "3"), 0)


def twice(at: Bench) -> Path:
    """Write a question with two answers."""
    return at.file(json.dumps(LINE).replace("}", ', "answer": 1}'))


def mixed(at: Bench) -> Path:
    """Put a larger vocabulary beside a model."""
    tokenizer = deepcopy(at.subject.tokenizer)
    tokenizer.add_tokens([f"word{n}" for n in range(400)])
    folder = at.folder_of_model()
    tokenizer.save_pretrained(folder)
    return folder


def circle(at: Bench) -> Path:
    """Let an adapter name itself as its base."""
    base = cl.load(at.folder_of_model())
    run = cl.fine_tune(base, QUICK.change(method="lora"), TASK, at.exam, on_point=lambda _: None)
    folder = run.save(at.folder / "run", weights=True) / "weights"
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(folder)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def loop(at: Bench) -> Path:
    """Link a name to itself."""
    (at.folder / "loop").symlink_to("loop")
    return at.folder / "loop"


def card(at: Bench, **changes: Any) -> cl.Scorecard:
    """Spoil one column of a scorecard."""
    return replace(at.card, **changes)


def replay(at: Bench, old: Any) -> cl.Run:
    """Mix in old data."""
    return at.tune(QUICK.change(replay=0.5), replay_data=old)


def others(at: Bench) -> Path:
    """Make a folder with somebody's weights."""
    (at.folder / "weights").mkdir()
    return at.folder


def no_run(at: Bench) -> Path:
    """Put an empty object where a run should be."""
    return at.file("{}", "run.json").parent


def diverged(at: Bench) -> cl.Run:
    """Save a run that came to nothing, and load it."""
    run = at.tune(QUICK.change(learning_rate=1e30, steps=6))
    return cl.Run.load(run.save(at.folder / "diverged"))


SAMPLE = {
    "doc_id": 0,
    "target": "0",
    "arguments": [["1+1?", " 2"], ["1+1?", " 3"]],
    "filtered_resps": [["-1", "False"], ["-2", "False"]],
    "metrics": ["acc"],
    "acc": 1.0,
}


def samples(at: Bench, **changes: Any) -> cl.Scorecard:
    """Read a samples file with something spoiled in its one line."""
    return cl.scorecard_from_lm_eval(at.lines(SAMPLE | changes))


def report(at: Bench) -> cl.Report:
    """Compare the subject with itself."""
    return cl.compare(at.card, at.card)


def other(at: Bench) -> cl.Scorecard:
    """Answer another exam."""
    return cl.score(at.subject, at.exam.subset("how-to"), progress=False)


def cut(at: Bench) -> Path:
    """Save a scorecard and lose its second half."""
    path = at.folder / "card.json"
    at.card.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path
