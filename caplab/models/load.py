"""Load a language model, whatever its name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caplab.models.folder import check_adapter, check_folder, has_tokenizer, is_folder
from caplab.models.hub import find_folder
from caplab.models.subject import Subject
from caplab.models.weights import set_base_name
from caplab.support.errors import BadInput, explaining_failure, require_type, short_repr
from caplab.support.files import as_path
from caplab.support.machine import limit_threads_to_cores
from caplab.support.quiet import quiet

if TYPE_CHECKING:
    import torch

__all__ = ["load"]


def load(
    name: str | os.PathLike[str] = "pocket",
    *,
    device: "str | torch.device | None" = None,
    dtype: "str | torch.dtype | None" = None,
) -> Subject:
    """Load `"pocket"`, `"gpt2"`, any causal model of the hub, or a folder, adapters included.

    The environment variable `CAPLAB_MODEL` stands in for `"pocket"`, so that a whole course runs on
    another model. Weights are read from safetensors only, and no code of a download ever runs.
    The device is the first of cuda, mps and cpu that is here; weights are float32 unless `dtype`
    says otherwise.
    """
    require_type(name, (str, os.PathLike), "A model is named by a text or a path")
    name = os.fspath(name)
    if not isinstance(name, str) or not name:
        raise BadInput(f"A model is named by a text or a path, not {short_repr(name)}.")
    stand_in = os.environ.get("CAPLAB_MODEL") if name == "pocket" else None
    name = stand_in or name
    place, precision = _device(device), _dtype(dtype)
    limit_threads_to_cores()
    try:
        with _readable(name):
            model, tokenizer = _open(name, precision)
    except BadInput as error:
        if not stand_in:
            raise
        raise BadInput(f"{error} (CAPLAB_MODEL is set to {stand_in!r}.)") from error
    title = _spelt(as_path(name).resolve().name) if is_folder(name) else name
    return Subject(model.to(place).eval(), tokenizer, title)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Say in words that a file of a model may not be read."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{name} cannot be read: {error}.") from error


def _spelt(name: str) -> str:
    """Write a folder's name, whatever its bytes, in characters that can be shown."""
    return os.fsencode(name).decode(errors="replace")


def _device(wanted: "str | torch.device | None") -> "torch.device":
    """Take the device that is asked for, or the best one here."""
    import torch

    mps = ["mps:0"] if torch.backends.mps.is_available() else []
    here = [*(f"cuda:{number}" for number in range(torch.cuda.device_count())), *mps, "cpu:0"]
    try:
        device = torch.device(here[0].removesuffix(":0") if wanted is None else wanted)
    except (RuntimeError, TypeError) as error:
        raise BadInput(
            f"There is no device {short_repr(wanted)}: choose cuda, mps or cpu."
        ) from error
    if f"{device.type}:{device.index or 0}" not in here:
        raise BadInput(f"This machine has no device {str(wanted)!r}. It has: {', '.join(here)}.")
    return device


def _dtype(wanted: "str | torch.dtype | None") -> "torch.dtype":
    """Take the precision that is asked for, or float32."""
    import torch

    chosen: Any = torch.float32 if wanted is None else wanted
    if isinstance(chosen, str):
        chosen = getattr(torch, chosen.removeprefix("torch."), None)
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise BadInput(
            f"There is no precision {short_repr(wanted)}: choose float32, bfloat16 or float16."
        )
    return chosen


def _open(name: str, dtype: "torch.dtype", above: tuple[Path, ...] = ()) -> tuple[Any, Any]:
    """Open a model and its tokenizer; for an adapter, its base as well."""
    folder = find_folder(name)
    if folder.resolve() in above:
        raise BadInput(f"{name} is an adapter of itself: adapter_config.json names the wrong base.")
    if (folder / "adapter_config.json").is_file():
        model, tokenizer = _open_adapter(folder, name, dtype, (*above, folder.resolve()))
    else:
        check_folder(folder, name)
        with quiet():
            model = _open_model(folder, name, dtype)
            tokenizer = _open_tokenizer(folder, name)
        _check_fit(model, tokenizer, name)
    _settle(model, tokenizer)
    set_base_name(model, str(folder.resolve()) if is_folder(name) else name)
    return model, tokenizer


