"""Find the checkpoints that a trainer has written into its folder: whole ones, and no others.

Whatever writes Hugging Face folders or adapters will do: a Trainer's `checkpoint-10`, torchtune's
`epoch_0`, a `hf` folder beside the shards of Megatron or NeMo. A folder counts once its files are
complete by their own headers, and have stopped changing.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caplab.models.folder import check_adapter, check_weights
from caplab.support.errors import BadInput
from caplab.support.files import as_path

__all__ = ["Checkpoint", "Finder"]

SETTLED = 5.0  # seconds without a change
_OLD = 60.0  # seconds: what was last written before that is settled at first sight
_DEEPEST = 4  # folders below the run's own
_NUMBERS = re.compile(r"\d+")
_SHARDS = {  # what a trainer leaves behind that is no model yet, and what makes one of it
    "global_step": "python zero_to_fp32.py CHECKPOINT OUT, which DeepSpeed wrote beside them",
    "pytorch_model_fsdp_": "accelerate merge-weights CHECKPOINT/pytorch_model_fsdp_0 OUT",
    "mp_rank_": "the converter of your version of Megatron",
}


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model or an adapter, and what identifies its content."""

    name: str  # its path below the run's folder
    folder: Path
    files: tuple[tuple[str, int, int], ...]  # name, size, time of the last change

    @property
    def step(self) -> int:
        """Return the step that the trainer noted, or the last number of the name."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads((self.folder / "trainer_state.json").read_text(encoding="utf-8"))
            return int(state["global_step"])
        numbers = self._numbers
        return numbers[-1] if numbers else 0

    @property
    def order(self) -> tuple[int, list[int], str]:
        """Sort by the time of writing in seconds, then by the numbers of the name."""
        newest = max(changed for _, _, changed in self.files)
        return newest // 10**9, self._numbers, self.name

    @property
    def _numbers(self) -> list[int]:
        return [int(number) for number in _NUMBERS.findall(self.name)]


class Finder:
    """Looks again and again into a run's folder."""

    def __init__(self, run: str | os.PathLike[str]) -> None:
        self.run = as_path(run)
        if not self.run.is_dir():
            raise BadInput(f"There is no folder {self.run}. Name the one that the trainer fills.")
        self.problems: list[str] = []  # why some folders are not whole, at the latest look
        self._seen: dict[str, tuple[Any, float]] = {}  # files, and since when

    def whole(self) -> list[Checkpoint]:
        """Return all whole checkpoints, the oldest first."""
        settled = [each for each in self._candidates() if self._settled(each)]
        problems = [_problem(each) for each in settled]
        self.problems = list(filter(None, problems))
        found = [each for each, problem in zip(settled, problems, strict=True) if not problem]
        return sorted(found, key=lambda each: each.order)

    @property
    def waiting(self) -> bool:
        """Tell whether something has changed too lately to be taken for whole."""
        return not all(self._settled(each) for each in self._candidates())

    def shards(self) -> str:
        """Say how to make a model of what lies there in shards; nothing if nothing does."""
        for path in self._folders(self.run, 0):
            for beginning, maker in _SHARDS.items():
                if path.name.startswith(beginning):
                    where = path.parent.relative_to(self.run)
                    return f"{where} holds shards and no model. To make one: {maker}."
        return ""

    def _candidates(self) -> Iterator[Checkpoint]:
        for folder in self._folders(self.run, 0):
            name = str(folder.relative_to(self.run))
            with suppress(OSError):  # it is being deleted: trainers keep the last few only
                kinds = ("adapter_config.json", "config.json")
                if not any((folder / kind).is_file() for kind in kinds):
                    continue
                files = sorted(path for path in folder.iterdir() if _counts(path.name))
                stats = [(path.name, path.stat()) for path in files]
                content = tuple((n, s.st_size, s.st_mtime_ns) for n, s in stats)
                yield Checkpoint(name, folder, content)

    def _folders(self, folder: Path, depth: int) -> Iterator[Path]:
        """Walk down, around links and what is hidden."""
        yield folder
        if depth < _DEEPEST:
            with suppress(OSError):
                below = sorted(path for path in folder.iterdir() if path.is_dir())
                for path in below:
                    if not path.name.startswith(".") and not path.is_symlink():
                        yield from self._folders(path, depth + 1)

    def _settled(self, found: Checkpoint) -> bool:
        """Tell whether the files have stopped changing."""
        now, (files, since) = time.monotonic(), self._seen.get(found.name, ((), 0.0))
        if files != found.files:
            since = now
            self._seen[found.name] = (found.files, since)
        newest = max(changed for _, _, changed in found.files) / 1e9
        return now - since >= SETTLED or time.time() - newest > _OLD


def _counts(name: str) -> bool:
    """Tell the files that make a model: what a trainer writes beside them may still grow."""
    return name.endswith((".safetensors", ".safetensors.index.json")) or name in (
        "adapter_config.json",
        "config.json",
    )


def _problem(found: Checkpoint) -> str:
    """Say what is missing, as far as the headers and the index of the weights tell."""
    adapter = (found.folder / "adapter_config.json").is_file()
    config = "adapter_config.json" if adapter else "config.json"
    try:
        json.loads((found.folder / config).read_text(encoding="utf-8"))
        (check_adapter if adapter else check_weights)(found.folder, found.name)
    except (BadInput, OSError, ValueError) as error:
        return str(error)
    return ""
