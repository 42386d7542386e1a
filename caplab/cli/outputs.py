"""Where a command may write: not over an input, not inside one, not over what others wrote.

All outputs are checked before anything is deleted or computed. Files are told apart as the disk
tells them apart, so that links and other spellings of a name deceive nobody.
"""

import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from caplab.models.fetch import fetched_folder
from caplab.models.folder import SHIPPED, SMOLLM2
from caplab.models.hub import find_folder
from caplab.support.errors import BadInput
from caplab.support.files import append, as_path, check_target, remove

__all__ = ["Outputs"]

Source = str | os.PathLike[str]
_BEGINNING = 4096  # bytes of a file that are searched for what tells it
# What each kind of result has near its beginning; of an atlas, its metadata tell.
_TELLS = {
    "scorecard": rb'"format": "caplab scorecard"',
    "json": rb'"format": "caplab gate ',
    "html": rb'<meta name="generator" content="caplab gate">',
    "markdown": "### (✅|❌|❓) (HELD|REGRESSED|UNDERPOWERED): ".encode(),
    "junit": rb'<testsuite name="caplab gate: ',
    "svg": b"<dc:title>caplab league",
    "log": rb'^{"seal": "[0-9a-f]+", "format": "caplab watch ',
}


@dataclass
class Outputs:
    """The files that a command will write, by kind; none of them harms what is there."""

    paths: Mapping[str, Path | None]
    inputs: Iterable[Source | None] = ()
    appended: Source | None = None  # a file that others write, too: it stays
    _modes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        taken = [*_taken(self.inputs)]
        if self.appended is not None:
            _refuse_taken(as_path(self.appended), taken)
            append(self.appended, "")
            taken.append(_Taken(as_path(self.appended), "where other steps' summaries stand, too"))
        for kind, path in self.paths.items():
            if path is not None:
                _refuse_taken(target := _target(path, kind), taken)
                _refuse_others_file(target, kind)
                taken.append(_Taken(target, "another output"))

    def clear(self) -> None:
        """Remove the results of an earlier run, so that none survives a failure."""
        for kind, path in self.paths.items():
            if path is not None and as_path(path).exists():
                real = as_path(path).resolve()  # a link stays, and leads to the new result
                self._modes[kind] = real.stat().st_mode & 0o777
                remove(real)

    def write(self, kind: str, save: Callable[[Path], object]) -> None:
        """Save one of the results; it gets the rights of the earlier one."""
        path = self.paths[kind]
        if path is None:
            return
        real = as_path(path).resolve()
        if kind in self._modes:
            real.touch(mode=0o600)
            real.chmod(self._modes[kind])  # what replaces this empty file keeps its mode
        try:
            save(path)
        except BaseException:
            remove(real)
            raise


@dataclass(frozen=True)
class _Taken:
    """A file or folder that no output may be, or lie in."""

    path: Path
    use: str
    files: frozenset[tuple[int, int]] = frozenset()  # the identities of all files inside

    def why_not(self, target: Path) -> str:
        """Say what stands against writing there, or nothing."""
        if self.path.is_dir() and any(_same(above, self.path) for above in _real(target).parents):
            return f"lies inside {self.path}, which is {self.use}"
        if _same(target, self.path) or _identity(target) in self.files:
            return f"is {self.use}: it would be overwritten"
        return ""


def _target(path: Path, kind: str) -> Path:
    """Return the path of an output; refuse one that cannot be written."""
    if kind != "folder":
        return check_target(path)
    if (folder := as_path(path)).exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file, and a folder is needed there. Name another one.")
    return folder


def _refuse_taken(target: Path, taken: Iterable[_Taken]) -> None:
    """Refuse a path that is taken, or that lies in a folder that is."""
    for other in taken:
        if reason := other.why_not(target):
            raise BadInput(f"{target} {reason}. Name another file.")


def _refuse_others_file(target: Path, kind: str) -> None:
    """Refuse to replace a file, unless an earlier command wrote it as the same kind of result."""
    if target.is_file() and target.stat().st_size and not _is_ours(target, kind):
        raise BadInput(
            f"{target} is not an earlier result of this kind, and it would be overwritten. "
            "Name another file, or remove this one."
        )


def _is_ours(path: Path, kind: str) -> bool:
    """Tell whether a file is a result of this kind, by its first bytes or its metadata."""
    if kind == "atlas":
        from caplab.study.atlas_file import is_atlas

        return is_atlas(path)
    try:
        with path.open("rb") as file:
            return kind in _TELLS and bool(re.search(_TELLS[kind], file.read(_BEGINNING)))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error


# ---------------------------------------------------------------- what is read


def _taken(inputs: Iterable[Source | None]) -> Iterator[_Taken]:
    """List the files and folders that a command reads, those that an adapter needs included."""
    for source in inputs:
        for path in _places(source) if source else ():
            yield _Taken(path, "an input", frozenset(_inside(path)))


def _places(source: Source, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Find where a source lies on the disk: a file, a folder, and of an adapter also its base."""
    name, path = os.fspath(source), as_path(source)
    yield path
    if name in (*SHIPPED, SMOLLM2) or not path.exists():
        yield (path := _kept(name))
    config = path / "adapter_config.json"
    if config.is_file() and path.resolve() not in above:
        with suppress(ValueError, OSError, AttributeError, BadInput):
            base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
            if isinstance(base, str) and base:
                yield from _places(base, (*above, path.resolve()))


def _kept(name: str) -> Path:
    """Return where a model is kept that is named and not a path: with the lab, or in a cache."""
    from huggingface_hub import constants

    if name in SHIPPED:
        return find_folder(name)
    if name == SMOLLM2:
        return fetched_folder()
    return Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}")


def _inside(folder: Path) -> Iterator[tuple[int, int]]:
    """Identify the files of a folder, wherever its links lead."""
    for path, _, names in os.walk(folder):
        for name in names:
            if found := _identity(Path(path, name)):
                yield found


# ---------------------------------------------------------------- telling files apart


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what identifies a file on the disk, whatever its names; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _same(one: Path, other: Path) -> bool:
    """Tell whether two paths are one file, here or on a disk that does not tell A from a."""
    if (found := _identity(one)) is not None and found == _identity(other):
        return True
    return _folded(one) == _folded(other)


def _folded(path: Path) -> str:
    """Return the real path as disks compare it that tell neither cases nor Unicode forms apart."""
    return unicodedata.normalize("NFC", str(_real(path))).casefold()


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a link to itself
        return path.absolute()
