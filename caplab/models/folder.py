"""Check that a model folder is complete before a library stumbles over it.

Only the standard library and `caplab.support` are imported at the top: `python lab.py doctor` uses
`damaged_files` before anything is installed.
"""

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path

from caplab.support.errors import BadInput, explaining_failure
from caplab.support.files import as_path, read_text

__all__ = [
    "ADAPTER",
    "SMOLLM2",
    "check_adapter",
    "check_folder",
    "check_weights",
    "damaged_files",
    "has_tokenizer",
    "is_folder",
    "refuse_pickles",
    "weight_files",
]

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
SMOLLM2 = "smollm2"  # the name of the model that models/fetch.py gets
SHIPPED = ("pocket", "pocket2")  # the models that come with the lab, in assets/
_CHECKSUMS = "SHA256SUMS"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_PICKLES = re.compile(r".*\.(bin|pt|pth|ckpt|pkl)")
_MAX_HEADER = 100_000_000  # bytes; safetensors refuses a longer header


def is_folder(name: str) -> bool:
    """Check whether a name is a folder; the lab's own models keep their names in any case."""
    return name not in (*SHIPPED, SMOLLM2) and as_path(name).is_dir()


def has_tokenizer(folder: Path) -> bool:
    """Check whether a folder contains a tokenizer."""
    return any((folder / file).is_file() for file in _TOKENIZERS)


def check_folder(folder: Path, name: str) -> None:
    """Refuse a folder that lacks a part of a model, and name the part."""
    if not (folder / "config.json").is_file():
        found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
        raise BadInput(
            f"{name} is not a model folder: it has no config.json (it contains {found})."
        )
    check_weights(folder, name)
    _check_sums(folder, name)
    if not has_tokenizer(folder):
        raise BadInput(
            f"{name} has no tokenizer (tokenizer.json). "
            "Save it beside the model: tokenizer.save_pretrained(folder)."
        )


def check_weights(folder: Path, name: str) -> None:
    """Refuse a folder in which the weights of a model are not complete."""
    _check_weights(folder, name, weight_files(folder))


def check_adapter(folder: Path, name: str) -> None:
    """Refuse an adapter folder whose weights are not complete."""
    _check_weights(folder, name, [ADAPTER])


def damaged_files(folder: Path) -> list[str]:
    """List the files that are missing or differ from the folder's SHA256SUMS, if it has one."""
    sums, damaged = folder / _CHECKSUMS, []
    for line in read_text(sums, "list of checksums").splitlines() if sums.is_file() else ():
        expected, _, file = line.partition("  ")
        path = folder / file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            damaged.append(file)
    return damaged


def _check_sums(folder: Path, name: str) -> None:
    """Refuse a folder that comes with checksums, as pocket does, and does not match them."""
    for file in damaged_files(folder):
        if not (folder / file).is_file():
            raise BadInput(f"{name} is not complete: {file} is missing. Get the folder again.")
        raise BadInput(
            f"{name} is damaged: {file} does not match {_CHECKSUMS}. Get the folder again, or "
            f"delete {_CHECKSUMS} if you changed the file yourself."
        )


def weight_files(folder: Path) -> list[str]:
    """List the files of the weights: a single one, or those of the index."""
    index = folder / _INDEX
    if not index.is_file():
        return [_WEIGHTS]
    with explaining_failure(f"{index} is broken"):
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return sorted(str(Path(name)) for name in names)


def _check_weights(folder: Path, name: str, wanted: list[str]) -> None:
    """Refuse weights that are missing, pickled or damaged."""
    missing = [file for file in wanted if not (folder / file).is_file()]
    found = [path.name for path in folder.iterdir()]
    if missing and not any(file.endswith(".safetensors") for file in found):
        refuse_pickles(name, found)
    if missing:
        raise BadInput(
            f"{name} has no weights: {', '.join(missing)} is missing in {str(folder)!r}."
        )
    for file in wanted:
        _check_safetensors(folder / file)


def refuse_pickles(name: str, found: list[str]) -> None:
    """Refuse weights that come only as a pickle; `found` are the names of the model's files."""
    if pickles := sorted(filter(_PICKLES.fullmatch, found)):
        raise BadInput(
            f"{name} has its weights only as a pickle ({pickles[0]}), and opening a pickle can run "
            "any code. If you trust it, load it and save it again: "
            "model.save_pretrained(folder) writes safetensors."
        )


def _check_safetensors(path: Path) -> None:
    """Refuse weights that were cut short or are something else than safetensors."""
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        if file.read(8) == b"version ":
            raise BadInput(
                f"{path} is a Git LFS pointer, not the weights. Fetch them: git lfs pull."
            )
    try:
        with safe_open(path, framework="numpy"):  # compares the header with the file's length
            pass
    except SafetensorError as error:
        found, least = path.stat().st_size, _least_size(path)
        problem = f"is not a valid safetensors file: {error}"
        if found < least:
            problem = f"is damaged: it should have at least {least:,} bytes and has {found:,}"
        raise BadInput(f"{path} {problem}. Copy or download it again.") from error


def _least_size(path: Path) -> int:
    """Return how many bytes a safetensors file must have, as far as its header says."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")  # of the header that follows
        if size > _MAX_HEADER:
            return 0
        header = file.read(size)
    ends = [0]
    with suppress(Exception):  # a header that was cut says nothing about the tensors behind it
        tensors = json.loads(header)
        tensors.pop("__metadata__", None)
        ends += [int(tensor["data_offsets"][1]) for tensor in tensors.values()]
    return 8 + size + max(ends)
