"""Score the same questions through lm-evaluation-harness and through caplab, side by side.

    python benchmarks/score_vs_lm_eval.py [--model pocket] [--exam classics] [--rounds 7]

One process, one set of threads, the two in turn; medians. It fails if a log-likelihood differs by
more than 1e-4 or an accuracy at all. Needs lm-eval (`pip install lm-eval`).
"""

import argparse
import io
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import torch

import caplab as cl
from caplab.measuring import likelihood
from caplab.measuring.scorecard import Scorecard
from caplab.questions.exam import Exam

TASK = """
task: caplab_exam
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: answer
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
TOLERANCE = 1e-4


def harness(subject: cl.Subject, exam: Exam, batch: int, folder: Path) -> Callable[[], Any]:
    """Set the questions as a local task, and return the call that evaluates it."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    logging.disable(logging.WARNING)
    data = folder / "exam.jsonl"
    exam.save(data)
    (folder / "caplab_exam.yaml").write_text(TASK.format(data=json.dumps(str(data))))
    model = HFLM(pretrained=subject.model, tokenizer=subject.tokenizer, batch_size=batch)
    tasks = TaskManager(include_path=str(folder), include_defaults=False)

    def evaluate() -> Any:
        with redirect_stderr(io.StringIO()):  # its progress bars
            return simple_evaluate(
                model=model, tasks=["caplab_exam"], task_manager=tasks, bootstrap_iters=0
            )

    return evaluate


def requests(subject: cl.Subject, exam: Exam, batch: int) -> Callable[[], Any]:
    """Return the bare call inside: lm-eval's log-likelihoods, without task, data and statistics."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=subject.model, tokenizer=subject.tokenizer, batch_size=batch)
    pairs = [(q.prompt, f" {choice}") for q in exam.questions for choice in q.choices]
    made = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    return lambda: model.loglikelihood(made, disable_tqdm=True)


def first(subject: cl.Subject, exam: Exam) -> Scorecard:
    """Score as if the exam had never been seen: tokenise it again."""
    likelihood._plans.clear()
    return cl.score(subject, exam, progress=False)


def timed(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, float]]:
    """Run the calls in turn, once to warm up and then `rounds` times; return median seconds.

    By the clock, and of processor time: on a busy machine the latter is the fairer one.
    """
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            clock, processor = time.perf_counter(), sum(os.times()[:4])
            call()
            spent = time.perf_counter() - clock, sum(os.times()[:4]) - processor
            seconds[name] += [spent] if turn else []
    return {
        name: (median(clock for clock, _ in spent), median(cpu for _, cpu in spent))
        for name, spent in seconds.items()
    }


def differences(card: Scorecard, result: Any) -> dict[str, float]:
    """Compare what both found, item by item."""
    samples = sorted(result["samples"]["caplab_exam"], key=lambda sample: sample["doc_id"])
    theirs = [[pair[0] for pair in sample["filtered_resps"]] for sample in samples]
    pairs = zip(card.loglikelihoods, theirs, strict=True)
    found = result["results"]["caplab_exam"]
    return {
        "log-likelihood": max(abs(a - b) for pair in pairs for a, b in zip(*pair, strict=True)),
        "acc": abs(card.accuracy - found["acc,none"]),
        "acc_norm": abs(card.accuracy_norm - found["acc_norm,none"]),
    }


def table(seconds: dict[str, tuple[float, float]]) -> str:
    """Write the times as Markdown, each against the two ways of calling lm-eval."""
    (whole, _), (core, _) = list(seconds.values())[:2]
    lines = [
        "| what | seconds | processor seconds | against evaluate | against its log-likelihoods |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, (clock, cpu) in seconds.items():
        lines.append(
            f"| {name} | {clock:.3f} | {cpu:.3f} | {whole / clock:.1f} x | {core / clock:.1f} x |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--exam", default="classics")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=64, help="of lm-eval; 64 was its fastest")
    options = parser.parse_args()
    subject, whole = cl.load(options.model), cl.exam(options.exam)
    exam = Exam(whole.questions, (), whole.name)
    with tempfile.TemporaryDirectory() as folder:
        evaluate = harness(subject, exam, options.batch, Path(folder))
        calls = {
            "lm-eval, simple_evaluate": evaluate,
            "lm-eval, its log-likelihoods alone": requests(subject, exam, options.batch),
            "score, for the first time": lambda: first(subject, exam),
            "score, again": lambda: cl.score(subject, exam, progress=False),
            "score, again, with the exam's texts": lambda: cl.score(subject, whole, progress=False),
        }
        seconds = timed(calls, options.rounds)
        differ = differences(cl.score(subject, exam), evaluate())
    print(f"{subject}; {exam}; {torch.get_num_threads()} threads\n\n{table(seconds)}\n")
    print("largest difference: " + ", ".join(f"{name} {d:.1e}" for name, d in differ.items()))
    return int(differ["log-likelihood"] > TOLERANCE or differ["acc"] + differ["acc_norm"] > 0)


if __name__ == "__main__":
    sys.exit(main())
