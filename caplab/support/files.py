"""Files that are written whole or not at all, and that tell when a bit of them has changed."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from caplab.support.errors import BadInput, did_you_mean, short_repr

__all__ = [
    "as_path",
    "check_target",
    "draft_of",
    "from_json",
    "make_folder",
    "read_jsonl",
    "read_sealed",
    "read_text",
    "remove",
    "write_atomically",
    "write_sealed",
]


def as_path(path: str | os.PathLike[str]) -> Path:
    """Take a path as it was typed, `~` for the home folder; refuse what can never be one."""
    try:
        found = Path(path).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            found.stat()
    except OSError as error:
        raise BadInput(f"{short_repr(path)} cannot be used: {error.strerror}.") from error
    except (TypeError, ValueError, RuntimeError) as error:  # no text, a zero byte, `~nobody`
        raise BadInput(f"{short_repr(path)} is not a path: {error}.") from error
    if not os.fspath(path):
        raise BadInput("A path is missing: '' names no file. Give one, such as 'card.json'.")
    return found


def read_text(path: str | os.PathLike[str], kind: str, known: Iterable[str] = ()) -> str:
    """Read a file of UTF-8, and say where it is none; `known` are names it might have meant."""
    place, path = as_path(path), Path(path)
    try:
        content = place.read_bytes()
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


_MOST_PROBLEMS = 20  # named in one refusal; a file of thousands of bad lines is wrong as a whole

Item = TypeVar("Item")


def read_jsonl(
    path: str | os.PathLike[str],
    kind: str,
    parse: Callable[[Any], Item],
    *,
    known: Iterable[str] = (),
    advice: str = "",
) -> list[Item]:
    """Read a file with one JSON value a line; say of all malformed lines at once what is wrong.

    `parse` makes an item of a value, or refuses it with `BadInput`; `advice` ends the refusal.
    """
    items, problems = [], []
    for number, line in enumerate(read_text(path, kind, known).split("\n"), start=1):
        if line.strip():
            try:
                items.append(parse(from_json(line)))
            except BadInput as error:
                problems.append(f"line {number}: {error}")
    if problems:
        count = "1 malformed line" if len(problems) == 1 else f"{len(problems)} malformed lines"
        more = len(problems) - _MOST_PROBLEMS
        told = [*problems[:_MOST_PROBLEMS], *([f"... and {more} more"] if more > 0 else [])]
        lines = "".join(f"\n  {problem}" for problem in told)
        raise BadInput(f"{path} has {count}:{lines}{advice and chr(10) + advice}")
    return items


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder, with those above it; refuse in words where that is not allowed."""
    folder = as_path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror}.") from error
    return folder


def check_target(path: str | os.PathLike[str]) -> Path:
    """Return the place of a file to be written; refuse one that takes none."""
    target = as_path(path)
    if target.is_dir():
        raise BadInput(f"{target} cannot be written: it is a folder.")
    if target.exists() and not target.is_file():  # /dev/null: a file would take its place
        raise BadInput(f"{target} cannot be written: it is a device. Name a file.")
    if not target.parent.is_dir():
        raise BadInput(f"{target} cannot be written: there is no folder {str(target.parent)!r}.")
    return target


def draft_of(target: Path) -> Path:
    """Name a file beside another; the target's own name may be as long as a name can be."""
    return target.with_name(f".{uuid4().hex}")


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write a file whole or not at all: beside its place first, then into it.

    Half a character, as in a file name that is not UTF-8, is written as JSON escapes it.
    """
    target = check_target(path)
    draft = draft_of(target)
    try:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
        os.replace(draft, target)
    except OSError as error:
        raise BadInput(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file, if it is there, to make room for a new one."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}.") from error


def write_sealed(
    path: str | os.PathLike[str], content: dict[str, Any], *, allow_nan: bool = True
) -> None:
    """Write JSON with a checksum of itself: a number that a disk or a hand changed is noticed."""
    sealed = {"seal": _seal(content), **content}
    write_atomically(path, json.dumps(sealed, ensure_ascii=False, allow_nan=allow_nan) + "\n")


def from_json(text: str) -> Any:
    """Read JSON, and refuse what is none or says one thing twice."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except BadInput:
        raise
    except (ValueError, RecursionError) as error:
        raise BadInput(f"this is not JSON ({error})") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its pairs; of two values for one key nobody knows which was meant."""
    for key, times in Counter(key for key, _ in pairs).items():
        if times > 1:
            raise BadInput(f"the key {short_repr(key)} stands there {times} times")
    return dict(pairs)


def read_sealed(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Read what `write_sealed` wrote; refuse it where it is not what was written."""
    text, wrong = read_text(path, kind), f"{path} is not a {kind}"
    try:
        content = from_json(text)
    except BadInput as error:
        raise BadInput(f"{wrong}: {error}.") from error
    if not isinstance(content, dict):
        raise BadInput(f"{wrong}: it holds no JSON object.")
    if "seal" not in content:
        marked = short_repr(content.get("format"))
        raise BadInput(f"{wrong}: it carries no seal, and is marked {marked}.")
    if content.pop("seal") != _seal(content):
        raise BadInput(f"{wrong} any more: it was changed or damaged after it was saved.")
    return content


def _seal(content: dict[str, Any]) -> str:
    # NaN is how an unknown number is written; Python reads it back as it was.
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()
