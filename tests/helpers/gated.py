"""An exam, and saved answers to it, of which some are lost: what a gate compares."""

from dataclasses import replace

import numpy as np
from answers_made import card, flipped

from caplab.questions.exam import Exam, Question

SIZES = {"capitals": 100, "sums": 400}


def exam_of(sizes=SIZES, **changes):
    """An exam of so many questions on each capability, each a group of its own."""
    names = [name for name, n in sizes.items() for _ in range(n)]
    asked = [
        Question(name, f"{name}, question {n}?", ("one", "two", "three", "four"), n % 4)
        for n, name in enumerate(names)
    ]
    return Exam(tuple(replace(question, **changes) for question in asked), (), "mine")


def answers(exam, wrong=(), silent=()):
    """Answer an exam; some answers are wrong, and some are right and no longer said."""
    margins, said = np.full(len(exam), 3.0), np.full(len(exam), -0.2)
    said[list(silent)] = -9.0
    found = card(flipped(margins, list(wrong)), said, {"any": len(exam)}, "model")
    return replace(
        found,
        exam=exam.name,
        fingerprint=exam.fingerprint,
        capability=tuple(question.capability for question in exam.questions),
        group=tuple(question.group for question in exam.questions),
    )


def saved(folder, exam, wrong=(), silent=()):
    """Save an exam, answers before and answers after; return what one types for the gate."""
    exam.save(folder / "exam.jsonl")
    answers(exam).save(folder / "before.json")
    answers(exam, wrong, silent).save(folder / "after.json")
    names = [str(folder / name) for name in ("before.json", "after.json")]
    return ["gate", *names, f"--exam={folder / 'exam.jsonl'}"]


def kept(folder):
    """The content of every file in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
