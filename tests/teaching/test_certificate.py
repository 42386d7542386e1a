"""The certificate says what was solved, and loads nothing."""

import re

import pytest

import caplab as cl
from caplab.support.errors import BadInput
from caplab.teaching.lessons import lesson, lessons
from caplab.teaching.progress import exercise_solved, question_answered


def page(tmp_path, name="Ada"):
    path = tmp_path / "certificate.html"
    cl.progress().certificate(name, path)
    return path.read_text("utf-8")


def test_it_says_who_solved_what(tmp_path):
    exercise_solved("01_2")
    question_answered("01", 3)
    made = page(tmp_path)
    assert "<b>Ada</b> solved a part of the course" in made
    cells = re.findall(r"<tr><td>01 [^<]*</td>(.*?)</tr>", made)
    assert ">1 of 3<" in cells[0]
    assert ">1 of 6<" in cells[0]
    assert "worked solutions are open to all" in " ".join(made.split())


def test_all_of_it_is_the_whole_course(tmp_path):
    for number in lessons():
        for name in lesson(number).hints:
            exercise_solved(name)
        for place in range(len(lesson(number).quiz)):
            question_answered(number, place + 1)
    assert "solved the whole course" in page(tmp_path)


def test_it_is_one_page_that_loads_nothing_and_runs_nothing(tmp_path):
    exercise_solved("01_2")
    made = page(tmp_path, '<script>alert("x")</script>')
    assert "<script" not in made
    assert "&lt;script&gt;" in made
    assert not re.search(r"(src|href)=|https?:|url\(", made)
    assert "default-src 'none'" in made


def test_nothing_solved_is_nothing_to_certify(tmp_path):
    with pytest.raises(BadInput, match="Nothing is solved yet"):
        page(tmp_path)
    assert list(tmp_path.iterdir()) == []
