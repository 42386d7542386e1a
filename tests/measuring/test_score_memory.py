"""How much memory a large model's scores take, by the arithmetic of tensors without content."""

import meta_memory
import pytest
import torch
from meta_memory import GIB
from transformers import LlamaConfig, MistralConfig, Qwen2Config

from caplab.measuring import likelihood
from caplab.measuring.likelihood import _begin, _surprise
from caplab.measuring.trees import Batch, Reading, grow, pack

SEVEN_BILLION = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}
MISTRAL = SEVEN_BILLION | {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
MODELS = {
    "qwen2, 152k words": Qwen2Config(vocab_size=152064, **SEVEN_BILLION),
    "llama, 128k words": LlamaConfig(vocab_size=128256, **MISTRAL | {"num_hidden_layers": 28}),
    "mistral, 32k words": MistralConfig(vocab_size=32768, **MISTRAL, sliding_window=None),
}
TEXT = Batch.of([grow([Reading(list(range(2001)), 1, 0)])])  # one row of 2,000 tokens


@pytest.fixture(autouse=True)
def fused(monkeypatch):
    """Attention as the kernels of real devices compute it: without the matrix of all pairs."""

    def attention(query, key, value, attn_mask=None, **_):
        seen = (query.shape[-2], key.shape[-2])
        assert attn_mask is None or attn_mask.shape[-2:] == seen
        return torch.empty_like(query)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)


def peak(model, batches, begin=()):
    """The most bytes that are alive while these batches are read."""
    sharing = likelihood.reads_trees(model)
    with meta_memory.Tally(model) as tally, torch.no_grad():
        read = _begin(model, begin)
        for batch in batches:
            _surprise(model, batch, sharing, read)
    return tally.peak


def choices(sharing, length=128, count=400):
    """Rows of short questions: as many as one forward pass reads."""
    readings = [Reading([*range(n, n + 16), 7, 8], 16, n) for n in range(count)]
    rows = list(pack(readings, sharing))
    return rows[: max(1, length // len(rows[0].tokens))]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_seven_billion_weights_fit_in_16_gb(name):
    model, weights = meta_memory.model(MODELS[name])
    sharing = likelihood.reads_trees(model)
    room = min(16384, likelihood._LOGITS // model.config.vocab_size)  # of a GPU
    begin = tuple(range(300)) if sharing else ()
    asked = Batch.of(choices(sharing, room), begin)
    needed = weights + peak(model, [asked], begin)
    needed = max(needed, weights + peak(model, [TEXT]))
    assert 13 * GIB < needed < 15.2 * GIB, f"{needed / GIB:.2f} GiB"


def test_a_float_copy_of_all_logits_would_show(monkeypatch):
    model, _ = meta_memory.model(MODELS["qwen2, 152k words"])
    bounded = peak(model, [TEXT])
    monkeypatch.setattr(likelihood, "_PRECISE", 2**40)
    monkeypatch.setattr(likelihood, "_LOGITS", 2**40)
    whole = peak(model, [TEXT])
    assert whole > 2000 * 152064 * 10  # twice in full precision, and once as it is
    assert bounded < whole / 4


def test_what_is_read_before_is_kept_once():
    model, _ = meta_memory.model(MODELS["llama, 128k words"])
    rows = Batch.of(choices(True, 512), tuple(range(4000)))
    cache = 4000 * 2 * 28 * 8 * 128 * 2  # bytes of keys and values, of one row
    assert peak(model, [rows, rows], tuple(range(4000))) < cache + GIB
