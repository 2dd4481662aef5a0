"""What can be said of the hub's kit without a hub: its files name what is there."""

import grp
import json
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from traitlets.config import Config

from ilsvrc import notebooks, paths

pytestmark = [pytest.mark.once, pytest.mark.tools]
KIT = paths.ROOT / "hub"
COURSE = notebooks.REPOSITORY.rstrip("/").rpartition("/")[2]


def test_the_image_copies_what_there_is_and_gives_students_their_own_course():
    text = (KIT / "Dockerfile").read_text()
    sent = (paths.ROOT / ".dockerignore").read_text().split("\n")
    for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
        assert all((paths.ROOT / name).is_file() for name in line.split())
        assert {f"!{name}" for name in line.split()} <= set(sent), (
            f".dockerignore keeps {line} back"
        )
    assert "NB_UID" in text and "USER ${NB_UID}" in text and "--require-hashes" in text
    assert "PYTHONPATH=/home/${NB_USER}/${COURSE}/utils" in text
    assert f"ARG COURSE={COURSE}\n" in text, "a fork of another name writes its own there"
    assert not re.search(r"^(CMD|ENTRYPOINT)", text, re.MULTILINE)


def test_the_values_share_the_arrays_and_limit_the_memory():
    student = yaml.safe_load((KIT / "values.yaml").read_text())["singleuser"]
    [mount] = student["storage"]["extraVolumeMounts"]
    assert mount["readOnly"] is True
    for name in ("ILSVRC_DATA", "ILSVRC_ARRAYS"):
        assert student["extraEnv"][name].startswith(mount["mountPath"])
    assert student["memory"] == {"guarantee": "4G", "limit": "4G"}  # what a kernel may take
    assert "/imagenet-winners/utils" not in student["extraEnv"].get("PYTHONPATH", "")  # the image's


def test_the_proxys_packages_are_known_by_their_digests_and_no_registry_is_named():
    text = (KIT / "proxy" / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert len(packages) > 20 and "resolved" not in text
    assert all(one["integrity"].startswith("sha512-") for name, one in packages.items() if name)


def test_the_shared_disk_is_filled_where_the_students_read_it():
    pod = yaml.safe_load((KIT / "fill.yaml").read_text())["spec"]
    [worker], [disk] = pod["containers"], pod["volumes"]
    values = yaml.safe_load((KIT / "values.yaml").read_text())["singleuser"]
    [mount], [shared] = values["storage"]["extraVolumeMounts"], values["storage"]["extraVolumes"]
    assert worker["volumeMounts"] == [{k: mount[k] for k in ("name", "mountPath")}]
    assert disk == shared and worker["image"] == ":".join(map(str, values["image"].values()))
    script = worker["command"][-1]
    for name in ("ILSVRC_DATA", "ILSVRC_ARRAYS"):
        assert f"{name}={values['extraEnv'][name]}" in script
    assert f"ilsvrc data decode --profile {values['extraEnv']['ILSVRC_PROFILE']} " in script
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def settings(monkeypatch, **environment):
    """Return what `jupyterhub_config.py` sets on a machine without students."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(grp, "getgrnam", lambda name: SimpleNamespace(gr_mem=[]))
    config = Config()
    file = KIT / "jupyterhub_config.py"
    exec(compile(file.read_text(), file, "exec"), {"get_config": lambda: config, "__file__": file})
    return config


def test_the_settings_take_what_the_environment_says(monkeypatch):
    known = settings(monkeypatch)
    assert known.Authenticator.admin_users == set() and known.JupyterHub.active_server_limit == 0
    told = {"HUB_ADMINS": "anna ben", "HUB_SERVERS": "8", "ILSVRC_ARRAYS": "/srv/a"}
    known = settings(monkeypatch, **told)
    assert known.Authenticator.admin_users == {"anna", "ben"}
    assert known.JupyterHub.active_server_limit == 8
    student = known.Spawner.environment
    assert student["ILSVRC_ARRAYS"] == "/srv/a"
    assert student["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: SimpleNamespace(pw_dir=f"/home/{name}"))
    of_anna = student["PYTHONPATH"](SimpleNamespace(user=SimpleNamespace(name="anna")))
    assert of_anna == f"/home/anna/{COURSE}/utils"


def test_students_have_the_command_where_the_course_is_not_installed(tmp_path):
    """By whichever Python stands beside it, from a link in another folder, too."""
    (tmp_path / "python").write_text(f'#!/bin/sh\necho beside\nexec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    shutil.copy(KIT / "ilsvrc", tmp_path)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "ilsvrc").symlink_to(tmp_path / "ilsvrc")
    here = {"PYTHONPATH": str(paths.ROOT / "utils"), "PATH": "/usr/bin:/bin"}
    for place in (tmp_path, tmp_path / "links"):
        done = subprocess.run(
            [place / "ilsvrc", "data", "--help"], env=here, capture_output=True, text=True
        )
        assert done.stdout.startswith("beside\nUsage:"), done.stderr
    makefile = (paths.ROOT / "Makefile").read_text()
    assert "install -m 755 hub/ilsvrc $*/bin/ilsvrc" in makefile


def test_the_service_and_the_page_name_what_is_there_and_is_read():
    read = (KIT / "jupyterhub_config.py").read_text()
    service, page = ((KIT / name).read_text() for name in ("jupyterhub.service", "README.md"))
    for name in set(re.findall(r"\b(?:HUB|ILSVRC)_[A-Z]+\b", page + service)):
        assert f'"{name}"' in read, name
    for file in re.findall(r"/srv/ilsvrc/course/(hub/\S+)", page + service):
        assert (paths.ROOT / file).is_file(), file
    state = re.search(r"^StateDirectory=(.+)", service, re.MULTILINE)[1]
    assert f"WorkingDirectory=/var/lib/{state}\n" in service  # which systemd makes
    for file in re.findall(r"^\| `([a-z_./]+)`", page, re.MULTILINE):
        assert (KIT / file).exists(), file
