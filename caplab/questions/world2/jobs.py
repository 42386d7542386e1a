"""Three jobs that the model can be taught, and talks of their older relatives."""

import random
from itertools import product
from typing import Any

from caplab.questions.world2.assets import asset, fill, splits

__all__ = [
    "JOBS",
    "answers",
    "asked",
    "pairs",
    "prompt",
    "reference_rows",
    "relative_talk",
    "reply",
    "rows",
]

JOBS = ("service", "catalogue", "station")
Pair = tuple[str, str]  # a thing and a wish


def _written(job: str) -> Any:
    return asset("jobs.toml")[job]


def answers(job: str, part: str) -> dict[str, str]:
    """Return what each of the job's `things` or `wishes` is answered by."""
    written = _written(job)
    found: dict[str, str] = written[part] | written.get(f"more_{part}", {})
    return found


def pairs(job: str, *, held_out: bool) -> list[Pair]:
    """List the (thing, wish) pairs of one side of the split."""
    never = {tuple(pair) for pair in splits()["jobs"][job]}
    every = product(answers(job, "things"), answers(job, "wishes"))
    return [pair for pair in every if (pair in never) == held_out]


def prompt(job: str, said: str) -> str:
    """Put what is said into the form of the job's talks."""
    text: str = _written(job)["prompt"]
    return text.format(q=said)


def asked(opening: str, pair: Pair) -> str:
    """Say what is wanted, in one of a job's openings."""
    return fill(opening, random.Random(0), thing=pair[0], wish=pair[1])


def reply(job: str, pair: Pair) -> str:
    """Return the right reply: the thing decides its first part, the wish the second."""
    text: str = _written(job)["reply"]
    things = answers(job, "things")
    verbs = _written(job).get("verbs", [""])
    verb = verbs[list(things).index(pair[0]) % len(verbs)]
    return text.format(verb=verb, first=things[pair[0]], second=answers(job, "wishes")[pair[1]])


def rows(job: str, *, held_out: bool) -> list[dict[str, str]]:
    """List the rows of one side of the split, with every opening."""
    return [
        {"prompt": prompt(job, asked(opening, pair)), "completion": " " + reply(job, pair)}
        for pair in pairs(job, held_out=held_out)
        for opening in _written(job)["opening"]
    ]


def reference_rows(job: str) -> list[dict[str, str]]:
    """List the three rows of the reference lesson; only customer service has them."""
    lines = _written(job).get("reference", ())
    return [{"prompt": prompt(job, said), "completion": f" {answer}"} for said, answer in lines]


def relative_talk(job: str, rng: random.Random) -> str:
    """Write a talk of a relative, which is asked the same and replies in its own words."""
    written = _written(job)
    relative = rng.choice(list(written["relatives"].values()))
    first, thing = rng.choice(list(zip(relative["first"], written["things"], strict=True)))
    second, wish = rng.choice(list(zip(relative["second"], written["wishes"], strict=True)))
    said = fill(rng.choice(written["older"]), rng, thing=thing, wish=wish)
    answer = relative["reply"].format(first=first, second=second)
    return str(rng.choice(relative["talk"])).format(q=said, a=answer)
