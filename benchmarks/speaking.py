"""Let a model answer the same prompts through lm-evaluation-harness and through caplab.

    python benchmarks/speaking.py [--model pocket] [--prompts 200] [--tokens 32] [--rounds 3]

One process, one set of threads, the two in turn; medians. The harness answers by `generate_until`
at whichever batch size is its fastest here. Ours is timed to the end (early stop off), and as
`score` asks it (a row stops where its verdict is decided). It fails where an answer differs before
ours stops, or a verdict at all. Needs lm-eval (`pip install lm-eval`).
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import torch

import caplab as cl
from caplab.measuring.speaking import speak
from caplab.models.chat import as_asked
from caplab.questions.exam import Question

BATCHES = (1, 8, 16, 32, 64, 128, 200)  # of the harness; the fastest is taken


def spoken(exam: cl.Exam, count: int, tokens: int) -> list[Question]:
    """Ask the exam's questions to be answered: right is what contains the right choice."""
    made = []
    for asked in exam.questions:
        rules = asked.expect or {"contains": [asked.choices[asked.answer or 0]]}
        prompt = {"messages": asked.messages} if asked.messages else {"prompt": asked.prompt}
        made.append(Question(asked.capability, expect=rules, max_new_tokens=tokens, **prompt))
    return [made[n * len(made) // count] for n in range(count)]


def harness(
    subject: cl.Subject, questions: Sequence[Question], tokens: int, batch: int
) -> Callable[[], list[str]]:
    """Return the call of lm-eval's `generate_until` for these prompts."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    logging.disable(logging.WARNING)
    model = HFLM(pretrained=subject.model, tokenizer=subject.tokenizer, batch_size=batch)
    settings = {"until": [], "do_sample": False, "max_gen_toks": tokens}
    texts = [as_asked(subject, question) for question in questions]
    made = [Instance("generate_until", {}, (text, settings), n) for n, text in enumerate(texts)]

    def answer() -> list[str]:
        found: list[str] = model.generate_until(made, disable_tqdm=True)
        return [text.strip() for text in found]

    return answer


Spent = tuple[float, float]  # seconds by the clock, and of processor time


def timed(call: Callable[[], list[str]]) -> tuple[list[str], Spent]:
    """Time one call; on a busy machine the processor's time is the fairer one."""
    clock, processor = time.perf_counter(), sum(os.times()[:4])
    found = call()
    return found, (time.perf_counter() - clock, sum(os.times()[:4]) - processor)


def main() -> int:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--exam", default="classics")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=32, help="of an answer at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, help="of the harness (default: its fastest)")
    parser.add_argument("--quick", action="store_true", help="12 prompts, once: for tests")
    options = parser.parse_args()
    if options.quick:
        options.prompts, options.rounds, options.batch = 12, 1, 8
    subject = cl.load(options.model)
    questions = spoken(cl.exam(options.exam), options.prompts, options.tokens)

    trials = {}
    for batch in [options.batch] if options.batch else BATCHES:
        _, trials[batch] = timed(harness(subject, questions, options.tokens, batch))
    best = min(trials, key=lambda batch: trials[batch][1])
    calls: dict[str, Callable[[], list[str]]] = {
        f"lm-eval, batches of {best}": harness(subject, questions, options.tokens, best),
        "speak, to the end": lambda: speak(subject, questions, early=False, progress=False),
        "speak, until the verdict": lambda: speak(subject, questions, progress=False),
    }
    answers: dict[str, list[str]] = {}
    spent: dict[str, list[Spent]] = {name: [] for name in calls}
    for _ in range(options.rounds):
        for name, call in calls.items():
            answers[name], took = timed(call)
            spent[name].append(took)
    print(f"{subject}; {len(questions)} prompts, {torch.get_num_threads()} threads\n")
    print(table(spent))
    tried = ", ".join(f"{batch}: {cpu:.2f} s" for batch, (_, cpu) in trials.items())
    print(f"\nlm-eval by batch size, processor seconds: {tried}")
    return compare(questions, *answers.values())


def table(spent: dict[str, list[Spent]]) -> str:
    """Write the medians as Markdown, each beside those of lm-eval."""
    lines = ["| what | seconds | x as fast | processor seconds | x as fast |"]
    lines.append("| --- | --- | --- | --- | --- |")
    first: list[float] = []
    for name, found in spent.items():
        clock, cpu = (median(column) for column in zip(*found, strict=True))
        first = first or [clock, cpu]
        ratios = f"{first[0] / clock:.1f}", f"{first[1] / max(cpu, 0.01):.1f}"
        lines.append(f"| {name} | {clock:.2f} | {ratios[0]} | {cpu:.2f} | {ratios[1]} |")
    return "\n".join(lines)


def compare(
    questions: Sequence[Question], theirs: list[str], whole: list[str], early: list[str]
) -> int:
    """Print how many answers and verdicts differ; return 1 where any does that must not."""
    rules = [question.expect for question in questions if question.expect]
    differ = sum(a != b for a, b in zip(theirs, whole, strict=True))
    before = sum(not a.startswith(b) for a, b in zip(theirs, early, strict=True))
    pairs = [(r.meets(a), r.meets(b)) for r, a, b in zip(rules, theirs, early, strict=True)]
    verdicts = sum(a != b for a, b in pairs)
    print(
        f"answers that differ: {differ} to the end, {before} up to where ours stops; "
        f"verdicts that differ: {verdicts}; right: {sum(b for _, b in pairs)} of {len(rules)}"
    )
    return int(bool(before or verdicts))


if __name__ == "__main__":
    sys.exit(main())
