"""Ask a model through its tokenizer's chat template: what it reads, and where an answer ends.

A template is a program that came with a model. It runs in a sandbox of transformers and, here, for
a limited time. What it refuses is one sentence, and what it would leave out silently is refused.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import psutil

from caplab.support.errors import BadInput, explaining_failure, short_repr
from caplab.support.text import has_lone_surrogate

if TYPE_CHECKING:
    from caplab.questions.question import Question

__all__ = [
    "Message",
    "answer_alone",
    "as_asked",
    "encode",
    "has_template",
    "message_problems",
    "render",
    "stop_tokens",
    "user_opening",
    "uses_chat",
]

Message: TypeAlias = Mapping[str, Any]
_SECONDS = 5.0  # that a template may run for one conversation
_SOON = 0.05  # seconds after which its memory is watched
_MEMORY = 2**30  # bytes that it may take
_MUCH = "took more than 1 GB of memory"
_LARGEST_NUMBER = 10_000_000  # in a template's text
_WIDE = re.compile(r"[%:]\D{0,3}\d{7,}")  # a format of so many characters
_MARKS = re.compile(r"{%[-+]?\s*(end)?generation\s*[-+]?%}")  # of transformers alone
_MOST_ADDED = 1_000_000  # characters that a template may add to a conversation
_MARK = "caplab-marks-this-spot"  # stands for a turn, to find what the template writes around it


class _Speaker(Protocol):
    """A model that can be asked; a Subject is one."""

    model: Any
    tokenizer: Any
    name: str


# ---------------------------------------------------------------- what is asked


def has_template(tokenizer: Any) -> bool:
    """Check whether the tokenizer has a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def uses_chat(subject: _Speaker, chat: bool | None = None) -> bool:
    """Decide whether a subject is asked through its chat template; None: where it has one."""
    if chat is not None and not isinstance(chat, bool):
        raise BadInput(f"chat is True, False or None, not {short_repr(chat)}.")
    found = has_template(subject.tokenizer)
    if chat and not found:
        raise BadInput(
            f"The tokenizer of {subject.name} has no chat template. Leave out chat=True, and the "
            "question is asked plainly."
        )
    return found if chat is None else chat


def as_asked(
    subject: _Speaker,
    asked: "str | Sequence[Message] | Question",
    chat: bool | None = None,
    system: str | None = None,
) -> str:
    """Return the text that a subject reads when it is asked.

    `asked` is a string, a list of messages, or an exam's question, which has either. Through a
    template a string becomes one user turn, and the text ends where the answer begins; an assistant
    turn at the end is continued. Without a template, turns follow each other as
    lm-evaluation-harness writes them: a space before an answer, an empty line after it.
    """
    through = uses_chat(subject, chat)
    messages = _as_messages(asked, system)
    if through:
        return render(subject.tokenizer, messages, subject.name, asking=True)
    if isinstance(asked, str) and system is None:
        return asked
    return _plain(messages, subject.name)


def _as_messages(asked: Any, system: str | None) -> list[Message]:
    """Turn whatever is asked into messages, checked."""
    if not isinstance(asked, str | list | tuple) and hasattr(asked, "prompt"):  # a Question
        asked = asked.messages or asked.prompt
    if isinstance(asked, str) and asked:
        asked = [{"role": "user", "content": asked}]
    if not isinstance(asked, list | tuple) or not asked:
        raise BadInput(f"A question is a string, not {short_repr(asked)}.")
    if system is not None:
        if not isinstance(system, str) or not system.strip():
            raise BadInput(f"system is a string, not {short_repr(system)}.")
        asked = [{"role": "system", "content": system}, *asked]
    if problems := list(message_problems(asked)):
        raise BadInput(f"The question cannot be asked: {'; '.join(problems)}.")
    return list(asked)


def message_problems(messages: Sequence[Any], column: str = "") -> Iterator[str]:
    """Find what is wrong with a list of chat messages; `column` is where they stand."""
    of = f" of {column}" if column else ""
    for number, message in enumerate(messages):
        fields = message if isinstance(message, Mapping) else {}
        content, calls = fields.get("content"), fields.get("tool_calls")
        if not isinstance(fields.get("role"), str) or not (isinstance(content, str) or calls):
            yield f"message {number}{of} needs a role and a content, both texts"
        elif isinstance(content, str) and has_lone_surrogate(content):
            yield f"message {number}{of} holds a lone surrogate, half a character ({content!a:.80})"
        elif calls and not _called(message):
            yield f"message {number}{of} has tool_calls without a function's name"


