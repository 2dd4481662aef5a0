"""The doctor judges a machine: what is wrong is said with the command that mends it."""

import importlib.metadata
import os
from dataclasses import replace

import pytest
from click.testing import CliRunner
from PIL import Image

from ilsvrc import backend, cli, data, doctor

pytestmark = pytest.mark.once


def wrong():
    return " | ".join(doctor.report()[1])


def test_a_machine_in_order_is_reported_as_such(tmp_path):
    done = CliRunner().invoke(cli.cli, ["doctor"])
    assert done.exit_code == 0 and "Nothing is wrong." in done.output
    assert done.output.startswith("The report of ilsvrc doctor")  # below a framework's log
    for what in (
        "python",
        "versions",
        "device",
        "profile",
        "memory",
        "cache",
        "disk",
        "images",
        "arrays",
    ):
        assert f"\n{what}" in f"\n{done.output}"


def test_old_and_missing_packages_are_named(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "jupytext":
            raise importlib.metadata.PackageNotFoundError(name)
        return "3.5.0" if name == "keras" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert "keras 3.5.0 is too old: pip install 'keras>=" in wrong()
    assert "jupytext is missing: pip install" in wrong()


def test_a_gpu_that_is_not_used_is_said(monkeypatch):
    monkeypatch.setattr(backend, "driver", lambda: "570.1")
    assert "There is an NVIDIA GPU" in wrong() and "make setup GPU=1" in wrong()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ILSVRC_DATA", "/no/such/folder", "no such folder"),
        ("ILSVRC_PROFILE", "laptp", "Did you mean 'laptop'"),
        ("ILSVRC_PROFILE", "gpu", "there is none"),
        ("XDG_CACHE_HOME", "/dev/null", "cannot be written"),
        ("XDG_CACHE_HOME", "cache", "no path from the root"),
        ("ILSVRC_RUNS", "/dev/null", "ILSVRC_RUNS"),
        ("ILSVRC_RUNS", "runs", "no path from the root"),
        ("ILSVRC_DATA", "~nobody-of-this-name", "no such home"),
        ("ILSVRC_DATA", "/usr", "a folder without Imagenette"),
        ("ILSVRC_ARRAYS", "/nowhere", "ilsvrc data decode"),
        ("ILSVRC_ARRAYS", "arrays", "no path from the root"),
    ],
)
def test_settings_that_cannot_be_are_said(monkeypatch, variable, value, said):
    monkeypatch.setenv(variable, value)
    assert said in wrong()
    assert CliRunner().invoke(cli.cli, ["doctor"]).exit_code == 1


def test_a_half_unpacked_set_is_said(tmp_path, monkeypatch):
    for split in ("train", "val"):
        (tmp_path / "imagenette2-160" / split).mkdir(parents=True)
    monkeypatch.setenv("ILSVRC_DATA", str(tmp_path))
    assert "is not whole" in wrong()


@pytest.fixture
def imagenette(tmp_path, monkeypatch):
    """Ten pictures that the catalogue takes for Imagenette, and a folder for arrays."""
    for index in range(10):
        split, label = ("train", "val")[index % 2], ("n01440764", "n02102040")[index // 2 % 2]
        file = tmp_path / "imagenette2-160" / split / label
        file.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (index, 0, 0)).save(file / f"{index}.png")
    (tmp_path / "arrays").mkdir()
    entry = data.CATALOGUE["imagenette2-160"]
    monkeypatch.setitem(data.CATALOGUE, entry.name, replace(entry, images=10))
    monkeypatch.setenv("ILSVRC_DATA", str(tmp_path))
    monkeypatch.setenv("ILSVRC_ARRAYS", str(tmp_path / "arrays"))
    return tmp_path / entry.name


def test_shared_arrays_are_told_with_their_sizes_and_whether_they_fit(imagenette):
    assert "holds nothing of the images here" in wrong()
    for size in (8, 16):
        data.share("imagenette", size)
    lines, faults = doctor.report()
    told = f"{imagenette.parent / 'arrays'}, imagenette2-160 at sides (px): 8, 16"
    assert ("arrays", told) in lines and faults == []
    for file in imagenette.rglob("*.png"):  # copied anew, as far as the arrays can tell
        os.utime(file, (1, 1))
    lines, faults = doctor.report()
    assert ("arrays", told.replace("8, 16", "none")) in lines
    assert "decoded from other files" in faults[0]
