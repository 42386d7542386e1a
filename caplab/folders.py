"""Find the folder of a model, on this disk or on the hub, and check that it is whole.

Whatever a model is called, it ends as a folder with config.json, safetensors and a tokenizer. What
can be wrong with that folder is said here, with the name of the file, before a library stumbles.
"""

import hashlib
import json
import re
import shutil
import sys
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from caplab.errors import BadInput, did_you_mean, refusing
from caplab.files import as_path, read_text

__all__ = ["KNOWN", "check_adapter", "check_folder", "find_folder", "has_tokenizer", "is_folder"]

KNOWN = (
    "pocket",
    "gpt2",
    "gpt2-medium",
    "distilgpt2",
    "facebook/opt-125m",
    "EleutherAI/pythia-70m",
    "EleutherAI/pythia-160m",
    "HuggingFaceTB/SmolLM2-135M",
    "Qwen/Qwen2.5-0.5B",
)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_model.safetensors"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_PICKLES = re.compile(r".*\.(bin|pt|pth|ckpt|pkl)")
_PARTS = re.compile(rf"model[^/]*\.safetensors|{_ADAPTER}|[^/]+\.(json|txt|jinja|model)")
_LONGEST_HEADER = 100_000_000  # bytes; safetensors itself refuses a longer one


def is_folder(name: str) -> bool:
    """Tell a folder from a name; `pocket` is always the model that ships with the lab."""
    return name != "pocket" and as_path(name).is_dir()


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a tokenizer lies in the folder."""
    return any((folder / file).is_file() for file in _TOKENIZERS)


def find_folder(name: str) -> Path:
    """Find the folder of a model: shipped with the lab, on this disk, or downloaded."""
    if name == "pocket":
        return Path(str(files("caplab") / "assets" / "pocket"))
    path = as_path(name)
    if path.is_dir():
        return path
    if path.is_file():
        raise BadInput(f"{name} is a file. Give the folder that holds it: {str(path.parent)!r}.")
    if not _HUB_NAME.fullmatch(name):
        beside = [str(other) for other in path.parent.glob("*/")] if path.parent.is_dir() else []
        raise BadInput(f"There is no folder {name!r}.{did_you_mean(name, [*beside, *KNOWN])}")
    return _cached(name) or _download(name)


# ---------------------------------------------------------------- is it whole?


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
    with refusing(f"{index} is broken"):
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return sorted(str(Path(name)) for name in names)


def check_adapter(folder: Path, name: str) -> None:
    """Refuse an adapter folder without whole weights."""
    _check_weights(folder, name, [_ADAPTER])


def _check_weights(folder: Path, name: str, wanted: list[str]) -> None:
    """Refuse weights that are missing, pickled or cut short."""
    missing = [file for file in wanted if not (folder / file).is_file()]
    held = [path.name for path in folder.iterdir()]
    if missing and not any(file.endswith(".safetensors") for file in held):
        _refuse_pickles(name, held)
    if missing:
        raise BadInput(
            f"{name} has no weights: {', '.join(missing)} is missing in {str(folder)!r}."
        )
    for file in wanted:
        _check_whole(folder / file)


def _refuse_pickles(name: str, held: list[str]) -> None:
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
    with refusing(f"{path} is not a safetensors file"):
        entries: dict[str, Any] = json.loads(header)
        entries.pop("__metadata__", None)
        return max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)


# ---------------------------------------------------------------- the hub


def _cached(name: str) -> Path | None:
    """Return the copy of a hub model on this disk if it is whole: that needs no network."""
    from huggingface_hub import try_to_load_from_cache

    for file, check in (("config.json", check_folder), ("adapter_config.json", check_adapter)):
        if isinstance(found := try_to_load_from_cache(name, file), str):
            folder = Path(found).parent
            with suppress(BadInput):
                check(folder, name)
                return folder
    return None


def _download(name: str) -> Path:
    """Download the parts of a hub model that are needed, their size said beforehand."""
    from huggingface_hub import snapshot_download

    files = _hub_files(name)
    wanted = {file: facts for file, facts in files.items() if _PARTS.fullmatch(file)}
    if not any(file.endswith(".safetensors") for file in wanted):
        _refuse_pickles(name, list(files))
        raise BadInput(
            f"{name} has no weights in safetensors on the hub, so the lab cannot load it."
        )
    size = sum(facts.size for facts in wanted.values() if isinstance(facts.size, int))
    _check_room(size, name)
    print(f"Downloading {name}: {size / 1e6:,.0f} MB, once.", file=sys.stderr)
    with refusing(f"The download of {name} stopped. Load it again: files that arrived are kept"):
        folder = Path(snapshot_download(name, allow_patterns=list(wanted)))
    for file, facts in wanted.items():
        if facts.lfs:
            _check_arrived(folder / file, facts.lfs.sha256, name)
    return folder


def _check_room(size: int, name: str) -> None:
    """Refuse a download that the disk has no room for, before it fills the disk."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE).absolute()
    place = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    if (free := shutil.disk_usage(place).free) < size:
        raise BadInput(
            f"{name} has {size / 1e6:,.0f} MB, and only {free / 1e6:,.0f} MB are free where models "
            f"are kept ({cache}). Make room, or name another disk: HF_HUB_CACHE=..."
        )


def _check_arrived(path: Path, wanted: str, name: str) -> None:
    """Refuse weights that are not those of the hub, and remove them: they would be loaded later."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise BadInput(
            f"{name} arrived damaged: the checksum of {path.name} is not the hub's. "
            "The damaged file is removed. Load the model again."
        )


def _hub_files(name: str) -> dict[str, Any]:
    """Ask the hub what it knows of a model's files: one request, no retries, five seconds."""
    from huggingface_hub import HfApi, errors

    near = did_you_mean(name, KNOWN)
    try:
        info = HfApi().model_info(name, files_metadata=True, timeout=5)
    except errors.GatedRepoError as error:
        raise BadInput(
            f"{name} is gated: accept its terms on its hub page, then run `hf auth login` here."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise BadInput(
            f"There is no model {name!r}, neither as a folder here nor on the hub.{near}"
        ) from error
    except Exception as error:
        raise BadInput(
            f"{name!r} is not on this disk and the hub cannot be reached ({type(error).__name__})."
            f'{near} Connect and try again, or use load("pocket"): it needs no network.'
        ) from error
    return {file.rfilename: file for file in info.siblings or []}
