"""What World 2 knows: every fact of six capabilities, and which of them replay may mention."""

from functools import cache
from itertools import product

from caplab.questions.world2.assets import asset, splits

__all__ = ["KNOWLEDGE", "askable", "facts", "group", "is_mentioned", "near_answers"]

KNOWLEDGE = ("capitals", "sums", "past", "opposites", "colours", "how-to")


@cache
def facts(capability: str) -> dict[str, str]:
    """Return every fact of a capability, as {what is asked about: the answer}."""
    written = asset(f"{capability}.toml")
    if capability == "sums":
        numbers = range(written["largest"] + 1)
        return {f"{a}+{b}": str(a + b) for a, b in product(numbers, repeat=2)}
    if capability == "colours":
        return dict(written["facts"])
    known = {
        asked: answer for topic in written["facts"].values() for asked, answer in topic.items()
    }
    if capability == "opposites":
        known |= {answer: asked for asked, answer in known.items()}
    return known


def group(capability: str, asked: str) -> str:
    """Name the fact behind a question: `2+3` is also `3+2`, and hot and cold are one pair."""
    if capability == "sums":
        asked = "+".join(sorted(asked.split("+"), key=int))
    if capability == "opposites":
        asked = " / ".join(sorted((asked, facts(capability)[asked])))
    return f"{capability}: {asked}"


@cache
def _marked(what: str) -> frozenset[str]:
    return frozenset(splits()[what])


def is_mentioned(of_group: str) -> bool:
    """Tell whether documents for replay may state the facts of a group."""
    return of_group not in _marked("not mentioned")


@cache
def askable(capability: str, mentioned: bool) -> tuple[str, ...]:
    """List what pretraining may ask about, or only what replay may mention of it."""
    pretrained = (a for a in facts(capability) if group(capability, a) not in _marked("never"))
    return tuple(a for a in pretrained if not mentioned or is_mentioned(group(capability, a)))


# ---------------------------------------------------------------- what lies near an answer


@cache
def near_answers(capability: str, asked: str) -> tuple[str, ...]:
    """List the wrong answers that lie near: of the same topic, a like colour, a near number."""
    answer = facts(capability)[asked]
    if capability == "sums":
        away = [int(answer) + slip for slip in asset("sums.toml")["near"]]
        near = {str(n) for n in away} & set(facts("sums").values())
    elif capability == "colours":
        near = set(asset("colours.toml")["near"][answer])
    else:
        near = _topic(capability, asked)
    return tuple(sorted(near - {answer, asked}))


def _topic(capability: str, asked: str) -> set[str]:
    """Return the answers of the topic that a fact belongs to; of opposites, both words."""
    for topic in asset(f"{capability}.toml")["facts"].values():
        if asked in topic or (capability == "opposites" and asked in topic.values()):
            return {*topic.values()} | ({*topic} if capability == "opposites" else set())
    raise KeyError(asked)
