"""Write docs/reliability.md from the fault drill itself.

python tools/write_reliability.py [--check]
"""

import argparse
import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The files whose tests fill the register, in the order of the page.
TESTS = (
    *("faults/test_interruptions", "faults/test_no_room", "faults/test_damaged_files"),
    *("faults/test_odd_machines", "faults/test_odd_content", "faults/test_soak"),
    *("faults/test_outputs", "faults/test_foreign_text", "faults/test_kept_answers"),
    *("faults/test_servers", "project/test_lab_privacy"),
    *("faults/test_watched_runs", "watching/test_snapshots", "watching/test_ranks"),
    *("watching/test_watch", "watching/test_beforehand"),
    *("project/test_lab", "models/test_hub", "models/test_fetch_faults", "study/test_sweep"),
)
FOLDERS = {str((ROOT / "tests" / test).parent) for test in TESTS}
sys.path[:0] = [str(ROOT), str(ROOT / "tests/helpers"), *sorted(FOLDERS)]

TARGET = ROOT / "docs" / "reliability.md"

HEAD = """# What happens when something goes wrong

`python tools/write_reliability.py` writes this page from the fault tests. They run with all other
tests, or alone:

    python lab.py test tests/faults

There are {bad} bad inputs of {places} public functions and commands, and {faults} faults.

## Bad inputs

The public function refuses each with `BadInput` (a command: with exit code 2), and names the value
that was given and what to do. The model is unchanged afterwards, and the next call works.

| where | bad inputs |
| --- | --- |
{inputs}

## Faults

| what breaks | what still holds | test |
| --- | --- | --- |
{rows}

## What is not covered

- A machine that loses power: files are moved into place whole, but the lab does not wait until the
  disk has written its cache.
- Malice: a seal in a file shows damage, not forgery ([SECURITY.md](../SECURITY.md)).
- A disk or memory that returns wrong bits while a model trains. Only the loss may show it.
- Windows and macOS: the tests that limit memory, fill the disk, kill or slow a process run only on
  Linux.
- Several GPUs: `fine_tune` uses one device. The guard works under DDP and FSDP2; tests show it with
  two processes on a CPU. DeepSpeed is not installed in the tests.
"""


def page() -> str:
    """Return the page as the drill makes it."""
    for test in TESTS:
        importlib.import_module(Path(test).name)
    from bad_inputs import BAD_INPUTS
    from drill import FAULTS

    places = list(dict.fromkeys(bad.where for bad in BAD_INPUTS))
    return HEAD.format(
        bad=len(BAD_INPUTS),
        places=len(places),
        faults=len(FAULTS),
        inputs="\n".join(f"| `{where}` | {_listed(where, BAD_INPUTS)} |" for where in places),
        rows="\n".join(f"| {f.breaks} | {f.promise} | {_link(f.test)} |" for f in FAULTS),
    )


def _link(test: str) -> str:
    name = test.partition("::")[0]
    (path,) = (f"{path}.py" for path in TESTS if Path(path).name == name.removesuffix(".py"))
    return f"[{name}](../tests/{path})"


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
