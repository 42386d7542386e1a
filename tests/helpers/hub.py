"""A stand-in for the hub on this machine: real HTTP, real headers, and every fault on request.

Small files come from the hub itself. Weights come, as from the real one, by a redirect to a second
address that answers ranges; their SHA-256 stands in the model's file list.
"""

import hashlib
import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_MODEL = re.compile(r"/api/models/([^?]+?)(/(?:tree|revision)/[^?]+)?(?:\?.*)?")
_FILE = re.compile(rf"/(.+)/resolve/{COMMIT}/(.+)")
_CHUNK = 1 << 16


@dataclass
class Hub:
    """What the hub has, how it misbehaves, and what was asked of it."""

    models: dict  # {name: {file: bytes, or a map of a large file}}
    gated: tuple = ()
    moved: dict = field(default_factory=dict)  # {old name: new name}
    cut: dict = field(default_factory=dict)  # {file: the connection ends after so many bytes, once}
    pause: dict = field(default_factory=dict)  # {file: seconds before each chunk, or the answer}
    damaged: tuple = ()  # files of which one bit is wrong on the way
    address: str = ""
    sent: list = field(default_factory=list)  # (file, first byte, bytes)


@contextmanager
def hub(models, gated=(), **faults):
    """Serve models until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub = Hub(models, gated, **faults)
    server.hub.address = f"http://127.0.0.1:{server.server_port}"
    for name, files in models.items():
        _info(name, files)  # sums of large files take a while, and no client would wait
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self):
        return self.server.hub

    def do_GET(self):
        if found := _MODEL.fullmatch(self.path):
            self._model(found[1], (found[2] or "").startswith("/tree"))
        elif found := _FILE.fullmatch(self.path):
            self._file(found[1], found[2])
        elif self.path.startswith("/cdn/"):
            self._weights(*self.path.removeprefix("/cdn/").split("!"))
        else:
            self._answer(404)

    def do_HEAD(self):
        self.do_GET()

    def _model(self, name, tree):
        time.sleep(self.hub.pause.get(name, 0))
        if self._refused(name):
            return
        files = self.hub.models[name]
        told = _tree(files) if tree else _info(name, files)
        self._answer(200, json.dumps(told).encode())

    def _refused(self, name):
        """Answer for a model that moved, is unknown, or is closed to strangers."""
        if name in self.hub.moved:
            self._answer(307, Location=self.path.replace(name, self.hub.moved[name], 1))
        elif name not in self.hub.models:
            self._answer(404, **{"X-Error-Code": "RepoNotFound"})
        elif name in self.hub.gated:
            self._answer(403, **{"X-Error-Code": "GatedRepo"})
        else:
            return False
        return True

    def _file(self, name, file):
        if self._refused(name):
            return
        content = self.hub.models[name][file]
        if not _is_large(file):
            self.hub.sent.append((file, 0, len(content)))
            self._answer(200, content, ETag=f'"{_blob_id(content)}"')
            return
        size, digest = str(len(content)), _sha256(content)
        linked = {"X-Linked-Size": size, "X-Linked-Etag": f'"{digest}"'}
        elsewhere = self.hub.address.replace("127.0.0.1", "localhost")  # another host to a client
        self._answer(302, Location=f"{elsewhere}/cdn/{name}!{file}", **linked)

    def _weights(self, name, file):
        """Send the weights from the byte that is asked for."""
        content = self.hub.models[name][file]
        start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if file in self.hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        end = min(len(content), start + self.hub.cut.pop(file, len(content)))
        self.hub.sent.append((file, start, end - start))
        for at in range(start, end, _CHUNK):
            time.sleep(self.hub.pause.get(file, 0))
            self.wfile.write(content[at : min(at + _CHUNK, end)])
        if end < len(content):
            self.close_connection = True
            self.connection.close()

    def _answer(self, status, content=b"", **headers):
        self.send_response(status)
        headers = {"Content-Length": str(len(content)), "X-Repo-Commit": COMMIT} | headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, ValueError):  # the client or this hub has hung up
            self.close_connection = True


def _is_large(file):
    return file.endswith((".safetensors", ".bin", ".ot", ".h5", ".msgpack"))


@cache
def _sha256(content):
    return hashlib.sha256(content).hexdigest()


@cache
def _blob_id(content):
    """Name a file as git does."""
    digest = hashlib.sha1(b"blob %d\0" % len(content))
    digest.update(content)
    return digest.hexdigest()


def _info(name, files):
    siblings = [
        {"rfilename": file, "size": len(content), "blobId": _blob_id(content)}
        | ({"lfs": _pointer("sha256", content)} if _is_large(file) else {})
        for file, content in files.items()
    ]
    return {"id": name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}


def _tree(files):
    return [
        {"type": "file", "path": file, "size": len(content), "oid": _blob_id(content)}
        | ({"lfs": _pointer("oid", content)} if _is_large(file) else {})
        for file, content in files.items()
    ]


def _pointer(key, content):
    return {key: _sha256(content), "size": len(content), "pointerSize": 134}
