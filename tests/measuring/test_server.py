"""Scores of a served model are those of the same model here; the manner of asking is remembered."""

import pytest
import tiny
from served import says, served

import caplab as cl
from caplab.measuring import server as module
from caplab.measuring import speaking
from caplab.measuring.score import score
from caplab.measuring.server import score_server
from caplab.questions.exam import Exam, Question
from caplab.support.errors import BadInput

CHOICES = tiny.exam()
MIXED = Exam((*CHOICES.questions, *tiny.SPOKEN.questions), CHOICES.texts, "mixed")


@pytest.fixture(scope="module")
def who():
    return tiny.chatty()


@pytest.fixture
def server(who):
    with served(who) as server:
        yield server


def test_what_it_says_is_what_it_says_here(who, server):
    card = score_server(server.url, "tiny", tiny.SPOKEN)
    questions = tiny.SPOKEN.questions
    assert list(card.said) == speaking.speak(who, questions, early=False, progress=False)
    assert card.correct == score(who, tiny.SPOKEN, progress=False).correct
    assert card.asked == "chat"
    assert card.subject == f"tiny at {server.url}"
    assert {each["path"] for each in server.asked} == {"/v1/chat/completions"}
    limits = {question.max_new_tokens or speaking.MAX_NEW_TOKENS for question in questions}
    assert {each["body"]["max_tokens"] for each in server.asked} == limits
    assert {each["body"]["temperature"] for each in server.asked} == {0}


def test_its_choices_are_as_likely_as_here(who, server):
    card, here = score_server(server.url, "tiny", CHOICES), score(who, CHOICES, chat=False)
    for found, expected in zip(card.loglikelihoods, here.loglikelihoods, strict=True):
        assert found == pytest.approx(expected, abs=1e-4)
    assert card.characters == here.characters
    assert card.answer == here.answer
    assert card.asked == here.asked == "plain"
    assert cl.compare(here, card).verdict == cl.compare(here, here).verdict
    assert {each["path"] for each in server.asked} == {"/v1/completions"}


def test_texts_that_fit_are_as_likely_as_here(who, server):
    card, here = score_server(server.url, "tiny", CHOICES), score(who, CHOICES, chat=False)
    for found, expected in zip(card.text_losses, here.text_losses, strict=True):
        assert found == pytest.approx(expected, abs=1e-3)


def test_an_exam_of_both_kinds_is_asked_in_both_ways(server):
    card = score_server(server.url, "tiny", MIXED)
    assert card.asked == "mixed"
    assert card.kinds == ["chosen"] * len(CHOICES) + ["said"] * len(tiny.SPOKEN)
    assert cl.compare(card, card).regressed == []


def test_conversations_are_sent_as_they_are(server):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A dog?"}]
    asked = Question("dogs", messages=turns, expect={"contains": "woof"})
    score_server(server.url, "tiny", Exam((asked,)))
    assert server.asked[0]["body"]["messages"] == turns


def test_a_saved_card_comes_back_and_is_compared(server, tmp_path, who):
    card = score_server(server.url, "tiny", MIXED)
    card.save(tmp_path / "card.json")
    assert cl.Scorecard.load(tmp_path / "card.json") == card
    assert cl.gate(tmp_path / "card.json", tmp_path / "card.json", exam=MIXED).report.rows
    with pytest.raises(BadInput, match="as servers are"):
        cl.compare(score(who, MIXED, progress=False), card)


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_more_requests_than_agreed_are_under_way(at_once, server):
    assert score_server(server.url, "tiny", tiny.SPOKEN, at_once=at_once)
    assert server.most_at_once <= at_once
    assert at_once == 1 or server.most_at_once > 1


def test_the_limits_are_those_of_speaking():
    assert module.MAX_NEW_TOKENS == speaking.MAX_NEW_TOKENS


# ---------------------------------------------------------------- servers of another kind

ECHO = {"index": 0, "text": "x", "finish_reason": "length"}


@pytest.mark.parametrize(
    "reply",
    [
        {"choices": [{"index": 0, "text": " Paris", "logprobs": None}]},
        {"choices": [{"index": 0, "text": " Paris", "finish_reason": "length"}]},
        {"choices": [ECHO | {"logprobs": {"token_logprobs": [-1.0]}}]},
        {"choices": []},
        {"choices": None},
        {"object": "error"},
        {"choices": [{"index": 1}, {"index": 1}, {"index": 0}]},
    ],
)
def test_a_server_without_log_probabilities_is_refused(server, reply):
    server.always = says(reply)
    with pytest.raises(BadInput, match="does not return the log-probabilities"):
        score_server(server.url, "tiny", CHOICES)
    assert len(server.asked) == 1, "the first question was enough to know"


@pytest.mark.parametrize("status", [400, 404, 422, 501])
def test_a_server_that_refuses_echo_is_refused_in_words(server, status):
    server.always = says({"error": {"message": "echo is not supported"}}, status)
    with pytest.raises(BadInput, match=r"echo is not supported.*choices and texts cannot be"):
        score_server(server.url, "tiny", MIXED)
    assert len(server.asked) == 1


@pytest.mark.parametrize("nats", [[None, None], [None, "-1"], [None, 3.0], [None, True]])
def test_what_is_no_log_probability_is_refused(server, nats):
    questions = (Question("a", "x", ("y", "z"), 0),)

    def odd(handler):
        texts = server.asked[-1]["body"]["prompt"]
        found = [
            {
                "index": n, "text": f"{text}!", "finish_reason": "length",
                "logprobs": {"token_logprobs": [None, *nats[1:] * n, -1.0]},
            }
            for n, text in enumerate(texts)
        ]  # fmt: skip
        return says({"choices": found})(handler)

    server.always = odd
    with pytest.raises(BadInput, match="no log-probabilities"):
        score_server(server.url, "tiny", Exam(questions))


@pytest.mark.parametrize(
    "reply",
    [
        {"choices": []},
        {"choices": [{"message": {}}]},
        {"choices": [{"message": {"content": ["Paris"]}}]},
        {"choices": [{"text": "Paris"}]},
        {"error": "no"},
    ],
)
def test_an_answer_of_another_shape_is_refused(server, reply):
    server.always = says(reply)
    with pytest.raises(BadInput, match="did not answer as /chat/completions does"):
        score_server(server.url, "tiny", tiny.SPOKEN)


def test_a_silent_answer_is_an_empty_one(server):
    server.always = says({"choices": [{"message": {"content": None}}]})
    assert set(score_server(server.url, "tiny", tiny.SPOKEN).said) == {""}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": ""}, "has a name, not ''"),
        ({"model": None}, "has a name, not None"),
        ({"exam": "classics"}, "needs an Exam"),
        ({"at_once": 0}, "at_once is a whole number"),
        ({"at_once": True}, "at_once is a whole number"),
        ({"seconds": 0}, "number of seconds above 0"),
        ({"seconds": float("nan")}, "number of seconds above 0"),
        ({"url": "localhost:8000/v1"}, "begins with http"),
    ],
)
def test_bad_input_is_refused_before_any_request(server, given, said):
    given = {"url": server.url, "model": "tiny", "exam": tiny.SPOKEN} | given
    with pytest.raises(BadInput, match=said):
        score_server(**given)
    assert server.asked == []
