"""Nothing counts twice: a question that stands twice in an exam is not twice the evidence.

What is written twice is refused, and so is what contradicts itself. Questions about one fact, with
the same prompt and the same right answer, become one group.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from caplab.questions.question import Question
from caplab.questions.wording import plain
from caplab.support.errors import BadInput, short_repr

__all__ = ["check_names", "groups_of", "one_group_per_fact", "refuse_repeated"]

_SHOWN = 5  # problems in one message
_MOST_COMPARED = 50  # spoken questions of one prompt that are compared with each other


def check_names(questions: Iterable[Question]) -> None:
    """Refuse two names of a capability, or of a group, that people would read as one."""
    for what in ("capability", "group"):
        found: dict[str, str] = {}
        for name in dict.fromkeys(getattr(question, what) for question in questions):
            if name is None:
                continue
            seen = plain(name).casefold() if what == "capability" else plain(name)
            first = found.setdefault(seen, name)
            if first != name:
                raise BadInput(
                    f"The {what} {short_repr(first)} is also written {short_repr(name)}: they "
                    "would count as two. Write it in one way."
                )


def refuse_repeated(questions: Sequence[Question]) -> None:
    """Refuse questions that stand there twice, and those that contradict each other."""
    problems = [*_repeated(questions), *_contradictory(questions)]
    if problems:
        more = len(problems) - _SHOWN
        shown = problems[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise BadInput(
            "What stands twice in an exam would count as twice the evidence: "
            f"{'; '.join(shown)}. Keep one of each."
        )


def one_group_per_fact(questions: Sequence[Question]) -> tuple[Question, ...]:
    """Put questions with the same prompt and the same right answer into one group.

    Those that have a group keep it, and the others join it.
    """
    facts = [(question.capability, _asked(question), _right(question)) for question in questions]
    groups = groups_of(facts, [question.group for question in questions])
    return tuple(
        question if question.group == group else replace(question, group=group)
        for question, group in zip(questions, groups, strict=True)
    )


def groups_of(
    facts: Iterable[tuple[str, str, Hashable]], groups: Sequence[str | None]
) -> list[str | None]:
    """Name the group of each fact: a capability, what is asked, and what is right."""
    found: defaultdict[tuple[str, str, Hashable], list[int]] = defaultdict(list)
    for number, (capability, asked, right) in enumerate(facts):
        found[capability, asked.casefold(), right].append(number)
    made = list(groups)
    for (_, asked, _), members in found.items():
        named = {made[n] for n in members} - {None}
        if len(members) > 1 and len(named) < 2:
            for n in members:
                made[n] = next(iter(named), f"asked: {asked}")
    return made


def _asked(question: Question) -> str:
    """Return all that a model reads before it answers."""
    if question.messages is None:
        return plain(question.prompt)
    return "\n".join(f"{turn.role}: {plain(turn.content)}" for turn in question.messages)


def _right(question: Question) -> Hashable:
    """Return the right answer: two questions with the same one are about one fact."""
    return repr(question.expect) if question.expect else plain(question.right)


def _repeated(questions: Sequence[Question]) -> Iterator[str]:
    """Find questions that stand there more than once, whatever the order of their choices."""
    found: defaultdict[Hashable, list[int]] = defaultdict(list)
    for number, question in enumerate(questions, 1):
        choices = frozenset(map(plain, question.choices))
        found[_asked(question), choices, _right(question)].append(number)
    for numbers in found.values():
        if len(numbers) > 1:
            opening = short_repr(questions[numbers[0] - 1].asked[:60])
            yield f"{opening} stands there {len(numbers)} times ({_numbers(numbers)})"


def _contradictory(questions: Sequence[Question]) -> Iterator[str]:
    """Find prompts of which one question calls right what another one calls wrong."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for number, question in enumerate(questions):
        found[_asked(question)].append(number)
    for numbers in found.values():
        if len(numbers) > 1:
            chosen = [n for n in numbers if not questions[n].spoken]
            spoken = [n for n in numbers if questions[n].spoken][:_MOST_COMPARED]
            apart = [*_choices_apart(questions, chosen), *_rules_apart(questions, spoken)]
            for one, two in dict.fromkeys((min(pair), max(pair)) for pair in apart):
                rights = (
                    f"{short_repr(questions[one].right)} and {short_repr(questions[two].right)}"
                )
                opening = short_repr(questions[one].asked[:60])
                yield f"{opening} has two answers, {rights} ({_numbers([one + 1, two + 1])})"


def _choices_apart(questions: Sequence[Question], numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Find questions of which one has the other's right choice among its wrong ones."""
    right = {plain(questions[n].right): n for n in numbers}
    for n in numbers:
        own = plain(questions[n].right)
        others = [right[c] for c in map(plain, questions[n].choices) if c in right and c != own]
        yield from ((other, n) for other in others[:1])


def _rules_apart(questions: Sequence[Question], numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Find questions of which no right answer that is named meets the rules of both."""
    for one, two in combinations(numbers, 2):
        rules = [questions[n].expect for n in (one, two)]
        examples = [questions[n].example for n in (one, two)]
        if None not in examples and not any(
            all(rule is not None and rule.meets(str(example)) for rule in rules)
            for example in examples
        ):
            yield one, two


def _numbers(numbers: Sequence[int]) -> str:
    """Name some questions by their numbers."""
    more = ", ..." if len(numbers) > _SHOWN else ""
    return f"questions {', '.join(map(str, numbers[:_SHOWN]))}{more}"
