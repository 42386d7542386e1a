"""Record what `pocket` says while it is trained, for "Hear it forget" in the web edition.

    python tools/record_answers.py      writes web/answers.json; some five minutes on one core

At each learning rate of the Explorer, without old rows and with a quarter of them, a run is stopped
every ten steps and asked the three questions of lesson 00 and ten of the exam. The file keeps each
different answer once. A test compares the digest of the weights with those that are shipped.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

import caplab as cl
from caplab.exploring.presets import COURSE, STOPS
from caplab.models.weights import digest
from caplab.questions.expectations import Expectation
from caplab.questions.world import REFERENCE_QUESTIONS

SAVED = Path(__file__).resolve().parent.parent / "web/answers.json"
EVERY = 10  # steps
SHARES = (0.0, 0.25)  # of replay
OTHERS = 10  # questions of the exam
RIGHT = dict(zip(REFERENCE_QUESTIONS, ("4", "Paris", "bubbles"), strict=True))  # the word to hear


def asked_of_the_exam(base: cl.Subject) -> Iterator[tuple[str, Expectation]]:
    """Take questions from each capability in turn that the base answers right in its own words."""
    questions = cl.exam().questions
    names = dict.fromkeys(question.capability for question in questions)
    columns = [[q for q in questions if q.capability == name] for name in names]
    taken = set(map(base.ask, REFERENCE_QUESTIONS))  # no second question about the same
    for question in filter(None, chain.from_iterable(zip_longest(*columns))):
        right = question.choices[question.answer].strip()
        known = any(heard(right).meets(answer) for answer in taken)
        if not known and heard(right).meets(base.ask(question.prompt)):
            yield question.prompt, heard(right)


def heard(right: str) -> Expectation:
    """Expect the right words, or the right number at the end, in a sentence or two."""
    rules = {"number": int(right)} if right.isdigit() else {"contains": right}
    return Expectation.of(rules | {"max_words": 20})


class Asking(TrainerCallback):
    """Ask the questions every few steps."""

    def __init__(self, base: cl.Subject, prompts: list[str]) -> None:
        self.base, self.prompts = base, prompts
        self.answers = [[base.ask(prompt) for prompt in prompts]]

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Ask between two steps."""
        if state.global_step % EVERY == 0:
            now = cl.Subject(given["model"], self.base.tokenizer, "on the way")
            self.answers.append([now.ask(prompt) for prompt in self.prompts])


def record(base: cl.Subject, recipe: cl.Recipe, prompts: list[str]) -> dict[str, Any]:
    """Train once; return what was said and known at each stop."""
    asking = Asking(base, prompts)
    run = cl.fine_tune(base, recipe, every=EVERY, callbacks=[asking])
    return {
        "learning_rate": recipe.learning_rate,
        "replay": recipe.replay,
        "task": [round(point.task_accuracy or 0.0, 3) for point in run.points],
        "classics": [round(point.classics_accuracy, 3) for point in run.points],
        "answers": asking.answers,
    }


def main() -> None:
    """Record every run and write the file."""
    base = cl.load("pocket")
    others = [pair for _, pair in zip(range(OTHERS), asked_of_the_exam(base), strict=False)]
    pairs = [*((prompt, heard(right)) for prompt, right in RIGHT.items()), *others]
    prompts = [prompt for prompt, _ in pairs]
    recipes = [
        COURSE.change(learning_rate=rate, replay=share)
        for share in SHARES
        for rate in STOPS["learning_rate"]
    ]
    runs = [record(base, recipe, prompts) for recipe in recipes]
    said = sorted({answer for run in runs for row in run["answers"] for answer in row})
    number = {answer: at for at, answer in enumerate(said)}
    for run in runs:
        run["answers"] = [[number[answer] for answer in row] for row in run["answers"]]
    found = {
        "subject": base.name,
        "weights": digest(base.model),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "steps": list(range(0, COURSE.steps + 1, EVERY)),
        "questions": [
            {
                "asked": shown(prompt),
                "right": [at for at, text in enumerate(said) if right.meets(text)],
            }
            for prompt, right in pairs
        ],
        "said": said,
        "runs": runs,
    }
    SAVED.write_text(json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")
    print(f"{SAVED.name}: {len(runs)} runs, {len(said)} different answers")


def shown(prompt: str) -> str:
    """Return a question without the frame that the exam puts around it."""
    return prompt.removeprefix("Question: ").removesuffix("\nAnswer:").strip()


if __name__ == "__main__":
    main()
