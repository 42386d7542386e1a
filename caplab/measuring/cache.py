"""Keep the answers of models on this disk: the same question need not be asked twice.

Answers are found again only if everything that decides them is the same: every file of the model,
and of an adapter's base, byte for byte; every question; how the model is loaded and asked; this
code, the libraries, the device and the number of threads. A model that is in memory already, such
as one that was trained, is never looked up: who knows what became of its weights.

A digest of gigabytes takes a second per gigabyte. It is kept beside the answers, and believed only
while the file has the same place, size and times of change to the nanosecond, the last of which
nobody can set.
"""

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from caplab.measuring.score import score
from caplab.measuring.scorecard import Scorecard
from caplab.models.fetch import cache_folder
from caplab.models.hub import local_folder
from caplab.models.load import load, shown_name
from caplab.questions.exam import Exam, Question, Text
from caplab.support.errors import BadInput
from caplab.support.files import read_sealed, write_sealed
from caplab.support.machine import limit_threads_to_cores
from caplab.support.safe_text import line_text

__all__ = ["Manner", "answers_folder", "answers_of", "clear", "kept_files"]

_FORMAT = "caplab answers 1"
_MOST = 500_000_000  # bytes of answers; the oldest go first
_PARTS = frozenset({".json", ".jinja", ".model", ".safetensors", ".txt"})  # what a model is made of
_LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "accelerate", "regex", "jsonschema")
_LARGE = 2**20  # bytes of a file whose digest is worth keeping
_SETTLED = 3.0  # seconds since the last change: clocks of disks are coarse
_HOUR = 3600.0


@dataclass(frozen=True)
class Manner:
    """How a model is loaded and asked, as far as a command may choose it."""

    dtype: str | None = None
    device: str | None = None
    device_map: str | None = None
    revision: str | None = None
    batch_size: int | None = None

    @property
    def loading(self) -> dict[str, Any]:
        """Return what `load` is told."""
        return {name: value for name, value in asdict(self).items() if name != "batch_size"}


def answers_folder() -> Path:
    """Return the folder of the answers, whether it is there or not."""
    return cache_folder() / "answers"


def answers_of(
    name: str, exam: Exam, manner: Manner | None = None, *, keep: bool = True
) -> Scorecard:
    """Return a model's answers: those that are kept, or else ask the model, and keep them.

    Without `keep` the model is asked, and nothing is written.
    """
    manner = manner or Manner()
    asked = _what_decides(name, exam, manner) if keep else None
    if asked and (card := _find(asked)):
        said = f"{name}: known answers to {exam.name} are used; --no-cache asks again."
        print(line_text(said), file=sys.stderr)
        return replace(card, subject=shown_name(_meant(name)), exam=exam.name)
    card = score(load(name, **manner.loading), exam, manner.batch_size)
    if asked and asked == _what_decides(name, exam, manner):  # else the files changed meanwhile
        _keep(asked, card)
    return card


# ---------------------------------------------------------------- what decides the answers


def _meant(name: str) -> str:
    """Return the model that `load` opens by a name."""
    return os.environ.get("CAPLAB_MODEL") or name if name == "pocket" else name


def _what_decides(name: str, exam: Exam, manner: Manner) -> dict[str, Any] | None:
    """List all that decides a model's answers; None where the model is not on this disk."""
    # Whatever is wrong, loading the model will say it better.
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        folders = list(_folders(_meant(name), manner.revision))
        if folders:
            return {
                "model": [_digests(folder) for folder in folders],
                "exam": _digest_of_exam(exam),
                "manner": asdict(manner),
                "machine": _machine(),
                "code": _digest_of_code(),
            }
    return None


