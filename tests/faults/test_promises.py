"""What SECURITY.md promises, promise by promise."""

import ast
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from programs import run

import caplab as cl
from caplab.cli.jupyter import private_arguments
from caplab.models.hub import find_folder
from caplab.support.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*ROOT.glob("caplab/**/*.py"), *ROOT.glob("tools/*.py"), ROOT / "lab.py"])
ATTACKS = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>']


def calls():
    """Yield every call in the sources: its position, the name of the function, the call."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.name}:{node.lineno}", ast.unparse(node.func), node


def keyword(call, name):
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == name), None)


def test_every_promise_is_tested():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promised = [int(n) for n in re.findall(r"^(\d+)\. \*\*", text, re.MULTILINE)]
    tested = {int(n) for n in re.findall(r"def test_(\d+)_", Path(__file__).read_text("utf-8"))}
    assert promised == sorted(tested)


def test_1_no_pickle_in_the_sources():
    banned = re.compile(
        r"(c?pickle|dill|shelve|marshal|joblib)\.(loads?|dumps?)|torch\.(load|save)|\w+\.read_pickle"
        r"|\w+\.to_pickle"
    )
    assert [where for where, name, _ in calls() if banned.fullmatch(name)] == []
    unsafe = [where for where, _, call in calls() if keyword(call, "allow_pickle") == "True"]
    assert unsafe == []


def test_1_pickled_model_is_refused(tmp_path):
    folder = tmp_path / "pickled"
    tiny.subject().model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    trap = b"cos\nsystem\n(S'touch " + str(tmp_path / "opened").encode() + b"'\ntR."
    (folder / "pytorch_model.bin").write_bytes(trap)
    with pytest.raises(BadInput, match="pickle"):
        cl.load(folder)
    assert not (tmp_path / "opened").exists()


def test_2_no_remote_code_in_the_sources():
    trusting = [
        where
        for where, _, call in calls()
        if keyword(call, "trust_remote_code") not in (None, "False")
    ]
    assert trusting == []


def test_2_code_of_a_model_does_not_run(tmp_path):
    folder = tmp_path / "coded"
    tiny.subject().model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "trap.Mine"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "trap.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    with pytest.raises(BadInput):
        cl.load(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_3_no_connection_is_opened(tmp_path):
    said = run(
        """
        import socket
        tried = []

        class Watched(socket.socket):
            def connect(self, address):
                if self.family != socket.AF_UNIX:
                    tried.append(address)
                return super().connect(address)
            connect_ex = connect

        socket.socket = Watched
        import caplab as cl
        from caplab.training import remedies
        base = cl.load("pocket")
        base.ask("What is 2+2?")
        exam = cl.exam().sample(12)
        before = cl.score(base, exam)
        guard = cl.RegressionGuard(exam, every=2)
        run = cl.fine_tune(base, cl.Recipe(steps=3), exam=exam, callbacks=[guard])
        cl.compare(before, run.final)
        remedies.interpolate(base, run, 0.5)
        cl.plots.run(run).png()
        run.save("run", weights=True)
        cl.Run.load("run")
        print("tried", tried)
        """,
        cwd=tmp_path,
    )
    assert said.splitlines()[-1] == "tried []"


def test_4_jupyterlab_stays_private():
    """tests/project/test_lab_privacy.py starts it under settings that open everything."""
    sys.path.insert(0, str(ROOT))
    import lab

    text = (ROOT / "lab.py").read_text(encoding="utf-8")
    command = lab.jupyter(8888, no_browser=True)
    assert "--ServerApp.ip=localhost" in command
    (token,) = [each for each in private_arguments() if ".token=" in each]
    assert len(token.partition("=")[2]) == 48
    assert token not in private_arguments(), "it is the same at every start"
    decided = {each.partition("=")[0].partition(".")[2] for each in private_arguments()}
    assert {"ip", "token", "allow_origin", "allow_origin_pat", "hashed_password"} <= decided
    (settings,) = json.loads("{" + lab.NO_NEWS + "}").values()
    assert settings == {"fetchNews": "false", "checkForUpdates": False}
    assert not re.search(r"token\s*=\s*['\"]{2}|password\s*=|allow_origin|0\.0\.0\.0", text)


@pytest.mark.parametrize("attack", ATTACKS)
def test_5_names_are_shown_as_text(attack, at):
    card = replace(
        at.card,
        subject=attack,
        exam=attack,
        capability=tuple(attack if name == "capitals" else name for name in at.card.capability),
    )
    shown = [card, cl.compare(card, card), replace(at.run, base=attack, trouble=attack)]
    shown.append(cl.Subject(at.subject.model, at.subject.tokenizer, attack))
    for thing in shown:
        assert "<script" not in (html := thing._repr_html_()).lower()
        assert "<img" not in html.lower()
        assert "alert(1)" in html, "it was shown, not dropped"


def test_6_no_shell_in_the_sources():
    shells = re.compile(r"os\.(system|popen)|subprocess\.getoutput|eval|exec")
    assert [where for where, name, _ in calls() if shells.fullmatch(name)] == []
    assert [
        where for where, _, call in calls() if keyword(call, "shell") not in (None, "False")
    ] == []
    started = [
        (where, call)
        for where, name, call in calls()
        if re.fullmatch(r"subprocess\.(run|Popen|call|check_call|check_output)", name)
    ]
    written = [
        where for where, call in started if isinstance(call.args[0], ast.JoinedStr | ast.Constant)
    ]
    assert written == []


def test_7_shipped_model_is_checked(tmp_path):
    folder = shutil.copytree(find_folder("pocket"), tmp_path / "pocket")
    assert cl.load(folder).ask("What is 2+2?")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(BadInput, match="damaged"):
        cl.load(folder)


def test_all_sources_are_searched():
    tracked = subprocess.run(
        ["git", "ls-files", "caplab/*.py", "tools/*.py", "lab.py"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    if tracked.returncode == 0:
        assert {ROOT / name for name in tracked.stdout.split()} <= set(SOURCES)
