"""Read and write files: whole or not at all, with a checksum, with messages that help."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from caplab.support.errors import BadInput, did_you_mean, list_problems, short_repr

Item = TypeVar("Item")

__all__ = [
    "append",
    "as_path",
    "check_target",
    "draft_for",
    "draft_inside",
    "draft_of",
    "from_json",
    "make_folder",
    "parse_rows",
    "read_jsonl",
    "read_sealed",
    "read_text",
    "remove",
    "write_atomically",
    "write_sealed",
]


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path as it was typed, with `~` expanded; refuse what cannot be one."""
    try:
        found = Path(path).expanduser()
        # stat finds what no file system takes: a name that is too long, a link to itself.
        with suppress(FileNotFoundError, NotADirectoryError):
            found.stat()
    except OSError as error:
        raise BadInput(f"{short_repr(path)} cannot be used: {error.strerror}.") from error
    except (TypeError, ValueError, RuntimeError) as error:  # not a string, a zero byte, `~nobody`
        raise BadInput(f"{short_repr(path)} is not a path: {error}.") from error
    if not os.fspath(path):
        raise BadInput("A path is missing: '' names no file. Give one, such as 'card.json'.")
    return found


def read_text(path: str | os.PathLike[str], kind: str, known: Iterable[str] = ()) -> str:
    """Read a UTF-8 file, without its byte order mark; say where it is not UTF-8.

    `known` are further names that a misspelt path may have meant.
    """
    expanded, path = as_path(path), Path(path)
    try:
        content = expanded.read_bytes()
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


def read_jsonl(
    path: str | os.PathLike[str],
    kind: str,
    parse: Callable[[Any], Item],
    *,
    known: Iterable[str] = (),
    advice: str = "",
) -> list[Item]:
    """Read a file with one JSON value per line; one error lists all malformed lines.

    `parse` turns a value into an item, or raises `BadInput`; `advice` ends the message.
    """
    lines = read_text(path, kind, known).split("\n")
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    return parse_rows(path, numbered, lambda line: parse(from_json(line)), advice=advice)


def parse_rows(
    path: str | os.PathLike[str],
    rows: Iterable[tuple[int, Any]],
    parse: Callable[[Any], Item],
    *,
    unit: str = "line",
    advice: str = "",
) -> list[Item]:
    """Turn the numbered rows of a file into items; one error lists all malformed rows."""
    items, problems = [], []
    for number, row in rows:
        try:
            items.append(parse(row))
        except BadInput as error:
            problems.append(f"{unit} {number}: {error}")
    if problems:
        count = f"{len(problems)} malformed {unit}{'s' * (len(problems) > 1)}"
        lines = [f"{path} has {count}:", *list_problems(problems), *([advice] if advice else [])]
        raise BadInput("\n".join(lines))
    return items


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder and its parents; say so where that is not possible."""
    folder = as_path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror}.") from error
    return folder


def check_target(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file to be written; refuse one that cannot be written."""
    target = as_path(path)
    if target.is_dir():
        raise BadInput(f"{target} cannot be written: it is a folder.")
    if target.exists() and not target.is_file():  # /dev/null: os.replace would put a file there
        raise BadInput(f"{target} cannot be written: it is a device. Name a file.")
    folder = target.resolve().parent  # a link leads to where the file will be
    if not folder.is_dir():
        raise BadInput(f"{target} cannot be written: there is no folder {str(folder)!r}.")
    if not os.access(folder, os.W_OK):
        raise BadInput(f"{target} cannot be written: nobody may write in {str(folder)!r}.")
    return target


def draft_of(target: Path) -> Path:
    """Return a new path beside the target; a suffix could make the target's own name too long."""
    return target.with_name(f".{uuid4().hex}")


@contextmanager
def draft_for(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new path beside a file, and put what was written there in the file's place.

    Where the file is a link, the one that it leads to is replaced; the rights of an earlier file
    are kept. If anything fails, the earlier file stays.
    """
    target = check_target(path)
    real = target.resolve()
    draft = draft_of(real)
    try:
        yield draft
        if real.exists():
            draft.chmod(real.stat().st_mode & 0o777)
        os.replace(draft, real)
    except OSError as error:
        raise BadInput(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def draft_inside(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield an empty folder; at the end what it holds takes the place of the `names` in `folder`.

    Until the new files are whole the old ones stay. They change places by renaming, which needs no
    room: the first name is the first to go and the last to come.
    """
    for left in folder.glob(".draft-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    draft = folder / f".draft-{uuid4().hex}"
    try:
        draft.mkdir()
        yield draft
        with _moved_aside(folder, names, draft / "old"):
            for name in reversed(names):
                if (draft / name).exists():
                    os.replace(draft / name, folder / name)
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _moved_aside(folder: Path, names: Sequence[str], aside: Path) -> Iterator[None]:
    """Move what bears one of these names out of a folder, and back if anything fails."""
    aside.mkdir()
    there = [name for name in names if os.path.lexists(folder / name)]
    try:
        for name in there:
            os.replace(folder / name, aside / name)
        yield
    except BaseException:
        for name in reversed(there):
            if os.path.lexists(aside / name):
                os.replace(aside / name, folder / name)
        raise


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write a file whole or not at all: write a draft beside it, then rename the draft.

    A lone surrogate, as in a file name that is not UTF-8, is written as JSON escapes it.
    """
    with draft_for(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def append(path: str | os.PathLike[str], text: str) -> None:
    """Append to a file that others write, too, such as GitHub's summary of a job."""
    try:
        with as_path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written: {error.strerror}. It is where the summary is appended: "
            "make it writable, or unset GITHUB_STEP_SUMMARY."
        ) from error


def remove(path: Path) -> None:
    """Remove a file, if there is one, before another is written in its place."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}.") from error


def write_sealed(
    path: str | os.PathLike[str], content: dict[str, Any], *, allow_nan: bool = True
) -> None:
    """Write JSON with a checksum of its content, so that `read_sealed` notices any change."""
    sealed = {"seal": _seal(content), **content}
    write_atomically(path, json.dumps(sealed, ensure_ascii=False, allow_nan=allow_nan) + "\n")


def from_json(text: str) -> Any:
    """Parse JSON; refuse malformed text and objects in which a key appears twice."""
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except BadInput:
        raise
    except (ValueError, RecursionError) as error:
        raise BadInput(f"this is not JSON ({error})") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; refuse two values for one key, as nobody knows which was meant."""
    for key, times in Counter(key for key, _ in pairs).items():
        if times > 1:
            raise BadInput(f"the key {short_repr(key)} appears {times} times")
    return dict(pairs)


def read_sealed(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Read a file of `write_sealed`; refuse one that was changed since."""
    text, refusal = read_text(path, kind), f"{path} is not a {kind}"
    try:
        content = from_json(text)
    except BadInput as error:
        raise BadInput(f"{refusal}: {error}.") from error
    if not isinstance(content, dict):
        raise BadInput(f"{refusal}: it contains no JSON object.")
    if "seal" not in content:
        marked = short_repr(content.get("format"))
        raise BadInput(f"{refusal}: it has no seal, and its format is {marked}.")
    if content.pop("seal") != _seal(content):
        raise BadInput(f"{refusal} any more: it was changed or damaged after it was saved.")
    return content


def _seal(content: dict[str, Any]) -> str:
    """Compute the checksum of a content, whatever the order of its keys."""
    # An unknown number is written as NaN, which is not JSON, but Python reads it back.
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()
