"""The checks of lesson 04 tell typical mistakes apart."""

import random

from answers import diagnoses

import caplab as cl


def mix(new, old, share, total, seed=0):
    rng = random.Random(seed)
    replayed = round(share * total)
    rows = rng.sample(old, replayed) + rng.sample(new, total - replayed)
    rng.shuffle(rows)
    return rows


def test_04_1_wants_an_exact_shuffled_share():
    def on_top(new, old, share, total):
        return new[:total] + old[: round(share * total)]

    def empty_without_old(new, old, share, total):
        return mix(new, old, share, total) if share else []

    diagnoses(
        "04_1",
        right=mix,
        wrong=[
            0.25,
            lambda new, old, share, total: tuple(new[:total]),
            on_top,
            lambda new, old, share, total: mix(new, old, share * len(new) / total, total),
            lambda new, old, share, total: new[: total // 2],
            lambda new, old, share, total: new[:total],
            lambda new, old, share, total: mix(old, new, share, total),
            lambda new, old, share, total: mix(new, old, 0.2, total),
            lambda new, old, share, total: mix(new[:1] * 150, old, share, total),
            lambda new, old, share, total: old[:50] + new[:150],
            empty_without_old,
        ],
    )


def smallest_dose(table, start, budget):
    holds = table[start - table.classics_accuracy_low <= budget]
    return None if holds.empty else holds.replay.iloc[0]


def test_04_2_wants_the_smallest_sure_dose():
    def holding(table, start, budget):
        return table[start - table.classics_accuracy_low <= budget]

    diagnoses(
        "04_2",
        right=smallest_dose,
        wrong=[
            0.1,
            lambda table, start, budget: holding(table, start, budget).replay,
            lambda table, start, budget: holding(table, start, budget).index[0],
            lambda table, start, budget: table[
                start - table.classics_accuracy <= budget
            ].replay.iloc[0],
            lambda table, start, budget: holding(table, start, budget).replay.max(),
            lambda table, start, budget: table.replay.min(),
            lambda table, start, budget: table[
                start - table.classics_accuracy_low < budget
            ].replay.iloc[0],
            lambda table, start, budget: 0.15,
            lambda table, start, budget: smallest_dose(table, 1.0, budget),
        ],
    )


def test_04_waits_for_a_return_value():
    for exercise in ("04_1", "04_2"):
        assert cl.check(exercise, lambda *_: None).kind == "Not yet"
