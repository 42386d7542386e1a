"""`python lab.py` under Jupyter settings that open everything: still private (SECURITY.md, 4)."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from queue import Queue

import pytest
from drill import fault

from caplab.cli.jupyter import private_arguments

OPEN = """
from jupyter_server.auth import passwd
for name in ("IdentityProvider", "PasswordIdentityProvider", "LegacyIdentityProvider"):
    c[name].token = ""
c.NotebookApp.token = c.ServerApp.token = ""
c.PasswordIdentityProvider.hashed_password = c.ServerApp.password = passwd("known", "sha256")
c.PasswordIdentityProvider.password_required = False
c.ServerApp.ip = c.NotebookApp.ip = c.LabApp.ip = "0.0.0.0"
c.ServerApp.allow_origin = c.NotebookApp.allow_origin = "*"
c.ServerApp.allow_origin_pat = ".*"
c.ServerApp.allow_credentials = True
c.ServerApp.allow_remote_access = True
c.ServerApp.allow_root = True
c.ServerApp.disable_check_xsrf = True
c.ServerApp.local_hostnames = ["evil.example"]
"""
JSON = {
    "ServerApp": {"ip": "0.0.0.0", "allow_origin": "*", "allow_remote_access": True, "token": ""},
    "IdentityProvider": {"token": ""},
    "PasswordIdentityProvider": {"token": "", "hashed_password": ""},
}
NAMES = ("jupyter_config", "jupyter_server_config", "jupyter_lab_config", "jupyter_notebook_config")
EVIL = "http://evil.example"


@pytest.fixture
def hostile(tmp_path):
    """A home, and a folder of settings, of somebody who opened everything."""
    for folder, kind in ((tmp_path / ".jupyter", "py"), (tmp_path / "settings", "json")):
        folder.mkdir()
        for name in NAMES:
            text = OPEN if kind == "py" else json.dumps(JSON)
            (folder / f"{name}.{kind}").write_text(text)
    return {
        "HOME": str(tmp_path),
        "USERPROFILE": str(tmp_path),
        "JUPYTER_CONFIG_PATH": str(tmp_path / "settings"),
        "JUPYTER_TOKEN": "known",
        "JUPYTER_ALLOW_INSECURE_WRITES": "1",
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def running(command, **options):
    """Start a server; yield what it is and the address that it prints for its user."""
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    lines = Queue()
    threading.Thread(target=lambda: [*map(lines.put, server.stdout)], daemon=True).start()
    said, deadline = "", time.monotonic() + 60
    try:
        while not (found := re.search(r"(http://localhost:\d+)/lab\S*token=(\w{32,})\s", said)):
            assert time.monotonic() < deadline, said
            with contextlib.suppress(Exception):
                said += lines.get(timeout=1)
            assert server.poll() is None, said
        wait_for(found[1])
        yield server, found[1], found[2]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def wait_for(address):
    """Wait until a server takes connections: it shows its address a little earlier."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            return ask(address)
        time.sleep(0.1)
    raise TimeoutError(address)


def ask(address, path="/api/contents", data=None, **headers):
    """Ask a server; return the status and what the answer allows other pages."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(address + path, data, named)
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=20) as answer:
            return answer.status, answer.headers.get("Access-Control-Allow-Origin")
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers.get("Access-Control-Allow-Origin")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def cookie_of(address, token):
    """What the browser of the user sends, once the user has entered with the token."""
    with urllib.request.urlopen(f"{address}/api/contents?token={token}", timeout=20) as answer:
        return "; ".join(each.split(";")[0] for each in answer.headers.get_all("Set-Cookie"))


def check_private(address, token):
    assert ask(address)[0] == 403, "it answers without a token"
    assert ask(address, "/api/kernels", b"{}")[0] == 403
    assert ask(address, Authorization="token known")[0] == 403
    assert ask(address, "/api/contents?token=")[0] == 403
    assert ask(address, "/login", b"password=known")[0] in (401, 403)
    assert ask(address, Authorization=f"token {token}")[0] == 200
    entered = {"Cookie": cookie_of(address, token)}
    assert ask(address, **entered) == (200, None)
    for who in ({}, entered):
        status, shared = ask(address, Origin=EVIL, **who)
        assert status in (403, 404), "another page may ask"
        assert shared is None, "another page may read it"
    assert ask(address, "/api/kernels", b"{}", **entered)[0] == 403, "another page may act"
    named = ask(address, Host="evil.example", Authorization=f"token {token}")
    assert named[0] == 403, "it answers under another name"


def check_local(port):
    """No address of this machine but the loopback takes a connection."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: the system only picks an address
            mine = probe.getsockname()[0]
        except OSError:
            mine = "127.0.0.2"
    with socket.socket() as caller:
        caller.settimeout(5)
        assert caller.connect_ex((mine, int(port))) != 0, f"it listens at {mine}"


def arguments_of(process):
    """What every user of this machine sees of a process: its command line."""
    path = f"/proc/{process.pid}/cmdline"
    return open(path, "rb").read().decode() if os.path.exists(path) else ""


@fault("Jupyter's settings open everything", "lab.py's server asks for a token that nobody knows")
@pytest.mark.slow
def test_lab_is_private(root, hostile):
    port, code = free_port(), "import lab, sys; lab.become(lab.jupyter({}, True))"
    keys = []
    for _ in range(2):
        command = [sys.executable, "-c", code.format(port)]
        with running(command, cwd=root, env=os.environ | hostile) as (server, address, token):
            check_private(address, token)
            check_local(address.rpartition(":")[2])
            assert token not in arguments_of(server), "every user of the machine can read it"
            keys.append(token)
    assert keys[0] != keys[1], "the token is the same at every start"


@fault("the whole machine's Jupyter settings open everything", "the command line decides")
@pytest.mark.slow
def test_command_line_is_private(hostile):
    given = [f"--ServerApp.port={free_port()}", "--no-browser", "--allow-root"]
    command = [sys.executable, "-c", SHOW, *given, *private_arguments()]
    everywhere = os.environ | hostile | {"JUPYTER_CONFIG_DIR": hostile["HOME"] + "/.jupyter"}
    with running(command, cwd=hostile["HOME"], env=everywhere) as (_, address, token):
        check_private(address, token)
        check_local(address.rpartition(":")[2])


# JupyterLab as it is, but that it shows a token that was given like one that it made.
SHOW = """
import sys
from jupyter_server.auth import IdentityProvider
from jupyterlab.labapp import main
IdentityProvider.token_generated = True
main()
"""


@pytest.mark.slow
def test_these_tests_would_notice(root, hostile):
    """Without what lab.py says, such a server is open."""
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.port={port}", "--no-browser"]
    server = subprocess.Popen(
        [*command, "--allow-root"], cwd=hostile["HOME"], env=os.environ | hostile,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}")
        status, origin = ask(f"http://127.0.0.1:{port}", Origin=EVIL)
        assert status == 200
        assert origin == "*"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)
