"""Draw the README's pictures: one fine-tuning before and after, and the Explorer after two runs.

python tools/readme_picture.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import caplab as cl  # noqa: E402  (the tool runs from a bare clone, too)
from caplab.exploring.drawing import picture  # noqa: E402

RECIPE = cl.Recipe(learning_rate=2e-3)


def forgetting() -> cl.plots.Picture:
    """Draw what the recipe did to six capabilities."""
    run = cl.fine_tune(cl.load("pocket"), RECIPE)
    return cl.plots.before_after(cl.compare(run.before, run.final, budget=0.05))


def explorer() -> str:
    """Draw the Explorer: the recipe without replay, pinned, and then with it."""
    panel = cl.explorer("replay", learning_rate=RECIPE.learning_rate, replay=0.0, live=False)
    panel.run().pin()
    panel.controls["replay"].value = 0.25
    return picture(panel.run().state)


if __name__ == "__main__":
    (ROOT / "docs").mkdir(exist_ok=True)
    forgetting().savefig(ROOT / "docs" / "forgetting.png")
    (ROOT / "docs" / "explorer.svg").write_text(explorer(), encoding="utf-8")
