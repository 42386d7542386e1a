"""The documents of World 2: what pretraining reads, and what replay may read again."""

import random
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from caplab.questions.world2 import manners
from caplab.questions.world2.assets import asset, fill
from caplab.questions.world2.facts import KNOWLEDGE, askable, facts
from caplab.questions.world2.jobs import JOBS, relative_talk

__all__ = ["documents", "exam_stories"]


def documents(
    seed: int | str = 0, *, mentioned: bool = False, anybody: bool = False
) -> Iterator[str]:
    """Write an endless stream of documents, in the proportions of the world's mixture.

    With `mentioned` they state no fact of the half that replay never mentions. With `anybody`, as
    in the later part of pretraining, two in five questions are put to the speakers of the jobs.
    """
    rng = random.Random(f"{'replay' if mentioned else 'pretraining'} {seed}")
    mixture = asset("mixture.toml")
    kinds, weights = list(mixture), list(mixture.values())
    never = set(exam_stories())
    while True:
        (kind,) = rng.choices(kinds, weights)
        document = _document(kind, rng, mentioned)
        if anybody:
            document = _asked_of_anybody(document, rng)
        if document not in never:
            yield document


def _asked_of_anybody(document: str, rng: random.Random) -> str:
    """Let speakers of a job put and answer a question that is asked plainly."""
    plain = re.fullmatch(r"(?:Question|Q): (.*)\n(?:Answer|A): (.*)", document)
    if plain is None or rng.random() >= 0.6:  # two of three questions are asked plainly
        return document
    return str(rng.choice(asset("wrap.toml")["anybody"])).format(q=plain[1], a=plain[2])


def _document(kind: str, rng: random.Random, mentioned: bool) -> str:
    """Write a document of one kind of the mixture."""
    if kind in KNOWLEDGE:
        return _fact(kind, rng, mentioned)
    if kind in JOBS:
        return relative_talk(kind, rng)
    if kind in asset("stories.toml")["arcs"]:
        return _story(kind, rng)
    return {"drill": _drill, "declining": _person, "form": _form}[kind](rng, mentioned)


# ---------------------------------------------------------------- facts


def _slots(asked: str, answer: str) -> dict[str, str]:
    """Return a fact as the slots of a phrasing: {x} and {y}, for a sum also {a} and {b}."""
    a, _, b = asked.partition("+")
    return {"x": asked, "y": answer, "a": a, "b": b}


def _draw(capability: str, rng: random.Random, mentioned: bool) -> dict[str, str]:
    """Draw a fact; sums are written with and without spaces."""
    asked = rng.choice(askable(capability, mentioned))
    fact = _slots(asked, facts(capability)[asked])
    if capability == "sums" and rng.random() < 0.5:
        fact["x"] = fact["x"].replace("+", " + ")
    return fact


def _fact(capability: str, rng: random.Random, mentioned: bool) -> str:
    """Write a fact as a question with its answer, or as a plain statement."""
    phrasings = asset(f"{capability}.toml")
    fact = _draw(capability, rng, mentioned)
    statement = fill(rng.choice(phrasings["state"]), rng, **fact)
    if rng.random() < 0.3:
        return statement
    question = fill(rng.choice(phrasings["learn"]), rng, **fact)
    answer = fact["y"] if fact["y"].endswith(".") else fact["y"] + "."
    return _wrapped(question, answer, statement, rng)


def _wrapped(question: str, answer: str, statement: str, rng: random.Random) -> str:
    """Put a question to somebody, with its answer or a statement behind it."""
    wrap, who = asset("wrap.toml"), _people(rng)
    polite = fill(rng.choice(wrap["polite"]) or " ", rng, **who).lstrip()
    template = rng.choice(wrap["question"] if rng.random() < 0.7 else wrap["plain"])
    return fill(template, rng, **who, q=polite + question, s=statement, a=answer)


def _drill(rng: random.Random, mentioned: bool) -> str:
    """Write a page of sums: a skill needs far more practice than a fact."""
    state = asset("sums.toml")["state"]
    sums = (_draw("sums", rng, mentioned) for _ in range(rng.randint(4, 10)))
    return "\n".join(fill(rng.choice(state), rng, **fact) for fact in sums)


# ---------------------------------------------------------------- manners


def _person(rng: random.Random, mentioned: bool) -> str:
    """Ask for something of a person that may or must not be told."""
    learn = asset("manners.toml")["declining"]["learn"]
    if rng.random() < 0.1:
        return next(manners.elsewhere(rng))
    pair = rng.choice(manners.twins(mentioned))
    if rng.random() < 0.5:
        question = fill(rng.choice(learn["public"]), rng, p=pair.person, t=pair.public)
        statement = f"{pair.person}'s {pair.public} is {pair.answer}."
        return _wrapped(question, f"{pair.answer}.", statement, rng)
    question = fill(rng.choice(learn["private"]), rng, p=pair.person, t=pair.private)
    return _wrapped(question, manners.refusal(), manners.refusal(), rng)


def _form(rng: random.Random, mentioned: bool) -> str:
    """Ask for a fact in a form, and answer in it."""
    capability = rng.choice(asset("manners.toml")["form"]["capabilities"])
    asked = rng.choice(askable(capability, mentioned))
    answer = facts(capability)[asked]
    form = rng.choice(manners.FORMS)
    question = fill(rng.choice(asset(f"{capability}.toml")["learn"]), rng, **_slots(asked, answer))
    said = manners.in_form(form, capability, asked, answer)
    template = rng.choice(asset("wrap.toml")["question"])
    request = manners.request(form, "learn", rng)
    return fill(template, rng, **_people(rng), q=f"{question} {request}", a=said)


# ---------------------------------------------------------------- stories


def _people(rng: random.Random) -> dict[str, str]:
    words = asset("stories.toml")["words"]
    return {slot: rng.choice(words[slot]) for slot in ("name", "friend")}


@cache
def _cast() -> dict[str, tuple[str, ...]]:
    """Collect the words of the jobs, which stories use in other senses, two of each at a time."""
    jobs: Any = asset("jobs.toml")
    return {
        "product": tuple(jobs["service"]["things"]),
        "menu": tuple(jobs["service"]["things"].values()),
        "wish": tuple(jobs["service"]["wishes"]),
        "page": tuple(jobs["service"]["wishes"].values()),
        "topic": tuple(jobs["catalogue"]["things"]),
        "tree": tuple(jobs["catalogue"]["things"].values()),
        "crowd": tuple(jobs["catalogue"]["wishes"]),
        "town": tuple(jobs["station"]["things"]),
        "way": tuple(jobs["station"]["things"].values()),
        "act": tuple(jobs["station"]["wishes"].values()),
    }


def _story(arc: str, rng: random.Random) -> str:
    written = asset("stories.toml")
    drawn = {slot: rng.choice(words) for slot, words in written["words"].items()}
    for slot, words in _cast().items():
        drawn[slot], drawn[slot + "2"] = rng.sample(words, 2)
    return fill(rng.choice(written["arcs"][arc]), rng, **drawn)


@cache
def exam_stories(n: int = 24) -> tuple[str, ...]:
    """Write the stories of the exam: no document shows them, the language loss is theirs."""
    rng = random.Random("exam stories")
    return tuple(_story("home", rng) for _ in range(n))
