"""The checks of the first lesson know the typical slips."""

from answers import diagnoses

import caplab as cl


def test_00_1_tells_answers_from_questions():
    wrong = [3, " ", "What is the capital of Japan?", "Paris."]
    diagnoses("00_1", right="Tokyo.", wrong=wrong)


def test_00_1_accepts_what_another_model_says():
    assert cl.check("00_1", "I do not know.").right


def test_00_2_says_what_was_counted_instead():
    wrong = [
        len,
        {"capitals": 60},
        lambda exam: [len(exam.subset(name)) for name in exam.capabilities],
        lambda exam: {name: len(exam) for name in exam.capabilities},
        lambda exam: {name: exam.subset(name) for name in exam.capabilities},
        lambda exam: {question.prompt: 1 for question in exam.questions},
    ]
    right = lambda exam: {name: len(exam.subset(name)) for name in exam.capabilities}  # noqa: E731
    diagnoses("00_2", right=right, wrong=wrong)