def _folders(name: str, revision: str | None, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the folder of a model, and of an adapter also those of its bases."""
    folder = local_folder(name, revision)
    if folder is None or folder.resolve() in above:
        raise FileNotFoundError(name)
    yield folder
    config = folder / "adapter_config.json"
    if config.is_file():
        said = json.loads(config.read_text(encoding="utf-8"))
        base, of_base = said["base_model_name_or_path"], said.get("revision")
        yield from _folders(base, of_base, (*above, folder.resolve()))


def _digest_of_exam(exam: Exam) -> str:
    """Identify an exam with its groups: an answer may be right only with others of its group."""
    items: list[Question | Text] = [*exam.questions, *exam.texts]
    lines = [json.dumps(item.as_line(), sort_keys=True) for item in items]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _machine() -> dict[str, Any]:
    """List what makes a machine compute other bits, and the versions of what computes."""
    import torch

    limit_threads_to_cores()
    cuda = torch.cuda.is_available()
    return {
        "libraries": {library: _version(library) for library in _LIBRARIES},
        "python": platform.python_version(),
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "precision": torch.get_float32_matmul_precision(),
        "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
        if cuda
        else [],
        "mps": torch.backends.mps.is_available(),
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


@cache
def _digest_of_code() -> str:
    """Identify the code that asks and judges: a version number does not tell two commits apart."""
    root, found = Path(__file__).parents[1], hashlib.sha256()
    for folder in ("measuring", "models", "questions", "support"):
        for path in sorted((root / folder).glob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()


# ---------------------------------------------------------------- digests of files


def _digests(folder: Path) -> dict[str, str]:
    """Return the digest of each file that a model is made of."""
    found = [path for path in sorted(folder.iterdir()) if path.suffix in _PARTS]
    found += sorted(folder.glob("additional_chat_templates/*"))
    files = [path for path in found if path.is_file()]
    known = _known_digests()
    with ThreadPoolExecutor() as pool:  # hashing lets other threads compute
        hashed = list(pool.map(lambda path: _digest(path, known), files))
    fresh = {key: digest for key, digest in hashed if key and known.get(key) != digest}
    if fresh:
        with suppress(BadInput, OSError):
            latest = list((_known_digests() | fresh).items())[-1000:]
            write_sealed(_folder() / "digests.json", {"format": _FORMAT, "digests": dict(latest)})
    names = [path.relative_to(folder).as_posix() for path in files]
    return {name: digest for name, (_, digest) in zip(names, hashed, strict=True)}


def _known_digests() -> dict[str, str]:
    with suppress(BadInput, OSError):
        path = answers_folder() / "digests.json"
        if path.is_file():
            return dict(read_sealed(path, "list of digests")["digests"])
    return {}


def _digest(path: Path, known: dict[str, str]) -> tuple[str, str]:
    """Return what a digest is kept under, empty where it is not to be kept, and the digest."""
    before, now = path.stat(), time.time()
    settled = now - max(before.st_mtime, before.st_ctime) > _SETTLED
    # On Windows the time of a change can be set by anybody, and there is no other.
    worth = before.st_size > _LARGE and settled and os.name != "nt"
    key = f"{_identity(before)} {path.resolve()}" if worth else ""
    if key in known:
        return key, known[key]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if _identity(path.stat()) != _identity(before):
        raise OSError(f"{path} changes")
    return key, digest


def _identity(found: os.stat_result) -> str:
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


# ---------------------------------------------------------------- what is kept


def _folder() -> Path:
    """Make the folder of the answers; they are nobody else's business."""
    folder = answers_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _path(asked: dict[str, Any]) -> Path:
    text = json.dumps(asked, sort_keys=True)
    return answers_folder() / f"{hashlib.sha256(text.encode()).hexdigest()}.json"


def _find(asked: dict[str, Any]) -> Scorecard | None:
    """Return the answers that are kept, unless their file was changed or is another's."""
    with suppress(BadInput, OSError, KeyError, TypeError, AttributeError):
        path = _path(asked)
        if path.is_file():
            found = read_sealed(path, "set of answers")
            if found["format"] == _FORMAT and found["asked"] == asked:
                card = Scorecard(**found["card"])
                with suppress(OSError):
                    os.utime(path)  # the latest to be used is the last to go
                return card
    return None


def _keep(asked: dict[str, Any], card: Scorecard) -> None:
    """Keep answers, where there is a place to keep them; then make room."""
    with suppress(BadInput, OSError):
        content = {"format": _FORMAT, "asked": asked, "card": asdict(card)}
        _folder()
        write_sealed(_path(asked), content)
        _make_room()


def kept_files() -> list[Path]:
    """List the files of the answers, the oldest first."""
    found = []
    with suppress(OSError):
        for path in answers_folder().glob("*.json"):
            with suppress(OSError):  # another process removed it
                found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found)]


def _make_room() -> None:
    """Remove the oldest answers beyond the limit, and drafts of processes that were killed."""
    for draft in answers_folder().glob(".*"):
        with suppress(OSError):
            if time.time() - draft.stat().st_mtime > _HOUR:
                draft.unlink()
    room = _MOST
    for path in reversed(kept_files()):
        with suppress(OSError):
            room -= path.stat().st_size
            if room < 0:
                path.unlink()


def clear() -> int:
    """Remove all answers; return how many files there were."""
    files = kept_files()
    for path in files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise BadInput(f"{path} cannot be removed: {error.strerror}.") from error
    return len(files)
