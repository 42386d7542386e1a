"""Load a language model, whatever its name, and ask it something."""

import ctypes
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caplab.errors import BadInput, refusing, require, shown
from caplab.files import as_path
from caplab.folders import check_adapter, check_folder, find_folder, has_tokenizer, is_folder

if TYPE_CHECKING:
    import torch

__all__ = ["Subject", "call", "cores", "load", "measuring", "one_thread", "quiet", "rest"]

_FAMILIES = {
    "gpt2": "GPT-2",
    "gpt_neox": "GPT-NeoX",
    "llama": "Llama",
    "opt": "OPT",
    "qwen2": "Qwen2",
}
_DEFAULT_CONTEXT = 2048  # what lm-evaluation-harness takes for a model that names no limit


@dataclass(eq=False, repr=False)
class Subject:
    """A model with its tokenizer, and the name it goes by."""

    model: Any
    tokenizer: Any
    name: str

    @property
    def device(self) -> "torch.device":
        """Tell where the model's weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def context(self) -> int:
        """Tell how many tokens the model reads at once, beside those of a tuned prompt."""
        config = self.model.config.get_text_config()
        limits = (getattr(config, "max_position_embeddings", 0), self.tokenizer.model_max_length)
        adapter = getattr(self.model, "active_peft_config", None)
        room = next((int(limit) for limit in limits if limit and limit < 1e9), _DEFAULT_CONTEXT)
        return room - (getattr(adapter, "num_virtual_tokens", 0) or 0)

    @property
    def parameters(self) -> int:
        """Count the model's weights, each once where layers share them."""
        return sum(weight.numel() for weight in self.model.parameters())

    def ask(self, question: str, max_new_tokens: int = 30) -> str:
        """Let the model go on after the question, with the likeliest token each time."""
        inputs = self._read(question, max_new_tokens)
        asked = inputs["input_ids"].shape[1]
        with measuring(self.model), quiet():
            output = self.model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,
                max_new_tokens=min(max_new_tokens, self.context - asked),
                pad_token_id=self.tokenizer.pad_token_id,
            )
        return str(self.tokenizer.decode(output[0, asked:], skip_special_tokens=True)).strip()

    def _read(self, question: str, max_new_tokens: int) -> dict[str, Any]:
        """Turn the question into token ids, and refuse what cannot be asked."""
        if not isinstance(question, str) or not question:
            raise BadInput(f"A question is a text, not {shown(question)}.")
        if any("\ud800" <= letter <= "\udfff" for letter in question):
            raise BadInput(f"The question holds half a character ({question!a:.80}).")
        if type(max_new_tokens) is not int or max_new_tokens < 1:
            wanted = "a whole number from 1 on"
            raise BadInput(f"max_new_tokens is {wanted}, not {shown(max_new_tokens)}.")
        tokens = self.tokenizer(question, return_tensors="pt", verbose=False).to(self.device)
        if (asked := tokens["input_ids"].shape[1]) >= self.context:
            raise BadInput(
                f"The question has {asked} tokens and {self.name} reads {self.context} at once: "
                "no room is left for an answer. Shorten the question."
            )
        return {key: tokens[key] for key in ("input_ids", "attention_mask")}

    def __repr__(self) -> str:
        family = _FAMILIES.get(self.model.config.model_type) or type(self.model).__name__
        return (
            f"Subject {self.name}: {_count(self.parameters)} parameters, {family}, "
            f"{self.context}-token context, {self.device}"
        )

    def _repr_html_(self) -> str:
        name, _, facts = repr(self).partition(": ")
        return f"<b>{escape(name)}</b>: {escape(facts)}"


def _count(number: int) -> str:
    """Write a large number for people: 1.0 M."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.95 * size:
            return f"{number / size:.1f} {unit}"
    return str(number)


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
    require(name, (str, os.PathLike), "A model is named by a text or a path")
    name = os.fspath(name)
    if not isinstance(name, str) or not name:
        raise BadInput(f"A model is named by a text or a path, not {shown(name)}.")
    stand_in = os.environ.get("CAPLAB_MODEL") if name == "pocket" else None
    name = stand_in or name
    place, precision = _device(device), _dtype(dtype)
    _share_cores()
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


# ---------------------------------------------------------------- measuring


@contextmanager
def measuring(model: Any) -> Iterator[None]:
    """Measure a model as it is, and leave it as it was.

    Inside: evaluation mode, no gradient, the model's own precision, whatever autocast a training
    has opened or accelerate has wrapped around `forward`. Afterwards: the mode of every submodule
    and the random state are what they were. It is `no_grad` and not `inference_mode`, because a
    model that kept a tensor of the latter could not be trained on.
    """
    import torch

    modes = [(module, module.training) for module in model.modules()]
    place = next(model.parameters()).device
    with ExitStack() as stack:
        stack.callback(_restore, modes)
        stack.enter_context(torch.random.fork_rng([place] if place.type == "cuda" else []))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(place.type, enabled=False))
        stack.enter_context(_own_forward(model))
        model.eval()
        yield


def _restore(modes: list[tuple[Any, bool]]) -> None:
    """Give every submodule the mode it had."""
    for module, training in modes:
        module.training = training


@contextmanager
def _own_forward(model: Any) -> Iterator[None]:
    """Take off, for a moment, the mixed precision that accelerate wraps around `forward`."""
    kept = vars(model)
    if "forward" not in kept or "_original_forward" not in kept:
        yield
        return
    wrapped, model.forward = model.forward, model._original_forward
    try:
        yield
    finally:
        model.forward = wrapped


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' reports, warnings and loading bars off the screen for a while."""
    from transformers.utils import logging

    library: Any = logging
    verbosity, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        library.set_verbosity(verbosity)
        if bars:
            library.enable_progress_bar()


