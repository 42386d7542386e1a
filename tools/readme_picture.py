"""Draw the README's picture: one fine-tuning of the pocket model, before and after.

python tools/readme_picture.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import caplab as cl  # noqa: E402  (the tool runs from a bare clone, too)

RECIPE = cl.Recipe(learning_rate=3e-3, steps=100)

if __name__ == "__main__":
    base = cl.load("pocket")
    run = cl.fine_tune(base, RECIPE)
    report = cl.compare(run.before, run.final, budget=0.05)
    (ROOT / "docs").mkdir(exist_ok=True)
    cl.plots.before_after(report).savefig(ROOT / "docs" / "forgetting.png")
    print(RECIPE, report.sentence, sep="\n")
