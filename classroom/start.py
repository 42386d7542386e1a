"""Start a room: a JupyterHub in which every learner has a kernel on this machine.

    python -m pip install --constraint requirements.lock --editable ".[lab,classroom]"
    npm install --prefix classroom --no-package-lock
    python classroom/start.py --door password --rooms /srv/room

Nobody enters unless you choose how. `--door password` has one password for the room, which this
program asks for: whoever has it may enter under any name. `--door native` lets each learner choose
a name and a password; the teacher, `--teacher NAME`, lets them in at /hub/authorize.

Started as root, each learner gets a user id of their own: nobody reads the files of others.
Started as anybody else, all kernels belong to that account, so a learner can read every file of
the room: say `--one-account` if you accept that. docs/classroom.md says more.
"""

import argparse
import getpass
import ipaddress
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "jupyterhub_config.py"
PROXY = "configurable-http-proxy"
SHORTEST = 8  # characters of a password
FIRST_ID = 40_000  # user ids of learners, above those of people and of services
NEEDS = {"jupyterhub": "jupyterhub", "jupyterlab": "jupyterlab", "native": "nativeauthenticator"}


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    layout = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    made.add_argument("--door", choices=["password", "native"], help="how learners enter")
    made.add_argument("--rooms", type=Path, required=True, help="the folder of all home folders")
    made.add_argument("--teacher", metavar="NAME", help="the account that lets learners in")
    made.add_argument("--address", default="127.0.0.1:8000", help="where the hub listens")
    made.add_argument("--certificate", nargs=2, metavar=("CERT", "KEY"), help="for HTTPS")
    made.add_argument("--memory", type=float, default=3.0, help="GB that one program may ask for")
    made.add_argument("--learners", type=int, default=40, help="how many at once")
    made.add_argument("--one-account", action="store_true", help="all learners are you")
    return made


def proxy() -> str | None:
    """Find npm's proxy: in this folder, or on the search path."""
    beside = HERE / "node_modules" / ".bin"
    return shutil.which(PROXY, path=str(beside)) or shutil.which(PROXY)


def refusal(given: argparse.Namespace) -> str:
    """Say why no room can be opened like this, or nothing."""
    host, _, port = given.address.rpartition(":")
    if given.door is None:
        return "Choose how learners enter: --door password, or --door native. --help says more."
    if given.door == "native" and not given.teacher:
        return "With --door native somebody has to let learners in: --teacher NAME."
    if not port.isdecimal() or not _is_address(host):
        return f"--address is HOST:PORT, as in 127.0.0.1:8000, not {given.address!r}."
    if not ipaddress.ip_address(host).is_loopback and not given.certificate:
        return (
            f"{host} can be reached from outside, and passwords would travel in clear. Give "
            "--certificate CERT KEY, or listen on 127.0.0.1 behind a server that does HTTPS."
        )
    if os.geteuid() == 0 and given.one_account and not ipaddress.ip_address(host).is_loopback:
        return "As root, --one-account makes every learner root: only on 127.0.0.1, to try it."
    if os.geteuid() != 0 and not given.one_account:
        return (
            "Only root can give each learner an account. Add --one-account if all learners may "
            "read each other's files, or use containers: docs/classroom.md."
        )
    return _missing(given.door) or ("" if given.one_account else _out_of_reach())


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _missing(door: str) -> str:
    """Name what is not installed."""
    needed = [NEEDS["jupyterhub"], NEEDS["jupyterlab"], *([NEEDS[door]] if door in NEEDS else [])]
    lost = [name for name in needed if find_spec(name) is None]
    if lost:
        return f"Not installed: {', '.join(lost)}. Run the first of the three commands in --help."
    if proxy() is None:
        return f"Not installed: {PROXY}. Run:  npm install --prefix {HERE} --no-package-lock"
    return ""


def _out_of_reach() -> str:
    """Say so if a learner's account could not start the course, as where Python lies in /root."""
    command = [sys.executable, "-c", "import caplab, jupyterhub"]
    learner = {"user": FIRST_ID, "group": FIRST_ID, "extra_groups": [], "cwd": "/"}
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, **learner)
        why = (done.stderr.strip().splitlines() or [""])[-1] if done.returncode else ""
    except OSError as error:
        why = str(error)
    advice = "Put Python and the course where every account may read, such as /srv."
    return f"Learners' accounts cannot start the course ({why}). {advice}" if why else ""


def password() -> str:
    """Return the room's password; never from the command line, which all users can read."""
    given = os.environ.get("CAPLAB_ROOM_PASSWORD") or getpass.getpass("Password of the room: ")
    if len(given) < SHORTEST:
        sys.exit(f"A password has at least {SHORTEST} characters.")
    return given


def main() -> None:
    """Check what was asked for, and become JupyterHub."""
    given = parser().parse_args()
    if said := refusal(given):
        sys.exit(said)
    state = given.rooms.resolve() / ".hub"
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o700)
    state.parent.chmod(0o711)  # learners walk through it, and cannot list it
    room = {
        "DOOR": given.door,
        "ROOMS": str(given.rooms.resolve()),
        "TEACHER": given.teacher or "",
        "ADDRESS": given.address,
        "CERTIFICATE": os.pathsep.join(given.certificate or []),
        "MEMORY": str(given.memory),
        "LEARNERS": str(given.learners),
        "PROXY": str(proxy()),
        "FIRST_ID": str(FIRST_ID),
        "ONE_ACCOUNT": str(int(given.one_account)),
        "PASSWORD": password() if given.door == "password" else "",
    }
    os.environ |= {f"CAPLAB_ROOM_{name}": value for name, value in room.items()}
    os.chdir(state)
    os.execv(sys.executable, [sys.executable, "-m", "jupyterhub", "--config", str(CONFIG)])


if __name__ == "__main__":
    main()
