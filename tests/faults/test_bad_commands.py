"""A command that was given nonsense ends with code 2, one message, and nothing half-written."""

import pytest
from bench import Bench
from spoiled import cut as half_a_scorecard

from caplab.cli import commands as cli

BAD_COMMANDS = [
    ("no command", "", ("usage", "command")),
    ("an unknown command", "scor pocket", ("scor", "score")),
    ("no model", "score", ("model",)),
    ("an unknown option", "score pocket --fast", ("--fast",)),
    ("a model that is not there", "score ./nowhere", ("no folder", "nowhere")),
    ("an exam that is not there", "score pocket --exam no.jsonl", ("no.jsonl",)),
    ("one model alone", "gate pocket", ("after",)),
    ("a budget in words", "gate pocket pocket --budget two", ("budget", "two")),
    ("a budget of 200 %", "gate card.json card.json --budget 2", ("budget", "2")),
    ("a policy that is not there", "gate card.json card.json --policy no.toml", ("no policy",)),
    ("a misspelt capability", "gate card.json card.json --policy odd.toml", ("'capitols'",)),
    ("a policy and a budget", "gate card.json card.json --policy p --budget .1", ("not allowed",)),
    ("a result over a policy", "gate card.json card.json --policy p --json p", ("overwritten",)),
    ("a scorecard that is not there", "gate card.json other.json", ("no scorecard other.json",)),
    ("half a scorecard", "gate card.json half.json", ("half.json", "not a scorecard")),
    ("a result with no folder", "gate card.json card.json --json no/a.json", ("no folder",)),
    ("a result over an input", "gate card.json card.json --json card.json", ("overwritten",)),
    ("a page that is a folder", "gate card.json card.json --html .", ("a folder",)),
    ("two results in one place", "gate card.json card.json --json a --html a", ("overwritten",)),
    ("a result in a device", "gate card.json card.json --json /dev/null", ("device",)),
    ("a scorecard of another exam", "score card.json --exam task", ("tiny", "task")),
    ("a grid that is not there", "sweep no.toml", ("no.toml",)),
    ("an atlas with no folder", "sweep good.toml --out no/a.parquet", ("no folder",)),
    ("an atlas over its grid", "sweep good.toml --out good.toml", ("overwritten",)),
    ("a grid with a misspelt field", "sweep bad.toml", ("bad.toml", "learning_rate")),
    ("a grid that is no TOML", "sweep card.json", ("card.json",)),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    at = Bench(tmp_path)
    half_a_scorecard(at).rename(tmp_path / "half.json")
    at.card.save(tmp_path / "card.json")
    at.file("learningrate = 1", "bad.toml")
    at.file("steps = 2", "good.toml")
    at.file("[capability.capitols]", "odd.toml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("what", "line", "words"), BAD_COMMANDS, ids=[row[0] for row in BAD_COMMANDS]
)
def test_it_ends_with_code_2(what, line, words, here, capsys):
    before = {path: path.read_bytes() for path in here.iterdir()}
    try:
        code = cli.main(line.split())
    except SystemExit as ended:  # argparse ends so
        code = ended.code
    said = capsys.readouterr()
    assert code == 2, said
    assert [word for word in words if word not in said.err] == [], said.err
    assert "Traceback" not in said.err
    assert {path: path.read_bytes() for path in here.iterdir()} == before