def _called(message: Message) -> list[str]:
    """List the names of the tools that a message calls; empty where the calls are malformed."""
    calls = message.get("tool_calls") or ()
    if not isinstance(calls, list | tuple) or not all(isinstance(c, Mapping) for c in calls):
        return []
    functions = [call.get("function") or call for call in calls]
    names = [f.get("name") if isinstance(f, Mapping) else None for f in functions]
    return [name for name in names if isinstance(name, str)] if all(names) else []


def _continues(messages: Sequence[Message]) -> bool:
    """Check whether the last message is an answer that the model continues."""
    return bool(messages) and messages[-1].get("role") == "assistant"


def _plain(messages: Sequence[Message], name: str) -> str:
    """Write messages one after the other, as lm-evaluation-harness does without a template."""
    for number, message in enumerate(messages):
        if _called(message):
            raise BadInput(
                f"Message {number} calls the tool {_called(message)[0]!r}, and {name} is asked "
                "plainly: only a chat template can write a tool call."
            )
    pieces = [messages[0]["content"]]
    for before, after in pairwise(messages):
        text, answers = before["content"], after["role"] == "assistant"
        pieces += ["" if text[-1:].isspace() else " " if answers else "\n\n", after["content"]]
    return "".join(pieces)


# ---------------------------------------------------------------- through the template


def render(
    tokenizer: Any,
    messages: Sequence[Message],
    name: str = "the model",
    *,
    asking: bool = False,
    tools: Sequence[Any] | None = None,
    template: str | None = None,
) -> str:
    """Write a conversation by the tokenizer's chat template, or by another `template`.

    `asking` ends it where the model's answer begins.
    """
    given: list[dict[str, Any]] = [dict(message) for message in messages]
    for text in _templates(template or tokenizer.chat_template):
        _check_numbers(text, name)
    ending = {
        "add_generation_prompt": asking and not _continues(messages),
        "continue_final_message": asking and _continues(messages),
    }

    def write(conversation: list[dict[str, Any]], tools: Sequence[Any] | None) -> str:
        shown = f"{conversation!r:.80}"
        with (
            time_limit(name),
            explaining_failure(f"The chat template of {name} refuses the conversation {shown}"),
        ):
            text = tokenizer.apply_chat_template(
                conversation,
                tools=list(tools) if tools else None,
                tokenize=False,
                chat_template=template,
                **ending,
            )
        return str(text)

    text = write(given, tools)
    if len(text) > _MOST_ADDED + sum(len(message.get("content") or "") for message in given):
        raise BadInput(f"The chat template of {name} never ends: it wrote {len(text)} characters.")
    for number, message in enumerate(given):
        left_out = (message.get("content") or "").strip() not in text
        if message["role"] in ("system", "user") and left_out:
            raise BadInput(
                f"The chat template of {name} leaves out message {number}, a {message['role']} "
                "turn: it has no place for it."
            )
    _check_tools(name, given, tools, text, write)
    return text


def _check_tools(name: str, given: Any, tools: Any, text: str, write: Any) -> None:
    """Refuse tools, and calls of them, that the template leaves out: the text is as without."""
    called = [
        (number, _called(message)[0]) for number, message in enumerate(given) if _called(message)
    ]
    for number, tool in called:
        bare = {key: value for key, value in given[number].items() if key != "tool_calls"}
        bare["content"] = bare.get("content") or ""
        if write([*given[:number], bare, *given[number + 1 :]], tools) == text:
            raise BadInput(
                f"The chat template of {name} leaves out message {number}, a call of the tool "
                f"{tool!r}: it has no place for tool calls."
            )
    if tools and write(given, None) == text:
        raise BadInput(
            f"The chat template of {name} leaves out the tools: it has no place for them."
        )


class _TooLong(BaseException):
    """End a template that runs for too long; nothing on the way takes it for an error."""


class _TooLarge(BaseException):
    """End a template that takes too much memory."""


