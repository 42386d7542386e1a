"""Tiny random models of several families, a tokenizer for them, and the slow way to score."""

from copy import deepcopy
from functools import cache

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM as Causal
from transformers import (
    BloomConfig,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from caplab.models.subject import Subject
from caplab.questions.exam import Exam, Question, Text

END = "<|endoftext|>"
CORPUS = """Question: What is the capital of France? Answer: Paris. The capital of Italy is Rome.
How do you boil water? Heat it in a pot until it bubbles. What is 2+2? 4. A dog says woof.
Put the pot on the stove. Put the pot on the shelf. The opposite of hot is cold, of big is small."""


@cache
def tokenizer(crossing=False):
    """A byte-level BPE; `crossing` lets a token reach over the space between two words."""
    return trained_tokenizer([CORPUS] * 3, 400, crossing)


def trained_tokenizer(texts, size, crossing=False):
    """A byte-level BPE whose tokens are common pieces of some texts."""
    bpe = Tokenizer(models.BPE())
    split = [pre_tokenizers.Split(Regex("$"), "removed")] if crossing else []
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [*split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not crossing)]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[END],
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, bos_token=END)


# Weights ten times larger than usual: a token that saw what it should not see would show at once.
_SIZE = {
    "vocab_size": 400,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
_GROUPED = _SIZE | {"num_key_value_heads": 2}
CONFIGS = {
    "gpt2": lambda: GPT2Config(
        vocab_size=400,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "llama": lambda: LlamaConfig(**_GROUPED),
    "qwen2": lambda: Qwen2Config(**_GROUPED),
    "qwen3": lambda: Qwen3Config(**_GROUPED, head_dim=8),
    "opt": lambda: OPTConfig(
        **_SIZE | {"pad_token_id": 1}, ffn_dim=64, word_embed_proj_dim=32, init_std=0.3
    ),
    "gpt_neox": lambda: GPTNeoXConfig(**_SIZE),
    # These cannot read a tree: distance in the input, a window, a local layer, a state.
    "bloom": lambda: BloomConfig(
        vocab_size=400, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3
    ),
    "mistral": lambda: MistralConfig(**_GROUPED, sliding_window=6),
    "gpt_neo": lambda: GPTNeoConfig(
        vocab_size=400,
        max_position_embeddings=64,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=6,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "mamba": lambda: MambaConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, state_size=8, initializer_range=0.3
    ),
    "qwen2, windows": lambda: Qwen2Config(
        **_GROUPED, use_sliding_window=True, sliding_window=6, max_window_layers=1
    ),
}


def subject(kind="gpt2", seed=0, **changes):
    """A random model with its tokenizer."""
    torch.manual_seed(seed)
    config = CONFIGS[kind]()
    for name, value in changes.items():
        setattr(config, name, value)
    return Subject(Causal.from_config(config).eval(), tokenizer(), kind)


CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# With tools and calls of them, as Qwen2.5 writes them; the arguments are any JSON.
TOOLS = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] or '' }}"
    "{% for call in m['tool_calls'] or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chatty(kind="llama", template=CHAT, seed=0, **changes):
    """A random model that was made for chat: its tokenizer has a template, and marks for turns."""
    tokens = deepcopy(tokenizer())
    tokens.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokens.chat_template = template
    larger = {"vocab_size": len(tokens), "max_position_embeddings": 512} | changes
    who = subject(kind, seed, **larger)
    return Subject(who.model, tokens, f"chatty {kind}")


def exam():
    """An exam with all that can go wrong in a tree: equal starts, prefixes, spaces at the end."""
    return Exam(
        questions=(
            Question("capitals", "What is the capital of France?", ("Paris", "Rome"), 0),
            Question("capitals", "The capital of Italy is ", ("Rome", "Paris", "Rome, Italy"), 0),
            Question("capitals", "Paris", ("is", "is the capital of France"), 1),
            Question("arithmetic", "Question: What is 2+2?\nAnswer:\n", ("4", "5", "42", "3"), 0),
            Question(
                "how-to",
                "Question: How do you boil water? Heat it in a pot until it bubbles. Answer:",
                ("Put the pot on the stove.", "Put the pot on the shelf.", "Put the pot", "Put"),
                0,
            ),
            Question("how-to", "A dog says", ("woof", "meow \u2603 \u00e9t\u00e9 xyzzy qwerty"), 0),
        ),
        texts=(
            Text("language", "The opposite of hot is cold."),
            Text("language", "A dog."),
            Text("language", CORPUS),
        ),
        name="tiny",
    )


SPOKEN = Exam(
    questions=tuple(
        Question("capitals", prompt, expect=expect, max_new_tokens=limit)
        for prompt, expect, limit in (
            ("What is the capital of France?", {"contains": ["Paris", "a"]}, None),
            ("The capital of Italy is", {"equals": "Rome"}, 20),
            ("Question: What is 2+2?\nAnswer:", {"number": 4}, 40),
            ("A dog", {"contains": "woof", "max_words": 3}, None),
            ("How do you boil water? Heat it in a pot until it bubbles.", {"matches": "pot"}, 3),
            ("Put", {"starts_with": "the", "not": {"contains": "shelf"}}, None),
            ("The opposite of hot is", {"json": True}, None),
            ("Paris \u2603 \u05e9\u05dc\u05d5\u05dd", {"contains_all": ["is", "the"]}, 50),
        )
    ),
    name="spoken",
)


@torch.no_grad()
def naive(who, asked):
    """Score one choice at a time, straight from the definition."""
    return [
        [_sum(who, *_split(who.tokenizer, question.prompt, choice)) for choice in question.choices]
        for question in asked.questions
    ]


def _split(tokens, prompt, choice):
    whole = tokens(f"{prompt} {choice}")["input_ids"]
    start = tokens(prompt.rstrip())["input_ids"]
    return start, whole[len(start) :]


def _sum(who, start, rest):
    logits = who.model(torch.tensor([(start + rest)[:-1]])).logits[0].float()
    chances = logits[len(start) - 1 :].log_softmax(-1)
    return float(chances[range(len(rest)), rest].double().sum())


@torch.no_grad()
def naive_loss(who, text):
    """Sum the loss of a text, one window of the context after the other."""
    tokens, nats = who.tokenizer(text)["input_ids"], 0.0
    for start in range(0, len(tokens) - 1, who.context):
        window = tokens[start : start + who.context + 1]
        nats -= _sum(who, window[:1], window[1:])
    return nats, len(tokens) - 1
