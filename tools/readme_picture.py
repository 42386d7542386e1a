"""Draw the README's pictures: a real model's words, one fine-tuning of pocket, and the Explorer.

python tools/readme_picture.py [words] [forgetting] [explorer]    (default: all three)
"""

import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import caplab as cl  # noqa: E402  (the tool runs from a bare clone, too)
from caplab.exploring.drawing import picture  # noqa: E402
from caplab.study import drift  # noqa: E402
from caplab.support.colours import INK, NEW_WORDS, OLD, PALE  # noqa: E402

DOCS = ROOT / "docs"
RECIPE = cl.Recipe(learning_rate=2e-3)
COLOURS = (INK, OLD, NEW_WORDS, OLD)  # of the questions, and of what was said


def words() -> cl.plots.Picture:
    """Write what SmolLM2 said before and after: the saved answers of caplab/assets/drift.json."""
    said = drift.in_its_own_words()
    shown = [n for n, column in enumerate(said.columns) if "30" not in column]
    finding = "A real model learns a new job, and what it says about everything else"
    drawn = cl.plots.Picture(finding, 9.5, 3.4, note=said.caption)
    axes = drawn.add_subplot(xlim=(0, 4), ylim=(len(said.answers) + 0.5, 0))
    axes.axis("off")
    heads = ["asked", *(said.columns[n] for n in shown)]
    for place, head in enumerate(heads):
        axes.text(place, 0.1, head, color=PALE, size=11, va="top", weight="bold")
    for row, (asked, answers) in enumerate(said.answers.items()):
        cells = [asked, *(answers[n] for n in shown)]
        for place, (text, colour) in enumerate(zip(cells, COLOURS, strict=True)):
            lines = textwrap.fill(" ".join(text.split()), 27, max_lines=4, placeholder=" …")
            axes.text(place, row + 0.5, lines, color=colour, size=11, va="top")
    return drawn


def forgetting() -> cl.plots.Picture:
    """Draw what the recipe did to six capabilities of pocket."""
    run = cl.fine_tune(cl.load("pocket"), RECIPE)
    return cl.plots.before_after(cl.compare(run.before, run.final, budget=0.05))


def explorer() -> str:
    """Draw the Explorer: the recipe without replay, pinned, and then with it."""
    panel = cl.explorer("replay", learning_rate=RECIPE.learning_rate, replay=0.0, live=False)
    panel.run().pin()
    panel.controls["replay"].value = 0.25
    return picture(panel.run().state)


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["words", "forgetting", "explorer"]
    DOCS.mkdir(exist_ok=True)
    if "words" in wanted:
        (DOCS / "drift.png").write_bytes(words().png())
    if "forgetting" in wanted:
        forgetting().savefig(DOCS / "forgetting.png")
    if "explorer" in wanted:
        (DOCS / "explorer.svg").write_text(explorer(), encoding="utf-8")
