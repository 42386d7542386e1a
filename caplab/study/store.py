"""Keep each run of a sweep as soon as it ends: one file for each, whole or not at all."""

import hashlib
import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from caplab.support.errors import BadInput, explaining_failure
from caplab.support.files import write_atomically
from caplab.training.recipe import Recipe


class RunStore:
    """One file for each run that ended, in a folder for each set of circumstances."""

    def __init__(self, store: Path, circumstances: dict[str, Any]) -> None:
        self.folder = store / _checksum(json.dumps(circumstances, sort_keys=True))[:12]

    def make(self) -> None:
        """Make the folder; a sweep does so first, lest it compute what it cannot keep."""
        with explaining_failure(f"The store {str(self.folder.parent)!r} cannot be used"):
            self.folder.mkdir(parents=True, exist_ok=True)

    def keep(self, record: dict[str, Any]) -> None:
        """Write a run whole or not at all."""
        body = json.dumps(record)
        write_atomically(self._path(recipe_of(record)), f"{_checksum(body)}\n{body}")

    def find(self, recipe: Recipe) -> dict[str, Any] | None:
        """Return a recipe's run, or None; a damaged file is set aside, and counts as missing."""
        path = self._path(recipe)
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
        checksum, _, body = text.partition("\n")
        record: dict[str, Any] = json.loads(body) if checksum == _checksum(body) else {}
        if record and recipe_of(record) == recipe:  # else the file was renamed
            return record
        aside = path.with_suffix(".damaged")
        with suppress(FileNotFoundError):  # another sweep on this store was quicker
            os.replace(path, aside)
        warnings.warn(
            f"{path} is damaged: it is set aside as {aside.name}, and the run is made again.",
            stacklevel=2,
        )
        return None

    def _path(self, recipe: Recipe) -> Path:
        return self.folder / f"{recipe.hash}.json"


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def recipe_of(record: dict[str, Any]) -> Recipe:
    """Read the recipe of a stored run."""
    return Recipe.from_json(json.dumps(record["recipe"]))