def _check_fit(model: Any, tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer that writes what the model cannot read."""
    known, words = model.get_input_embeddings().num_embeddings, len(tokenizer)
    if words > known:
        raise BadInput(
            f"The tokenizer of {name} has {words} tokens and the model knows {known}: they do not "
            "belong together. Save the model's own tokenizer beside it."
        )


def _open_model(folder: Path, name: str, dtype: "torch.dtype") -> Any:
    """Read the weights, and refuse a model of which some would be random."""
    from transformers import AutoModelForCausalLM

    reader: Any = AutoModelForCausalLM
    config = _open_config(folder, name)
    with explaining_failure(f"{name} cannot be loaded"):
        model, report = reader.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    if missing := sorted(report["missing_keys"]):
        raise BadInput(
            f"The weights of {name} do not fit its config.json: {len(missing)} are missing and "
            f"would be random ({', '.join(missing[:3])}). Save the model again, whole."
        )
    return model


def _open_config(folder: Path, name: str) -> Any:
    """Read config.json, and refuse a model that does not write text from left to right."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    with explaining_failure(f"{name}: its config.json describes no model that transformers knows"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        own = CAUSAL.get(config.model_type, config.model_type)
        built = list(map(str, config.architectures or [own]))
    if config.is_encoder_decoder or not set(built) & set(CAUSAL.values()):
        raise BadInput(
            f"{name} is a {', '.join(built)}. The lab needs a causal language model, one that "
            "writes from left to right (ForCausalLM or LMHeadModel in its name), such as gpt2."
        )
    return config


def _open_tokenizer(folder: Path, name: str) -> Any:
    """Read the tokenizer."""
    from transformers import AutoTokenizer

    reader: Any = AutoTokenizer
    with explaining_failure(f"The tokenizer of {name} cannot be read"):
        return reader.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def _open_adapter(
    folder: Path, name: str, dtype: "torch.dtype", above: tuple[Path, ...]
) -> tuple[Any, Any]:
    """Open the adapter's base, put the adapter on it, and merge the two where the method can.

    Merged, it is a plain model again: it scores faster and can be tuned on like any other.
    """
    from peft import PeftConfig, PeftModel

    check_adapter(folder, name)
    with explaining_failure(f"{name}: its adapter_config.json cannot be read"):
        config: Any = PeftConfig.from_pretrained(str(folder))
    if not config.base_model_name_or_path:
        raise BadInput(f"{name}: adapter_config.json names no base (base_model_name_or_path).")
    try:
        model, tokenizer = _open(base := config.base_model_name_or_path, dtype, above)
    except BadInput as error:
        raise BadInput(f"{name} is an adapter of {base}, and that fails: {error}") from error
    with quiet(), explaining_failure(f"{name} does not fit its base, {base}"):
        if has_tokenizer(folder):
            tokenizer = _open_tokenizer(folder, name)
            if len(tokenizer) > model.get_input_embeddings().num_embeddings:
                model.resize_token_embeddings(len(tokenizer))
        model = PeftModel.from_pretrained(model, str(folder))
        if not config.is_prompt_learning:
            model = model.merge_and_unload()
    return model, tokenizer


def _settle(model: Any, tokenizer: Any) -> None:
    """Let model and tokenizer agree on padding, on the end of a text and on the training loss.

    The end-of-text token pads only where a tokenizer has no padding of its own. The class name of
    GPT-2 does not tell transformers which loss it has, and a Trainer then divides by all tokens
    instead of the predicted ones.
    """
    special = (tokenizer.pad_token, tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token)
    tokenizer.pad_token = next(filter(None, special), None) or tokenizer.convert_ids_to_tokens(0)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    if model.generation_config.eos_token_id is None:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.loss_type = model.loss_type or "ForCausalLM"
