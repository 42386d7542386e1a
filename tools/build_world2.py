"""Write the splits and the exams of World 2 into caplab/assets/world2 (`--check`: compare only).

The splits are drawn once, by rules that stand here, and then written down: everything else reads
the file.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from caplab.questions.world2 import exams, facts, jobs, manners  # noqa: E402
from caplab.questions.world2.assets import asset  # noqa: E402

WORLD = ROOT / "caplab" / "assets" / "world2"
SUMS_ASKED = 160  # groups; 71 others are never asked
SUMS_NEVER_SHOWN = 30  # of these, none of which pretraining shows
FORMS_ASKED = 80  # facts, each in two forms
# Stories and instructions hold both words of these by chance: replay may as well mention them.
BOTH_WORDS_ELSEWHERE = {
    *(f"colours: {thing}" for thing in ("ash", "grass", "rice", "snow", "the sky")),
    *(f"past: {verb}" for verb in ("eat", "have", "look", "sleep")),
    *(
        f"opposites: {pair}"
        for pair in (
            *("always / never", "back / front", "day / night", "down / up", "east / west"),
            *("evening / morning", "first / last", "in / out", "left / right", "long / short"),
            *("give / take", "north / south"),
        )
    ),
}


def draw_splits() -> dict[str, Any]:
    """Choose what is asked, what pretraining never shows, and what replay never mentions."""
    rng = random.Random("splits of world 2")
    asked = {name: _asked(name, rng) for name in facts.KNOWLEDGE}
    hidden, never = [], []
    for name, questions in asked.items():
        groups = [facts.group(name, question) for question in questions]
        open_to_all = {"sums: 2+2"} | BOTH_WORDS_ELSEWHERE
        drawn = rng.sample([g for g in groups if g not in open_to_all], len(groups) // 2)
        hidden += drawn
        if name == "sums":
            common = [g for g in drawn if 6 <= sum(map(int, g[6:].split("+"))) <= 34]
            never = common[:SUMS_NEVER_SHOWN]  # other sums show the same numbers
    hidden += rng.sample(_twins(), len(_twins()) // 2)
    return {
        "exam": asked | {"form": _form_asked(asked, {*hidden}, rng)},
        "never": sorted(never),
        "not mentioned": sorted(hidden),
        "jobs": {job: _held_out(job, rng) for job in jobs.JOBS},
    }


def _asked(capability: str, rng: random.Random) -> list[str]:
    """Ask every group; of opposites the first word, of sums a part, in either order."""
    if capability == "sums":
        largest = asset("sums.toml")["largest"] + 1
        pairs = [(a, b) for a, b in product(range(largest), repeat=2) if a <= b]
        chosen = [(2, 2), *rng.sample([p for p in pairs if p != (2, 2)], SUMS_ASKED - 1)]
        chosen = [pair if rng.random() < 0.5 else pair[::-1] for pair in chosen]
        return [f"{a}+{b}" for a, b in chosen]
    found = list(facts.facts(capability))
    if capability == "opposites":
        found = found[: len(found) // 2]
    first = [name for name in found if name in exams.ALWAYS_ASKED.values()]
    others = [name for name in found if name not in first]
    return first + rng.sample(others, len(others))


def _twins() -> list[str]:
    """List the groups of the twins, before anything is known of what replay mentions."""
    written = asset("manners.toml")["declining"]
    public, private = written["public"], written["private"]
    return [
        manners.Twins(person, public[i], "", private[(i + j) % len(private)]).group
        for (j, person), i in product(enumerate(written["people"]), range(len(public)))
    ]


def _form_asked(
    asked: dict[str, list[str]], hidden: set[str], rng: random.Random
) -> list[list[str]]:
    """Draw the facts that are asked for in forms, half of them of those not mentioned."""
    names = asset("manners.toml")["form"]["capabilities"]
    chosen = []
    for name, side in product(names, (True, False)):
        known = [q for q in asked[name] if (facts.group(name, q) in hidden) == side]
        chosen += [[name, question] for question in rng.sample(known, FORMS_ASKED // 8)]
    return rng.sample(chosen, len(chosen))


def _held_out(job: str, rng: random.Random) -> list[tuple[str, str]]:
    """Hold out pairs of a thing and a wish, 40 of 120 or 80 of 240, and never the reference's.

    Steps along diagonals: each thing and each wish is held out several times.
    """
    things, wishes = list(jobs.answers(job, "things")), list(jobs.answers(job, "wishes"))
    held_out = [("password", "reset")]
    while ("password", "reset") in held_out:
        rng.shuffle(things)
        rng.shuffle(wishes)
        held_out = [
            (thing, wish)
            for (i, thing), (j, wish) in product(enumerate(things), enumerate(wishes))
            if (i + 3 * j) % len(things) in (0, 4, 5, 10)
        ]
    return held_out


def lines(rows: Iterable[dict[str, Any]]) -> str:
    """Write rows as JSONL."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def makers() -> dict[str, Callable[[], str]]:
    """Name each file and how its text is made; the splits first, for the others read them."""
    made: dict[str, Callable[[], str]] = {
        "splits.json": lambda: json.dumps(draw_splits(), ensure_ascii=False) + "\n",
        "classics.jsonl": lambda: lines(exams.choosing()),
        "spoken.jsonl": lambda: lines(exams.speaking()),
    }
    for job in jobs.JOBS:
        made[f"{job}.jsonl"] = lambda job=job: lines(exams.job_choosing(job))
        made[f"{job}_spoken.jsonl"] = lambda job=job: lines(exams.job_speaking(job))
    return made


def build(check: bool) -> list[str]:
    """Write each file, or list those whose content differs from what it should be."""
    stale = []
    for name, make in makers().items():
        path, text = WORLD / name, make()
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            stale.append(name)
        elif not check:
            path.write_text(text, encoding="utf-8", newline="\n")
    return stale


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is committed")
    stale = build(parser.parse_args().check)
    sys.exit(f"Out of date: {', '.join(stale)}. Run: python tools/build_world2.py" if stale else 0)
