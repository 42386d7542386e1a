"""The command `caplab`: how it starts, what it offers and how it ends."""

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import caplab
from caplab.cli import commands, doctor
from caplab.cli.commands import main
from caplab.models import hub
from caplab.support.errors import BadInput


def test_the_command_is_installed():
    (command,) = entry_points(group="console_scripts", name="caplab")
    assert command.load() is main


def test_the_package_runs_as_a_module_too():
    done = subprocess.run([sys.executable, "-m", "caplab", "--version"], capture_output=True)
    assert done.stdout.split() == [b"caplab", caplab.__version__.encode()]


def test_without_a_command_it_lists_them(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "command" in capsys.readouterr().err


COMMANDS = ["fetch", "score", "exam check", "gate", "sweep", "claims", "league", "doctor"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    assert f"usage: caplab {command}" in capsys.readouterr().out


def test_a_league_is_printed_and_drawn_again(tmp_path, capsys):
    line = ["league", "--task", "0.7", "--svg", str(tmp_path / "league.svg")]
    assert [main(line), main(line)] == [0, 0]
    assert capsys.readouterr().out.startswith("At task .70 ")
    assert b"caplab league" in (tmp_path / "league.svg").read_bytes()


def test_a_league_overwrites_no_picture_of_others(tmp_path, capsys):
    (tmp_path / "mine.svg").write_text("<svg/>")
    assert main(["league", "--svg", str(tmp_path / "mine.svg")]) == 2
    assert "is not an earlier result" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 1])
def test_the_doctors_result_is_the_exit_code(monkeypatch, code):
    monkeypatch.setattr(doctor, "examine", lambda: code)
    assert main(["doctor"]) == code


def test_fetch_says_where_the_model_is(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(hub, "fetch", lambda: tmp_path)
    assert main(["fetch", "smollm2"]) == 0
    assert capsys.readouterr().out == f"smollm2 is in {tmp_path}\n"


def test_fetch_refuses_in_one_sentence(monkeypatch, capsys):
    def refuse():
        raise BadInput("smollm2 cannot be had.")

    monkeypatch.setattr(hub, "fetch", refuse)
    assert main(["fetch", "smollm2"]) == 2
    assert capsys.readouterr().err == "caplab: smollm2 cannot be had.\n"


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt(), 130), (OSError("disk full"), 2), (TypeError(), 2)]
)
def test_a_failure_has_its_exit_code(monkeypatch, raised, code):
    def fail(options):
        raise raised

    monkeypatch.setattr(commands, "_doctor", fail)
    assert main(["doctor"]) == code


def test_exam_check_tells_by_its_exit_code(tmp_path, capsys):
    assert main(["exam", "check", "classics"]) == 0
    assert "Nothing to mend." in capsys.readouterr().out
    asked = {"capability": "loose", "prompt": "Question:", "expect": {"matches": "."}}
    (tmp_path / "loose.jsonl").write_text(json.dumps(asked), encoding="utf-8")
    assert main(["exam", "check", str(tmp_path / "loose.jsonl"), "--model", "pocket"]) == 1
    assert "expectations can hardly be missed" in capsys.readouterr().out
    assert main(["exam", "check", str(tmp_path / "none.jsonl")]) == 2
