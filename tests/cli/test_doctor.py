"""What `caplab doctor` checks, and how it reports it."""

import hashlib
import subprocess
import sys
from unittest.mock import Mock

import pytest

from caplab.cli import doctor
from caplab.cli.doctor import Diagnosis


def lines(check) -> list[str]:
    return [str(finding) for finding in check()]


def test_a_finding_says_what_to_do():
    assert str(Diagnosis("OK", "cores: 2")) == "[OK]   cores: 2"
    assert str(Diagnosis("FAIL", "disk: full", "make room")) == "[FAIL] disk: full -> make room"


@pytest.mark.parametrize(("level", "code"), [("OK", 0), ("INFO", 0), ("WARN", 0), ("FAIL", 1)])
def test_only_a_failure_is_an_error(monkeypatch, capsys, level, code):
    monkeypatch.setattr(doctor, "CHECKS", [lambda: iter([Diagnosis(level, "it", "do this")])])
    assert doctor.examine() == code
    assert f"[{level}]" in capsys.readouterr().out


def test_a_broken_check_hides_no_other(monkeypatch, capsys):
    def broken():
        raise OSError("no such thing")

    monkeypatch.setattr(doctor, "CHECKS", [broken, lambda: iter([Diagnosis("OK", "cores: 2")])])
    assert doctor.examine() == 1
    failed, fine = capsys.readouterr().out.splitlines()
    assert failed == "[FAIL] broken: OSError: no such thing -> please report this"
    assert fine == "[OK]   cores: 2"


def test_every_check_looks_at_its_own_thing():
    seen = [line for check in doctor.CHECKS for line in lines(check)]
    things = "Python system disk memory cores torch pocket real browser GPU jupyterlab"
    for thing in things.split():
        assert any(thing in line for line in seen), f"no line about {thing}"
    assert all(" -> " in line for line in seen if not line.startswith("[OK]"))


def test_a_browser_without_a_screen_is_found(monkeypatch):
    def none():
        raise doctor.webbrowser.Error

    monkeypatch.setattr(doctor.webbrowser, "get", none)
    monkeypatch.setattr(doctor.shutil, "which", {"chromium": "/usr/bin/chromium"}.get)
    (line,) = lines(doctor.browser)
    assert line.startswith("[OK]   browser: /usr/bin/chromium, which does not open by itself")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert lines(doctor.browser)[0].startswith("[WARN] browser: none found")


def test_it_works_where_nothing_is_installed(root):
    """`-S` hides site-packages: this is a machine on which lab.py never ran."""
    command = [sys.executable, "-S", "-m", "caplab", "doctor"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert "[OK]   Python" in done.stdout
    assert "[FAIL] packages: not installed in this Python -> python lab.py" in done.stdout
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def test_a_package_below_its_bound_fails():
    found = doctor._package("pytest", ">=9999", optional=False)
    assert found.level == "FAIL"
    assert ">=9999 is needed" in found.text
    assert 'pip install "pytest>=9999"' in found.advice


def test_an_optional_package_only_warns():
    assert doctor._package("no-such-package", "", optional=False).level == "FAIL"
    assert doctor._package("no-such-package", "", optional=True).level == "WARN"


def test_pocket_is_compared_with_its_checksums(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "ASSETS", tmp_path)
    assert lines(doctor.pocket)[0].startswith("[FAIL] pocket model: no SHA256SUMS")
    folder = tmp_path / "pocket"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  model.safetensors\n")
    assert lines(doctor.pocket) == ["[OK]   pocket model: all files match their checksums"]
    (folder / "model.safetensors").write_bytes(b"weightz")
    assert "[FAIL] pocket model: model.safetensors missing or damaged" in lines(doctor.pocket)[0]
    (folder / "model.safetensors").unlink()
    assert "[FAIL] pocket model: model.safetensors missing or damaged" in lines(doctor.pocket)[0]


def test_the_real_model_is_optional(monkeypatch, tmp_path):
    monkeypatch.setenv("CAPLAB_CACHE", str(tmp_path))
    neutral = "[INFO] real model: not fetched (optional) -> caplab fetch smollm2"
    assert lines(doctor.real_model) == [neutral]
    folder = tmp_path / "smollm2"
    folder.mkdir()
    warning = f"[WARN] real model: no weights in {folder} -> caplab fetch smollm2"
    assert lines(doctor.real_model) == [warning]
    (folder / "model.safetensors").write_bytes(b"x" * 20_000_000)
    assert lines(doctor.real_model) == [f"[OK]   real model: smollm2, 0.02 GB in {folder}"]


@pytest.mark.parametrize(("free", "level"), [(0.1e9, "FAIL"), (1e9, "WARN"), (9e9, "OK")])
def test_a_full_disk_is_seen(monkeypatch, free, level):
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    (finding,) = doctor.disk()
    assert finding.level == level


@pytest.mark.parametrize(("free", "level"), [(0.5, "WARN"), (8.0, "OK")])
def test_little_memory_is_seen(monkeypatch, free, level):
    monkeypatch.setattr(doctor, "_memory", lambda: (free, 16.0))
    (finding,) = doctor.memory()
    assert finding.level == level


@pytest.mark.parametrize("error", [AttributeError, ValueError])  # on Windows, on a Mac
def test_unknown_memory_is_no_failure(monkeypatch, error):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor.os, "sysconf", Mock(side_effect=error), raising=False)
    (finding,) = doctor.memory()
    assert finding.level == "WARN"
    assert "unknown before the set-up" in finding.text


def test_a_broken_pytorch_is_reported(monkeypatch):
    class Broken:
        def __getattr__(self, name):
            raise OSError("libtorch is missing")

    monkeypatch.setitem(sys.modules, "torch", Broken())
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: True)
    (finding,) = doctor.gpu()
    assert finding.level == "FAIL"
