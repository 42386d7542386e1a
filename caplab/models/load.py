"""Load a language model, from the lab, the hub or a folder."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caplab.models.adapter import apply_adapter, embedding_rows, merges
from caplab.models.config_check import check_quantised, check_sizes
from caplab.models.fetch import FULL_NAME, fetched_folder
from caplab.models.folder import SMOLLM2, check_adapter, check_folder, has_tokenizer, is_folder
from caplab.models.hub import find_folder
from caplab.models.subject import Subject
from caplab.models.weights import is_placed, set_base_name
from caplab.support.errors import BadInput, explaining_failure, require_type, short_repr
from caplab.support.files import as_path
from caplab.support.machine import limit_threads_to_cores
from caplab.support.quiet import quiet

if TYPE_CHECKING:
    import torch

__all__ = ["load", "load_trained", "shown_name"]


def load(
    name: str | os.PathLike[str] = "pocket",
    *,
    device: "str | torch.device | None" = None,
    dtype: "str | torch.dtype | None" = None,
    revision: str | None = None,
    device_map: str | dict[str, Any] | None = None,
) -> Subject:
    """Load a model that the lab knows, any causal one of the hub, or a folder, also of an adapter.

    `"pocket"` and `"pocket2"` come with the lab, `"smollm2"` is fetched. The environment variable
    `CAPLAB_MODEL` replaces `"pocket"`, so that a whole course runs on another model. Weights are
    read from safetensors only, and no downloaded code is ever run.
    The default device is the first of cuda, mps and cpu that this machine has; weights are float32
    unless `dtype` says otherwise: a precision, or `"auto"` for the one they were saved in. A model
    that was saved in 8 or 4 bits stays so. `revision` is a branch, tag or commit on the hub;
    `device_map="auto"` spreads a large model over all devices, as accelerate does.
    """
    return _load(name, _Wanted.of(device, dtype, revision, device_map))


def load_trained(folder: Path) -> Subject:
    """Load the weights that a run saved; they may be an adapter that changes nothing."""
    return _load(folder, replace(_Wanted.of(), idle=True))


@dataclass(frozen=True)
class _Wanted:
    """How a model is to be loaded."""

    dtype: Any  # a torch.dtype or "auto"; None: float32, and "auto" for quantised weights
    device: Any  # a torch.device
    device_map: Any
    revision: str | None
    idle: bool = False  # an adapter may change nothing

    @classmethod
    def of(
        cls, device: Any = None, dtype: Any = None, revision: Any = None, device_map: Any = None
    ) -> "_Wanted":
        """Check what was asked for."""
        if device_map is not None and device is not None:
            raise BadInput("Give a device or a device_map, not both.")
        if device_map is not None and not (device_map and isinstance(device_map, str | dict)):
            raise BadInput(
                f'device_map is "auto" or a dict of devices, not {short_repr(device_map)}.'
            )
        if revision is not None and not (revision and isinstance(revision, str)):
            raise BadInput(
                f"revision is a branch, a tag or a commit as text, not {short_repr(revision)}."
            )
        return cls(_dtype(dtype), _device(device), device_map, revision)


def _load(name: str | os.PathLike[str], wanted: _Wanted) -> Subject:
    """Load a model by its name."""
    require_type(name, (str, os.PathLike), "A model is named by a string or a path")
    name = os.fspath(name)
    if not isinstance(name, str) or not name:
        raise BadInput(f"A model is named by a string or a path, not {short_repr(name)}.")
    replacement = os.environ.get("CAPLAB_MODEL") if name == "pocket" else None
    name = replacement or name
    hint = f" (CAPLAB_MODEL is set to {replacement!r}.)" if replacement else ""
    limit_threads_to_cores()
    try:
        model, tokenizer = _open(name, wanted)
    except OSError as error:
        raise BadInput(f"{name} cannot be read: {error}.{hint}") from error
    except BadInput as error:
        if not hint:
            raise
        raise BadInput(f"{error}{hint}") from error
    if not is_placed(model):
        model = model.to(wanted.device)
    return Subject(model.eval(), tokenizer, shown_name(name))


def shown_name(name: str) -> str:
    """Return the name that results show: of a folder the last part, of smollm2 its exact form."""
    folder = as_path(name).resolve() if is_folder(name) else None
    if name == SMOLLM2 or folder == fetched_folder().resolve():
        return FULL_NAME
    # A folder's name may hold bytes that are not UTF-8 and could not be printed.
    return os.fsencode(folder.name).decode(errors="replace") if folder else name


def _device(wanted: "str | torch.device | None") -> "torch.device":
    """Return the device that is asked for, or the best one of this machine."""
    import torch

    mps = ["mps:0"] if torch.backends.mps.is_available() else []
    available = [*(f"cuda:{number}" for number in range(torch.cuda.device_count())), *mps, "cpu:0"]
    try:
        device = torch.device(available[0].removesuffix(":0") if wanted is None else wanted)
    except (RuntimeError, TypeError) as error:
        raise BadInput(
            f"There is no device {short_repr(wanted)}: choose cuda, mps or cpu."
        ) from error
    if f"{device.type}:{device.index or 0}" not in available:
        raise BadInput(
            f"This machine has no device {str(wanted)!r}. It has: {', '.join(available)}."
        )
    return device


def _dtype(wanted: "str | torch.dtype | None") -> Any:
    """Return the precision that is asked for; None where nothing is."""
    import torch

    if wanted is None or (isinstance(wanted, str) and wanted == "auto"):
        return wanted
    chosen: Any = wanted
    if isinstance(chosen, str):
        chosen = getattr(torch, chosen.removeprefix("torch."), None)
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise BadInput(
            f"There is no precision {short_repr(wanted)}: choose float32, bfloat16, float16 or "
            "auto."
        )
    return chosen


def _open(name: str, wanted: _Wanted, above: tuple[Path, ...] = ()) -> tuple[Any, Any]:
    """Open a model and its tokenizer; for an adapter, its base first.

    `above` are the folders of the adapters that led here, each of which names the next as its base.
    """
    folder = find_folder(name, wanted.revision)
    if folder.resolve() in above:
        raise BadInput(f"{name} is an adapter of itself: adapter_config.json names the wrong base.")
    if (folder / "adapter_config.json").is_file():
        model, tokenizer = _open_adapter(folder, name, wanted, (*above, folder.resolve()))
    else:
        check_folder(folder, name)
        check_sizes(folder, name)
        with quiet():
            model = _open_model(folder, name, wanted)
            tokenizer = _open_tokenizer(folder, name)
        _check_fit(model, tokenizer, name)
    _settle(model, tokenizer)
    set_base_name(model, str(folder.resolve()) if is_folder(name) else name)
    return model, tokenizer


def _check_fit(model: Any, tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer with more tokens than the model has embeddings for."""
    known, tokens = len(model.get_input_embeddings().weight), len(tokenizer)
    if tokens > known:
        raise BadInput(
            f"The tokenizer of {name} has {tokens} tokens and the model knows {known}: they do not "
            "belong together. Save the model's own tokenizer beside it."
        )


