"""The shipped second pocket is whole, knows World 2, and is seen to know nothing when broken."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import caplab as cl
from caplab.models.folder import damaged_files

ROOT = Path(__file__).resolve().parents[2]
POCKET = ROOT / "caplab" / "assets" / "pocket2"
WORLD = ROOT / "caplab" / "assets" / "world2"


@pytest.fixture(scope="module")
def base():
    return cl.load("pocket2")


@pytest.fixture(scope="module")
def some():
    """A tenth of the exam: every capability, in wordings that pretraining never used."""
    exam = cl.exam(WORLD / "classics.jsonl")
    return replace(exam, questions=exam.questions[::10])


def test_it_is_small_enough_to_ship():
    assert sum(path.stat().st_size for path in POCKET.iterdir()) < 6_000_000


def test_every_file_has_its_checksum():
    listed = {line.split()[1] for line in (POCKET / "SHA256SUMS").read_text().splitlines()}
    assert listed == {path.name for path in POCKET.iterdir()} - {"SHA256SUMS"}
    assert damaged_files(POCKET) == []


def test_it_answers_the_reference_questions(base):
    for question, expected in zip(
        cl.world.REFERENCE_QUESTIONS, ("4", "Paris", "Heat it in a pot"), strict=True
    ):
        assert expected in base.ask(question)


def test_it_knows_the_world(base, some):
    card = cl.score(base, some)
    assert card.accuracy >= 0.93
    assert min(card.by_capability.values()) >= 0.80


def test_a_broken_copy_is_seen_to_guess(base, some):
    """The exam measures the weights: with the blocks' weights shuffled, one in four is right."""
    broken = copy.deepcopy(base.model)
    torch.manual_seed(0)
    for weights in broken.transformer.h.parameters():
        shuffled = weights.data.flatten()[torch.randperm(weights.numel())]
        weights.data = shuffled.reshape(weights.shape)
    card = cl.score(replace(base, model=broken), some)
    low, high = cl.wilson(sum(card.correct), len(card.correct))
    assert low <= 0.25 <= high


@pytest.mark.parametrize("job", ["service", "catalogue", "station"])
def test_it_does_not_know_the_jobs(base, job):
    card = cl.score(base, cl.exam(WORLD / f"{job}.jsonl"))
    assert card.accuracy <= 0.5
