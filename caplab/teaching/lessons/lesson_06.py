"""The checks of lesson 06: a mean without padding, and labels without padding."""

from typing import Any

from caplab.teaching.checks import exercise, expect, filled

__all__ = ["check_06_1", "check_06_2"]


@exercise("06_1")
def check_06_1(mean_of_words: Any) -> str:
    """Ask for the mean of the real tokens, one row for each text."""
    import torch

    expect(callable(mean_of_words), "Give the function itself: its name, without brackets.")
    hidden = torch.tensor([[[1.0, 8.0], [3.0, 4.0], [9.0, 9.0]], [[2.0, 0.0]] * 3])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])  # (texts, tokens)
    try:
        means = filled(mean_of_words(hidden, mask))
    except RuntimeError as error:
        expect(
            "Long" not in str(error),
            "`Float` met `Long` again. Turn the mask into the type of the vectors with "
            "`mask.to(hidden.dtype)`.",
        )
        raise
    expect(isinstance(means, torch.Tensor), "Return a tensor, with one row for each text.")
    expect(
        means.shape == (2, 2),
        f"For 2 texts of width 2 the result has the shape (2, 2); yours has {tuple(means.shape)}. "
        "The tokens are dimension 1.",
    )
    padded, total = hidden.mean(1), (mask[:, :, None] * hidden).sum(1)
    expect(not means.allclose(padded), "The padding is in your mean: leave it out with the mask.")
    expect(not means.allclose(total), "That is the sum. Divide it by the number of real tokens.")
    expect(
        not means.allclose(total / 3),
        "You divide by the length of the row, padding included. Count the real tokens: "
        "the sum of the mask.",
    )
    expect(
        means.allclose(total / mask.sum(1, keepdim=True)),
        "The first text has the vectors (1, 8) and (3, 4), so its mean is (2, 6); "
        f"yours is {tuple(round(value, 2) for value in means[0].tolist())}.",
    )
    return "Padding no longer changes anything, however long the longest text is."


@exercise("06_2")
def check_06_2(labels_for: Any) -> str:
    """Ask for labels that hide the padding but not the ends of texts."""
    import torch

    expect(callable(labels_for), "Give the function itself: its name, without brackets.")
    ids = torch.tensor([[7, 5, 0, 0], [3, 4, 6, 0]])  # 0 ends a text, and pads
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    given = ids.clone()
    labels = filled(labels_for(given, mask))
    expect(isinstance(labels, torch.Tensor), "Return a tensor of the same shape as `ids`.")
    expect(
        torch.equal(given, ids),
        "You changed `ids` itself, and the model would read -100 as a word. Work on a copy: "
        "`masked_fill` makes one, `masked_fill_` does not.",
    )
    expect(not torch.equal(labels, ids), "Nothing is hidden yet: padding has to become -100.")
    expect(
        not torch.equal(labels, ids.masked_fill(ids == 0, -100)),
        "The ends of the texts are hidden as well. They have the same id as padding: "
        "go by the mask, not by the id.",
    )
    expect(
        not torch.equal(labels, ids.masked_fill(mask == 1, -100)),
        "The other way round: the mask is 1 where a token is real.",
    )
    expect(
        torch.equal(labels, ids.masked_fill(mask == 0, -100)),
        f"For the ids {ids[0].tolist()} with the mask {mask[0].tolist()} the labels are "
        f"[7, 5, 0, -100]; yours are {labels[0].tolist()}.",
    )
    expect(not labels.is_floating_point(), "Labels are token ids: they have to be `Long`.")
    return "The padding is hidden, and each text still teaches where it ends."
