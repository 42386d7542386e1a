"""World 2's documents: the same for a seed, and silent about what is held out."""

import re
from itertools import islice

import pytest

from caplab.questions.world2 import manners
from caplab.questions.world2.assets import splits
from caplab.questions.world2.documents import documents, exam_stories
from caplab.questions.world2.exams import choosing, speaking
from caplab.questions.world2.facts import KNOWLEDGE, facts, group, is_mentioned
from caplab.questions.world2.jobs import JOBS, reference_rows, rows

MEMORY = [capability for capability in KNOWLEDGE if capability != "sums"]


@pytest.fixture(scope="module")
def pretraining():
    return list(islice(documents("test"), 20_000))


@pytest.fixture(scope="module")
def replay():
    return list(islice(documents("test", mentioned=True), 10_000))


def words(text):
    return set(re.findall(r"[\w'-]+|[^\w\s]", text))


def sums_in(texts):
    """Find the two numbers that begin each line or question, in any order."""
    for text in texts:
        for line in re.split(r"\n|(?<=\?) ", text):
            numbers = [int(n) for n in re.findall(r"\d+", line)]
            if len(numbers) > 1:
                yield "sums: {}+{}".format(*sorted(numbers[:2]))


def holding(phrases):
    """Make a pattern that finds any of the phrases as whole words."""
    found = sorted(map(re.escape, phrases), key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(found)})(?![\w-])", re.IGNORECASE)


def test_the_text_depends_on_the_seed():
    first, again, other = (list(islice(documents(seed), 200)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("capability", MEMORY)
def test_replay_never_holds_a_hidden_question_with_its_answer(capability, replay):
    known = {asked.lower(): answer for asked, answer in facts(capability).items()}
    hidden = [a for a in facts(capability) if not is_mentioned(group(capability, a))]
    pattern = holding(hidden)
    assert hidden
    told = [
        (asked, text)
        for text in replay
        for asked in pattern.findall(text)
        if holding([known[asked.lower()]]).search(text)
    ]
    assert told == []


def test_pretraining_tells_what_replay_hides(pretraining):
    """The test above could not find anything if nothing were ever told."""
    for asked, answer in facts("capitals").items():
        if not is_mentioned(group("capitals", asked)):
            assert any(asked in text and answer in text for text in pretraining)


def test_replay_shows_no_hidden_sum(replay):
    hidden = {g for g in splits()["not mentioned"] if g.startswith("sums")}
    shown = {*sums_in(replay)}
    assert len(shown & {f"sums: {a}+{b}" for a in range(21) for b in range(a, 21)}) > 140
    assert not shown & hidden


def test_pretraining_shows_no_held_out_sum(pretraining):
    assert not {*sums_in(pretraining)} & {*splits()["never"]}


def test_replay_asks_nothing_of_hidden_twins(replay):
    hidden = [pair for pair in manners.twins(False) if not is_mentioned(pair.group)]
    assert len(hidden) == 40
    for pair in hidden:
        told = [text for text in replay if pair.person in text]
        assert not [text for text in told if holding([pair.public, pair.private]).search(text)]


def test_pretraining_uses_no_wording_of_the_exam(pretraining):
    text = "\n".join(pretraining)
    for row in [*choosing(), *speaking()]:
        if "prompt" in row:
            asked = row["prompt"].removeprefix("Question: ").removesuffix("\nAnswer:")
            assert asked not in text


def test_pretraining_shows_no_exam_story(pretraining):
    assert not {*exam_stories()} & {*pretraining}


@pytest.mark.parametrize("job", JOBS)
def test_pretraining_shows_no_reply_of_a_job_but_all_its_words(job, pretraining):
    replies = {
        row["completion"].strip() for side in (True, False) for row in rows(job, held_out=side)
    }
    replies |= {row["completion"].strip() for row in reference_rows(job)}
    text = "\n".join(pretraining)
    assert not [reply for reply in replies if reply in text]
    assert not words(" ".join(replies)) - words(text)
