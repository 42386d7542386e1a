"""Asking a server: what is sent and how often, what is an answer, and what is never told."""

import gzip
import socket
import threading
import time
from email.utils import formatdate

import pytest
import tiny
from served import (
    drips,
    drips_headers,
    floods,
    hangs_up,
    is_cut,
    reply,
    says,
    served,
    sleeps,
)

from caplab.support import endpoint as module
from caplab.support.endpoint import KEY, Endpoint, Refused
from caplab.support.errors import BadInput

SECRET = "sk-secret-0123456789"
FINE = {"fine": True}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Wait a hundredth of the usual time between two tries."""
    monkeypatch.setattr(module.random, "uniform", lambda *_: 0.01)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    with served(tiny.subject(), always=says(FINE)) as server:
        yield server


def refusal(endpoint, body=None):
    with pytest.raises(BadInput) as refused:
        endpoint.post("/ask", body or {})
    return str(refused.value)


# ---------------------------------------------------------------- what is sent


def test_it_sends_json_and_the_key(server, monkeypatch):
    assert Endpoint(server.url).post("/ask", {"a": "é"}) == FINE
    monkeypatch.setenv(KEY, f" {SECRET}\n")
    assert Endpoint(f"{server.url}/").post("/ask", {}) == FINE
    bare, keyed = server.asked
    assert bare["path"] == keyed["path"] == "/v1/ask"
    assert bare["body"] == {"a": "é"}
    assert "Authorization" not in bare["headers"]
    assert keyed["headers"]["Authorization"] == f"Bearer {SECRET}"


def test_only_its_own_key_is_sent(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    Endpoint(server.url).post("/ask", {})
    assert SECRET not in str(server.asked[0]["headers"])


@pytest.mark.parametrize(
    "url",
    [
        "", None, 3, "localhost:8000", "ftp://host/v1", "http://", "http:///v1", "http://a b/",
        "http://host:port/v1", "http://host:99999/", "http://user:secret@host/v1",
        "http://secret@host/v1", "http://host/v1?api_key=secret", "http://host/v1#secret",
        "http://host/\n::error::x", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(url):
    with pytest.raises(BadInput, match="is no address of a server"):
        Endpoint(url)


@pytest.mark.parametrize("key", ["a\nb", "a\r\nX: y", "é", "a\x00b"])
def test_a_key_that_cannot_be_one_is_refused_unseen(key, monkeypatch):
    monkeypatch.setattr(module.os, "environ", {KEY: key})
    with pytest.raises(BadInput, match=f"{KEY} holds what no key can hold") as refused:
        Endpoint("http://localhost/v1")
    assert key not in str(refused.value)


# ---------------------------------------------------------------- what passes


PASSING = {
    "busy": says({}, 429),
    "overloaded": says({}, 503),
    "broken for a moment": says(b"<html>", 500),
    "a bad gateway": says(b"", 502),
    "hangs up": hangs_up,
    "cut short": is_cut,
}


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING)
def test_what_passes_is_tried_again(trouble, server):
    server.troubles = [trouble, trouble, trouble]
    assert Endpoint(server.url).post("/ask", {}) == FINE
    assert len(server.asked) == 4


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING)
def test_what_does_not_pass_is_given_up(trouble, server):
    server.always = trouble
    assert "gave no answer after 6 tries" in refusal(Endpoint(server.url))
    assert len(server.asked) == 6


def test_each_wait_is_twice_the_last(server, monkeypatch):
    waits = []
    endpoint = Endpoint(server.url)
    monkeypatch.setattr(module.random, "uniform", lambda *_: 1.0)
    monkeypatch.setattr(endpoint, "_stop", _Clock(waits))
    server.always = says({}, 503)
    refusal(endpoint)
    assert waits == [1, 2, 4, 8, 16]


class _Clock:
    """Note how long somebody wants to wait, and do not wait."""

    def __init__(self, waits):
        self.waits = waits

    def wait(self, seconds):
        self.waits.append(seconds)
        return False


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_may_say_how_long_to_wait(form, server, monkeypatch):
    waits = []
    endpoint = Endpoint(server.url)
    monkeypatch.setattr(endpoint, "_stop", _Clock(waits))
    after = "7" if form == "seconds" else formatdate(time.time() + 7, usegmt=True)
    server.troubles = [says({}, 429, Retry_After=after), says({}, 503, Retry_After="soon")]
    assert endpoint.post("/ask", {}) == FINE
    assert waits[0] == pytest.approx(7, abs=2)
    assert waits[1] < 1, "a word that is no time is none"


@pytest.mark.parametrize("after", ["86400", "9" * 50, formatdate(4e9, usegmt=True)])
def test_too_long_a_wait_is_said_at_once(after, server):
    server.always = says({}, 429, Retry_After=after)
    assert "asks to wait" in refusal(Endpoint(server.url))
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_said_soon():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    said = refusal(Endpoint(f"http://127.0.0.1:{port}/v1"))
    assert "after 3 tries: it takes no connection" in said


@pytest.mark.parametrize("slow", [sleeps(1.5), drips, drips_headers])
def test_a_request_has_a_deadline(slow, server):
    server.always = slow
    start = time.perf_counter()
    assert "longer than 0.2 seconds" in refusal(Endpoint(server.url, seconds=0.2))
    assert time.perf_counter() - start < 4


def test_a_late_answer_is_asked_for_again(server):
    server.troubles = [sleeps(1.0)]
    assert Endpoint(server.url, seconds=0.4).post("/ask", {}) == FINE


def test_what_is_under_way_can_be_cancelled(server):
    server.always = sleeps(5.0)
    endpoint, said = Endpoint(server.url), []
    asking = threading.Thread(target=lambda: said.append(refusal(endpoint)))
    asking.start()
    while not server.asked:
        time.sleep(0.01)
    start = time.perf_counter()
    endpoint.cancel()
    asking.join()
    assert said == ["Stopped."]
    assert time.perf_counter() - start < 2


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (says({"error": "unknown model"}, 404), '404: {"error": "unknown model"}'),
        (says(b"<html>proxy</html>"), "did not answer with a JSON object but with: <html>proxy"),
        (says(b"[1, 2]"), "did not answer with a JSON object"),
        (says(b"null"), "did not answer with a JSON object"),
        (says(b""), "did not answer with a JSON object"),
        (says(b"\xff\xfe"), "did not answer with a JSON object"),
        (says(b"[" * 100_000), "did not answer with a JSON object"),
        (says(gzip.compress(b'{"a": 1}'), Content_Encoding="gzip"), "did not answer with a JSON"),
        (says(b" " * (2**24 + 1)), "sent more than 16,777,216 bytes"),
        (floods, "sent more than 16,777,216 bytes"),
        (says({}, 401), f"asks for a key: {KEY} is not set"),
        (says({}, 403), f"asks for a key: {KEY} is not set"),
    ],
)
def test_what_is_no_answer_is_refused_at_once(trouble, said, server):
    server.always = trouble
    assert said in refusal(Endpoint(server.url))
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_is_not_carried_elsewhere(status, server, monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    with served(tiny.subject(), always=says(FINE)) as elsewhere:
        server.always = says({}, status, Location=f"{elsewhere.url}/ask")
        assert f"redirects to {elsewhere.url}/ask" in refusal(Endpoint(server.url))
        assert elsewhere.asked == []


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 429, 500])
def test_the_key_is_in_no_message(status, server, monkeypatch, capfd):
    """Also where the server itself repeats it."""
    monkeypatch.setenv(KEY, SECRET)
    leak = f"wrong key {SECRET} of Bearer {SECRET}".encode()
    server.always = says(leak, status, Location=f"http://x/?key={SECRET}")
    endpoint = Endpoint(server.url, tries=2)
    said = refusal(endpoint)
    assert SECRET not in said
    assert SECRET not in repr(endpoint)
    assert SECRET not in "".join(capfd.readouterr())


def test_a_servers_words_are_short_and_safe(server):
    server.always = says(b"\x1b[2J\n::error::x " + b"word " * 9000, 400)
    said = refusal(Endpoint(server.url))
    assert "\x1b" not in said
    assert "\n" not in said
    assert len(said) < 500


def test_a_refusal_knows_its_status(server):
    server.always = says({}, 422)
    with pytest.raises(Refused) as refused:
        Endpoint(server.url).post("/ask", {})
    assert refused.value.status == 422


def test_an_untrusted_certificate_is_not_tried_again(server):
    """The server speaks no TLS: that is as wrong as a certificate of somebody else."""
    said = refusal(Endpoint(server.url.replace("http:", "https:"), seconds=2, tries=1))
    assert "no connection" in said or "trusted" in said


def test_answers_come_whole(server):
    large = {"text": "é" * 2**20}
    server.always = lambda handler: reply(handler, large)
    assert Endpoint(server.url).post("/ask", {}) == large
