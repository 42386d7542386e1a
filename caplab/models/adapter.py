"""Apply an adapter to its base: all of it, and nothing that it does not hold.

PEFT warns of weights that it does not find and is silent about those that it does not know, and
answers as the base would. Here each of them is refused by name.
"""

import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from caplab.models.folder import ADAPTER
from caplab.support.errors import BadInput
from caplab.support.quiet import quiet
from caplab.support.safe_text import line_text

__all__ = ["apply_adapter", "embedding_rows", "merges"]

# What compiling, and training in parallel, write into the names of weights.
_WRAPPERS = re.compile(
    r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
    r"|(?:(?<=^)|(?<=^base_model\.model\.))(module)\."
)
_OWN_NAME = re.compile(r"(?<=\.lora_A)\.(default)(?=\.)|(?<=\.lora_B)\.(default)(?=\.)")
_PREFIX = "base_model.model."  # which PEFT writes before each name
_SHOWN = 3  # names in a message


def apply_adapter(model: Any, folder: Path, name: str, *, idle: bool = False) -> Any:
    """Return the base with an adapter applied; refuse one of which a part would have no effect.

    Names that a compiled or parallel training gave to the weights are put right, with a word.
    `idle` accepts an adapter that changes nothing.
    """
    weights = _read(folder)
    names = _right_names(weights)
    if not idle:
        _check_effect(weights, name)
    if taken := {key: right for key, right in names.items() if key != right}:
        key, right = next(iter(taken.items()))
        said = f"{name}: {len(taken)} weights go by other names: {key} is {right}."
        print(line_text(said), file=sys.stderr)
    with TemporaryDirectory() as renamed:
        if taken:
            folder = _renamed(folder, weights, names, Path(renamed))
        return _applied(model, folder, name)


def embedding_rows(model: Any, folder: Path) -> int | None:
    """Return how many tokens an adapter has embeddings for; None where it leaves them alone."""
    table = model.get_input_embeddings()
    place = next(name for name, module in model.named_modules() if module is table)
    weights = _read(folder)
    found = {right: key for key, right in _right_names(weights).items()}
    key = found.get(f"{_PREFIX}{place}.weight")
    return None if key is None else len(weights[key])


def merges(model: Any) -> bool:
    """Tell whether an adapter can be merged into its base without a change of any answer.

    A tuned prompt is input: there are no weights to merge. Merging into 8 or 4 bits would round.
    And an embedding that is the output head as well would change in both places.
    """
    if model.active_peft_config.is_prompt_learning or getattr(model, "is_quantized", False):
        return False
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    adapted = [hasattr(layer, "base_layer") for layer in (table, head)]
    return not any(adapted) or table.weight is not head.weight


def _read(folder: Path) -> dict[str, Any]:
    """Read the weights of an adapter."""
    from safetensors.torch import load_file

    return load_file(folder / ADAPTER)


def _right_names(weights: dict[str, Any]) -> dict[str, str]:
    """Return the name of each weight as PEFT writes it."""
    names = {key: _OWN_NAME.sub("", _WRAPPERS.sub("", key)) for key in weights}
    if any("lora_" in key for key in weights) and not any(
        key.startswith("base_model.") for key in names.values()
    ):
        names = {key: _PREFIX + right for key, right in names.items()}
    return names


def _renamed(folder: Path, weights: dict[str, Any], names: dict[str, str], into: Path) -> Path:
    """Write the adapter once more, with the right names."""
    from safetensors.torch import save_file

    shutil.copy(folder / "adapter_config.json", into)
    save_file({names[key]: weight for key, weight in weights.items()}, into / ADAPTER)
    return into


def _check_effect(weights: dict[str, Any], name: str) -> None:
    """Refuse an adapter that is its base: what LoRA adds is A times B, and B begins at zero."""
    if not weights:
        raise BadInput(f"{name} holds no weights: it would be judged as its base. Save it again.")
    plain = all(re.search(r"\.lora_(embedding_)?[AB]\b", key) for key in weights)
    added = [weight for key, weight in weights.items() if re.search(r"\.lora_(embedding_)?B", key)]
    if plain and not any(weight.count_nonzero() for weight in added):
        raise BadInput(
            f"{name} changes nothing: each of its {len(added)} lora_B is zero, as before a "
            "training. Save the adapter after the training, or give its base."
        )


def _applied(model: Any, folder: Path, name: str) -> Any:
    """Let PEFT apply the adapter, and compare what it took with what there is."""
    from peft import PeftModel

    mapping = getattr(model, "_checkpoint_conversion_mapping", None)
    try:
        with quiet():
            tuned = PeftModel.from_pretrained(model, str(folder))
            # Again, because only this says what it took.
            taken = tuned.load_adapter(str(folder), tuned.active_adapter, key_mapping=mapping)
    except KeyError as error:
        raise BadInput(
            f"{name} does not hold what its adapter_config.json promises: {error.args[0]} is "
            "missing (modules_to_save). Save the adapter again, whole."
        ) from error
    if tuned.active_peft_config.is_prompt_learning:  # its only weight is loaded, or PEFT raises
        return tuned
    trouble = [
        f"{len(keys)} {what} ({', '.join(map(_shown, keys[:_SHOWN]))}"
        f"{', ...' if len(keys) > _SHOWN else ''})"
        for what, keys in (
            ("are missing", sorted(taken.missing_keys)),
            ("belong nowhere", sorted(taken.unexpected_keys)),
        )
        if keys
    ]
    if trouble:
        raise BadInput(
            f"{name} does not fit its base and its adapter_config.json: of its weights "
            f"{' and '.join(trouble)}. It would be judged as another model. Save it again, with "
            "PEFT's save_pretrained."
        )
    return tuned


def _shown(key: str) -> str:
    """Write the name of a weight as it stands in the file."""
    return key.replace(".default", "")
