"""Write what lm-evaluation-harness writes with `--log_samples`."""

import json

from caplab.exam import Exam, Scorecard


def samples(exam: Exam, card: Scorecard) -> list[dict]:
    """The lines of a multiple-choice task, as lm_eval 0.4.13 writes them."""
    items = zip(exam.questions, card.loglikelihoods, card.correct, card.correct_norm, strict=True)
    return [
        {
            "doc_id": number,
            "doc": {"prompt": question.prompt},
            "target": str(question.answer),
            "arguments": {
                f"gen_args_{n}": {"arg_0": question.prompt, "arg_1": f" {choice}"}
                for n, choice in enumerate(question.choices)
            },
            "resps": [[[str(value), "False"]] for value in nats],
            "filtered_resps": [[str(value), "False"] for value in nats],
            "filter": "none",
            "metrics": ["acc", "acc_norm"],
            "acc": float(right),
            "acc_norm": float(right_norm),
        }
        for number, (question, nats, right, right_norm) in enumerate(items)
    ]


def graded(grades: list[int], metric: str = "exact_match") -> list[dict]:
    """The lines of a task with written answers."""
    return [
        {
            "doc_id": number,
            "doc": {"question": f"What is {number} + {number}?"},
            "target": str(2 * number),
            "arguments": {
                "gen_args_0": {"arg_0": f"{number} + {number} =", "arg_1": {"until": []}}
            },
            "resps": [["42"]],
            "filtered_resps": ["42"],
            "filter": "none",
            "metrics": [metric],
            metric: float(grade),
        }
        for number, grade in enumerate(grades)
    ]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
