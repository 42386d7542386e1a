"""Files that are written whole or not at all, and that tell when a bit of them has changed."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

from caplab.errors import BadInput, did_you_mean

__all__ = ["make_folder", "read_sealed", "read_text", "write_atomically", "write_sealed"]


def read_text(path: str | os.PathLike[str], kind: str, known: Iterable[str] = ()) -> str:
    """Read a file of UTF-8, and say where it is none; `known` are names it might have meant."""
    path = Path(path)
    try:
        content = path.expanduser().read_bytes()
    except FileNotFoundError as error:
        near = did_you_mean(str(path), [*known, *map(str, path.parent.glob("*"))])
        raise BadInput(f"There is no {kind} {path}.{near}") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte {error.start} (0x{content[error.start]:02x}), on line {line}"
        raise BadInput(f"{path} is not UTF-8: {byte}, cannot be read. Save it as UTF-8.") from error


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder, with those above it; refuse in words where that is not allowed."""
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror}.") from error
    return folder


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write a file whole or not at all: beside its place first, then into it."""
    target = Path(path).expanduser()
    if not target.parent.is_dir():
        raise BadInput(f"{target} cannot be written: there is no folder {str(target.parent)!r}.")
    draft = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        os.replace(draft, target)
    except OSError as error:
        raise BadInput(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)


def write_sealed(
    path: str | os.PathLike[str], content: dict[str, Any], *, allow_nan: bool = True
) -> None:
    """Write JSON with a checksum of itself: a number that a disk or a hand changed is noticed."""
    sealed = {"seal": _seal(content), **content}
    write_atomically(path, json.dumps(sealed, ensure_ascii=False, allow_nan=allow_nan) + "\n")


def read_sealed(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Read what `write_sealed` wrote; refuse it where it is not what was written."""
    wrong = f"{path} is not a {kind}"
    try:
        content = json.loads(read_text(path, kind))
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{wrong}: {error}.") from error
    if not isinstance(content, dict):
        raise BadInput(f"{wrong}: it holds no JSON object.")
    if content.pop("seal", None) not in (None, _seal(content)):
        raise BadInput(f"{wrong} any more: it was changed or damaged after it was saved.")
    return content


def _seal(content: dict[str, Any]) -> str:
    # NaN is how an unknown number is written; Python reads it back as it was.
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()
