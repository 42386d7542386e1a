"""The everyday exam: its shape, its wordings, and what others' answers score in it."""

import json
import random
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from caplab.measuring.score import score, verdicts
from caplab.models.fetch import FULL_NAME, fetched_folder
from caplab.models.load import load
from caplab.questions.exam import BUILT_IN, OVERALL, exam

ROOT = Path(__file__).parents[2]
BOTH = ("everyday", "everyday_reworded")
WORLD2 = ("world2", "service2", "catalogue", "station")
SPOKEN = (*BOTH, "everyday_task", *WORLD2)  # the shipped exams that have spoken questions
SAID = json.loads((Path(__file__).parent / "everyday_said.json").read_text(encoding="utf-8"))
REPLIES = (
    "",
    "Click Settings, then Password.",
    "Click Castle, then Parcel Label.",
    "Click City, then Map.",
    "Let me check your account.",
    "30 days for most items.",
    "Click Garden, then Spare Parts.",  # right for one customer of the task
)
SHUFFLES = 20
MOST = 0.1  # of a row, for answers that were not given to its questions


def spoken(name):
    return [question for question in exam(name).questions if question.spoken]


def answered(name):
    """Return the spoken questions whose answer by the base is recorded, and the answers."""
    said = SAID["said"][name]
    asked = [question for question in spoken(name) if question.asked in said]
    return asked, [said[question.asked] for question in asked]


def rates(questions, answers):
    """Return the accuracy of each capability's spoken row."""
    rows = defaultdict(list)
    for question, right in zip(questions, verdicts(questions, answers), strict=True):
        rows[question.capability].append(right)
    return {name: sum(right) / len(right) for name, right in rows.items()}


@pytest.mark.parametrize("name", BOTH)
def test_the_exam_is_large_enough(name):
    everyday = exam(name)
    groups = defaultdict(set)
    for question in everyday.questions:
        groups[question.capability].add(question.group)
    sizes = sorted(map(len, groups.values()))
    assert len(everyday) >= 600
    assert len(sizes) >= 10
    assert sizes[0] >= 75
    assert sizes[-3] >= 150
    assert len(everyday.texts) >= 12


@pytest.mark.parametrize("name", BOTH)
def test_about_half_of_the_questions_are_spoken(name):
    assert 0.45 <= len(spoken(name)) / len(exam(name)) <= 0.6
    assert len({question.capability for question in spoken(name)}) >= 6


@pytest.mark.parametrize("name", BOTH)
def test_each_refusal_has_a_twin_that_is_to_be_answered(name):
    twins = defaultdict(list)
    for question in exam(name).subset("declining").questions:
        twins[question.group].append(question)
    assert len(twins) >= 75
    for one, other in twins.values():
        assert one.together
        assert other.together
        assert other.expect.example in other.asked
        assert not one.expect.meets(other.expect.example)


@pytest.mark.parametrize("name", BOTH)
def test_who_declines_everything_declines_nothing(name):
    twins = exam(name).subset("declining").questions
    assert not any(verdicts(twins, ["I'm sorry, I cannot tell you that."] * len(twins)))


@pytest.mark.parametrize("name", BOTH)
def test_nothing_is_asked_twice(name):
    asked = Counter((question.asked, question.spoken) for question in exam(name).questions)
    assert asked.most_common(1)[0][1] == 1


def test_both_wordings_ask_the_same_groups():
    one, other = (
        [(q.capability, q.group, q.spoken, q.right) for q in exam(name).questions] for name in BOTH
    )
    assert one == other


def test_every_question_is_reworded():
    pairs = zip(*(exam(name).questions for name in BOTH), strict=True)
    assert [a.asked for a, b in pairs if a.asked == b.asked] == []


def test_the_two_exams_share_no_text():
    one, other = ({text.text for text in exam(name).texts} for name in BOTH)
    assert not one & other


def test_distractors_are_half_near_half_far():
    wrong = {
        len(question.choices) - 1 for question in exam("everyday").questions if question.choices
    }
    assert wrong == {4}


def test_the_tool_makes_the_everyday_exams():
    tool = [sys.executable, ROOT / "tools" / "build_everyday.py", "--check"]
    done = subprocess.run(tool, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_exam_with_spoken_questions_is_tried():
    assert {name for name in BUILT_IN if spoken(name)} == {*SPOKEN}


@pytest.mark.parametrize("name", SPOKEN)
@pytest.mark.parametrize("reply", REPLIES)
def test_a_fixed_reply_scores_nothing(name, reply):
    questions = spoken(name)
    assert max(rates(questions, [reply] * len(questions)).values()) <= MOST


@pytest.mark.parametrize("name", BOTH)
def test_every_spoken_row_has_base_answers(name):
    assert SAID["model"] == FULL_NAME
    questions, _ = answered(name)
    counts = Counter(question.capability for question in questions)
    assert counts.keys() == {question.capability for question in spoken(name)}
    assert min(counts.values()) >= 20


@pytest.mark.parametrize("name", BOTH)
def test_shuffled_answers_score_nothing(name):
    questions, answers = answered(name)
    rng, totals = random.Random(0), Counter()
    for _ in range(SHUFFLES):  # one shuffle of so few answers is luck
        rng.shuffle(answers)
        totals.update(rates(questions, answers))
    assert max(totals.values()) / SHUFFLES <= MOST


@pytest.mark.slow
@pytest.mark.weekly
def test_each_row_is_known_in_both_wordings():
    if not fetched_folder().is_dir():
        pytest.skip("SmolLM2 is not on this machine: run `caplab fetch smollm2` to test it")
    model = load("smollm2")
    one, other = (score(model, exam(name), progress=False) for name in BOTH)
    for name, capability, _, items in one.parts:
        levels = [sum(card.correct[n] for n in items) / len(items) for card in (one, other)]
        assert abs(levels[0] - levels[1]) <= 0.05, (name, levels)
        assert capability == OVERALL or 0.6 <= min(levels) <= max(levels) <= 0.97, (name, levels)
