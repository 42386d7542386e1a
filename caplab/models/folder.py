"""Check that the folder of a model is whole, before a library stumbles over it."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from caplab.support.errors import BadInput, explaining_failure
from caplab.support.files import as_path, read_text

__all__ = ["check_adapter", "check_folder", "has_tokenizer", "is_folder"]
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_PICKLES = re.compile(r".*\.(bin|pt|pth|ckpt|pkl)")
_LONGEST_HEADER = 100_000_000  # bytes; safetensors itself refuses a longer one


def is_folder(name: str) -> bool:
    """Tell a folder from a name; `pocket` is always the model that ships with the lab."""
    return name != "pocket" and as_path(name).is_dir()


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a tokenizer lies in the folder."""
    return any((folder / file).is_file() for file in _TOKENIZERS)


def check_folder(folder: Path, name: str) -> None:
    """Refuse a folder that lacks a part of a model, and say which."""
    if not (folder / "config.json").is_file():
        held = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
        raise BadInput(f"{name} is not a model folder: it has no config.json (it holds {held}).")
    _check_weights(folder, name, _shards(folder))
    _check_sums(folder, name)
    if not has_tokenizer(folder):
        raise BadInput(
            f"{name} has no tokenizer (tokenizer.json). "
            "Save it beside the model: tokenizer.save_pretrained(folder)."
        )


def _check_sums(folder: Path, name: str) -> None:
    """Refuse a folder that comes with checksums, as pocket does, and does not match them."""
    sums = folder / "SHA256SUMS"
    for line in read_text(sums, "list of checksums").splitlines() if sums.is_file() else ():
        wanted, _, file = line.partition("  ")
        if not (folder / file).is_file():
            raise BadInput(f"{name} is not whole: {file} is missing. Get the folder again.")
        if hashlib.sha256((folder / file).read_bytes()).hexdigest() != wanted:
            raise BadInput(
                f"{name} is damaged: {file} is not what SHA256SUMS says. Get the folder again, or "
                "delete SHA256SUMS if you changed the file yourself."
            )


def _shards(folder: Path) -> list[str]:
    """List the files that hold the weights: one, or those of the index."""
    index = folder / _INDEX
    if not index.is_file():
        return [_WEIGHTS]
    with explaining_failure(f"{index} is broken"):
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return sorted(str(Path(name)) for name in names)


def check_adapter(folder: Path, name: str) -> None:
    """Refuse an adapter folder without whole weights."""
    _check_weights(folder, name, [ADAPTER])


def _check_weights(folder: Path, name: str, wanted: list[str]) -> None:
    """Refuse weights that are missing, pickled or cut short."""
    missing = [file for file in wanted if not (folder / file).is_file()]
    held = [path.name for path in folder.iterdir()]
    if missing and not any(file.endswith(".safetensors") for file in held):
        refuse_pickles(name, held)
    if missing:
        raise BadInput(
            f"{name} has no weights: {', '.join(missing)} is missing in {str(folder)!r}."
        )
    for file in wanted:
        _check_whole(folder / file)


def refuse_pickles(name: str, held: list[str]) -> None:
    """Refuse weights that come only as a pickle."""
    if pickles := sorted(filter(_PICKLES.fullmatch, held)):
        raise BadInput(
            f"{name} has its weights only as a pickle ({pickles[0]}), and opening a pickle can run "
            "any code. Where you trust it, load it and save it again: "
            "model.save_pretrained(folder) writes safetensors."
        )


def _check_whole(path: Path) -> None:
    """Refuse a safetensors file that was cut short: its header says how long it must be."""
    found = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        size = int.from_bytes(start, "little")
        if start == b"version ":
            raise BadInput(
                f"{path} is a Git LFS pointer, not the weights. Fetch them: git lfs pull."
            )
        if size > _LONGEST_HEADER:
            raise BadInput(f"{path} is not a safetensors file. Copy or download it again.")
        header = file.read(size)
    expected = 8 + size + (_data_size(header, path) if len(header) == size and size else 0)
    if found != expected:
        least = "" if len(header) == size else "at least "
        raise BadInput(
            f"{path} is damaged: it should have {least}{expected:,} bytes and has {found:,}. "
            "Copy or download it again."
        )


def _data_size(header: bytes, path: Path) -> int:
    """Read off a safetensors header how many bytes of weights follow it."""
    with explaining_failure(f"{path} is not a safetensors file"):
        entries: dict[str, Any] = json.loads(header)
        entries.pop("__metadata__", None)
        return max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