# ---------------------------------------------------------------- the machine


def cores() -> int:
    """Count the cores that this process may use.

    The quota of a container and the `CPU_LIMIT` of a JupyterHub count too. Torch does not see them,
    and threads beyond the quota spend their time waiting for one another.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    limits = [float(len(affinity(0)) if affinity else os.cpu_count() or 1), *_quotas()]
    return max(1, int(min(limits)))


def _quotas() -> Iterator[float]:
    """Yield the limits, in cores, that a container or a classroom sets."""
    version_1 = f"{_cgroup('cpu/cpu.cfs_quota_us')} {_cgroup('cpu/cpu.cfs_period_us')}"
    for limit in (_cgroup("cpu.max"), version_1):
        if match := re.fullmatch(r"(\d+) (\d+)", limit):
            yield int(match[1]) / int(match[2])
    if re.fullmatch(r"\d+(\.\d+)?", limit := os.environ.get("CPU_LIMIT", "")):
        yield float(limit)


def _cgroup(name: str) -> str:
    """Read one of the container's limits; nothing where there is none."""
    try:
        return Path("/sys/fs/cgroup", name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _share_cores() -> None:
    """Lower torch's threads to the cores at hand, unless `OMP_NUM_THREADS` has spoken."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores():
        torch.set_num_threads(cores())


@contextmanager
def one_thread() -> "Iterator[None]":
    """Compute with a single thread for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rest() -> None:
    """Send this thread's OpenMP helpers home; they are called again when it computes something.

    OpenMP counts the helpers of all threads against the cores. Where there are too many, each falls
    asleep at once instead of waiting a moment for its next work, and what another thread trains
    takes half as long again.
    """
    if sys.platform == "linux":
        softly = 1  # OpenMP's own settings stay
        pause = getattr(ctypes.CDLL(None), "omp_pause_resource_all", lambda _: None)
        pause(softly)


def _device(wanted: "str | torch.device | None") -> "torch.device":
    """Take the device that is asked for, or the best one here."""
    import torch

    mps = ["mps:0"] if torch.backends.mps.is_available() else []
    here = [*(f"cuda:{number}" for number in range(torch.cuda.device_count())), *mps, "cpu:0"]
    try:
        device = torch.device(here[0].removesuffix(":0") if wanted is None else wanted)
    except (RuntimeError, TypeError) as error:
        raise BadInput(f"There is no device {shown(wanted)}: choose cuda, mps or cpu.") from error
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
            f"There is no precision {shown(wanted)}: choose float32, bfloat16 or float16."
        )
    return chosen


# ---------------------------------------------------------------- opening a folder


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
    call(model, str(folder.resolve()) if is_folder(name) else name)
    return model, tokenizer


def call(model: Any, name: str) -> None:
    """Give a model the name under which an adapter trained on it will look for its base.

    Weights that lie nowhere have none, such as those of a training or a mixture.
    """
    model.name_or_path = model.config.name_or_path = name


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
    with refusing(f"{name} cannot be loaded"):
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

    with refusing(f"{name}: its config.json describes no model that transformers knows"):
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
    with refusing(f"The tokenizer of {name} cannot be read"):
        return reader.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def _open_adapter(
    folder: Path, name: str, dtype: "torch.dtype", above: tuple[Path, ...]
) -> tuple[Any, Any]:
    """Open the adapter's base, put the adapter on it, and merge the two where the method can.

    Merged, it is a plain model again: it scores faster and can be tuned on like any other.
    """
    from peft import PeftConfig, PeftModel

    check_adapter(folder, name)
    with refusing(f"{name}: its adapter_config.json cannot be read"):
        config: Any = PeftConfig.from_pretrained(str(folder))
    if not config.base_model_name_or_path:
        raise BadInput(f"{name}: adapter_config.json names no base (base_model_name_or_path).")
    try:
        model, tokenizer = _open(base := config.base_model_name_or_path, dtype, above)
    except BadInput as error:
        raise BadInput(f"{name} is an adapter of {base}, and that fails: {error}") from error
    with quiet(), refusing(f"{name} does not fit its base, {base}"):
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
