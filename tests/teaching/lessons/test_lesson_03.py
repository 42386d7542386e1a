"""The checks of lesson 03 tell typical mistakes apart."""

from answers import diagnoses

import caplab as cl


def left_at(curve, level):
    reached = curve[curve.task >= level]
    return None if reached.empty else reached.classics.iloc[0]


def safe(table, start, budget):
    return table[start - table.classics <= budget]


def best_rate(table, start, budget):
    rows = safe(table, start, budget)
    return None if rows.empty else rows.loc[rows.task.idxmax(), "learning_rate"]


def test_03_1_asks_for_the_first_look_and_for_the_classics():
    def strictly(curve, level):
        reached = curve[curve.task > level]
        return None if reached.empty else reached.classics.iloc[0]

    diagnoses(
        "03_1",
        right=left_at,
        wrong=[
            0.7,
            lambda curve, level: curve[curve.task >= level],
            lambda curve, level: curve[curve.task >= level].step.iloc[0],
            lambda curve, level: curve[curve.task >= level].task.iloc[0],
            lambda curve, level: curve[curve.task >= level].classics.iloc[-1],
            lambda curve, level: curve.classics.iloc[0],
            strictly,
            lambda curve, level: left_at(curve, min(level, 0.9)),
        ],
    )


def test_03_2_asks_for_the_most_learned_within_the_budget():
    def never_none(table, start, budget):
        rows = safe(table, start, budget)
        return 0.0 if rows.empty else best_rate(table, start, budget)

    def strictly(table, start, budget):
        rows = table[start - table.classics < budget]
        return None if rows.empty else rows.loc[rows.task.idxmax(), "learning_rate"]

    diagnoses(
        "03_2",
        right=best_rate,
        wrong=[
            3e-4,
            lambda table, start, budget: safe(table, start, budget).learning_rate,
            lambda table, start, budget: safe(table, start, budget).task.idxmax(),
            lambda table, start, budget: safe(table, start, budget).task.max(),
            lambda table, start, budget: table.loc[table.task.idxmax(), "learning_rate"],
            lambda table, start, budget: table.loc[table.classics.idxmax(), "learning_rate"],
            lambda table, start, budget: safe(table, start, budget).learning_rate.max(),
            lambda table, start, budget: 0.5,
            strictly,
            never_none,
        ],
    )


def test_03_an_empty_function_is_not_yet_an_answer():
    for exercise in ("03_1", "03_2"):
        assert cl.check(exercise, lambda *_: None).kind == "Not yet"


def test_03_asks_the_question_of_the_reference_lesson():
    right = [
        choice.text for asked in cl.quiz("03").questions for choice in asked.choices if choice.right
    ]
    assert any("Capability regression" in text and "lower learning rate" in text for text in right)
