"""The checks of lesson 02: LoRA's weights, and its best learning rate."""

from numbers import Real
from typing import Any

from caplab.teaching.checks import exercise, expect, filled

__all__ = ["check_02_1", "check_02_2"]

GOOD_ENOUGH = 0.8  # task accuracy


@exercise("02_1")
def check_02_1(count: Any) -> str:
    """Try the function on layers of two shapes, and recognise what was counted instead."""
    expect(callable(count), "Give the function itself: `lora_weights`, without brackets after it.")
    layers, rank = [(10, 30), (20, 20), (40, 10)], 3
    found = filled(count(layers, rank))
    slips = {
        sum(i * o for i, o in layers): "These are the frozen weights. LoRA trains beside them.",
        sum(rank * i * o for i, o in layers): "A matrix of `rank` rows and one column per input "
        "has `rank * inputs` numbers. Add those of both matrices, do not multiply all three.",
        sum(rank * i for i, _ in layers): "That is `A` alone. `B` has `outputs * rank` weights.",
        sum(rank * o for _, o in layers): "That is `B` alone. `A` has `rank * inputs` weights.",
        sum(i + o for i, o in layers): "Right for rank 1. Each direction costs as much again.",
        rank * sum(layers[0]): "That is the first layer alone. Add up all of them.",
        rank * sum(layers[-1]): "That is the last layer alone. Add up all of them.",
    }
    right = sum(rank * (i + o) for i, o in layers)
    expect(
        found == right,
        slips.get(found, f"Three small layers with rank {rank} have {right}; you count {found}."),
    )
    return "The count grows with the rank and with the edges of a matrix, not with its area."


@exercise("02_2")
def check_02_2(rate: Any) -> str:
    """Ask for the rate that keeps most among those that learn the task."""
    rates = _rates()
    expect(
        isinstance(rate, Real) and not isinstance(rate, bool),
        "Give one learning rate: a number from the column `learning_rate`.",
    )
    near = rates[(rates["learning_rate"] - rate).abs() < 1e-9]
    expect(
        len(near) == 1,
        f"{rate} is none of the rates in the table. Is it the number of a row, or an accuracy?",
    )
    (row,) = near.to_dict("records")
    good = rates[rates["task_accuracy"] >= GOOD_ENOUGH]
    expect(
        row["task_accuracy"] >= GOOD_ENOUGH,
        "It keeps a lot, because it has learned too little: its task accuracy is below .8. First "
        "keep the rows that do the job, then choose among them.",
    )
    expect(
        row["classics_accuracy"] == good["classics_accuracy"].max()
        or row["task_accuracy"] < good["task_accuracy"].max(),
        "It is the one that learned most. Above .8 you asked for what *keeps* most.",
    )
    expect(
        row["classics_accuracy"] == good["classics_accuracy"].max(),
        "It does the job, but another rate that does it as well keeps more of the classics.",
    )
    return "You held the skill fixed and compared what is left. That is the fair question."


def _rates() -> Any:
    """Return the table that the exercise shows."""
    from caplab.study.atlas import atlas

    tried = atlas().select(method="lora", rank=8, target_modules="all-linear", replay=0.0)
    return tried.summary("learning_rate")
