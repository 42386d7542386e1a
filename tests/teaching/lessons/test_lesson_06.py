"""What the checks of lesson 06 say to typical answers."""

import torch
from answers import diagnoses


def mean_of_words(hidden, mask):
    weights = mask[:, :, None].to(hidden.dtype)
    return (weights * hidden).sum(1) / weights.sum(1)


def test_06_1_tells_padding_from_sums():
    diagnoses(
        "06_1",
        right=mean_of_words,
        wrong=[
            lambda hidden, mask: mask[:, None] @ hidden,
            lambda hidden, mask: hidden.mean(1),
            lambda hidden, mask: (mask[:, :, None] * hidden).sum(1),
            lambda hidden, mask: (mask[:, :, None] * hidden).mean(1),
            lambda hidden, mask: hidden.mean(2),
            lambda hidden, mask: -mean_of_words(hidden, mask),
            lambda hidden, mask: mean_of_words(hidden, mask).tolist(),
            mean_of_words(torch.ones(1, 2, 4), torch.ones(1, 2)),
        ],
    )


def test_06_2_tells_the_end_from_padding():
    diagnoses(
        "06_2",
        right=lambda ids, mask: ids.masked_fill(mask == 0, -100),
        wrong=[
            lambda ids, mask: ids,
            lambda ids, mask: ids.masked_fill(ids == 0, -100),
            lambda ids, mask: ids.masked_fill(mask == 1, -100),
            lambda ids, mask: ids.masked_fill_(mask == 0, -100),
            lambda ids, mask: ids.masked_fill(mask == 0, -1),
            lambda ids, mask: ids.masked_fill(mask == 0, -100).float(),
            lambda ids, mask: ids.tolist(),
        ],
    )
