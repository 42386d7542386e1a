"""Write the splits and the built-in exams into caplab/assets (`--check`: compare only).

The splits are drawn once, by a rule that stands here, and then written down: everything else reads
the file.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

ASSETS = ROOT / "caplab" / "assets"


def draw_splits() -> dict[str, list[tuple[Any, Any]]]:
    """Hold out 8 one-digit sums, 300 longer ones, and 29 of the 120 (product, wish) pairs."""
    from caplab.questions import world

    rng = random.Random("splits")
    sums = [(a, b) for a, b in product(range(90), repeat=2) if b <= a and a + b <= 99]
    easy = [pair for pair in sums if pair[0] <= 9 and pair != (2, 2)]
    hard = [pair for pair in sums if pair[0] > 9]
    service = world._asset("world.toml")["service"]
    things, wishes = list(service["menus"]), list(service["pages"])
    rng.shuffle(things)
    rng.shuffle(wishes)
    # Steps along a diagonal: each wish and each product is held out two or three times.
    service_pairs = [
        (thing, wish)
        for i, thing in enumerate(things)
        for j, wish in enumerate(wishes)
        if (i + 3 * j) % len(things) in (0, 5, 10) and (thing, wish) != ("password", "reset")
    ]
    return {"sums": sorted(rng.sample(easy, 8) + rng.sample(hard, 300)), "service": service_pairs}


def lines(rows: Iterable[dict[str, Any]]) -> str:
    """Write rows as JSONL."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def build(check: bool) -> list[str]:
    """Write each file, or list those whose content differs from what it should be."""
    from caplab.questions import world

    stale = []
    makers = {
        "splits.json": lambda: json.dumps(draw_splits()) + "\n",
        "classics.jsonl": lambda: lines(world.classics()),
        "task.jsonl": lambda: lines(world.task_questions()),
    }
    for name, make in makers.items():
        path, text = ASSETS / name, make()
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            stale.append(name)
        elif not check:
            path.write_text(text, encoding="utf-8", newline="\n")
    return stale


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with what is committed")
    stale = build(parser.parse_args().check)
    sys.exit(f"Out of date: {', '.join(stale)}. Run: python tools/build_exams.py" if stale else 0)
