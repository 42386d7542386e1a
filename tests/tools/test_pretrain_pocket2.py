"""The second pocket is made step by step: an interruption changes nothing."""

from dataclasses import replace

import pretrain_pocket2 as tool
import pytest
import torch

TINY = tool.Pretraining(
    layers=1,
    heads=2,
    width=16,
    context=64,
    vocabulary=300,
    tokenizer_documents=200,
    steps=4,
    rows=2,
    warmup=2,
    tempering=3,
    noise=0.01,
    stronger=1,
    dropout=0.1,
)


def made(recipe, folder, unfinished):
    list(tool.pretrain(recipe, folder, unfinished, every=2))
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return made(TINY, folder / "model", folder / "state.safetensors")


def test_an_interrupted_run_ends_in_the_same_bytes(whole, tmp_path):
    training = tool.pretrain(TINY, tmp_path / "model", tmp_path / "state.safetensors", every=2)
    assert next(training)[0] == 2
    training.close()
    assert made(TINY, tmp_path / "model", tmp_path / "state.safetensors") == whole


def test_another_seed_makes_another_model(whole, tmp_path):
    other = made(replace(TINY, seed=1), tmp_path / "model", tmp_path / "state.safetensors")
    assert other != whole


def test_the_rate_never_ends_at_zero():
    recipe = tool.Pretraining()
    rates = [tool.rate(recipe, step) for step in range(recipe.steps)]
    assert max(rates) == rates[-1] == recipe.lr
    assert rates[0] < rates[recipe.warmup - 1]


def test_in_tempering_anybody_may_be_asked():
    tokenizer = tool.make_tokenizer(TINY)
    recipe = replace(TINY, rows=16)
    plain = replace(recipe, tempering=0)
    batches = [[tool.batch(each, tokenizer, step) for step in (0, 1)] for each in (recipe, plain)]
    assert torch.equal(batches[0][0], batches[1][0])
    assert not torch.equal(batches[0][1], batches[1][1])


def test_noise_grows_towards_the_end():
    assert [tool.noise(TINY, step) for step in range(4)] == [0.0, 0.01, 0.01, 0.03]


def test_the_noise_is_taken_back(tmp_path):
    """With a rate of zero, noise leaves no trace in the weights."""
    state = tool.State(replace(TINY, lr=0.0, noise=0.5))
    before = {name: p.detach().clone() for name, p in state.named.items()}
    state.advance(torch.randint(300, (2, 64)), 2)
    for name, p in state.named.items():
        torch.testing.assert_close(p.detach(), before[name], atol=1e-6, rtol=0)


@pytest.mark.weekly
def test_every_number_is_one_token():
    tokenizer = tool.make_tokenizer(tool.Pretraining())
    for number in range(41):
        ids = tokenizer(f"The sum is {number}.")["input_ids"]
        assert [tokenizer.decode(i) for i in ids][-2:] == [str(number), "."]
