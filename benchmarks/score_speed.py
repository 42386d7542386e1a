"""Score short questions of four choices, beside the model's own passes over the same tokens.

    python benchmarks/score_speed.py [--model smollm2] [--questions 1000] [--rounds 1] [--plain]

The reference reads as many tokens as there are different ones: what begins alike counts once in the
whole exam. It reads them as full batches of plain rows, without a mask, and computes the output
head for as many positions as `score` has to ask, without turning them into probabilities. `score`
is timed as a whole, for the first time: template, tokenizer, packing, passes, sums. One thread, the
two in turn; medians. It fails where `score` takes more than 1.15 times as long.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from statistics import median

import torch

import caplab as cl
from caplab.measuring import likelihood
from caplab.measuring.trees import Reading, grow
from caplab.models.chat import uses_chat
from caplab.models.subject import measuring
from caplab.questions.exam import Question

ROW, ROWS = 128, 8  # of the reference: as many tokens as score reads at once on a CPU
PROMISE = 1.15


def four_way(count: int) -> cl.Exam:
    """Take questions of the everyday exam, in both wordings, each with four of its choices."""
    found = []
    for name in ("everyday", "everyday_reworded"):
        found += [question for question in cl.exam(name).questions if not question.spoken]
    made = []
    for number, asked in enumerate(found[:count]):
        wrong = [choice for choice in asked.choices if choice != asked.right][:3]
        choices = [*wrong[: number % 4], asked.right, *wrong[number % 4 :]]
        made.append(
            Question(asked.capability, asked.asked, choices, number % 4, joined=asked.joined)
        )
    return cl.Exam(tuple(made), (), "short")


def own_passes(subject: cl.Subject, exam: cl.Exam, chat: bool) -> tuple[Callable[[], None], int]:
    """Return the reference, and how many tokens it reads."""
    questions = likelihood._tokenise(subject, exam, chat)
    pairs = [(prompt, choice) for prompt, choices in questions for choice in choices]
    whole = grow(sorted(Reading(p + c, len(p), n) for n, (p, c) in enumerate(pairs)))
    rows = torch.tensor(whole.tokens[: len(whole.tokens) // ROW * ROW]).view(-1, ROW)
    asked = len({index for index, _, _ in whole.picks})
    share = asked / len(whole.tokens)
    body = getattr(subject.model, subject.model.base_model_prefix)

    def read() -> None:
        with measuring(subject.model):
            for batch in rows.split(ROWS):
                hidden = body(input_ids=batch, use_cache=False)[0].flatten(0, 1)  # (tokens, width)
                subject.model.get_output_embeddings()(hidden[: round(share * len(hidden))])

    return read, rows.numel()


def score_anew(subject: cl.Subject, exam: cl.Exam, chat: bool) -> None:
    """Score as if the exam had never been seen."""
    likelihood._plans.clear()
    cl.score(subject, exam, chat=chat, progress=False)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="without the chat template")
    given = parser.parse_args()
    subject, exam = cl.load(given.model), four_way(given.questions)
    torch.set_num_threads(1)
    chat = uses_chat(subject, False if given.plain else None)
    read, tokens = own_passes(subject, exam, chat)
    calls = {"own passes": read, "score": lambda: score_anew(subject, exam, chat)}
    score_anew(subject, exam.sample(min(8, len(exam))), chat)  # warms up
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(given.rounds):
        for name, call in calls.items():
            clock, processor = time.perf_counter(), sum(os.times()[:4])
            call()
            took = time.perf_counter() - clock, sum(os.times()[:4]) - processor
            spent[name].append(took)
    print(f"{subject}; {exam}\n{tokens} different tokens, chat {chat}, one thread\n")
    print("| what | seconds | processor seconds |\n| --- | --- | --- |")
    found = {
        name: [median(column) for column in zip(*rows, strict=True)] for name, rows in spent.items()
    }
    for name, (clock, processor) in found.items():
        print(f"| {name} | {clock:.1f} | {processor:.1f} |")
    ratio = found["score"][1] / found["own passes"][1]
    print(f"\nscore takes {ratio:.2f} x the processor time (to reach: {PROMISE})")
    return int(ratio > PROMISE)


if __name__ == "__main__":
    sys.exit(main())
