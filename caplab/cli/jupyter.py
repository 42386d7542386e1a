"""Start JupyterLab for one person on one machine, whatever Jupyter's settings say.

`python lab.py` runs this. Settings may lie in many places, and some open a server to everybody: an
empty token, any origin, all addresses. Those of the user are not read. What decides who may enter
is given as arguments, which beat the settings of the whole machine too. The arguments are given
inside this process: those of a program can be read by every user of the machine, and the token is
one of them.
"""

import os
import secrets
import sys
from pathlib import Path

__all__ = ["main", "private_arguments"]

_SERVERS = ("ServerApp", "LabApp", "NotebookApp")  # settings of the last two are moved to the first
_PRIVATE = (
    "ip=localhost",
    "allow_origin=",
    "allow_origin_pat=",
    "allow_credentials=False",
    "allow_remote_access=False",
    "local_hostnames=localhost",
    "disable_check_xsrf=False",
)
_IDENTITY = "PasswordIdentityProvider"


def private_arguments() -> list[str]:
    """Return the arguments that keep others out; the token is another one each time."""
    return [
        *(f"--{server}.{setting}" for server in _SERVERS for setting in _PRIVATE),
        f"--ServerApp.identity_provider_class=jupyter_server.auth.identity.{_IDENTITY}",
        f"--{_IDENTITY}.hashed_password=",
        f"--{_IDENTITY}.password_required=False",
        f"--{_IDENTITY}.token={secrets.token_hex(24)}",
    ]


def _page_settings() -> dict[str, str]:
    """Say where the user keeps the page's settings, such as its theme; no server reads them."""
    from jupyter_core.paths import jupyter_config_dir

    folders = {"SETTINGS": "user-settings", "WORKSPACES": "workspaces"}
    found = {}
    for kind, folder in folders.items():
        name = f"JUPYTERLAB_{kind}_DIR"
        found[name] = os.environ.get(name) or str(Path(jupyter_config_dir(), "lab", folder))
    return found


def main() -> int:
    """Start JupyterLab with the arguments of this program, and those that keep others out."""
    page = _page_settings()
    for name in [name for name in os.environ if name.startswith("JUPYTER")]:
        del os.environ[name]
    os.environ |= page | {"JUPYTER_CONFIG_DIR": str(Path(sys.prefix, "etc", "jupyter"))}
    from jupyter_server.auth import IdentityProvider
    from jupyterlab.labapp import LabApp

    IdentityProvider.token_generated = True  # so that the address is shown with it
    ours = private_arguments()
    decided = {argument.partition("=")[0] for argument in ours}  # two values would be an error
    others = [each for each in sys.argv[1:] if each.partition("=")[0] not in decided]
    LabApp.launch_instance([*others, *ours])
    return 0


if __name__ == "__main__":
    sys.exit(main())
