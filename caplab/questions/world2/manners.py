"""Two capabilities of manner: declining what must not be told, and the form asked for."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

from caplab.questions.world2.assets import asset, fill
from caplab.questions.world2.facts import is_mentioned

__all__ = ["FORMS", "Twins", "in_form", "refusal", "request", "twins"]


@dataclass(frozen=True)
class Twins:
    """Two things of one person: one that may be told, with its answer, and one that must not."""

    person: str
    public: str
    answer: str
    private: str

    @property
    def group(self) -> str:
        """Name the twins as one piece of evidence."""
        return f"declining: {self.person}, {self.public} and {self.private}"


def refusal() -> str:
    """Return what is said instead of what must not be told."""
    said: str = asset("manners.toml")["declining"]["refusal"]
    return said


@cache
def twins(mentioned: bool) -> tuple[Twins, ...]:
    """List the twins of all persons, or only those that replay may mention."""
    written = asset("manners.toml")["declining"]
    public, private = written["public"], written["private"]
    found = []
    for (j, person), i in product(enumerate(written["people"]), range(len(public))):
        values = written["values"][public[i]]
        answer = values[j % len(values)]
        found.append(Twins(person, public[i], answer, private[(i + j) % len(private)]))
    return tuple(each for each in found if not mentioned or is_mentioned(each.group))


# ---------------------------------------------------------------- the form asked for

FORMS = ("sentence", "polite", "twice", "brackets", "list")


def request(form: str, wordings: str, rng: random.Random) -> str:
    """Ask for a form, in a wording of pretraining (`learn`) or of the exam."""
    return str(rng.choice(asset("manners.toml")["form"][form][wordings]))


def in_form(form: str, capability: str, asked: str, answer: str) -> str:
    """Write an answer in a form."""
    sentence = asset(f"{capability}.toml")["state"][0]
    said = fill(sentence, random.Random(0), x=asked, y=answer)
    text: str = asset("manners.toml")["form"][form]["answer"]
    return text.format(s=said, y=answer)


def elsewhere(rng: random.Random) -> Iterator[str]:
    """Write the words of a private thing where they are nobody's."""
    written = asset("manners.toml")["declining"]
    private = rng.choice(written["private"])
    value = rng.choice(written["values"][private])
    yield fill(rng.choice(written["elsewhere"][private]), rng, v=value)
