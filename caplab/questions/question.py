"""One question of an exam, or one text: what is asked, and what the right answer is."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from caplab.questions.expectations import Expectation
from caplab.questions.wording import plain
from caplab.support.errors import BadInput, is_count, short_repr
from caplab.support.text import has_lone_surrogate

__all__ = ["LANGUAGE", "OVERALL", "ROLES", "Question", "Text", "Turn", "refuse_if"]

LANGUAGE = "language"
OVERALL = "overall"  # the row of all questions, in every table
ROLES = ("system", "user", "assistant")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Turn(Mapping[str, str]):
    """A message of a conversation: a mapping of its role and content that never changes."""

    role: str
    content: str

    def __getitem__(self, key: str) -> str:
        if key not in ("role", "content"):
            raise KeyError(key)
        return str(getattr(self, key))

    def __iter__(self) -> Iterator[str]:
        return iter(("role", "content"))

    def __len__(self) -> int:
        return 2


@dataclass(frozen=True)
class Question:
    """What is asked, the capability that it tests, and what the right answer is.

    A choice question has `choices`, of which the one numbered `answer` is right. A spoken question
    has `expect`, the rules that the model's own words have to meet. Either is asked with a `prompt`
    or with `messages`: a conversation that ends with the user's turn. Questions of one `group`,
    such as phrasings of one fact, rise and fall together and count as one piece of evidence; a
    question without a group is a group of its own. Spoken questions marked `together` are right
    only if all such questions of their group are: to decline one, and to answer its twin.
    """

    capability: str
    prompt: str = ""
    choices: tuple[str, ...] = ()
    answer: int | None = None
    group: str | None = None
    expect: Expectation | None = None
    messages: tuple[Turn, ...] | None = None
    joined: bool = False  # no space between the prompt and a choice
    max_new_tokens: int | None = None  # of a spoken answer
    tags: tuple[str, ...] = ()  # marks to choose questions by, such as "mentioned"; never shown
    together: bool = False  # right only with the others of its group

    def __post_init__(self) -> None:
        for name in ("choices", "tags"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        refuse_if(_problems(self))
        if isinstance(self.expect, dict):
            object.__setattr__(self, "expect", Expectation.of(self.expect))
        if self.messages is not None:
            turns = tuple(Turn(turn["role"], turn["content"]) for turn in self.messages)
            object.__setattr__(self, "messages", turns)

    @property
    def spoken(self) -> bool:
        """Tell a question that is answered in the model's own words."""
        return self.expect is not None

    @property
    def right(self) -> str:
        """Return the right choice, or say what a spoken answer has to be."""
        return self.expect.sentence if self.expect else self.choices[self.answer or 0]

    @property
    def example(self) -> str | None:
        """Return a right answer, as far as the question names one."""
        return self.expect.example if self.expect else self.choices[self.answer or 0]

    @property
    def asked(self) -> str:
        """Return the prompt, or the last thing that the user says."""
        return self.messages[-1].content if self.messages else self.prompt

    def as_line(self) -> dict[str, Any]:
        """Return the JSON object of an exam's file; what is not there is left out."""
        line: dict[str, Any] = {"capability": self.capability}
        if self.messages is None:
            line["prompt"] = self.prompt
        else:
            line["messages"] = [dict(turn) for turn in self.messages]
        if self.expect is None:
            line |= {"choices": list(self.choices), "answer": self.answer}
        if self.joined:
            line["joined"] = True
        if self.group is not None:
            line["group"] = self.group
        if self.expect is not None:
            line["expect"] = self.expect.rules
        if self.max_new_tokens is not None:
            line["max_new_tokens"] = self.max_new_tokens
        if self.tags:
            line["tags"] = list(self.tags)
        if self.together:
            line["together"] = True
        return line


@dataclass(frozen=True)
class Text:
    """A text on which the language loss is measured; its capability is always `language`."""

    capability: str
    text: str

    def __post_init__(self) -> None:
        wrong = f'the capability of a text is "{LANGUAGE}", not {self.capability!r}'
        problems = [] if self.capability == LANGUAGE else [wrong]
        refuse_if([*problems, *_text_problems("text", self.text)])

    def as_line(self) -> dict[str, Any]:
        """Return the JSON object of an exam's file."""
        return {"capability": self.capability, "text": self.text}


def refuse_if(problems: Iterable[str]) -> None:
    """Raise one error that lists all problems of an item, if there are any."""
    if found := list(problems):
        raise BadInput("; ".join(found))


def _problems(question: Question) -> Iterator[str]:
    """Find all problems of a question."""
    yield from _text_problems("capability", question.capability)
    if question.capability == LANGUAGE:
        yield f'the capability "{LANGUAGE}" is reserved for texts: give the question another one'
    if isinstance(question.capability, str) and _CONTROL.search(question.capability):
        yield f"capability contains a line break or control character ({question.capability!a:.80})"
    if question.capability == OVERALL:
        yield f'"{OVERALL}" is the row of all questions: give the capability another name'
    if question.group is not None:
        yield from _text_problems("group", question.group)
    yield from _tag_problems(question.tags)
    if question.messages is None:
        yield from _text_problems("prompt", question.prompt)
    elif question.prompt:
        yield "it has both a prompt and messages: say the prompt in a turn of the user, or drop one"
    else:
        yield from _message_problems(question.messages)
    yield from _spoken_problems(question) if question.spoken else _chosen_problems(question)


