"""The shipped pocket model is what its tool makes and what its card says."""

import hashlib
import json
import re
from pathlib import Path

import pretrain_pocket
import pytest
import torch

import caplab as cl

ROOT = Path(__file__).resolve().parents[2]
POCKET = ROOT / "caplab" / "assets" / "pocket"

TINY = pretrain_pocket.Pretraining(
    layers=1, heads=2, width=32, vocabulary=400, tokenizer_documents=300, steps=6, rows=2, warmup=2
)


@pytest.fixture(scope="module")
def base():
    return cl.load(str(POCKET))


@pytest.fixture(scope="module")
def card(base):
    return cl.score(base, cl.exam())


def test_the_model_is_small_enough_to_ship():
    assert sum(path.stat().st_size for path in POCKET.iterdir()) < 20_000_000


def test_it_loads_as_an_ordinary_hugging_face_folder():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(POCKET)
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert len(AutoTokenizer.from_pretrained(POCKET)) == model.config.vocab_size


def test_every_file_has_its_checksum():
    lines = (POCKET / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in map(str.split, lines)}
    files = {path.name for path in POCKET.iterdir()} - {"SHA256SUMS"}
    assert set(listed) == files
    for name, digest in listed.items():
        assert hashlib.sha256((POCKET / name).read_bytes()).hexdigest() == digest, name


def test_it_knows_the_world_in_phrasings_it_never_saw(card):
    assert card.accuracy >= 0.97
    assert min(card.by_capability.values()) >= 0.90


def test_it_adds_numbers_that_pretraining_never_added(card):
    held_out = {frozenset(pair) for pair in cl.world.splits()["sums"]}
    asked = [
        frozenset(map(int, re.findall(r"\d+", question.prompt))) for question in cl.exam().questions
    ]
    right = [
        correct
        for correct, numbers, name in zip(card.correct, asked, card.capability, strict=True)
        if name == "arithmetic" and numbers in held_out
    ]
    assert len(right) == 30
    assert sum(right) / len(right) >= 0.85


def test_it_answers_the_three_reference_questions(base):
    answers = [base.ask(question) for question in cl.world.REFERENCE_QUESTIONS]
    for answer, expected in zip(answers, ("4", "Paris", "Heat it in a pot"), strict=True):
        assert expected in answer


def test_it_guesses_at_the_task_before_any_tuning(base):
    card = cl.score(base, cl.exam("task"))
    low, high = cl.wilson(sum(card.correct), len(card.correct))
    assert low <= 0.25 <= high


def test_the_cards_table_is_what_score_measures(card):
    text = (POCKET / "README.md").read_text(encoding="utf-8")
    for name, accuracy in card.by_capability.items():
        assert f"| {name} | {card.capability.count(name)} | {accuracy:.3f} |" in text


def test_the_tool_makes_the_shipped_tokenizer(tmp_path):
    pretrain_pocket.make_tokenizer(pretrain_pocket.Pretraining()).save_pretrained(tmp_path)
    made = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert made == json.loads((POCKET / "tokenizer.json").read_text(encoding="utf-8"))


def test_an_interrupted_pretraining_ends_with_the_same_weights(tmp_path):
    whole = list(pretrain_pocket.pretrain(TINY, tmp_path / "whole", tmp_path / "a.safetensors", 2))
    for step, _ in pretrain_pocket.pretrain(TINY, tmp_path / "cut", tmp_path / "b.safetensors", 2):
        if step == 4:
            break
    rest = list(pretrain_pocket.pretrain(TINY, tmp_path / "cut", tmp_path / "b.safetensors", 2))
    assert [step for step, _ in whole] == [2, 4, 6]
    assert [step for step, _ in rest] == [6]
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_pretraining_batches_do_not_depend_on_what_came_before():
    tokenizer = pretrain_pocket.make_tokenizer(TINY)
    fifth = pretrain_pocket.batch(TINY, tokenizer, 5)
    pretrain_pocket.batch(TINY, tokenizer, 4)
    assert torch.equal(fifth, pretrain_pocket.batch(TINY, tokenizer, 5))
    assert fifth.shape == (TINY.rows, TINY.context)
