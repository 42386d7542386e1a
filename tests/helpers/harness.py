"""Write what lm-evaluation-harness writes with `--log_samples`."""

import json

from caplab.measuring.lm_eval import _sample
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam


def samples(exam: Exam, card: Scorecard) -> list[dict]:
    """The lines of one multiple-choice task."""
    return [_sample(n, question, card, n) for n, question in enumerate(exam.questions)]


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
