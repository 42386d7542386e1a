"""Check what a config.json asks for before a library tries to build it."""

import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from caplab.models.folder import weight_files
from caplab.support.errors import BadInput, explaining_failure, short_repr

__all__ = ["check_quantised", "check_sizes"]

_COUNTS = re.compile(r"(n|num)_.*(layers?|blocks|experts|heads)|n_(layer|head)s?")
_LAYERS = re.compile(r"num_(hidden_)?layers|n_layers?")
_WIDTHS = re.compile(r".*(_size|_dim|n_embd|n_inner|d_model|width|_rank)")
_MOST = 10_000  # layers, heads or experts; no model has that many
_PACKED = 2  # numbers in a byte at most: of 4 bits each
# The package behind a way to quantise, where the two have different names.
_PACKAGES = {
    "awq": "gptqmodel",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed_tensors",
    "gptq": "gptqmodel",
    "hqq": "hqq",
    "quanto": "optimum.quanto",
    "torchao": "torchao",
}


def check_sizes(folder: Path, name: str) -> None:
    """Refuse a model of more layers, or greater width, than its weights can fill.

    A library would try to build it, for hours, before it looks at the weights.
    """
    from safetensors import safe_open

    path = folder / "config.json"
    with explaining_failure(f"{path} is broken"):
        config = json.loads(path.read_text(encoding="utf-8"))
    files = [folder / file for file in weight_files(folder)]
    numbers = _PACKED * sum(file.stat().st_size for file in files)
    tensors = 0
    for file in files:
        with safe_open(file, framework="numpy") as weights:
            tensors += len(weights.keys())
    for key, value in _integers(config):
        layers = _LAYERS.fullmatch(key)
        most = tensors if layers else _MOST if _COUNTS.fullmatch(key) else None
        most = numbers if most is None and _WIDTHS.fullmatch(key) else most
        if most is not None and not 0 <= value <= most:
            what = f"{tensors} weights" if layers else f"{numbers // _PACKED:,} bytes of weights"
            raise BadInput(
                f"{name}: config.json says {key} {short_repr(value)}, and there are {what}: they "
                "do not belong together. Save the whole model again."
            )


def _integers(config: Any) -> Iterator[tuple[str, int]]:
    """Find all whole numbers of a configuration, also those of its parts."""
    if isinstance(config, dict):
        for key, value in config.items():
            if type(value) is int:
                yield str(key), value
            yield from _integers(value)


def check_quantised(config: Any, name: str) -> bool:
    """Tell whether the weights are quantised; say which package is missing to read them."""
    found = getattr(config, "quantization_config", None)
    if found is None:
        return False
    fields = found if isinstance(found, dict) else vars(found)
    method = str(getattr(fields.get("quant_method"), "value", fields.get("quant_method")))
    package = _PACKAGES.get(method)
    if package and not _is_here(package):
        raise BadInput(
            f"{name} is quantised with {method}, and reading that needs a package that is not "
            f"here: pip install {package.replace('.', '-').replace('_', '-')}."
        )
    return True


def _is_here(package: str) -> bool:
    """Check whether a package is installed."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the package around it
        return False
