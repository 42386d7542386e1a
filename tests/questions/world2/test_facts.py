"""World 2's facts: enough of them, each with one answer, and half of them never mentioned."""

from collections import Counter

import pytest

from caplab.questions.world2.assets import splits
from caplab.questions.world2.exams import asked_in_exam
from caplab.questions.world2.facts import KNOWLEDGE, askable, facts, group, near_answers


@pytest.mark.parametrize(("capability", "least"), [("capitals", 150), ("sums", 150), ("past", 150)])
def test_three_capabilities_have_150_groups(capability, least):
    assert len({group(capability, asked) for asked in asked_in_exam(capability)}) >= least


@pytest.mark.parametrize("capability", KNOWLEDGE)
def test_every_capability_has_75_groups_each_asked_once(capability):
    groups = Counter(group(capability, asked) for asked in asked_in_exam(capability))
    assert len(groups) >= 75
    assert set(groups.values()) == {1}


def test_every_word_has_one_opposite():
    pairs = facts("opposites")
    assert all(pairs[pairs[word]] == word for word in pairs)


@pytest.mark.parametrize("capability", ["capitals", "past", "how-to"])
def test_every_answer_belongs_to_one_question(capability):
    assert set(Counter(facts(capability).values()).values()) == {1}


@pytest.mark.parametrize("capability", KNOWLEDGE)
def test_half_of_the_exam_is_never_mentioned(capability):
    asked = [group(capability, each) for each in asked_in_exam(capability)]
    hidden = {*splits()["not mentioned"]}
    assert len(asked) // 2 == sum(each in hidden for each in asked)
    assert not {group(capability, each) for each in askable(capability, True)} & hidden


def test_sums_are_held_out_by_group():
    never = {*splits()["never"]}
    shown = {group("sums", asked) for asked in askable("sums", False)}
    assert len(never) == 30
    assert not never & shown
    assert never <= {group("sums", asked) for asked in asked_in_exam("sums")}


@pytest.mark.parametrize("capability", KNOWLEDGE)
def test_near_answers_are_wrong(capability):
    for asked in asked_in_exam(capability):
        near = near_answers(capability, asked)
        assert len(near) >= 2
        assert facts(capability)[asked] not in near
        assert asked not in near
