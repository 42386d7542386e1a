"""The synthetic world: every fact, skill, story and customer that the pocket model ever meets.

The facts and phrasings are in `assets/world.toml`, the stories in `assets/stories.toml`, and what
is held out of training in `assets/splits.json`. This file draws from them: the pretraining text,
the exam on the old capabilities (the classics) and the new task. Every generator takes its own
`random.Random`: the same seed gives the same world everywhere.
"""

import json
import random
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from itertools import cycle, product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = [
    "CAPABILITIES",
    "REFERENCE_QUESTIONS",
    "REFERENCE_WORDS",
    "classics",
    "exam_stories",
    "facts",
    "pretraining_documents",
    "splits",
    "task",
    "task_questions",
    "task_rows",
]

CAPABILITIES = ("capitals", "arithmetic", "how-to", "opposites", "sounds", "colours")
REFERENCE_QUESTIONS = (
    "What is 2+2?",
    "What is the capital of France?",
    "How do you boil water?",
)
# The word that a right answer to each of them holds.
REFERENCE_WORDS = dict(zip(REFERENCE_QUESTIONS, ("4", "paris", "heat"), strict=True))
_QUESTIONS_PER_CAPABILITY = {
    "capitals": 60,
    "arithmetic": 60,
    "how-to": 40,
    "opposites": 40,
    "sounds": 32,
    "colours": 40,
}
# The facts behind the reference questions are asked in every exam.
_ALWAYS_ASKED = ("2+2", "France", "boil water")

Row = dict[str, Any]


# ---------------------------------------------------------------- reading the world


@cache
def _asset(name: str) -> Any:
    """Read one of the world's files, once."""
    text = (files("caplab") / "assets" / name).read_text(encoding="utf-8")
    return tomllib.loads(text) if name.endswith(".toml") else json.loads(text)


def splits() -> Row:
    """Return what is held out: `sums` in pretraining, `service` pairs in the task's training."""
    return {key: [tuple(pair) for pair in pairs] for key, pairs in _asset("splits.json").items()}


@cache
def facts(capability: str) -> dict[str, str]:
    """Return every fact of a capability, as {what is asked about: the answer}."""
    if capability == "arithmetic":
        return {f"{a}+{b}": str(a + b) for a, b in product(range(90), repeat=2) if a + b <= 99}
    known = dict(_asset("world.toml")[capability]["facts"])
    if capability == "opposites":
        known |= {answer: asked for asked, answer in known.items()}
    return known


# ---------------------------------------------------------------- filling templates


def _fill(template: str, rng: random.Random, **slots: str) -> str:
    """Choose one of each `[a|b]`, fill the `{slots}`, correct the articles and the first letter."""
    text = re.sub(r"\[([^\]]*)\]", lambda choice: rng.choice(choice[1].split("|")), template)
    for _ in range(2):  # the text of a slot may contain slots: an ending names the hero again
        text = re.sub(r"\{(\w+)\}", lambda slot: slots[slot[1]], text)
    text = re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", text)
    return text[0].upper() + text[1:]


def _slots(asked: str, answer: str) -> dict[str, str]:
    """Return a fact as the slots of a phrasing: {x} and {y}, for a sum also {a} and {b}."""
    a, _, b = asked.partition("+")
    return {"x": asked, "y": answer, "a": a, "b": b}


# ---------------------------------------------------------------- pretraining


@cache
def _askable(capability: str) -> tuple[list[str], list[str]]:
    """List what pretraining may ask: the easy ones, sums of one-digit numbers, and all others."""
    held_out = {f"{a}+{b}" for pair in splits()["sums"] for a, b in (pair, pair[::-1])}
    asked = [key for key in facts(capability) if key not in held_out]
    easy = [key for key in asked if re.fullmatch(r"\d\+\d", key)]
    return easy, [key for key in asked if key not in set(easy)]


def _draw_fact(capability: str, rng: random.Random) -> dict[str, str]:
    """Draw a fact that pretraining may show; one sum in four is an easy one."""
    easy, hard = _askable(capability)
    asked = rng.choice(easy if easy and rng.random() < 0.25 else hard)
    return _slots(asked, facts(capability)[asked])