def _open_model(folder: Path, name: str, wanted: _Wanted) -> Any:
    """Load the weights; refuse a model some of whose weights would be random, or left over."""
    import torch
    from transformers import AutoModelForCausalLM

    reader: Any = AutoModelForCausalLM
    config = _open_config(folder, name)
    quantised = check_quantised(config, name)
    place = wanted.device_map or ({"": wanted.device} if quantised else None)
    with explaining_failure(f"{name} cannot be loaded"):
        model, report = reader.from_pretrained(
            folder,
            config=config,
            dtype=wanted.dtype or ("auto" if quantised else torch.float32),
            device_map=place,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    for what, keys in (
        ("missing and would be random", report["missing_keys"]),
        ("left over: config.json has no place for them", report["unexpected_keys"]),
    ):
        if keys:
            raise BadInput(
                f"The weights of {name} do not fit its config.json: {len(keys)} are {what} "
                f"({', '.join(sorted(keys)[:3])}). Save the whole model again."
            )
    return model


def _open_config(folder: Path, name: str) -> Any:
    """Read config.json; refuse a model that is not a causal language model."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    with explaining_failure(f"{name}: its config.json describes no model that transformers knows"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        default = CAUSAL.get(config.model_type, config.model_type)
        classes = list(map(str, config.architectures or [default]))
    # T5 and its like are encoder-decoders, BERT and its like have no causal class.
    if config.is_encoder_decoder or not set(classes) & set(CAUSAL.values()):
        raise BadInput(
            f"{name} is a {', '.join(classes)}. The lab needs a causal language model, one that "
            "writes from left to right (ForCausalLM or LMHeadModel in its name), such as gpt2."
        )
    return config


def _open_tokenizer(folder: Path, name: str) -> Any:
    """Load the tokenizer."""
    from transformers import AutoTokenizer

    reader: Any = AutoTokenizer
    with explaining_failure(f"The tokenizer of {name} cannot be read"):
        return reader.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def _open_adapter(
    folder: Path, name: str, wanted: _Wanted, above: tuple[Path, ...]
) -> tuple[Any, Any]:
    """Open the adapter's base, apply the adapter, and merge the two if its method allows that.

    The merged model is a plain one again: it scores faster, and it can be tuned like any other.
    """
    from peft import PeftConfig

    check_adapter(folder, name)
    with explaining_failure(f"{name}: its adapter_config.json cannot be read"):
        config: Any = PeftConfig.from_pretrained(str(folder))
    if not config.base_model_name_or_path:
        raise BadInput(f"{name}: adapter_config.json names no base (base_model_name_or_path).")
    base, below = config.base_model_name_or_path, replace(wanted, revision=config.revision)
    try:
        model, tokenizer = _open(base, below, above)
    except BadInput as error:
        raise BadInput(f"{name} is an adapter of {base}, and that fails: {error}") from error
    with explaining_failure(f"{name} does not fit its base, {base}"):
        if has_tokenizer(folder):  # the adapter's own, perhaps with tokens that its base lacks
            with quiet():
                tokenizer = _open_tokenizer(folder, name)
        _make_room(model, tokenizer, embedding_rows(model, folder), config, name)
        model = apply_adapter(model, folder, name, idle=wanted.idle)
        if merges(model):
            with quiet():
                model = model.merge_and_unload()
    _check_fit(model, tokenizer, name)
    return model, tokenizer


def _make_room(model: Any, tokenizer: Any, rows: int | None, config: Any, name: str) -> None:
    """Give the base as many embeddings as its adapter brings; refuse tokens that have none."""
    known = len(model.get_input_embeddings().weight)
    if rows is None and len(tokenizer) > known:
        if not getattr(config, "trainable_token_indices", None):
            raise BadInput(
                f"The tokenizer of {name} has {len(tokenizer) - known} tokens more than its base, "
                "and the adapter holds no embeddings for them: they would be random. Save it with "
                "save_embedding_layers=True."
            )
        rows = len(tokenizer)
    if rows is not None and rows != known:
        with quiet():
            model.resize_token_embeddings(rows)


def _settle(model: Any, tokenizer: Any) -> None:
    """Set one padding token, end of text and training loss for the model and its tokenizer.

    transformers reads the loss off the class name, and GPT-2's does not tell: without a `loss_type`
    a Trainer would divide by all tokens instead of the predicted ones.
    """
    # A tokenizer without a padding token pads with the end of text, or with what else it has.
    special = (tokenizer.pad_token, tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token)
    tokenizer.pad_token = next(filter(None, special), None) or tokenizer.convert_ids_to_tokens(0)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    if model.generation_config.eos_token_id is None:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.loss_type = model.loss_type or "ForCausalLM"
