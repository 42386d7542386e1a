"""Run the course's grid and write the atlas that ships with the lab.

    python tools/build_atlas.py                 # pocket; begun again, it goes on where it was
    python tools/build_atlas.py --model gpt2    # the same grid on the real GPT-2, best on a GPU

The grid is tools/atlas.toml. Runs are kept one by one under build/atlas/. The pocket's atlas goes
into the package, another model's into build/.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from caplab.study.grid import read_grid  # noqa: E402
from caplab.study.sweep import estimate_sweep, sweep  # noqa: E402

GRID = ROOT / "tools" / "atlas.toml"
STORE = ROOT / "build" / "atlas"
SHIPPED = ROOT / "caplab" / "assets" / "atlas.parquet"
LARGEST = 5_000_000  # bytes that may be shipped


def place(model: str) -> Path:
    """Say where a model's atlas goes when nobody says otherwise."""
    return SHIPPED if model == "pocket" else ROOT / "build" / f"atlas-{Path(model).name}.parquet"


def main() -> int:
    """Sweep and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--grid", type=Path, default=GRID)
    parser.add_argument("--jobs", type=int, help="processes; one per core, or one on a GPU")
    parser.add_argument("--store", type=Path, default=STORE, help="where each run is kept")
    parser.add_argument("--out", type=Path, help="the atlas to write")
    parser.add_argument("--dry-run", action="store_true", help="only say how long it would take")
    given = parser.parse_args()
    recipes, settings = read_grid(given.grid)
    circumstances = {"n_jobs": given.jobs, "store": given.store, **settings}
    if given.dry_run:
        print(estimate_sweep(recipes, given.model, **circumstances))
        return 0
    atlas = sweep(recipes, given.model, **circumstances)
    path = atlas.save(given.out or place(given.model))
    size = path.stat().st_size
    print(f"{atlas}\n{path.name}: {size / 1e6:.1f} MB")
    return int(size > LARGEST or len(atlas.failed) > 0)


if __name__ == "__main__":
    sys.exit(main())
