"""Sound things, small and quick, for a test that combines them with one unsound thing."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tiny
from datasets import Dataset

import caplab as cl

QUICK = cl.Recipe(steps=2, batch_size=2)
TASK = [{"prompt": f"Say {word}:", "completion": f" {word}."} for word in ("hot", "cold", "dog")]


@dataclass
class Bench:
    """Sound things to be combined with one unsound one."""

    folder: Path

    @cached_property
    def subject(self) -> cl.Subject:
        """A random model that nobody else holds."""
        return tiny.subject()

    @cached_property
    def exam(self) -> cl.Exam:
        """A small exam."""
        return tiny.exam()

    @cached_property
    def card(self) -> cl.Scorecard:
        """What the subject answers."""
        return cl.score(self.subject, self.exam, progress=False)

    @cached_property
    def run(self) -> cl.Run:
        """A short run in full."""
        return self.tune()

    def tune(self, recipe: cl.Recipe = QUICK, **given: Any) -> cl.Run:
        """Fine-tune the subject for two steps."""
        given = {"task": Dataset.from_list(TASK), "exam": self.exam} | given
        return cl.fine_tune(self.subject, recipe, on_point=lambda _: None, **given)

    def folder_of_model(self) -> Path:
        """Save the subject as an ordinary model folder."""
        self.subject.model.save_pretrained(self.folder / "model")
        self.subject.tokenizer.save_pretrained(self.folder / "model")
        return self.folder / "model"

    def file(self, text: str | bytes, name: str = "given.jsonl") -> Path:
        """Write a file as a user would leave it."""
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def lines(self, *rows: Any) -> Path:
        """Write a JSONL file."""
        return self.file("\n".join(map(json.dumps, rows)))