def _exchange(capability: str, rng: random.Random) -> str:
    """Write a fact as a question with its answer, or as a plain statement."""
    phrasings, wrap = _asset("world.toml")[capability], _asset("world.toml")["wrap"]
    fact = _draw_fact(capability, rng)
    if rng.random() < 0.5 and "+" in fact["x"]:  # sums are written with and without spaces
        fact["x"] = fact["x"].replace("+", " + ")
    statement = _fill(rng.choice(phrasings["state"]), rng, **fact)
    if rng.random() < 0.3:
        return statement
    who = _cast(rng)
    polite = _fill(rng.choice(wrap["polite"]) or " ", rng, **who).lstrip()
    question = polite + _fill(rng.choice(phrasings["learn"]), rng, **fact)
    answer = fact["y"] if fact["y"].endswith(".") else fact["y"] + "."
    template = rng.choice(wrap["question"] if rng.random() < 0.7 else wrap["plain"])
    return _fill(template, rng, **who, q=question, s=statement, a=answer)


def _cast(rng: random.Random) -> dict[str, str]:
    """Draw the words of one story: who, where, with what."""
    drawn = {slot: rng.choice(words) for slot, words in _asset("stories.toml")["words"].items()}
    service = _asset("world.toml")["service"]
    for slot, words in (
        ("product", service["menus"]),
        ("menu", service["menus"].values()),
        ("page", service["pages"].values()),
        ("wish", service["pages"]),
    ):
        drawn[slot], drawn[slot + "2"] = rng.sample(sorted(words), 2)
    return drawn


def _story(arc: str, rng: random.Random) -> str:
    return _fill(rng.choice(_asset("stories.toml")["arcs"][arc]), rng, **_cast(rng))


def _drill(rng: random.Random) -> str:
    """Write a page of sums: a skill needs far more practice than a fact."""
    state = _asset("world.toml")["arithmetic"]["state"]
    sums = (_draw_fact("arithmetic", rng) for _ in range(rng.randint(4, 12)))
    return "\n".join(_fill(rng.choice(state), rng, **fact) for fact in sums)


def _job(rng: random.Random) -> str:
    """Write a dialogue of an older job: two words of the question decide the answer's two parts."""
    jobs, service = _asset("world.toml")["jobs"], _asset("world.toml")["service"]
    job = jobs[rng.choice([name for name in jobs if name != "opening"])]
    cast = _cast(rng)
    cast["first"] = job["first"][list(service["menus"]).index(cast["product"])]
    cast["second"] = job["second"][list(service["pages"]).index(cast["wish"])]
    question = _fill(rng.choice(jobs["opening"]), rng, **cast)
    answer = _fill(rng.choice(job["reply"]), rng, **cast)
    return _fill(rng.choice(job["talk"]), rng, q=question, a=answer)


@cache
def exam_stories(n: int = 24) -> tuple[str, ...]:
    """Write the stories of the exam: pretraining never shows them, the language loss is theirs."""
    rng = random.Random("exam stories")
    return tuple(_story("home", rng) for _ in range(n))


def pretraining_documents(seed: int | str = 0) -> Iterator[str]:
    """Write an endless stream of documents, in the proportions of the world's `[mixture]`."""
    rng = random.Random(f"pretraining {seed}")
    mixture = _asset("world.toml")["mixture"]
    never = set(exam_stories())
    while True:
        (kind,) = rng.choices(list(mixture), list(mixture.values()))
        document = _document(kind, rng)
        if document not in never:
            yield document


def _document(kind: str, rng: random.Random) -> str:
    """Write a document of one kind of the mixture."""
    if kind in CAPABILITIES:
        return _exchange(kind, rng)
    if kind in _asset("stories.toml")["arcs"]:
        return _story(kind, rng)
    return {"drill": _drill, "jobs": _job}[kind](rng)


# ---------------------------------------------------------------- the exam on the classics


def classics() -> Iterator[Row]:
    """Write the built-in exam: questions in held-out phrasings, then the held-out stories."""
    for capability in CAPABILITIES:
        rng = random.Random(f"exam {capability}")
        phrasings = cycle(_asset("world.toml")[capability]["exam"])
        for asked in _asked_in_exam(capability, rng):
            yield _question(capability, asked, next(phrasings), rng)
    yield from ({"capability": "language", "text": story} for story in exam_stories())


