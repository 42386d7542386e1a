"""What JupyterHub reads; classroom/start.py starts it and says what was chosen."""

import os
import resource
import secrets
import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp

from jupyterhub.spawner import SimpleLocalProcessSpawner

COURSE = Path(__file__).resolve().parent.parent
SHARED = ("notebooks", "solutions", "docs", "README.md")  # links of the lessons lead to all of them
IDLE = 1800  # seconds after which a kernel ends whose page is closed
room = {
    name.removeprefix("CAPLAB_ROOM_"): os.environ.pop(name)
    for name in list(os.environ)
    if name.startswith("CAPLAB_ROOM_")
}
rooms, one_account = Path(room["ROOMS"]), room["ONE_ACCOUNT"] == "1"
host, _, port = room["ADDRESS"].rpartition(":")


class RoomSpawner(SimpleLocalProcessSpawner):
    """Start a learner's server: in a home of their own, within limits, as a user of their own."""

    def prepare(self):
        """Give a new learner a home with the course; a home that is there stays as it is."""
        home = Path(self.home_dir)
        if home.exists():
            return
        # Made elsewhere and then moved: into a learner's home root must never write.
        draft = Path(mkdtemp(dir=rooms / ".hub"))
        for name in SHARED:
            copy = shutil.copytree if (COURSE / name).is_dir() else shutil.copy
            copy(COURSE / name, draft / name)
        if not one_account:
            owner = next_user_id()
            for path in [draft, *draft.rglob("*")]:
                os.chown(path, owner, owner)
        draft.rename(home)

    def make_preexec_fn(self, name):
        """Limit the process that is about to start, and give up the rights of the hub."""
        memory, home = int(float(room["MEMORY"]) * 2**30), self.home_dir
        user = Path(home).stat().st_uid

        def limit():
            os.chdir(home)
            os.umask(0o077)
            os.nice(5)  # the hub and its proxy answer first
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if not one_account:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)

        return limit


def next_user_id():
    """Return a user id that no home belongs to yet: homes outlive the hub's own records."""
    taken = [home.stat().st_uid for home in rooms.iterdir()]
    return max(int(room["FIRST_ID"]) - 1, *taken) + 1


c = get_config()  # noqa: F821 - JupyterHub defines it
scheme = "https" if room["CERTIFICATE"] else "http"
c.JupyterHub.bind_url = f"{scheme}://{host}:{port}"
if room["CERTIFICATE"]:
    c.JupyterHub.ssl_cert, c.JupyterHub.ssl_key = room["CERTIFICATE"].split(os.pathsep)
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = int(port) + 1
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{int(port) + 2}"
c.ConfigurableHTTPProxy.command = [room["PROXY"]]
c.ConfigurableHTTPProxy.auth_token = secrets.token_hex(32)
c.JupyterHub.active_server_limit = int(room["LEARNERS"])
# A class comes at one moment. With a lower limit JupyterHub would send the others away (429).
c.JupyterHub.concurrent_spawn_limit = int(room["LEARNERS"])
c.JupyterHub.log_level = "WARN"

# Who may enter. Nobody, unless start.py was told how.
c.Authenticator.admin_users = {room["TEACHER"]} - {""}
c.Authenticator.allow_all = True  # whom the door lets in, and nobody else
c.Authenticator.username_pattern = r"[a-z][a-z0-9_-]{0,31}\Z"  # a name becomes a folder
if room["DOOR"] == "password":
    c.JupyterHub.authenticator_class = "shared-password"
    c.SharedPasswordAuthenticator.user_password = room["PASSWORD"]
elif room["DOOR"] == "native":
    import nativeauthenticator

    c.JupyterHub.authenticator_class = "native"
    c.JupyterHub.template_paths = [str(Path(nativeauthenticator.__file__).parent / "templates")]
    c.NativeAuthenticator.minimum_password_length = 10
    c.NativeAuthenticator.check_common_password = True
    c.NativeAuthenticator.allowed_failed_logins = 5
else:
    raise SystemExit("Start the room with classroom/start.py: it asks how learners enter.")

# What a learner gets.
c.JupyterHub.spawner_class = RoomSpawner
c.RoomSpawner.home_dir_template = str(rooms / "{username}")
c.Spawner.pre_spawn_hook = lambda spawner: spawner.prepare()
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
c.Spawner.default_url = "/lab/tree/notebooks/00_start_here.ipynb"
c.Spawner.environment = {"OMP_NUM_THREADS": "1"}  # kernels share cores: none waits for another
c.Spawner.env_keep = ["PATH", "LANG", "LC_ALL", "JUPYTER_PATH", "JUPYTER_CONFIG_PATH"]
c.Spawner.args = [
    f"--MappingKernelManager.cull_idle_timeout={IDLE}",
    "--MappingKernelManager.cull_interval=300",
    "--ServerApp.terminals_enabled=False",
    "--ServerApp.log_level=WARN",
    *(["--allow-root"] if one_account and os.geteuid() == 0 else []),
]
c.Spawner.start_timeout = c.Spawner.http_timeout = 600  # seconds: a class starts at one moment