def _spoken_problems(question: Question) -> Iterator[str]:
    """Find the problems of what a spoken answer has to be."""
    if question.choices or question.answer is not None:
        yield "it has both choices and expect: a question is answered by choosing or by speaking"
    if question.joined is not False:
        yield "joined is for choices, and a spoken question has none"
    tokens = question.max_new_tokens
    if tokens is not None and not is_count(tokens, 1):
        yield f"max_new_tokens is a whole number of at least 1, not {short_repr(tokens)}"
    if not isinstance(question.together, bool):
        yield f"together is true or false, not {short_repr(question.together)}"
    elif question.together and question.group is None:
        yield "together needs a group: name the one whose questions have to be right with this one"
    if not isinstance(question.expect, Expectation):
        try:
            Expectation.of(question.expect)
        except BadInput as error:
            yield str(error)


def _chosen_problems(question: Question) -> Iterator[str]:
    """Find the problems of the choices and of the right one's number."""
    if question.max_new_tokens is not None:
        yield "max_new_tokens is for spoken answers, and this question has choices"
    if question.together is not False:
        yield "together is for spoken answers, and this question has choices"
    if not isinstance(question.joined, bool):
        yield f"joined is true or false, not {short_repr(question.joined)}"
    if not isinstance(question.choices, tuple):
        yield f"choices must be a list of strings, not {short_repr(question.choices)}"
        return
    yield from _choice_problems(question.choices, question.joined is True)
    yield from _answer_problems(question.answer, len(question.choices))


def _choice_problems(choices: tuple[Any, ...], joined: bool) -> Iterator[str]:
    """Find the problems of the choices."""
    if len(choices) < 2:
        yield f"a question needs at least two choices, and this one has {len(choices)}"
    for number, choice in enumerate(choices):
        yield from _text_problems(f"choice {number}", choice)
        if isinstance(choice, str) and choice[:1].isspace() and choice.strip() and not joined:
            yield f"choice {number} ({choice!r}) begins with a space: score adds it itself"
    for choice, times in Counter(map(repr, choices)).items():
        if times > 1:
            yield f"choice {choice:.80} appears {times} times"
    texts: dict[str, str] = {}
    for choice in filter(lambda choice: isinstance(choice, str), choices):
        first = texts.setdefault(plain(choice), choice)
        if first != choice:
            yield (
                f"choices {first!a:.80} and {choice!a:.80} differ only by spaces or by how a "
                "character is written: nobody sees which one is right"
            )


def _answer_problems(answer: Any, count: int) -> Iterator[str]:
    """Find the problem of the number of the right choice."""
    if type(answer) is not int:  # True would be choice 1
        yield (
            "answer must be the number of the right choice, counted from 0, "
            f"not {short_repr(answer)}"
        )
    elif not 0 <= answer < count:
        numbered = f"the choices are numbered 0 to {count - 1}"
        yield f"answer {short_repr(answer)} is out of range: {numbered}"


def _text_problems(what: str, text: Any) -> Iterator[str]:
    """Find the problem of a string; `what` names it in the message."""
    if not isinstance(text, str):
        yield f"{what} must be a string, not {short_repr(text)}"
    elif not text.strip():
        yield f"{what} is empty"
    elif has_lone_surrogate(text):
        yield f"{what} contains a lone surrogate, half a character ({text!a:.80})"


def _tag_problems(tags: Any) -> Iterator[str]:
    """Find the problems of a question's marks."""
    if not isinstance(tags, tuple):
        yield f"tags must be a list of strings, not {short_repr(tags)}"
        return
    for number, tag in enumerate(tags):
        yield from _text_problems(f"tag {number}", tag)


def _message_problems(messages: Any) -> Iterator[str]:
    """Find the problems of a conversation."""
    if not isinstance(messages, list | tuple) or not messages:
        yield f'messages is a list of {{"role": ..., "content": ...}}, not {short_repr(messages)}'
        return
    for number, turn in enumerate(messages):
        if not isinstance(turn, Mapping) or {*turn} != {"role", "content"}:
            yield f"message {number} has a role and a content, and nothing else"
            return
        if turn["role"] not in ROLES:
            yield f"message {number} has the role {short_repr(turn['role'])}: {', '.join(ROLES)}"
        elif turn["role"] == "system" and number:
            yield f"message {number} is a system turn, which can only come first"
        yield from _text_problems(f"message {number}", turn["content"])
    if messages[-1]["role"] != "user":
        yield "messages must end with a turn of the user, which the model then answers"
