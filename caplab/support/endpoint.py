"""Ask a server that speaks JSON over HTTP: patiently, within limits, and without telling its key.

A server may be slow, busy, broken or hostile. A request has a deadline and an answer has a largest
size; what passes is tried again, later each time; a redirect is never followed, because the key
would go to whoever it leads to. The key comes from the environment and is in no message.
"""

import http.client
import json
import os
import random
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from caplab.support.errors import BadInput, as_number, is_count, short_repr
from caplab.support.safe_text import line_text
from caplab.support.text import format_duration

__all__ = ["KEY", "Endpoint", "Refused"]

KEY = "CAPLAB_API_KEY"  # the environment variable: no other, so that no key goes astray
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_LARGEST = 2**24  # bytes of an answer: 16 MB
_LONGEST_WAIT = 300.0  # seconds that a server may ask to wait
_CONNECTING = 3  # tries of a server that takes no connection: it is not there
_SLOW = 3  # tries of a request that took too long
_SAID = 300  # characters of a server's own words in a message


class Refused(BadInput):
    """What a server answered to a request that it does not take; `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _PassingError(Exception):
    """A trouble that may have passed at the next try."""

    def __init__(self, reason: str, wait: float | None = None, tries: int | None = None) -> None:
        super().__init__(reason)
        self.wait, self.tries = wait, tries


@dataclass
class Endpoint:
    """A server's address, and how patient one is with it."""

    url: str
    seconds: float = 120.0  # for one request
    tries: int = 6
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _open: set[http.client.HTTPConnection] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/") if isinstance(self.url, str) else self.url
        if problem := _problem(self.url):
            raise BadInput(f"{short_repr(self.url)} is no address of a server: {problem}.")
        if not 0 < as_number(self.seconds) < threading.TIMEOUT_MAX or not is_count(self.tries, 1):
            raise BadInput("A time-out is a number of seconds above 0, and tries are at least 1.")
        key = os.environ.get(KEY, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise BadInput(f"{KEY} holds what no key can hold, such as a line break.")
        self._key = key

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a request; return the JSON object of the answer."""
        content, tried = json.dumps(body).encode(), 0
        while True:
            tried += 1
            try:
                return self._answer(*self._exchange(path, content))
            except _PassingError as trouble:
                if tried >= min(self.tries, trouble.tries or self.tries):
                    times = f"after {tried} tries" if tried > 1 else "at the first try"
                    raise BadInput(f"{self.url} gave no answer {times}: {trouble}.") from None
                wait = min(60.0, 0.5 * 2**tried) * random.uniform(0.5, 1)
                if self._stop.wait(wait if trouble.wait is None else trouble.wait):
                    raise BadInput("Stopped.") from None

    def cancel(self) -> None:
        """End what is under way, in whichever threads, and take no more requests."""
        self._stop.set()
        for connection in [*self._open]:
            _cut(connection)

    # ------------------------------------------------------------ one request

    def _exchange(self, path: str, content: bytes) -> tuple[int, Any, bytes]:
        """Send one request; return the status, the headers and the body of the answer."""
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        parts, connection = urlsplit(self.url), self._connection()
        watch = threading.Timer(self.seconds, _cut, [connection])
        watch.daemon, start = True, time.monotonic()
        watch.start()
        self._open.add(connection)
        try:
            self._connect(connection)
            connection.request("POST", f"{parts.path}{path}", content, headers)
            reply = connection.getresponse()
            answer = reply.status, reply.headers, _body(reply)
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() - start < self.seconds:
                raise _PassingError(f"the connection broke ({type(error).__name__})") from error
            answer = None
        finally:
            self._open.discard(connection)
            watch.cancel()
            connection.close()
        if answer is None or time.monotonic() - start >= self.seconds:  # it may have been cut
            raise _PassingError(f"it took longer than {self.seconds:g} seconds", tries=_SLOW)
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        return kind(str(parts.hostname), parts.port, timeout=self.seconds)

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        """Connect, or say why that is not possible; a wrong certificate does not pass."""
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise BadInput(f"{self.url} cannot be trusted: {error.verify_message}.") from error
        except OSError as error:
            reason = f"it takes no connection ({error.strerror or error})"
            raise _PassingError(reason, tries=_CONNECTING) from error

    # ------------------------------------------------------------ one answer

    def _answer(self, status: int, headers: Any, body: bytes) -> dict[str, Any]:
        """Return the object in an answer; refuse, or let pass, everything else."""
        if len(body) > _LARGEST:
            raise BadInput(f"{self.url} sent more than {_LARGEST:,} bytes: that is no answer.")
        said = self._quoted(body)
        if status in _BUSY:
            raise _PassingError(f"it answered {status}: {said}", _wait(headers, self.url))
        if 300 <= status < 400:
            where = self._quoted(str(headers.get("Location")).encode())
            raise Refused(
                f"{self.url} redirects to {where}. Nothing was sent there: give that address "
                "yourself if you trust it.",
                status,
            )
        if status in (401, 403):
            given = "was not taken" if self._key else "is not set"
            raise Refused(f"{self.url} asks for a key: {KEY} {given} ({status}: {said}).", status)
        if status != 200:
            raise Refused(f"{self.url} answered {status}: {said}.", status)
        with suppress(ValueError, RecursionError):
            if isinstance(found := json.loads(body), dict):
                return found
        raise BadInput(f"{self.url} did not answer with a JSON object but with: {said}.")

    def _quoted(self, body: bytes) -> str:
        """Quote a server's own words, short and without the key."""
        text = body[: 4 * _SAID].decode(errors="replace")
        return line_text(text.replace(self._key, "***") if self._key else text, _SAID).strip()


def _problem(url: object) -> str:
    """Say why a URL cannot be asked, or nothing."""
    if not isinstance(url, str) or not url.isprintable() or " " in url:
        return "write http://host:port/v1"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "it begins with http:// or https:// and a host"
    if parts.username is not None or parts.password is not None:
        return f"a key or password does not belong into it; set {KEY}"
    return (
        "it ends with its path, as in http://host:port/v1" if parts.query or parts.fragment else ""
    )


def _cut(connection: http.client.HTTPConnection) -> None:
    """End a connection whose time is up, wherever it is."""
    with suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _body(reply: http.client.HTTPResponse) -> bytes:
    """Read an answer; refuse one that was cut short, and stop reading one that is too large."""
    found = reply.read(_LARGEST + 1)
    if len(found) <= _LARGEST and reply.length:  # bytes that were announced and did not come
        raise http.client.IncompleteRead(found, reply.length)
    return found


def _wait(headers: Any, url: str) -> float | None:
    """Return how many seconds a server asks to wait, in one of the two ways of saying it."""
    given = str(headers.get("Retry-After") or "").strip()
    seconds = None
    if given.isascii() and given.isdigit():
        seconds = float(given[:9])
    elif given:
        with suppress(ValueError, TypeError, OverflowError):
            seconds = max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    if seconds is not None and seconds > _LONGEST_WAIT:
        raise BadInput(f"{url} asks to wait {format_duration(seconds)}. Try again then.")
    return seconds
