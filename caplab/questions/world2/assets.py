"""The files of World 2, read once, and its phrasings filled."""

import json
import random
import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["asset", "fill", "splits"]

_CHOICE = re.compile(r"\[([^\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeio])")


@cache
def asset(name: str) -> Any:
    """Read one of the world's files."""
    text = (files("caplab") / "assets" / "world2" / name).read_text(encoding="utf-8")
    return tomllib.loads(text) if name.endswith(".toml") else json.loads(text)


def splits() -> dict[str, Any]:
    """Return what is held out, and what replay never mentions."""
    written: dict[str, Any] = asset("splits.json")
    return written


def fill(template: str, rng: random.Random, **slots: str) -> str:
    """Choose one of each `[a|b]`, fill the `{slots}`, correct the articles and the first letter."""
    text = _CHOICE.sub(lambda choice: rng.choice(choice[1].split("|")), template)
    for _ in range(2):  # the text of a slot may contain slots: an ending names the hero again
        text = _SLOT.sub(lambda slot: slots[slot[1]], text)
    text = _ARTICLE.sub(r"\1n ", text)
    return text[:1].upper() + text[1:]