def _asked_in_exam(capability: str, rng: random.Random) -> list[str]:
    """Choose what the exam asks; half of its sums were never in pretraining."""
    n = _QUESTIONS_PER_CAPABILITY[capability]
    first = [asked for asked in facts(capability) if asked in _ALWAYS_ASKED]
    if capability == "arithmetic":
        never = rng.sample([f"{a}+{b}" for a, b in splits()["sums"]], n // 2)
        easy, hard = _askable(capability)
        return first + rng.sample(easy, n // 6 - 1) + rng.sample(hard, n // 3) + never
    others = [asked for asked in facts(capability) if asked not in _ALWAYS_ASKED]
    return first + rng.sample(others, n - len(first))


def _question(capability: str, asked: str, phrasing: str, rng: random.Random) -> Row:
    answer = facts(capability)[asked]
    question = _fill(phrasing, rng, **_slots(asked, answer))
    choices = [answer, *_distractors(capability, asked, rng)]
    rng.shuffle(choices)
    prompt = f"Question: {question}\nAnswer:"
    return _row(capability, prompt, choices, answer, _group(capability, asked))


def _group(capability: str, asked: str) -> str:
    """Name the fact behind a question: `2+3` is also `3+2`, and hot and cold are one pair."""
    if capability == "arithmetic":
        return "+".join(sorted(asked.split("+"), key=int))
    if capability == "opposites":
        return " / ".join(sorted((asked, facts(capability)[asked])))
    return asked


def _row(capability: str, prompt: str, choices: list[str], answer: str, group: str) -> Row:
    """Return a question as a line of an exam file."""
    found = {"capability": capability, "prompt": prompt, "choices": choices}
    return found | {"answer": choices.index(answer), "group": group}


def _distractors(capability: str, asked: str, rng: random.Random) -> list[str]:
    """Draw three wrong answers of the same kind; for a sum, typical slips."""
    answer = facts(capability)[asked]
    wrong = sorted(set(facts(capability).values()) - {answer, asked})
    if capability == "arithmetic":
        near = {int(answer) + slip for slip in (-10, -2, -1, 1, 2, 10)} | {int(answer[::-1])}
        wrong = [str(n) for n in sorted(near - {int(answer)}) if 0 <= n <= 99]
    return rng.sample(wrong, 3)


# ---------------------------------------------------------------- the new task


def _service_pairs(*, held_out: bool) -> list[tuple[str, str]]:
    """List the (product, wish) pairs of one side of the split."""
    service = _asset("world.toml")["service"]
    never = set(splits()["service"])
    return [p for p in product(service["menus"], service["pages"]) if (p in never) == held_out]


def _prompt(customer: str) -> str:
    return f"Customer: {customer}\nAgent:"


def _reply(thing: str, wish: str) -> str:
    service = _asset("world.toml")["service"]
    reply: str = service["reply"]
    return reply.format(menu=service["menus"][thing], page=service["pages"][wish])


def task_rows(*, held_out: bool) -> list[Row]:
    """List the customer-service dialogues of one side of the split, with every opening."""
    openings = _asset("world.toml")["service"]["opening"]
    return [
        {
            "prompt": _prompt(opening.format(product=thing, wish=wish)),
            "completion": " " + _reply(thing, wish),
        }
        for thing, wish in _service_pairs(held_out=held_out)
        for opening in openings
    ]


def _reference_rows() -> list[Row]:
    lines = _asset("world.toml")["service"]["reference"]
    return [{"prompt": _prompt(said), "completion": " " + reply} for said, reply in lines]


def task() -> "DatasetDict":
    """Return the new task as `datasets` splits in TRL's prompt-completion format."""
    from datasets import Dataset, DatasetDict

    train = task_rows(held_out=False)
    train += [row for row in _reference_rows() if row not in train]
    test = task_rows(held_out=True)
    return DatasetDict(train=Dataset.from_list(train), test=Dataset.from_list(test))


def task_questions() -> Iterator[Row]:
    """Write the task's exam: each held-out pair twice, with four choices.

    Two choices share the right product and two the right wish: knowing one word is not enough.
    """
    rng = random.Random("exam task")
    service = _asset("world.toml")["service"]
    for thing, wish in _service_pairs(held_out=True):
        for opening in rng.sample(service["opening"], 2):
            another = rng.choice([p for p in service["menus"] if p != thing])
            other_wish = rng.choice([w for w in service["pages"] if w != wish])
            choices = [_reply(p, w) for p, w in product((thing, another), (wish, other_wish))]
            rng.shuffle(choices)
            prompt = _prompt(opening.format(product=thing, wish=wish))
            group = f"{thing} / {wish}"
            yield _row("customer service", prompt, choices, _reply(thing, wish), group)
