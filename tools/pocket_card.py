"""Measure the pocket model and write its model card and checksums beside it.

python tools/pocket_card.py     # some minutes; what the card calls measured comes from here
"""

import hashlib
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from scipy.stats import t
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import caplab as cl  # noqa: E402  (the tool runs from a bare clone, too)

POCKET = ROOT / "caplab" / "assets" / "pocket"
TEXT = ROOT / "tools" / "pocket_card.md"
SEEDS = range(5)
FULL = cl.Recipe(steps=100, schedule="linear")
LORA = FULL.change(method="lora", alpha=16)
LABORATORY = {
    "full, 1e-5": FULL.change(learning_rate=1e-5),
    "full, 1e-4": FULL.change(learning_rate=1e-4),
    "full, 5e-4": FULL.change(learning_rate=5e-4),
    "full, 1e-3": FULL.change(learning_rate=1e-3),
    "full, 1e-3, 60 steps": FULL.change(learning_rate=1e-3, steps=60),
    "full, 3e-3": FULL.change(learning_rate=3e-3),
    "full, 3e-3, 10 % replay": FULL.change(learning_rate=3e-3, replay=0.1),
    "full, 3e-3, 25 % replay": FULL.change(learning_rate=3e-3, replay=0.25),
    "LoRA r=8, 1e-3": LORA.change(learning_rate=1e-3),
    "LoRA r=8, 5e-3": LORA.change(learning_rate=5e-3),
    "LoRA r=8, alpha 64, 3e-3": LORA.change(learning_rate=3e-3, alpha=64),
    "LoRA r=8, 1e-2": LORA.change(learning_rate=1e-2),
    "LoRA r=8, 2e-2": LORA.change(learning_rate=2e-2),
    "full, 5e-4, constant": FULL.change(learning_rate=5e-4, schedule="constant"),
    "LoRA r=8, alpha 64, 3e-3, constant": LORA.change(
        learning_rate=3e-3, alpha=64, schedule="constant"
    ),
    "the same with 25 % replay": LORA.change(
        learning_rate=3e-3, alpha=64, schedule="constant", replay=0.25
    ),
}


def knowledge(card: cl.Scorecard) -> Iterator[str]:
    """Write the base model's accuracy and the mean probability of the right answer."""
    chances = dict.fromkeys(card.by_capability, 0.0)
    for name in chances:
        found = [p for p, c in zip(card.probability, card.capability, strict=True) if c == name]
        chances[name] = statistics.mean(found)
    for name, accuracy in card.by_capability.items():
        n = card.capability.count(name)
        yield f"| {name} | {n} | {accuracy:.3f} | {chances[name]:.2f} |"
    yield f"| **all** | {len(card.capability)} | {card.accuracy:.3f} | {card.smooth:.2f} |"


def spread(values: list[float]) -> str:
    """Write a mean over seeds with its 95 % interval."""
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.2f} ± {half:.2f}"


def laboratory(base: cl.Subject) -> Iterator[str]:
    """Fine-tune by each recipe, several seeds each, and write what became of task and classics."""
    for name, recipe in tqdm(LABORATORY.items(), unit="recipe"):
        runs = [cl.fine_tune(base, recipe.change(seed=s), every=recipe.steps) for s in SEEDS]
        task = [cl.score(run.subject, cl.exam("task")).accuracy for run in runs]
        columns = [task, [run.final.accuracy for run in runs], [run.final.smooth for run in runs]]
        columns.append([run.final.language_loss for run in runs])
        yield f"| {name} | {' | '.join(map(spread, columns))} |"


def answers(base: cl.Subject) -> Iterator[str]:
    """Write what the model says to the reference lesson's questions."""
    for question in cl.world.REFERENCE_QUESTIONS:
        yield f"| {question} | {base.ask(question).strip()} |"


def write_card() -> None:
    """Fill the card's text with measurements."""
    base = cl.load(str(POCKET))
    exam_card = cl.score(base, cl.exam())
    text = TEXT.read_text(encoding="utf-8").format(
        parameters=f"{base.model.num_parameters():,}",
        megabytes=f"{(POCKET / 'model.safetensors').stat().st_size / 1e6:.1f}",
        knowledge="\n".join(knowledge(exam_card)),
        language_loss=f"{exam_card.language_loss:.2f}",
        task=f"{cl.score(base, cl.exam('task')).accuracy:.2f}",
        task_items=len(cl.exam("task")),
        answers="\n".join(answers(base)),
        laboratory="\n".join(laboratory(base)),
    )
    (POCKET / "README.md").write_text(text, encoding="utf-8", newline="\n")


def write_checksums() -> None:
    """List the digest of each file, as `sha256sum --check` reads them."""
    shipped = sorted(p for p in POCKET.iterdir() if p.name != "SHA256SUMS" and p.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in shipped]
    (POCKET / "SHA256SUMS").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_card()
    write_checksums()
