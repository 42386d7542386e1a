"""A model with its tokenizer: ask it a question, measure it without changing it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caplab.models.chat import (
    Message,
    answer_alone,
    as_asked,
    encode,
    stop_tokens,
    uses_chat,
)
from caplab.models.weights import input_device, own_turn
from caplab.support.errors import BadInput, is_count, short_repr
from caplab.support.quiet import quiet
from caplab.support.safe_text import html_text, line_text

if TYPE_CHECKING:
    import torch

__all__ = ["Diverged", "Subject", "answers_nan", "measuring"]

_FAMILIES = {
    "gpt2": "GPT-2",
    "gpt_neox": "GPT-NeoX",
    "llama": "Llama",
    "opt": "OPT",
    "qwen2": "Qwen2",
}
_DEFAULT_CONTEXT = 2048  # what lm-evaluation-harness assumes where a model states no limit


@dataclass(eq=False, repr=False)
class Subject:
    """A model with its tokenizer, and the name it goes by."""

    model: Any
    tokenizer: Any
    name: str

    @property
    def device(self) -> "torch.device":
        """Return the device of the model's weights."""
        device: torch.device = input_device(self.model)
        return device

    @property
    def context(self) -> int:
        """Return how many tokens the model reads at once, without those of a tuned prompt."""
        config = self.model.config.get_text_config()
        limits = (getattr(config, "max_position_embeddings", 0), self.tokenizer.model_max_length)
        adapter = getattr(self.model, "active_peft_config", None)
        # A tokenizer without a limit says 1e30.
        room = next((int(limit) for limit in limits if limit and limit < 1e9), _DEFAULT_CONTEXT)
        return room - (getattr(adapter, "num_virtual_tokens", 0) or 0)

    @property
    def parameters(self) -> int:
        """Count the model's weights; weights that layers share count once."""
        if getattr(self.model, "is_quantized", False):  # several weights may share a byte
            return int(self.model.num_parameters())
        return sum(weight.numel() for weight in self.model.parameters())

    def ask(
        self,
        question: str | Sequence[Message],
        max_new_tokens: int = 30,
        system: str | None = None,
        chat: bool | None = None,
    ) -> str:
        """Answer the question with the likeliest token each time, and return the answer.

        A model with a chat template is asked through it: the question is a user's turn, after a
        `system` prompt if one is given, or a list of messages. `chat=False` asks plainly, and so is
        a model without a template: it continues the text.
        """
        if not is_count(max_new_tokens, 1):
            given = short_repr(max_new_tokens)
            raise BadInput(f"max_new_tokens is a whole number of at least 1, not {given}.")
        through = uses_chat(self, chat)
        inputs = self._read(as_asked(self, question, chat, system))
        asked = inputs["input_ids"].shape[1]  # of (1, tokens)
        with measuring(self.model), quiet():
            output = self.model.generate(
                **inputs,
                do_sample=False,  # these three also where the model's own settings differ
                num_beams=1,
                repetition_penalty=1.0,
                max_new_tokens=min(max_new_tokens, self.context - asked),
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=stop_tokens(self, through) or None,
                logits_processor=[self._refuse_nan],
            )
        text = self.tokenizer.decode(output[0, asked:], skip_special_tokens=True)
        return answer_alone(self, str(text), through)

    def _read(self, text: str) -> "dict[str, torch.Tensor]":
        """Tokenize what is asked; refuse what leaves no room for an answer."""
        import torch

        tokens = torch.tensor(encode(self.tokenizer, [text]), device=self.device)  # (1, tokens)
        if (asked := tokens.shape[1]) >= self.context:
            raise BadInput(
                f"The question has {asked} tokens and {self.name} reads {self.context} at once: "
                "no room is left for an answer. Shorten the question."
            )
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}

    def _refuse_nan(self, _ids: "torch.Tensor", logits: "torch.Tensor") -> "torch.Tensor":
        """Refuse to choose a token where there are no probabilities: the first would be taken."""
        if logits.isnan().any():  # (1, vocabulary)
            raise answers_nan(self.name)
        return logits

    def __repr__(self) -> str:
        family = _FAMILIES.get(self.model.config.model_type) or type(self.model).__name__
        return (
            f"Subject {line_text(self.name)}: {_count(self.parameters)} parameters, {family}, "
            f"{self.context}-token context, {self.device}"
        )

    def _repr_html_(self) -> str:
        name, _, facts = repr(self).partition(": ")
        return f"<b>{html_text(name)}</b>: {html_text(facts)}"


class Diverged(BadInput):
    """A model whose weights have diverged: it answers with NaN."""


def answers_nan(name: str) -> Diverged:
    """Return the error for a model that answers with NaN."""
    return Diverged(
        f"{name} answers with NaN, not with probabilities: its weights have diverged. "
        "Train with a lower learning rate, or load the model again."
    )


def _count(number: int) -> str:
    """Format a large number in a unit that fits: `1.0 M`."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.95 * size:
            return f"{number / size:.1f} {unit}"
    return str(number)


@contextmanager
def measuring(model: Any) -> Iterator[None]:
    """Measure a model as it is inside this block, and leave it as it was.

    Inside: evaluation mode, no gradient, and the model's own precision, even if a training opened
    autocast or accelerate wrapped it around `forward`. Afterwards: the mode of every submodule and
    the random state are what they were. It is `no_grad` and not `inference_mode`, because a model
    that kept a tensor of the latter could not be trained further. Another thread that measures the
    same model, or trains it, waits.
    """
    import torch

    device = input_device(model)
    with (
        own_turn(model),
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
        _own_forward(model),
        ExitStack() as stack,
    ):
        modes = [(module, module.training) for module in model.modules()]
        # A model at rest draws no numbers; another thread, which trains another model, may.
        if any(training for _, training in modes):
            cuda = [device] if device.type == "cuda" else []
            stack.enter_context(torch.random.fork_rng(cuda))
        try:
            model.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training


@contextmanager
def _own_forward(model: Any) -> Iterator[None]:
    """Remove the mixed precision that accelerate wraps around `forward`, inside this block."""
    own = vars(model)
    if "forward" not in own or "_original_forward" not in own:
        yield
        return
    wrapped, model.forward = model.forward, model._original_forward
    try:
        yield
    finally:
        model.forward = wrapped
