"""Find a model's folder: shipped with the lab, on this disk, or downloaded."""

import hashlib
import re
import shutil
import sys
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from caplab.models.fetch import fetch, fetched_folder
from caplab.models.folder import (
    ADAPTER,
    SHIPPED,
    SMOLLM2,
    check_adapter,
    check_folder,
    refuse_pickles,
)
from caplab.support.errors import BadInput, did_you_mean, explaining_failure
from caplab.support.files import as_path
from caplab.support.safe_text import line_text

__all__ = ["KNOWN", "find_folder", "local_folder"]

KNOWN = (
    *SHIPPED,
    SMOLLM2,
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
# The first part of a path that is no user of the hub, and the last part that a trainer writes.
_FOLDERS = frozenset(
    """adapter adapters artifacts build checkpoint checkpoints ckpt data dist exp experiments final
    home log logs lora merged mnt model models out output outputs result results run runs save saved
    saves tmp train trained training weights work workspace""".split()  # noqa: SIM905
)
_LAST_PART = re.compile(
    r"(checkpoint|ckpt|step|epoch|global_step)[-_]?\d+|checkpoint|final|best|last"
)
_PARTS = re.compile(rf"model[^/]*\.safetensors|{ADAPTER}|[^/]+\.(json|txt|jinja|model)")


def find_folder(name: str, revision: str | None = None) -> Path:
    """Return the folder of a model; download the model if it is not on this disk."""
    if name in (*SHIPPED, SMOLLM2):
        _check_no_revision(name, revision)
        return fetch() if name == SMOLLM2 else Path(str(files("caplab") / "assets" / name))
    path = as_path(name)
    if path.is_dir():
        _check_no_revision(name, revision)
        return path
    if path.is_file():
        raise BadInput(f"{name} is a file. Give the folder that holds it: {str(path.parent)!r}.")
    named = bool(_HUB_NAME.fullmatch(name))
    if named and (found := _cached(name, revision)):
        return found
    if not named or _looks_like_a_path(name):
        raise BadInput(_no_folder(name, path, named))
    return _download(name, revision)


def local_folder(name: str, revision: str | None = None) -> Path | None:
    """Return the folder of a model that is on this disk; None where it would be downloaded."""
    if name == SMOLLM2:
        return fetched_folder() if fetched_folder().is_dir() else None
    if name in SHIPPED or as_path(name).is_dir():
        return find_folder(name, revision)
    return _cached(name, revision) if _HUB_NAME.fullmatch(name) else None


def _no_folder(name: str, path: Path, named: bool) -> str:
    """Say what was looked for on this disk, and where."""
    beside = [str(other) for other in path.parent.glob("*/")] if path.parent.is_dir() else []
    where = "" if path.is_absolute() else f" It was looked up in {str(Path.cwd())!r}."
    hub = " The hub was not asked: this looks like a path." if named else ""
    return f"There is no folder {name!r}.{did_you_mean(name, [*beside, *KNOWN])}{where}{hub}"


def _check_no_revision(name: str, revision: str | None) -> None:
    """Refuse a revision of what does not come from the hub."""
    if revision is not None:
        raise BadInput(f"{name} is on this disk and has no revision {revision!r}: leave it out.")


def _looks_like_a_path(name: str) -> bool:
    """Tell a path, such as `outputs/final`, from a name on the hub, which is one or two words.

    A missing path is never asked for on the hub: somebody else could have put a model there.
    """
    first, *rest = re.split(r"[/\\]", name)
    return (
        len(rest) > 1
        or "\\" in name
        or first.startswith((".", "~"))
        or first.lower() in _FOLDERS
        or bool(_LAST_PART.fullmatch([first, *rest][-1].lower()))
        or (bool(rest) and as_path(first).is_dir())
    )


def _cached(name: str, revision: str | None) -> Path | None:
    """Return the folder of a hub model that is complete on this disk: that needs no network."""
    from huggingface_hub import try_to_load_from_cache

    for file, check in (("config.json", check_folder), ("adapter_config.json", check_adapter)):
        if isinstance(found := try_to_load_from_cache(name, file, revision=revision), str):
            folder = Path(found).parent
            with suppress(BadInput):
                check(folder, name)
                return folder
    return None


def _download(name: str, revision: str | None) -> Path:
    """Download the files of a hub model that the lab needs; print their size first."""
    from huggingface_hub import snapshot_download

    found = _hub_files(name, revision)
    wanted = {file: facts for file, facts in found.items() if _PARTS.fullmatch(file)}
    if not any(file.endswith(".safetensors") for file in wanted):
        refuse_pickles(name, list(found))
        raise BadInput(
            f"{name} has no weights in safetensors on the hub, so the lab cannot load it."
        )
    size = sum(facts.size for facts in wanted.values() if isinstance(facts.size, int))
    _check_room(size, name)
    print(line_text(f"Downloading {name}: {size / 1e6:,.0f} MB, once."), file=sys.stderr)
    with explaining_failure(
        f"The download of {name} stopped. Load it again: the files that arrived are kept"
    ):
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(wanted)))
    for file, facts in wanted.items():
        if facts.lfs:
            _check_arrived(folder / file, facts.lfs.sha256, name)
    return folder


def _check_room(size: int, name: str) -> None:
    """Refuse a download that does not fit on the disk, before it fills the disk."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE).absolute()
    existing = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    if (free := shutil.disk_usage(existing).free) < size:
        raise BadInput(
            f"{name} takes {size / 1e6:,.0f} MB, and only {free / 1e6:,.0f} MB are free where "
            f"models are kept ({cache}). Make room, or choose another disk: HF_HUB_CACHE=..."
        )


def _check_arrived(path: Path, wanted: str, name: str) -> None:
    """Refuse weights whose checksum is not the hub's, and delete them before anybody loads them."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        path.resolve().unlink()  # the blob itself: in the cache, path is a link to it
        path.unlink(missing_ok=True)
        raise BadInput(
            f"{name} arrived damaged: the checksum of {path.name} is not the hub's. "
            "The damaged file was deleted. Load the model again."
        )


def _hub_files(name: str, revision: str | None) -> dict[str, Any]:
    """Ask the hub for a model's files and their sizes: one request of at most five seconds."""
    from huggingface_hub import HfApi, errors

    near = did_you_mean(name, KNOWN)
    try:
        info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=5)
    except errors.GatedRepoError as error:
        raise BadInput(
            f"{name} is gated: accept its terms on its hub page, then run `hf auth login` here."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise BadInput(f"{name} has no revision {revision!r} on the hub.") from error
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
