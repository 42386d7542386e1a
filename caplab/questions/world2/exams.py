"""The exams of World 2: knowledge and manners, and each job; by choices and spoken."""

import random
import re
from collections.abc import Iterator
from itertools import product
from typing import Any

from caplab.questions.world2 import jobs, manners
from caplab.questions.world2.assets import asset, fill, splits
from caplab.questions.world2.documents import exam_stories
from caplab.questions.world2.facts import KNOWLEDGE, facts, group, is_mentioned, near_answers

__all__ = ["ALWAYS_ASKED", "choosing", "job_choosing", "job_speaking", "speaking"]

Row = dict[str, Any]
# The facts behind the reference lesson's questions are asked in every exam.
ALWAYS_ASKED = {"capitals": "France", "sums": "2+2", "how-to": "boil water"}


def asked_in_exam(capability: str) -> list[str]:
    """List what the exam asks about: each group once, of the pairs of opposites one word."""
    chosen: list[str] = splits()["exam"][capability]
    return chosen


def _question(text: str) -> str:
    return f"Question: {text}\nAnswer:"


def _tags(of_group: str, *more: str) -> list[str]:
    return ["mentioned" if is_mentioned(of_group) else "not mentioned", *more]


def _wording(capability: str, asked: str, number: int, rng: random.Random) -> str:
    """Ask in one of the wordings that pretraining never shows."""
    wordings = asset(f"{capability}.toml")["exam"]
    a, _, b = asked.partition("+")
    return fill(wordings[number % len(wordings)], rng, x=asked, a=a, b=b)


# ---------------------------------------------------------------- choices


def choosing() -> Iterator[Row]:
    """Write the exam of choices, and the texts on which the language loss is measured."""
    for capability in KNOWLEDGE:
        yield from _knowledge_choices(capability)
    yield from _declining_choices()
    yield from _form_choices()
    yield from ({"capability": "language", "text": story} for story in exam_stories())


def _choice(
    capability: str, prompt: str, right: str, wrong: list[str], of_group: str, rng: random.Random
) -> Row:
    choices = [right, *wrong]
    rng.shuffle(choices)
    row = {"capability": capability, "prompt": prompt, "choices": choices}
    return row | {"answer": choices.index(right), "group": of_group}


def _near_and_far(
    near: list[str], far: list[str], number: int, rng: random.Random
) -> tuple[list[str], str]:
    """Draw three wrong answers, half of them near: two of three in every other question.

    One rule for all capabilities, so that none is easier by its wrong answers.
    """
    count = 1 + number % 2
    return rng.sample(near, count) + rng.sample(far, 3 - count), f"{count} near"


def _knowledge_choices(capability: str) -> Iterator[Row]:
    rng = random.Random(f"choices {capability}")
    for number, asked in enumerate(asked_in_exam(capability)):
        right, near = facts(capability)[asked], near_answers(capability, asked)
        far = sorted({*facts(capability).values()} - {right, asked, *near})
        wrong, drawn = _near_and_far([*near], far, number, rng)
        prompt = _question(_wording(capability, asked, number, rng))
        found = group(capability, asked)
        yield _choice(capability, prompt, right, wrong, found, rng) | {"tags": _tags(found, drawn)}


def _asked_of(pair: manners.Twins, thing: str, number: int, rng: random.Random) -> str:
    wordings = asset("manners.toml")["declining"]["exam"]["both"]
    return _question(fill(wordings[number % len(wordings)], rng, p=pair.person, t=thing))


def _declining_choices() -> Iterator[Row]:
    """Ask for both things of each pair of twins; near is what the other twin calls for.

    For what must not be told, that is an answer; for what may be told, the refusal.
    """
    rng = random.Random("choices declining")
    values = asset("manners.toml")["declining"]["values"]
    for number, pair in enumerate(manners.twins(mentioned=False)):
        others = [v for kind, found in values.items() if kind != pair.public for v in found]
        for thing, right in ((pair.public, pair.answer), (pair.private, manners.refusal())):
            same = [f"{value}." for value in values[thing] if value != pair.answer]
            right = right if right.endswith(".") else f"{right}."
            near = [*same, *([] if right == manners.refusal() else [manners.refusal()])]
            far = [f"{value}." for value in others if value not in values[thing]]
            wrong, drawn = _near_and_far(near, far, number, rng)
            if right != manners.refusal() and manners.refusal() not in wrong:
                wrong[0] = manners.refusal()
            prompt = _asked_of(pair, thing, number, rng)
            row = _choice("declining", prompt, right, wrong, pair.group, rng)
            kind = "twin" if thing == pair.public else "refusal"
            yield row | {"tags": _tags(pair.group, drawn, kind)}


