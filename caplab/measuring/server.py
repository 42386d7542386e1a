"""Ask a model behind a server that speaks OpenAI's protocol, as vLLM and many others do.

A spoken question goes to /chat/completions, so the server applies its own chat template. A choice
goes to /completions and needs the log-probabilities of what was sent (`echo` with `logprobs`); they
are added up as `score` does it, by lm-evaluation-harness' rule. A server that does not return them
is refused in words.
"""

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

from caplab.measuring.score import card_of
from caplab.measuring.scorecard import Scorecard
from caplab.models.chat import as_asked
from caplab.questions.exam import Exam, Question, Text
from caplab.support.bars import tqdm
from caplab.support.endpoint import Endpoint, Refused
from caplab.support.errors import BadInput, as_number, is_count, require_type, short_repr
from caplab.support.safe_text import line_text

__all__ = ["MAX_NEW_TOKENS", "score_server"]

MAX_NEW_TOKENS = 32  # as in `speaking`
_AT_ONCE = 4  # requests
_NO_CHOICES = (
    "so choices and texts cannot be scored there. Ask questions with `expect`, which the model "
    "answers in its own words, or serve the model with vLLM"
)
Item = TypeVar("Item")
Found = TypeVar("Found")


def score_server(
    url: str,
    model: str,
    exam: Exam,
    *,
    at_once: int = _AT_ONCE,
    seconds: float = 120.0,
    progress: bool = True,
) -> Scorecard:
    """Ask a served model every question of an exam; the key is `CAPLAB_API_KEY`, if one is set.

    `at_once` requests are under way at a time, and each may take some `seconds`.
    """
    require_type(exam, Exam, "score_server needs an Exam, such as exam() or exam(path)")
    if not isinstance(model, str) or not model.strip():
        raise BadInput(f"A served model has a name, not {short_repr(model)}.")
    if not is_count(at_once, 1):
        raise BadInput(f"at_once is a whole number of at least 1, not {short_repr(at_once)}.")
    served = _Served(Endpoint(url, seconds), model)
    choosing = [question for question in exam.questions if not question.spoken]
    spoken = [question for question in exam.questions if question.spoken]
    with _Asking(served, len(exam) + len(exam.texts), at_once, progress) as asking:
        chosen = asking.all(served.choose, choosing)  # first: what cannot be done is said at once
        losses = asking.all(served.loss, exam.texts)
        said = iter(asking.all(served.speak, spoken))
    return card_of(
        f"{model} at {served.endpoint.url}",
        exam,
        chosen=chosen,
        text_losses=tuple(losses),
        said=[next(said) if question.spoken else "" for question in exam.questions],
        asked="mixed" if spoken and choosing else "chat" if spoken else "plain",
    )


class _Asking:
    """Several requests under way at a time; the first that fails ends them all."""

    def __init__(self, served: "_Served", total: int, at_once: int, progress: bool) -> None:
        hidden = not progress or threading.current_thread() is not threading.main_thread()
        name = line_text(f"Asking {served.model}", 60)
        self._bar = tqdm(total=total, desc=name, delay=2, leave=False, disable=hidden or None)
        self._pool = ThreadPoolExecutor(at_once)
        self._endpoint = served.endpoint
        self._error: BaseException | None = None  # the first: the threads start nothing after it

    def __enter__(self) -> "_Asking":
        return self

    def __exit__(self, *_: Any) -> None:
        self._endpoint.cancel()
        self._pool.shutdown(cancel_futures=True)
        self._bar.close()

    def all(self, ask: Callable[[Item], Found], items: Sequence[Item]) -> list[Found]:
        """Ask for all items, the first one alone: it shows whether the others are worth a try."""
        first = [ask(item) for item in items[:1]]
        self._bar.update(len(first))
        asked = [self._pool.submit(self._one, ask, item) for item in items[1:]]
        for done in as_completed(asked):
            done.result()
            self._bar.update()
        return [*first, *(future.result() for future in asked)]

    def _one(self, ask: Callable[[Item], Found], item: Item) -> Found:
        """Ask for one item, in a thread, unless another thread has failed."""
        if self._error:
            raise self._error
        try:
            return ask(item)
        except BaseException as error:
            self._error = self._error or error
            raise


