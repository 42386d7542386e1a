"""The tasks that ship with the lab, and what they keep apart."""

import pytest

from caplab.questions import world
from caplab.questions.exam import exam
from caplab.questions.tasks import task
from caplab.support.errors import BadInput


@pytest.fixture(scope="module")
def everyday():
    return task("everyday")


def said(row):
    return [turn["content"] for turn in row["messages"]]


def test_the_task_without_a_name_is_pockets():
    assert task()["train"].to_list() == world.task()["train"].to_list()


def test_an_unknown_task_is_refused():
    with pytest.raises(BadInput, match=r"no task 'evryday'\. Did you mean 'everyday'"):
        task("evryday")
    with pytest.raises(BadInput, match="named by a string"):
        task(3)


def test_the_conversations_have_a_system_turn_and_several_others(everyday):
    roles = [[turn["role"] for turn in row["messages"]] for row in everyday["train"]]
    assert len(roles) >= 300
    assert {row[0] for row in roles} == {"system"}
    assert {row[-1] for row in roles} == {"assistant"}
    assert sum(row.count("user") > 1 for row in roles) > len(roles) / 2


def test_no_held_out_reply_is_trained(everyday):
    trained = {said(row)[-1] for row in everyday["train"]}
    held_out = {said(row)[-1] for row in everyday["test"]}
    assert len(held_out) == 29
    assert not trained & held_out
    # Each of its two parts is: a reply can be put together.
    parts = {part for reply in trained for part in reply.rstrip(".").split(", then ")}
    assert {part for reply in held_out for part in reply.rstrip(".").split(", then ")} <= parts


def test_the_task_exam_asks_what_is_held_out(everyday):
    held_out = {tuple(said(row)[:-1]): said(row)[-1] for row in everyday["test"]}
    questions = exam("everyday_task").questions
    assert len(questions) == len(held_out)
    for question in questions:
        reply = held_out[tuple(turn.content for turn in question.messages)]
        assert question.expect.meets(reply) if question.spoken else question.right == reply
    assert sum(question.spoken for question in questions) == len(questions) / 2


def test_the_old_rows_are_in_no_exam(everyday):
    old = {text for row in everyday["old"] for text in said(row)}
    assert len(everyday["old"]) == 8
    for name in ("everyday", "everyday_reworded", "everyday_task"):
        asked = {turn.content for q in exam(name).questions for turn in q.messages or ()}
        assert not old & (asked | {question.prompt for question in exam(name).questions})
