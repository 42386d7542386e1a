"""The shipped pocket model is what its tool makes and what its card says."""

import json
import re
from pathlib import Path

import pretrain_pocket
import pytest
import torch

import caplab as cl
from caplab.models.folder import damaged_files

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


def test_transformers_loads_it_too():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(POCKET)
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert len(AutoTokenizer.from_pretrained(POCKET)) == model.config.vocab_size


def test_every_file_has_its_checksum():
    listed = {line.split()[1] for line in (POCKET / "SHA256SUMS").read_text().splitlines()}
    assert listed == {path.name for path in POCKET.iterdir()} - {"SHA256SUMS"}
    assert damaged_files(POCKET) == []


def test_it_knows_the_world_in_new_phrasings(card):
    assert card.accuracy >= 0.97
    assert min(card.by_capability.values()) >= 0.90


def test_it_adds_numbers_it_never_saw(card):
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


def test_it_answers_the_reference_questions(base):
    answers = [base.ask(question) for question in cl.world.REFERENCE_QUESTIONS]
    for answer, expected in zip(answers, ("4", "Paris", "Heat it in a pot"), strict=True):
        assert expected in answer


def test_it_only_guesses_at_the_task(base):
    card = cl.score(base, cl.exam("task"))
    low, high = cl.wilson(sum(card.correct), len(card.correct))
    assert low <= 0.25 <= high


def test_its_card_says_what_score_measures(card):
    text = (POCKET / "README.md").read_text(encoding="utf-8")
    for name, accuracy in card.by_capability.items():
        assert f"| {name} | {card.capability.count(name)} | {accuracy:.3f} |" in text


def test_the_tool_makes_its_tokenizer(tmp_path):
    pretrain_pocket.make_tokenizer(pretrain_pocket.Pretraining()).save_pretrained(tmp_path)
    made = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert made == json.loads((POCKET / "tokenizer.json").read_text(encoding="utf-8"))


def test_an_interrupted_pretraining_goes_on(tmp_path):
    whole = list(pretrain_pocket.pretrain(TINY, tmp_path / "whole", tmp_path / "a.safetensors", 2))
    for step, _ in pretrain_pocket.pretrain(TINY, tmp_path / "cut", tmp_path / "b.safetensors", 2):
        if step == 4:
            break
    rest = list(pretrain_pocket.pretrain(TINY, tmp_path / "cut", tmp_path / "b.safetensors", 2))
    assert [step for step, _ in whole] == [2, 4, 6]
    assert [step for step, _ in rest] == [6]
    one, other = (tmp_path / name / "model.safetensors" for name in ("whole", "cut"))
    assert one.read_bytes() == other.read_bytes()


def test_a_batch_depends_on_its_step_alone():
    tokenizer = pretrain_pocket.make_tokenizer(TINY)
    fifth = pretrain_pocket.batch(TINY, tokenizer, 5)
    pretrain_pocket.batch(TINY, tokenizer, 4)
    assert torch.equal(fifth, pretrain_pocket.batch(TINY, tokenizer, 5))
    assert fifth.shape == (TINY.rows, TINY.context)
