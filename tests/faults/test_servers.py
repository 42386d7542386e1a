"""A served model, and servers that are slow, busy, broken, hostile or elsewhere."""

import pytest
import tiny
from drill import fault
from served import (
    drips,
    drips_headers,
    floods,
    hangs_up,
    is_cut,
    says,
    served,
    sleeps,
)

import caplab as cl
from caplab.cli import commands
from caplab.measuring import server as server_module
from caplab.support import endpoint
from caplab.support.endpoint import KEY

SECRET = "sk-secret-0123456789"


@pytest.fixture
def here(at, monkeypatch):
    """A folder with an exam, a key in the environment, and no patience."""
    tiny.SPOKEN.save(at.folder / "exam.jsonl")
    monkeypatch.chdir(at.folder)
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setattr(endpoint.random, "uniform", lambda *_: 0.001)
    return at.folder


def score(server, *more):
    line = ["score", f"--server={server.url}", "--model=tiny", "--exam=exam.jsonl"]
    return commands.main([*line, "--json=card.json", *more])


def check_secret(folder, capfd):
    """Check that the key is in no file and was not printed; return what was."""
    heard = capfd.readouterr()
    assert SECRET not in heard.out + heard.err
    for path in folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
    return heard


@fault("a model is served elsewhere, and needs a key", "scored, gated; the key is in no file")
def test_a_served_model_is_scored_and_gated(here, capfd):
    with served(tiny.chatty()) as server:
        assert score(server) == 0
    assert f"tiny at {server.url}" in check_secret(here, capfd).out
    assert cl.Scorecard.load("card.json").asked == "chat"
    gate = ["gate", "card.json", "card.json", "--exam=exam.jsonl", "--html=page.html"]
    assert commands.main(gate) in (0, 1, 3)
    check_secret(here, capfd)


@fault(
    "a server is busy, hangs up or is cut for a while", "asked again, and scored as if nothing was"
)
def test_passing_troubles_change_no_answer(here, capfd):
    with served(tiny.chatty()) as server:
        assert score(server) == 0
        expected = cl.Scorecard.load("card.json")
        trouble = [says({}, 429), hangs_up, is_cut, says({}, 503, Retry_After="0"), says(b"", 502)]
        server.troubles = [*trouble]
        assert score(server) == 0
    assert cl.Scorecard.load("card.json") == expected
    check_secret(here, capfd)


BAD = {
    "busy for ever": (says({}, 429), "429"),
    "broken": (says({"error": SECRET}, 500), "500"),
    "the key is wrong": (says({"error": f"bad key {SECRET}"}, 401), "asks for a key"),
    "the key is not enough": (says({}, 403), "asks for a key"),
    "the model is unknown": (says({"error": "no model tiny"}, 404), "no model tiny"),
    "a page, not JSON": (says(b"<html>log in</html>"), "did not answer with a JSON object"),
    "JSON of another kind": (says({"hello": 1}), "did not answer as"),
    "half an answer": (is_cut, "the connection broke"),
    "no answer": (hangs_up, "the connection broke"),
    "an answer without end": (floods, "more than 16,777,216 bytes"),
    "an answer, drop by drop": (drips, "longer than 0.3 seconds"),
    "headers without end": (drips_headers, "longer than 0.3 seconds"),
    "late": (sleeps(2), "longer than 0.3 seconds"),
    "elsewhere": (says({}, 307, Location="http://evil.example/v1"), "redirects to http://evil"),
    "a wait of a day": (says({}, 429, Retry_After="86400"), "asks to wait 24.0 hours"),
    "codes of a terminal": (says(b"\x1b[2J\n::error::x", 400), "\\x1b[2J"),
}


@fault("a server is down, broken or hostile", "one sentence and code 2; no file, and no key told")
@pytest.mark.parametrize(("trouble", "said"), BAD.values(), ids=BAD)
def test_a_bad_server_is_named(trouble, said, here, capfd):
    before = {path.name for path in here.iterdir()}
    with served(tiny.chatty(), always=trouble) as server:
        assert score(server, "--timeout=0.3") == 2
    heard = check_secret(here, capfd)
    assert said in heard.err
    assert heard.err.count("\n") == 1
    assert "\x1b" not in heard.err
    assert {path.name for path in here.iterdir()} == before


@fault("a server fails after half of the questions", "named; what is under way ends at once")
def test_a_server_that_fails_later(here, capfd):
    fine, bad = (lambda _: False), says({}, 401)
    with served(tiny.chatty(), troubles=[fine] * 3, always=bad) as server:
        assert score(server) == 2
        assert len(server.asked) <= 3 + server_module._AT_ONCE  # each thread fails once at most
    assert "asks for a key" in check_secret(here, capfd).err


@fault("a served model is named in half", "refused, with what is missing")
@pytest.mark.parametrize(
    "line",
    [
        "score",
        "score --server http://localhost:1/v1",
        "score --model tiny",
        "score pocket --model tiny",
        "score pocket --server http://localhost:1/v1 --model tiny",
        "score --server localhost:1 --model tiny",
        f"score --server http://{SECRET}@localhost:1/v1 --model tiny",
        f"score --server http://localhost:1/v1?key={SECRET} --model tiny",
        "score --server http://localhost:1/v1 --model tiny --concurrency 0",
        "score --server http://localhost:1/v1 --model tiny --timeout nan",
        "score --server http://localhost:1/v1 --model tiny --json exam.jsonl --exam exam.jsonl",
    ],
)
def test_half_a_server_is_refused(line, here, capfd):
    before = (here / "exam.jsonl").read_bytes()
    assert commands.main(line.split()) == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert (here / "exam.jsonl").read_bytes() == before
