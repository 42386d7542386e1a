"""Use an installed caplab as somebody does who has no repository. Run it in an empty folder.

It loads the shipped model, scores it, guards a training, gates the result and opens the Explorer.
"""

import subprocess
import sys
from pathlib import Path

from transformers import Trainer, TrainingArguments

import caplab as cl


def tune_with_a_guard() -> cl.RegressionGuard:
    """Train as a plain script does, with transformers alone, and save the model."""
    base, task = cl.load("pocket"), cl.task("service")["train"]
    texts = [row["prompt"] + row["completion"] for row in task.select(range(64))]
    rows = [{"input_ids": base.tokenizer(text)["input_ids"]} for text in texts]

    def collate(batch):
        padded = base.tokenizer.pad(batch, return_tensors="pt")
        padded["labels"] = padded["input_ids"].masked_fill(padded["attention_mask"] == 0, -100)
        return padded

    guard = cl.RegressionGuard(cl.exam(), budget=0.05, every=4, action="rollback")
    settings = TrainingArguments(
        "run", max_steps=8, learning_rate=1e-2, report_to=[], save_strategy="no", use_cpu=True
    )
    trainer = Trainer(
        base.model, settings, collate, rows, processing_class=base.tokenizer, callbacks=[guard]
    )
    trainer.train()
    trainer.save_model("tuned")
    return guard


def main() -> None:
    """Do all of it, and complain about what is not as it should be."""
    here = Path(cl.__file__).resolve()
    assert "site-packages" in here.parts, f"this is not an installed caplab: {here}"
    before = cl.score(cl.load("pocket"), cl.exam())
    assert before.accuracy > 0.9, before
    guard = tune_with_a_guard()
    assert any(check.step for check in guard.checks), guard
    gate = [sys.executable, "-m", "caplab", "gate", "pocket", "tuned", "--exam", "classics"]
    done = subprocess.run(gate, capture_output=True, text=True)
    assert done.returncode in (0, 1, 3), done.stderr
    assert any(word in done.stdout for word in ("HELD", "REGRESSED", "UNDERPOWERED")), done.stdout
    panel = cl.explorer("learning_rate", live=False)
    assert panel is not None
    print(
        f"caplab {cl.__version__}: loaded, scored, guarded, gated (exit {done.returncode}), drawn"
    )


if __name__ == "__main__":
    main()