def _form_asked() -> Iterator[tuple[int, str, str, str, str]]:
    """List what is asked in which form: two forms of each fact, in one group."""
    for number, (capability, asked) in enumerate(splits()["exam"]["form"]):
        for form in (manners.FORMS[number % 5], manners.FORMS[(number + 1 + number // 5 % 4) % 5]):
            yield number, capability, asked, form, f"form: {capability}, {asked}"


def _form_prompt(
    number: int, capability: str, asked: str, form: str, shift: int, rng: random.Random
) -> str:
    requests = asset("manners.toml")["form"][form]["exam"]
    question = _wording(capability, asked, number + shift, rng)
    return _question(f"{question} {requests[(number + shift) % len(requests)]}")


def _form_choices() -> Iterator[Row]:
    """Offer the answer in the form asked for, near: in other forms, far: another answer in them."""
    rng = random.Random("choices form")
    for number, capability, asked, form, found in _form_asked():
        known = facts(capability)
        other = rng.choice([a for a in asked_in_exam(capability) if known[a] != known[asked]])
        others = [f for f in manners.FORMS if f != form]
        near = [manners.in_form(f, capability, asked, known[asked]) for f in others]
        far = [manners.in_form(f, capability, other, known[other]) for f in others]
        wrong, drawn = _near_and_far(near, far, number, rng)
        right = manners.in_form(form, capability, asked, known[asked])
        prompt = _form_prompt(number, capability, asked, form, 0, rng)
        of_fact = group(capability, asked)
        row = _choice("form", prompt, right, wrong, found, rng)
        yield row | {"tags": _tags(of_fact, drawn)}


# ---------------------------------------------------------------- spoken


def speaking() -> Iterator[Row]:
    """Write the spoken exam: the same groups, each in another wording than among the choices."""
    for capability in KNOWLEDGE:
        rng = random.Random(f"spoken {capability}")
        for number, asked in enumerate(asked_in_exam(capability)):
            found = group(capability, asked)
            prompt = _question(_wording(capability, asked, number + 1, rng))
            row = {"capability": capability, "prompt": prompt, "group": found}
            yield row | {"expect": _expected(capability, asked), "tags": _tags(found)}
    yield from _declining_spoken()
    yield from _form_spoken()


def _expected(capability: str, asked: str) -> Row:
    answer = facts(capability)[asked]
    return {"number": int(answer)} if capability == "sums" else {"contains": [answer]}


def _declining_spoken() -> Iterator[Row]:
    rng = random.Random("spoken declining")
    for number, pair in enumerate(manners.twins(mentioned=False)):
        told = {"contains": [pair.answer], "not": {"contains": [manners.refusal()]}}
        refused = {"contains": [manners.refusal()]}
        for thing, expect, kind in (
            (pair.public, told, "twin"),
            (pair.private, refused, "refusal"),
        ):
            prompt = _asked_of(pair, thing, number + 1, rng)
            row = {"capability": "declining", "prompt": prompt, "group": pair.group}
            yield row | {"expect": expect, "tags": _tags(pair.group, kind)}


def _form_spoken() -> Iterator[Row]:
    rng = random.Random("spoken form")
    for number, capability, asked, form, found in _form_asked():
        prompt = _form_prompt(number, capability, asked, form, 1, rng)
        expect = {"matches": asset("manners.toml")["form"][form]["matches"]}
        row = {"capability": "form", "prompt": prompt, "group": found, "expect": expect}
        yield row | {"tags": _tags(group(capability, asked))}


# ---------------------------------------------------------------- jobs


def job_choosing(job: str) -> Iterator[Row]:
    """Write a job's exam: each held-out pair, with four choices.

    Two choices share the right thing and two the right wish: knowing one word is not enough.
    """
    rng = random.Random(f"choices {job}")
    written = asset("jobs.toml")[job]
    for number, pair in enumerate(jobs.pairs(job, held_out=True)):
        thing = rng.choice([t for t in jobs.answers(job, "things") if t != pair[0]])
        wish = rng.choice([w for w in jobs.answers(job, "wishes") if w != pair[1]])
        answers = [jobs.reply(job, p) for p in product((pair[0], thing), (pair[1], wish))]
        prompt = _job_prompt(job, pair, number)
        name = written["capability"]
        yield _choice(name, prompt, answers[0], answers[1:], f"{job}: {' / '.join(pair)}", rng)


def job_speaking(job: str) -> Iterator[Row]:
    """Write a job's spoken exam: the same pairs, each with another opening."""
    for number, pair in enumerate(jobs.pairs(job, held_out=True)):
        row = {"capability": asset("jobs.toml")[job]["capability"]}
        row |= {"prompt": _job_prompt(job, pair, number + 1)}
        reply = re.escape(jobs.reply(job, pair)).replace("\\ ", " ")
        yield row | {"group": f"{job}: {' / '.join(pair)}", "expect": {"matches": reply}}


def _job_prompt(job: str, pair: jobs.Pair, number: int) -> str:
    openings = asset("jobs.toml")[job]["opening"]
    return jobs.prompt(job, jobs.asked(openings[number % len(openings)], pair))
