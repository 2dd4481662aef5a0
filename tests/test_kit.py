"""What can be said of the hub's kit without a hub: its files name what is there."""

import json
import re

import pytest
import yaml

from ilsvrc import paths

pytestmark = [pytest.mark.once, pytest.mark.tools]
KIT = paths.ROOT / "hub"


def test_the_image_copies_what_there_is_and_gives_students_their_own_course():
    text = (KIT / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
        assert all((paths.ROOT / name).is_file() for name in line.split())
    assert "NB_UID" in text and "USER ${NB_UID}" in text and "--require-hashes" in text
    assert "PYTHONPATH=/home/${NB_USER}/imagenet-winners/utils" in text
    assert not re.search(r"^(CMD|ENTRYPOINT)", text, re.MULTILINE)


def test_the_values_share_the_arrays_and_limit_the_memory():
    student = yaml.safe_load((KIT / "values.yaml").read_text())["singleuser"]
    [mount] = student["storage"]["extraVolumeMounts"]
    assert mount["readOnly"] is True
    for name in ("ILSVRC_DATA", "ILSVRC_ARRAYS"):
        assert student["extraEnv"][name].startswith(mount["mountPath"])
    assert {"guarantee", "limit"} == set(student["memory"])
    assert "/imagenet-winners/utils" not in student["extraEnv"].get("PYTHONPATH", "")  # the image's


def test_the_proxys_packages_are_known_by_their_digests_and_no_registry_is_named():
    text = (KIT / "proxy" / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert len(packages) > 20 and "resolved" not in text
    assert all(one["integrity"].startswith("sha512-") for name, one in packages.items() if name)


def test_the_kits_page_names_variables_that_the_settings_read():
    settings = (KIT / "jupyterhub_config.py").read_text()
    page = (KIT / "README.md").read_text()
    for name in set(re.findall(r"\b(?:HUB|ILSVRC)_[A-Z]+\b", page)):
        assert f'"{name}"' in settings, name
