"""What is solved is kept: privately, whole, across kernels, and never at a lesson's cost."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import caplab as cl
from caplab.support.errors import BadInput
from caplab.teaching import progress as kept
from caplab.teaching.lessons import lesson, lessons

ROOT = Path(__file__).resolve().parents[2]
CODES = {0: "ship", 3: "ask"}


def decide(code):
    return CODES.get(code, "stop")


@pytest.fixture
def file():
    """The file of this test's learner; tests/conftest.py names it."""
    path = kept.progress_file()
    path.parent.mkdir(parents=True)
    return path


def solve(*names):
    for name in names:
        kept.exercise_solved(name)


def counts(number):
    (one,) = [each for each in cl.progress().done if each.number == number]
    return str(one.exercises), str(one.questions)


# ---------------------------------------------------------------- what is kept


def test_nothing_is_written_before_something_is_solved():
    assert counts("07") == ("0 of 3", "0 of 5")
    assert not kept.progress_file().exists()


def test_a_right_answer_is_kept_and_a_wrong_one_is_not():
    cl.check("07_1", lambda code: "ship")
    assert counts("07")[0] == "0 of 3"
    assert cl.check("07_1", decide).right
    assert counts("07")[0] == "1 of 3"


def test_a_quiz_counts_once_its_answer_is_right():
    questions = lesson("00").quiz
    letters = [next("ABC"[at] for at, one in enumerate(q.choices) if one.right) for q in questions]
    wrong = next(letter for letter in "ABC" if letter != letters[1])
    cl.quiz("00").answer(wrong, 2)
    assert counts("00")[1] == "0 of 3"
    for _ in range(2):
        cl.quiz("00", 2).answer(letters[1])
    assert counts("00")[1] == "1 of 3"
    assert list(json.loads(kept.progress_file().read_text())["questions"]) == ["00_2"]


def test_another_kernel_sees_it():
    solve("07_1")
    program = "import caplab as cl; print(cl.progress('07'))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "1 of 3 exercises" in said.stdout
    assert re.search(r"course so far: 1 of \d+ exercises", said.stdout)


def test_two_kernels_lose_nothing_of_each_other():
    program = "import sys; from caplab.teaching.progress import exercise_solved as solved\n"
    program += "for n in range(40): solved(f'{sys.argv[1]}_{n}')"
    started = [subprocess.Popen([sys.executable, "-c", program, who]) for who in ("a", "b", "c")]
    assert [one.wait(timeout=60) for one in started] == [0, 0, 0]
    assert len(json.loads(kept.progress_file().read_text())["exercises"]) == 120


def test_only_its_owner_may_read_it():
    before = os.umask(0)
    try:
        solve("07_1")
    finally:
        os.umask(before)
    path = kept.progress_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    others = [one for one in path.parent.iterdir() if stat.S_IMODE(one.stat().st_mode) & 0o077]
    assert others == []


def test_it_holds_names_and_days_only():
    cl.check("07_1", decide)
    found = json.loads(kept.progress_file().read_text())
    (day,) = found["exercises"].values()
    assert found == {"format": kept._FORMAT, "exercises": {"07_1": day}, "questions": {}}
    assert len(day) == len("2026-01-31")


def test_a_write_that_fails_leaves_the_earlier_file(monkeypatch):
    solve("07_1")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept.os, "write", full)
    solve("07_2")
    assert "No space left" in cl.progress().trouble
    assert counts("07")[0] == "1 of 3"
    assert [one.suffix for one in kept.progress_file().parent.iterdir()].count("") == 0


BROKEN = [b"", b"{", b"[]", b'{"format": 1}', b"\xff\xfe", b"null"]
BROKEN += [b'{"format": "caplab progress 1", "exercises": ["07_1"], "questions": {}}']


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_file_is_put_aside_and_said_once(file, content):
    file.write_bytes(content)
    assert "put aside as progress.json.broken" in cl.progress().trouble
    assert file.with_name("progress.json.broken").read_bytes() == content
    assert cl.progress().trouble == ""
    solve("07_1")
    assert counts("07")[0] == "1 of 3"


def test_a_lesson_goes_on_where_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CAPLAB_PROGRESS", str(tmp_path / "file/progress.json"))
    assert cl.check("07_1", decide).right
    assert "What you solved last was not kept" in repr(cl.progress("07"))


def test_a_lock_that_nobody_gives_back_does_not_stop_a_lesson(file, monkeypatch):
    from filelock import FileLock

    monkeypatch.setattr(kept, "_PATIENCE", 0.05)
    with FileLock(file.with_suffix(".lock")):
        solve("07_1")
    assert "another kernel is writing" in cl.progress().trouble


def test_what_is_forgotten_is_gone():
    solve("07_1")
    cl.progress().forget()
    assert not kept.progress_file().exists()
    assert counts("07")[0] == "0 of 3"


def test_an_exercise_that_is_no_longer_asked_is_left_out():
    solve("07_1", "07_99", "99_1")
    assert counts("07")[0] == "1 of 3"


def test_the_usual_place_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.delenv("CAPLAB_PROGRESS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert kept.progress_file() == tmp_path / "caplab/progress.json"


# ---------------------------------------------------------------- what is shown


def test_a_strip_shows_its_lesson_in_dots_and_the_course_in_numbers():
    solve("07_1")
    page = cl.progress("07")._repr_html_()
    assert 'aria-label="exercises: 1 of 3"' in page
    assert "exercises ●○○" in page
    assert "05 Catch it early" not in page
    assert re.search(r"course so far: 1 of \d+ exercises solved", page)


def test_a_lesson_that_is_not_there_is_said():
    with pytest.raises(BadInput, match="There is no lesson '7'"):
        cl.progress("7")


def test_titles_are_those_of_the_lessons():
    heads = [path.read_text("utf-8").split("---")[1] for path in ROOT.glob("lessons/[0-9]*.md")]
    assert sorted(yaml.safe_load(head)["title"] for head in heads) == sorted(
        lesson(number).title for number in lessons()
    )
