"""The world is closed, deterministic, and keeps its splits apart."""

import json
import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from caplab.questions import world

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pretraining():
    """A good slice of the endless pretraining text."""
    return list(islice(world.pretraining_documents("test"), 30_000))


@pytest.fixture(scope="module")
def exam():
    return list(world.classics())


def questions(exam, capability):
    return [row for row in exam if row["capability"] == capability and "prompt" in row]


def test_the_world_is_as_large_as_promised():
    assert len(world.facts("capitals")) >= 60
    assert len(world.facts("how-to")) >= 40
    service = world._asset("world.toml")["service"]
    assert len(service["menus"]) >= 12
    assert len(service["pages"]) >= 10


def test_the_text_depends_on_the_seed():
    first, again, other = (
        list(islice(world.pretraining_documents(seed), 200)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_pretraining_shows_no_exam_phrasing(pretraining, exam):
    text = "\n".join(pretraining)
    for row in exam:
        if "prompt" in row:
            asked = row["prompt"].removeprefix("Question: ").removesuffix("\nAnswer:")
            assert asked not in text


@pytest.mark.parametrize("capability", world.CAPABILITIES)
def test_exam_and_pretraining_share_no_template(capability):
    phrasings = world._asset("world.toml")[capability]
    assert not set(phrasings["exam"]) & {*phrasings["learn"], *phrasings["state"]}


def test_pretraining_shows_no_held_out_sum(pretraining):
    held_out = {frozenset(pair) for pair in world.splits()["sums"]}
    shown = {frozenset((int(a), int(b))) for a, b in sums_in(pretraining)}
    assert len(shown) > 2000
    assert not shown & held_out


def sums_in(documents):
    patterns = (r"(\d+) ?\+ ?(\d+)", r"(\d+) (?:plus|and) (\d+)", r"[Aa]dd (\d+) to (\d+)")
    for document in documents:
        for pattern in patterns:
            yield from re.findall(pattern, document)


def test_half_of_the_exams_sums_are_held_out(exam):
    held_out = {frozenset(pair) for pair in world.splits()["sums"]}
    asked = [
        frozenset(int(n) for n in re.findall(r"\d+", row["prompt"]))
        for row in questions(exam, "arithmetic")
    ]
    assert sum(pair in held_out for pair in asked) == len(asked) // 2


def test_pretraining_shows_no_exam_story(pretraining):
    assert not set(world.exam_stories()) & set(pretraining)


def test_every_question_has_four_choices(exam):
    for row in [row for row in exam if "prompt" in row] + list(world.task_questions()):
        assert len(set(row["choices"])) == 4
        assert 0 <= row["answer"] < 4


def test_every_exam_answer_is_the_worlds(exam):
    for row in questions(exam, "capitals"):
        (country,) = [c for c in world.facts("capitals") if c in row["prompt"]]
        assert row["choices"][row["answer"]] == world.facts("capitals")[country]


def test_every_word_has_one_opposite():
    pairs = world._asset("world.toml")["opposites"]["facts"]
    words = [*pairs, *pairs.values()]
    assert len(words) == len(set(words))


def test_the_reference_questions_are_asked(exam):
    prompts = " ".join(row["prompt"] for row in exam if "prompt" in row)
    assert all(asked in prompts for asked in ("2+2", "France", "boil water"))


def test_training_shows_no_held_out_reply():
    train = {row["completion"] for row in world.task_rows(held_out=False)}
    test = {row["completion"] for row in world.task_rows(held_out=True)}
    assert train
    assert test
    assert not train & test


def test_every_product_and_wish_is_on_both_sides():
    service = world._asset("world.toml")["service"]
    for side in (True, False):
        pairs = world._service_pairs(held_out=side)
        assert {product for product, _ in pairs} == set(service["menus"])
        assert {wish for _, wish in pairs} == set(service["pages"])


def test_pretraining_shows_nothing_of_the_task(pretraining):
    replies = {row["completion"].strip() for row in world.task_rows(held_out=False)}
    text = "\n".join(pretraining)
    assert not any(reply in text for reply in replies)


def test_pretraining_has_every_word_of_the_task(pretraining):
    known = set(" ".join(pretraining).replace('"', " ").replace("\n", " ").split())
    known |= {word.strip(".,:;?!") for word in known}
    rows = world.task_rows(held_out=False) + world.task_rows(held_out=True)
    words = {w.strip(".,:;?!") for r in rows for w in f"{r['prompt']} {r['completion']}".split()}
    assert {w for w in words if w not in known and w.lower() not in known} == set()


def test_one_word_does_not_decide_a_task_choice():
    """Knowing only the product, or only the wish, leaves two of the four choices."""
    for row in world.task_questions():
        menus = Counter(choice.split(",")[0] for choice in row["choices"])
        pages = Counter(choice.split(",")[1] for choice in row["choices"])
        assert sorted(menus.values()) == sorted(pages.values()) == [2, 2]


def test_the_task_comes_as_trl_splits():
    task = world.task()
    assert set(task) == {"train", "test"}
    assert task["train"].column_names == ["prompt", "completion"]
    replies = "\n".join(task["train"]["completion"])
    for reply in ("Let me check your account.", "30 days for most items."):
        assert reply in replies
    assert "Click Settings, then Account Recovery." in replies


def test_the_tool_makes_the_shipped_exams():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "build_exams.py", "--check"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_splits_file_is_small_and_plain():
    text = (ROOT / "caplab" / "assets" / "splits.json").read_text(encoding="utf-8")
    assert set(json.loads(text)) == {"sums", "service"}
