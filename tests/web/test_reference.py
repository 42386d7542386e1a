"""Every public name has an example in the reference, and each example runs."""

import doctest
import re

import pytest

import caplab as cl

PAGES = ("models", "measuring", "training", "watching", "study", "lessons")
EXAMPLE = re.compile(r"^```pycon\n(.*?)^```", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def test_every_public_name_has_an_example(root):
    texts = [(root / f"web/reference/{page}.md").read_text("utf-8") for page in PAGES]
    sections = re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", "\n".join(texts), re.M | re.S)
    with_example = {name for name, text in sections if name in "".join(EXAMPLE.findall(text))}
    listed = {name for name, _ in sections}
    assert listed == set(cl.__all__)
    made_by_others = {"Subject", "Exam", "Scorecard", "Report", "Run", "Point", "InTurn", "Atlas"}
    assert listed - with_example - made_by_others == set()


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(root, page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "\n".join(EXAMPLE.findall((root / f"web/reference/{page}.md").read_text("utf-8")))
    test = doctest.DocTestParser().get_doctest(text, {"cl": cl}, page, None, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)
