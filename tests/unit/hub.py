"""A stand-in for the hub on this machine: it speaks the protocol as far as a download needs it."""

import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_MODEL = re.compile(r"/api/models/([^?]+?)(/(?:tree|revision)/[^?]+)?(?:\?.*)?")
_FILE = re.compile(rf"/(.+)/resolve/{COMMIT}/(.+)")


@contextmanager
def hub(models, gated=()):
    """Serve models, given as {name: {file: bytes}}; yield the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.models, server.gated = models, gated
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if found := _MODEL.fullmatch(self.path):
            self._tell(found[1], (found[2] or "").startswith("/tree"))
        elif found := _FILE.fullmatch(self.path):
            self._send(200, self.server.models[found[1]][found[2]])
        else:
            self._send(404)

    def do_HEAD(self):
        self.do_GET()

    def _tell(self, name, tree):
        files = self.server.models.get(name)
        if files is None:
            self._send(404, error="RepoNotFound")
        elif name in self.server.gated:
            self._send(403, error="GatedRepo")
        else:
            self._send(200, json.dumps(_tree(files) if tree else _info(name, files)).encode())

    def _send(self, status, content=b"", error=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


def _info(name, files):
    siblings = [{"rfilename": file, "size": len(content)} for file, content in files.items()]
    return {"id": name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}


def _tree(files):
    def oid(content):
        return hashlib.sha1(content).hexdigest()

    return [
        {"type": "file", "path": file, "size": len(content), "oid": oid(content)}
        for file, content in files.items()
    ]
