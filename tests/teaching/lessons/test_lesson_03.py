"""The checks of lesson 03 tell typical mistakes apart."""

from answers import diagnoses

import caplab as cl


def left_at(curve, level):
    reached = curve[curve.task_accuracy >= level]
    return None if reached.empty else reached.classics_accuracy.iloc[0]


def safe(table, start, budget):
    return table[start - table.classics_accuracy <= budget]


def best_rate(table, start, budget):
    rows = safe(table, start, budget)
    return None if rows.empty else rows.loc[rows.task_accuracy.idxmax(), "learning_rate"]


def test_03_1_wants_the_first_looks_classics():
    def strictly(curve, level):
        reached = curve[curve.task_accuracy > level]
        return None if reached.empty else reached.classics_accuracy.iloc[0]

    diagnoses(
        "03_1",
        right=left_at,
        wrong=[
            0.7,
            lambda curve, level: curve[curve.task_accuracy >= level],
            lambda curve, level: curve[curve.task_accuracy >= level].step.iloc[0],
            lambda curve, level: curve[curve.task_accuracy >= level].task_accuracy.iloc[0],
            lambda curve, level: curve[curve.task_accuracy >= level].classics_accuracy.iloc[-1],
            lambda curve, level: curve.classics_accuracy.iloc[0],
            strictly,
            lambda curve, level: left_at(curve, min(level, 0.9)),
        ],
    )


def test_03_2_wants_the_best_within_budget():
    def never_none(table, start, budget):
        rows = safe(table, start, budget)
        return 0.0 if rows.empty else best_rate(table, start, budget)

    def strictly(table, start, budget):
        rows = table[start - table.classics_accuracy < budget]
        return None if rows.empty else rows.loc[rows.task_accuracy.idxmax(), "learning_rate"]

    diagnoses(
        "03_2",
        right=best_rate,
        wrong=[
            3e-4,
            lambda table, start, budget: safe(table, start, budget).learning_rate,
            lambda table, start, budget: safe(table, start, budget).task_accuracy.idxmax(),
            lambda table, start, budget: safe(table, start, budget).task_accuracy.max(),
            lambda table, start, budget: table.loc[table.task_accuracy.idxmax(), "learning_rate"],
            lambda table, start, budget: table.loc[
                table.classics_accuracy.idxmax(), "learning_rate"
            ],
            lambda table, start, budget: safe(table, start, budget).learning_rate.max(),
            lambda table, start, budget: 0.5,
            strictly,
            never_none,
        ],
    )


def test_03_waits_for_a_return_value():
    for exercise in ("03_1", "03_2"):
        assert cl.check(exercise, lambda *_: None).kind == "Not yet"


def test_03_asks_the_reference_question():
    right = [
        choice.text for asked in cl.quiz("03").questions for choice in asked.choices if choice.right
    ]
    assert any("Capability regression" in text and "lower learning rate" in text for text in right)
