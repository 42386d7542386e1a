"""Write docs/reliability.md from the fault drill itself.

python tools/write_reliability.py [--check]
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit"), str(ROOT / "tests" / "faults")]

TARGET = ROOT / "docs" / "reliability.md"

HEAD = """# What happens when something goes wrong

Written by `python tools/write_reliability.py` from the drill in [tests/faults](../tests/faults),
which runs with all other tests. {bad} bad inputs in {places} public functions and commands, and
{faults} faults.

## Bad inputs

Each is refused at the door by `BadInput` (a command: by exit code 2), with the value that was given
and what to do. The model is unchanged afterwards, and the next call works.

| where | bad inputs |
| --- | --- |
{inputs}

## Faults

| what breaks | what holds all the same |
| --- | --- |
{rows}

## What is not covered

- A machine that loses power: files are moved into place whole, but nobody waits for the disk to
  write its cache.
- Malice: a seal in a file shows damage, not forgery ([SECURITY.md](../SECURITY.md)).
- A disk or memory that returns wrong bits while a model trains. The loss may show it; nothing else
  would.
- Windows and macOS: the rows that limit memory, fill the disk, kill or slow a process run on Linux
  alone.
- Several GPUs: one device is used. The guard works under data parallelism; that was tested with
  processes on a CPU, not on GPUs.
"""


def page() -> str:
    """Return the page as the drill makes it."""
    import test_faults  # noqa: F401  (it fills the register)
    from bad_inputs import BAD_INPUTS
    from drill import FAULTS

    counts = Counter(bad.where for bad in BAD_INPUTS)
    return HEAD.format(
        bad=len(BAD_INPUTS),
        places=len(counts),
        faults=len(FAULTS),
        inputs="\n".join(f"| `{where}` | {_listed(where, BAD_INPUTS)} |" for where in counts),
        rows="\n".join(f"| {fault.breaks} | {fault.promise} |" for fault in FAULTS),
    )


def _listed(where: str, rows: list) -> str:
    return "; ".join(row.what for row in rows if row.where == where)


def main() -> int:
    """Write the page, or say whether it is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if it would")
    text = page()
    if parser.parse_args().check:
        return int(TARGET.read_text(encoding="utf-8") != text)
    TARGET.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
