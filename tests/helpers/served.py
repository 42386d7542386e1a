"""A real server on this machine that speaks OpenAI's protocol, and can be as bad as one likes."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from caplab.models.subject import Subject

LOCK = threading.Lock()  # one model, many requests


@dataclass
class Server:
    """What a server answers with, how it misbehaves, and what it was asked."""

    subject: Subject
    troubles: list[Callable[[Any], bool]] = field(default_factory=list)  # of the next requests
    always: Callable[[Any], bool] | None = None  # of all further ones
    asked: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""
    _now: int = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count how many requests are under way at a time."""
        with LOCK:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        yield
        with LOCK:
            self._now -= 1

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a request as such a server does."""
        with LOCK:
            if path == "/v1/chat/completions":
                return self._speak(body)
            return {"choices": [self._echo(n, text) for n, text in enumerate(body["prompt"])]}

    def _speak(self, body: dict[str, Any]) -> dict[str, Any]:
        said = self.subject.ask(body["messages"], body["max_tokens"])
        message = {"role": "assistant", "content": said}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    def _echo(self, index: int, text: str) -> dict[str, Any]:
        tokens = self.subject.tokenizer(text)["input_ids"]
        with torch.no_grad():
            logits = self.subject.model(torch.tensor([tokens])).logits[0].log_softmax(-1)
        added = int(logits[-1].argmax())
        nats = [None, *(float(logits[n, token]) for n, token in enumerate(tokens[1:]))]
        pieces = [self.subject.tokenizer.decode([token]) for token in [*tokens, added]]
        starts = [sum(map(len, pieces[:n])) for n in range(len(pieces))]
        found = {
            "tokens": pieces,
            "token_logprobs": [*nats, float(logits[-1, added])],
            "text_offset": starts,
        }
        return {
            "index": index,
            "text": text + pieces[-1],
            "logprobs": found,
            "finish_reason": "length",
        }


@contextmanager
def served(subject: Subject, **settings: Any) -> Iterator[Server]:
    """Start a server over a subject; it ends with the block."""
    server = Server(subject, **settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.asked.append({"path": self.path, "body": body, "headers": self.headers})
            trouble = server.troubles.pop(0) if server.troubles else server.always
            if trouble is None or not trouble(self):
                with server.counted():
                    content = server.answer(self.path, body)
                reply(self, content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = False  # closing waits for them: at exit, one that computes aborts Python
        request_queue_size = 64
        ended = threading.Event()

        def handle_error(self, *_: Any) -> None:
            """A client that hangs up is no news."""

    with Quiet(("127.0.0.1", 0), Handler) as listener:
        server.url = f"http://127.0.0.1:{listener.server_port}/v1"
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.ended.set()
            listener.shutdown()


def reply(handler: Any, content: Any, status: int = 200, **headers: str) -> bool:
    """Send an answer."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)
    return True


def says(content: Any, status: int = 200, **headers: str) -> Callable[[Any], bool]:
    """Misbehave by an answer of another kind."""
    return lambda handler: reply(handler, content, status, **headers)


def hangs_up(handler: Any) -> bool:
    """Close the connection without a word."""
    handler.close_connection = True
    handler.connection.close()
    return True


def is_cut(handler: Any) -> bool:
    """Announce more than comes."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    return hangs_up(handler)


def sleeps(seconds: float) -> Callable[[Any], bool]:
    """Answer late."""

    def wait(handler: Any) -> bool:
        return bool(handler.server.ended.wait(seconds))

    return wait


def drips(handler: Any) -> bool:
    """Send a header and then a byte now and then, so that the connection is never idle."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    return _drip(handler, b" ")


def drips_headers(handler: Any) -> bool:
    """Never come to the end of the headers."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    return _drip(handler, b"x")


def _drip(handler: Any, byte: bytes) -> bool:
    for _ in range(100):
        if handler.server.ended.wait(0.05):
            break
        try:
            handler.wfile.write(byte)
        except OSError:
            break
    handler.close_connection = True
    return True


def floods(handler: Any) -> bool:
    """Send without end."""
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(1000):
            handler.wfile.write(b" " * 2**20)
    except OSError:
        pass
    handler.close_connection = True
    return True
