"""A JupyterHub for a class on one machine: each student is a user of the machine, in one group.

`hub/README.md` says what has to be there. What a machine may want otherwise is a variable of the
environment, with its usual value here.
"""

import grp
import os
import pwd
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
HUB = Path(sys.executable).parent
GROUP = os.environ.get("HUB_GROUP", "students")  # of the machine: who may come in
ADDRESS = yaml.safe_load((ROOT / "_config.yml").read_bytes())["repository"]["url"]
COURSE = ADDRESS.rstrip("/").rpartition("/")[2]  # the folder that the book's link makes


def home(spawner):
    """Return the home of a student's account."""
    return pwd.getpwnam(spawner.user.name).pw_dir


def closed(spawner):
    """Close a student's home to the others: many systems make it readable for all."""
    os.chmod(home(spawner), 0o700)


for student in grp.getgrnam(GROUP).gr_mem:  # who has an account now, too, before the first visit
    os.chmod(pwd.getpwnam(student).pw_dir, 0o700)

c = get_config()
c.JupyterHub.bind_url = os.environ.get("HUB_URL", "http://127.0.0.1:8000")
c.JupyterHub.hub_port = int(os.environ.get("HUB_PORT", "8081"))
c.ConfigurableHTTPProxy.api_url = os.environ.get("HUB_PROXY", "http://127.0.0.1:8001")
c.ConfigurableHTTPProxy.command = [
    str(ROOT / "build/hub/node_modules/.bin/configurable-http-proxy")
]
c.PAMAuthenticator.allowed_groups = {GROUP}
c.PAMAuthenticator.open_sessions = False
c.Authenticator.admin_users = set(os.environ.get("HUB_ADMINS", "").split())  # of the machine, too
c.JupyterHub.active_server_limit = int(os.environ.get("HUB_SERVERS", "0"))  # 0: as many as come

c.Spawner.cmd = [str(HUB / "jupyterhub-singleuser")]
c.Spawner.default_url = "/lab"
c.Spawner.http_timeout = c.Spawner.start_timeout = 120
c.Spawner.pre_spawn_hook = closed
# A student's course is the folder that the book's link keeps up to date. The notebooks need no
# installing then, and a teacher's correction of the package arrives with the next click.
c.Spawner.environment = {
    "PATH": f"{HUB}:{os.environ['PATH']}",  # `ilsvrc` is there
    "PYTHONPATH": lambda spawner: f"{home(spawner)}/{COURSE}/utils",
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "JUPYTER_CONFIG_PATH": str(ROOT / "hub" / "nbgrader"),
    **{
        name: os.environ[name]
        for name in ("ILSVRC_DATA", "ILSVRC_ARRAYS", "ILSVRC_PROFILE")
        if os.environ.get(name)
    },
}
# Kernels hold gigabytes until they end: after half an hour without work they do, then the server.
c.Spawner.args = [
    "--MappingKernelManager.cull_idle_timeout=1800",
    "--MappingKernelManager.cull_interval=60",
    "--MappingKernelManager.cull_connected=True",
]
c.JupyterHub.services = [
    {
        "name": "culler",
        "command": [sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=3600"],
    }
]
c.JupyterHub.load_roles = [
    {
        "name": "culler",
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
        "services": ["culler"],
    }
]