@contextmanager
def time_limit(name: str) -> Iterator[None]:
    """Let the templates in this block run for a few seconds at most, within some memory.

    A template is compiled to Python: a trace function is called at each of its lines, and ends it.
    """
    start, process = monotonic(), psutil.Process()
    memory = process.memory_info().rss

    def watch(frame: FrameType, _event: str, _value: Any) -> Any:
        spent = monotonic() - start
        if spent > _SECONDS:
            raise _TooLong
        # Asked late, because it takes a while, and a sound template is done long before.
        if spent > _SOON and process.memory_info().rss - memory > _MEMORY:
            raise _TooLarge
        return watch if frame.f_code.co_filename == "<template>" else None

    before = sys.gettrace()
    sys.settrace(watch)
    trouble = f"The chat template of {name} never ends: it"
    try:
        yield
    except (_TooLong, _TooLarge) as error:
        took = f"ran for {_SECONDS:g} seconds" if isinstance(error, _TooLong) else _MUCH
        raise BadInput(
            f"{trouble} {took} on one conversation. Give the tokenizer another chat_template."
        ) from None
    finally:
        sys.settrace(before)


def _templates(given: Any) -> Iterator[str]:
    """Yield the template, or those of a tokenizer that has several by name."""
    yield from (each for each in (given.values() if isinstance(given, dict) else [given]) if each)


@lru_cache(maxsize=64)
def _check_numbers(template: str, name: str) -> None:
    """Refuse powers, and numbers by which one step would fill the memory: nothing can end that."""
    from jinja2 import Environment, TemplateSyntaxError, nodes

    plain = _MARKS.sub("", template)
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=True).parse(plain)
    except TemplateSyntaxError:  # transformers says so, in its own words
        return
    numbers = [each.value for each in tree.find_all(nodes.Const)]
    large: list[Any] = [n for n in numbers if isinstance(n, int) and abs(n) > _LARGEST_NUMBER]
    large += [n for n in numbers if isinstance(n, str) and _WIDE.search(n)]
    if next(tree.find_all(nodes.Pow), None) or large:
        what = f"the number {short_repr(large[0])}" if large else "a power"
        raise BadInput(
            f"The chat template of {name} computes with {what}, by which it could fill the memory. "
            "Give the tokenizer another chat_template."
        )


# ---------------------------------------------------------------- the tokenizer's part


def encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Tokenise as the tokenizer is set, but never put a second start before a text that has one."""
    start = tokenizer.bos_token or tokenizer.eos_token
    started = [bool(start) and text.startswith(start) for text in texts]
    if not any(started):
        return tokenizer(texts, verbose=False)["input_ids"] if texts else []
    return [
        tokenizer(text, add_special_tokens=not has, verbose=False)["input_ids"]
        for text, has in zip(texts, started, strict=True)
    ]


def stop_tokens(subject: _Speaker, chat: bool) -> list[int]:
    """List the tokens that end an answer: the model's own, and what ends a turn of its template."""
    own = subject.model.generation_config.eos_token_id
    tokens = [own] if isinstance(own, int) else list(own or ())
    tokenizer = subject.tokenizer
    if chat and (mark := _turn_end(tokenizer)):
        number = tokenizer.convert_tokens_to_ids(mark)
        known = number is not None and number != tokenizer.unk_token_id
        tokens += [tokenizer.eos_token_id, number if known else None]
    return list(dict.fromkeys(token for token in tokens if token is not None))


def answer_alone(subject: _Speaker, text: str, chat: bool) -> str:
    """Cut an answer where the template would end the turn, for marks that are no special tokens."""
    mark = _turn_end(subject.tokenizer) if chat else ""
    return (text.partition(mark)[0] if mark else text).strip()


def _turn_end(tokenizer: Any) -> str:
    """Return the mark that the template writes after an answer, such as `<|im_end|>`, or ''."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": _MARK}]
    after = _around(tokenizer, turns)[1].split()
    return after[0] if after else ""


def user_opening(tokenizer: Any) -> str:
    """Return what the template writes before the first user turn; '' where that is not known."""
    return _around(tokenizer, [{"role": "user", "content": _MARK}])[0]


def _around(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[str, str]:
    """Return what the template writes before and after the mark; nothing where it refuses."""
    try:
        before, found, after = render(tokenizer, messages).rpartition(_MARK)
    except BadInput:
        return "", ""
    return (before, after) if found else ("", "")
