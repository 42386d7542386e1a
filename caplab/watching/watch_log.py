"""The log of a watch: one JSON object per line, each sealed together with all that came before.

A line that was changed, taken out or put in breaks the seals from there on. The last line may be
cut short, if the watch was killed while it wrote: it is dropped, and its checkpoint is asked again.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from caplab.support.errors import BadInput
from caplab.support.files import check_target, from_json

__all__ = ["WatchLog"]

_FORMAT = "caplab watch 1"


class WatchLog:
    """Entries that were written, and the seal that the next one continues."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = check_target(path)
        self.entries: list[dict[str, Any]] = []
        self._seal, self._size = "", 0
        if self.path.is_file():
            self._read()

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.decode(errors="replace").splitlines(), start=1):
            try:
                entry = from_json(line)
                sealed = isinstance(entry, dict) and entry.pop("seal", None)
            except BadInput:
                sealed = None
            if not sealed or sealed != self._next_seal(entry):
                raise BadInput(
                    f"{self.path} was changed or damaged, on line {number}, or is not the log of a "
                    "watch. Move it away, and all checkpoints are asked again."
                )
            self._seal = sealed
            self.entries.append(entry)
        if self.entries and self.entries[0].get("format") != _FORMAT:
            raise BadInput(f"{self.path} is the log of another version of caplab. Move it away.")
        self._size = len(whole)
        if len(whole) < len(content):
            self._open(lambda file: file.truncate(len(whole)))

    def append(self, entry: dict[str, Any]) -> None:
        """Write one entry, to the disk itself; refuse to mix with another watch's entries."""
        found = self.path.stat().st_size if self.path.exists() else 0
        if found != self._size:
            raise BadInput(f"Another program has written into {self.path}: only one watch may.")
        stamped = entry if self.entries else {"format": _FORMAT, **entry}
        seal = self._next_seal(stamped)
        line = json.dumps({"seal": seal, **stamped}, ensure_ascii=True) + "\n"

        def write(file: Any) -> None:
            file.seek(0, os.SEEK_END)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

        self._open(write)
        self._seal, self._size = seal, self._size + len(line)
        self.entries.append(stamped)

    def _open(self, work: Callable[[Any], Any]) -> None:
        try:
            with self.path.open("r+b" if self.path.exists() else "wb") as file:
                work(file)
        except OSError as error:
            raise BadInput(f"{self.path} cannot be written: {error.strerror}.") from error

    def _next_seal(self, entry: Any) -> str:
        canonical = self._seal + json.dumps(entry, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


def default_log(run: Path) -> Path:
    """Return where a watch of a run keeps its log, unless told otherwise."""
    return run / "caplab-watch.jsonl"
