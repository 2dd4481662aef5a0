"""What is kept stays, heals or is named: cuts, damage, full disks, two processes, closed caches."""

import errno
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ilsvrc import Lab, chapter, data, files, paths, training
from ilsvrc.data import arrays, folders

pytestmark = pytest.mark.once

DAMAGE = {
    "emptied": lambda file: file.write_bytes(b""),
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "a bit flipped": lambda file: file.write_bytes(flipped(file.read_bytes())),
    "gone": lambda file: file.unlink(),
    "zeros of its length": lambda file: file.write_bytes(bytes(file.stat().st_size)),
}


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b"):
        for index in range(5):
            path = tmp_path / "set" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (40 * index, 9, 9)).save(path)
    return tmp_path / "set"


def load(folder, size=16):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return data.load("folder", size, path=folder)


def kept():
    (found,) = (p for p in (paths.cache() / "arrays").iterdir() if p.is_dir())
    return found


# Folders of arrays


def test_a_folder_is_on_the_disk_before_it_has_its_name(folder, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda handle: (done.append("disk"), fsync(handle)))
    monkeypatch.setattr(
        files.os, "replace", lambda one, other: (done.append("name"), replace(one, other))
    )
    load(folder)
    assert done.index("name") >= len(list(kept().iterdir())) and done[-1] == "disk"


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["x_train.npy", "y_val.npy", "meta.json", "sums.json"])
def test_damaged_arrays_are_made_again(folder, name, how):
    expected = np.array(load(folder).x_train)
    DAMAGE[how](kept() / name)
    dataset = load(folder)
    np.testing.assert_array_equal(dataset.x_train, expected)
    assert dataset.y_val.tolist() == [0, 1] and files.sound(kept())


def test_bad_files_take_no_more_room_than_was_checked(folder, monkeypatch):
    bad = folders.scan(folder).train[1][0]
    (folder / bad).write_bytes(b"no picture")
    room = []
    monkeypatch.setattr(
        arrays.os, "posix_fallocate", lambda file, start, size: room.append(size), raising=False
    )
    dataset = load(folder)
    assert len(room) == 2 and len(dataset.x_train) == len(dataset.y_train) == 7
    values = sorted(int(x[0, 0, 0]) for x in (*dataset.x_train, *dataset.x_val))
    left = 40 * int(Path(bad).stem)
    expected = [0, 0, 40, 40, 80, 80, 120, 120, 160, 160]
    expected.remove(left)
    assert values == expected


def test_a_disk_that_fills_up_is_said_with_its_folder(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(arrays.os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match=r"kept in .*arrays, and the disk is full .*XDG_CACHE_HOME"):
        load(folder)
    assert [p for p in (paths.cache() / "arrays").iterdir() if p.is_dir()] == []


# Trainings

NARROW = """
from dataclasses import replace
from functools import partial
from ilsvrc import Lab, chapter
module = chapter("2012_alexnet")
small = partial(module.slim_alexnet, width=0.1, units=32)
module.runs[:] = [replace(run, small=small) for run in module.runs]
"""
TRAIN = f"""{NARROW}
print(Lab("2012_alexnet", "smoke", epochs=2).train("alexnet").history["loss"])
"""


def trained():
    return Lab("2012_alexnet", "smoke", epochs=2).train("alexnet").history["loss"]


def run_folder():
    (found,) = (paths.cache() / "runs" / "2012_alexnet" / "alexnet").iterdir()
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a cache in which one short training has finished, and its losses."""
    cache = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        module = chapter("2012_alexnet")
        patch.setattr(module, "runs", list(module.runs))
        exec(NARROW, {"__name__": "__main__"})
        yield cache, trained()


@pytest.mark.slow
@pytest.mark.parametrize("how", [*DAMAGE, "an empty later epoch", "a part left behind"])
def test_a_damaged_training_heals(finished, how, tmp_path, monkeypatch, capsys):
    cache, expected = finished
    subprocess.run(["cp", "-r", cache, tmp_path / "cache"], check=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (epoch,) = run_folder().glob("epoch-*")
    if how == "an empty later epoch":
        (run_folder() / "epoch-0009").mkdir()
    elif how == "a part left behind":
        (run_folder() / "part-1").mkdir()
    else:
        DAMAGE[how](epoch / "net.weights.h5")
    np.testing.assert_allclose(trained(), expected, rtol=1e-4)
    assert ("damaged" in capsys.readouterr().err) == (how != "a part left behind")
    assert [p.name for p in run_folder().glob("epoch-*")] == ["epoch-0002"]
    json.loads((run_folder() / "epoch-0002" / "state.json").read_text())


@pytest.mark.slow
def test_two_processes_on_one_run_do_not_hurt_each_other(tmp_path):
    settings = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    call = [sys.executable, "-c", TRAIN]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(call, env=settings, **pipes) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert "Another process trains this run" in said[0][1] + said[1][1]


def test_a_closed_cache_is_said_before_the_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    began = []
    monkeypatch.setattr(training, "build", lambda *a: began.append(a))
    with pytest.raises(OSError, match=r"cannot be written: .*Set XDG_CACHE_HOME .*ask whoever"):
        trained()
    assert began == []


def test_a_full_disk_ends_a_training_in_a_sentence(tmp_path):
    with (
        pytest.raises(OSError, match=r"The training is kept in .*and the disk is full"),
        files.room(Path(tmp_path), "The training is kept"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="another"), files.room(Path(tmp_path), "It is kept"):
        raise OSError(errno.EIO, "another")