class _Served:
    """A model behind a server."""

    tokenizer = None  # the server's own: here nothing is tokenised

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        self.endpoint, self.model, self.name = endpoint, model, model

    def speak(self, question: Question) -> str:
        """Return what the model says to a question."""
        turns = question.messages or ({"role": "user", "content": question.prompt},)
        reply = self.endpoint.post(
            "/chat/completions",
            {
                "model": self.model,
                "messages": [dict(turn) for turn in turns],
                "temperature": 0,
                "max_tokens": question.max_new_tokens or MAX_NEW_TOKENS,
            },
        )
        try:
            content = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise self._strange("choices[0].message.content", reply) from None
        if content is not None and not isinstance(content, str):
            raise self._strange("a text as content", reply)
        return (content or "").strip()

    def choose(self, question: Question) -> tuple[float, ...]:
        """Return the log-likelihood of each choice of a question."""
        text, space = as_asked(self, question, chat=False), "" if question.joined else " "
        wholes = [f"{text}{space}{choice}" for choice in question.choices]
        prompt, *choices = self._echoes([text.rstrip(), *wholes])
        found = [choice[len(prompt) :] for choice in choices]
        if not prompt or not all(found):
            raise BadInput(
                f"{short_repr(question.prompt)}: for the tokenizer of {self.model}, a choice adds "
                "no token to the prompt. Let the prompt end in a word or a colon."
            )
        return tuple(math.fsum(self._checked(choice)) for choice in found)

    def loss(self, text: Text) -> tuple[float, int]:
        """Return the nats of a text, and how many of its tokens were predicted."""
        (nats,) = self._echoes([text.text])
        return -math.fsum(self._checked(nats[1:])), len(nats) - 1

    def _echoes(self, texts: list[str]) -> list[list[Any]]:
        """Return the log-probability of each token of some texts."""
        body = {"prompt": texts, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
        try:
            reply = self.endpoint.post("/completions", {"model": self.model, **body})
        except Refused as error:
            if error.status in (400, 404, 405, 422, 501):
                raise BadInput(f"{str(error).rstrip('.')}: {_NO_CHOICES}.") from error
            raise
        try:
            found = sorted(reply["choices"], key=lambda choice: choice["index"])
            indices = [choice["index"] for choice in found]
            echoes = [_echo(*pair) for pair in zip(found, texts, strict=True)]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            indices, echoes = [], []
        if indices != [*range(len(texts))]:
            raise BadInput(
                f"{self.endpoint.url} does not return the log-probabilities of what it is sent "
                f"(`echo` with `logprobs`), {_NO_CHOICES}."
            )
        return echoes

    def _checked(self, nats: Sequence[Any]) -> list[float]:
        """Refuse what is no log-probability."""
        found = [as_number(value) for value in nats]
        if not all(value <= 1e-6 for value in found):
            given = short_repr(list(nats))
            raise BadInput(f"{self.endpoint.url} answers with {given}: no log-probabilities.")
        return [min(value, 0.0) for value in found]

    def _strange(self, wanted: str, reply: Any) -> BadInput:
        return BadInput(
            f"{self.endpoint.url} did not answer as /chat/completions does, with {wanted}, but: "
            f"{short_repr(reply)}."
        )


def _echo(choice: dict[str, Any], text: str) -> list[Any]:
    """Return the log-probabilities of a text's tokens, without that of the one that follows."""
    found = choice["logprobs"]
    nats, offsets = found["token_logprobs"], found.get("text_offset")
    if not choice["text"].startswith(text) or len(nats) < 1:
        raise ValueError("no echo")
    if choice.get("finish_reason") == "length":  # one token was added
        return list(nats[:-1])
    return list(nats[: sum(offset < len(text) for offset in offsets)])
