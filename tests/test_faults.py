"""What is kept stays, heals or is named: cuts, damage, full disks, two processes, closed caches."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ilsvrc import Lab, data, files, notebooks, paths, queue, records, training
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


HEADER = "---\nkernelspec: {name: python3, display_name: Python 3, language: python}\n---\n"


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
    assert dataset.y_val.tolist() == [0, 1] and files.sound(kept(), arrays.NEEDED)


def test_sums_of_a_part_are_none(folder):
    expected = np.array(load(folder).x_val)
    sums = json.loads((kept() / files.SUMS).read_text())
    sums.pop("x_val.npy")
    (kept() / files.SUMS).write_text(json.dumps(sums))
    DAMAGE["a bit flipped"](kept() / "x_val.npy")
    np.testing.assert_array_equal(load(folder).x_val, expected)


@pytest.mark.parametrize("kind", ["a folder", "a link"])
def test_a_lock_that_is_no_file_is_named(folder, kind):
    load(folder)
    (kept() / files.SUMS).unlink()
    lock = Path(f"{kept()}.lock")
    lock.unlink(missing_ok=True)
    lock.mkdir() if kind == "a folder" else lock.symlink_to("/nowhere/lock")
    with pytest.raises(OSError, match=r"\.lock is .*, where a file is to be written: move it away"):
        load(folder)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()]
)
def test_a_disk_without_locks_is_named(folder, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(files.FileLock, "acquire", refuse)
    with pytest.raises(OSError, match=r"\.lock cannot be locked .*Set XDG_CACHE_HOME to a folder"):
        load(folder)


def test_a_disk_that_cannot_keep_room_free_will_do(folder, monkeypatch):
    def unknown(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(arrays.os, "posix_fallocate", unknown, raising=False)
    assert len(load(folder).x_train) == 8


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_lies_where_arrays_are_kept_and_is_no_folder_is_replaced(folder, kind):
    expected = np.array(load(folder).x_train)
    place = kept()
    for name in (place, Path(f"{place}.partial")):
        files.clear(name)
        name.write_text("") if kind == "file" else name.symlink_to("/nowhere")
    np.testing.assert_array_equal(load(folder).x_train, expected)


def test_a_disk_that_is_full_while_images_are_decoded_is_named(folder, small_disk, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_disk))
    with pytest.raises(OSError, match=rf"need 1 MiB in {small_disk}.*XDG_CACHE_HOME"):
        load(folder, size=220)
    monkeypatch.setattr(
        arrays.shutil, "disk_usage", lambda _: arrays.shutil._ntuple_diskusage(*[1e9] * 3)
    )
    with pytest.raises(OSError, match=rf"kept in {small_disk}.*the disk is full .*XDG_CACHE_HOME"):
        load(folder, size=220)
    assert [p.suffix for p in (paths.cache() / "arrays").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("cache", "XDG_CACHE_HOME is 'cache', no path from the root"),
        ("~nobody-of-this-name/c", "no such home"),
    ],
)
def test_a_cache_that_would_be_elsewhere_each_time_is_refused(monkeypatch, place, said):
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    with pytest.raises(FileNotFoundError, match=said):
        data.find("imagenette")


def test_a_cache_below_the_home_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "~/own")
    assert paths.cache() == tmp_path / "own" / "ilsvrc"


# What is written whole


@pytest.mark.parametrize("written", ["records", "archives", "notebooks"])
def test_a_full_disk_is_named_wherever_something_is_written(
    tiny_course, small_disk, written, monkeypatch
):
    if written == "records":
        monkeypatch.setattr(files, "writable", lambda *_: None)  # it was not full then
        write = partial(Lab("2099_tiny", "smoke").publish, "one", small_disk)
        with contextlib.suppress(OSError):
            (small_disk / "full").write_bytes(bytes(2**20))
    elif written == "archives":
        noise = np.random.default_rng(0).integers(0, 255, 2**20, "uint8")
        record = records.Record({"chapter": "c", "run": "r"}, {"noise": noise})
        made = [records.write(record, small_disk.parent)]
        write = partial(queue.pack, made, small_disk.parent, small_disk)
    else:
        page = small_disk.parent / "page.md"
        page.write_text(f"{HEADER}\n```{{code-cell}}\nprint('long ' * 2 ** 18)\n```\n")
        monkeypatch.setattr(paths, "CHAPTERS", small_disk.parent)
        write = partial(notebooks.execute, "page", output=small_disk / "page.ipynb")
    with pytest.raises(OSError, match=rf"written in {small_disk}.*the disk is full.*Make room"):
        write()
    left = {path.name for path in small_disk.rglob("*") if path.is_file()}
    assert left <= {"page.ipynb", "full"}  # of a notebook what ran until then


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


# Trainings of a tiny network

TRAIN = """
import sys, time
from pathlib import Path
from ilsvrc import Lab, paths, training
paths.CHAPTERS = Path(sys.argv[1])
train = training._train
def once_another_waits(*given):
    trained, began = train(*given), time.monotonic()
    while not Path(sys.argv[2]).exists() and time.monotonic() < began + 60:
        time.sleep(0.1)
    return trained
training._train = once_another_waits
print(Lab("2099_tiny", "smoke", epochs=2).train("one").history["loss"])
"""


def tiny():
    return Lab("2099_tiny", "smoke", epochs=2).train("one")


def epochs():
    (run,) = (paths.cache() / "runs" / "2099_tiny" / "one").iterdir()
    return run


@pytest.fixture(scope="module")
def finished():
    """Return what the first test of this module that asks for it finds: a cache, and losses."""
    return {}


@pytest.mark.parametrize("how", [*DAMAGE, "an empty later epoch", "a part left behind"])
def test_a_damaged_training_heals(tiny_course, finished, how, tmp_path_factory, capsys):
    if not finished:
        finished["losses"] = tiny().history["loss"]
        finished["cache"] = shutil.copytree(paths.cache(), tmp_path_factory.mktemp("c") / "ilsvrc")
    shutil.copytree(finished["cache"], paths.cache(), dirs_exist_ok=True)
    (epoch,) = epochs().glob("epoch-*")
    if how == "an empty later epoch":
        (epochs() / "epoch-0009").mkdir()
    elif how == "a part left behind":
        (epochs() / "part-1").mkdir()
    else:
        DAMAGE[how](epoch / "net.npz")
    np.testing.assert_allclose(tiny().history["loss"], finished["losses"], rtol=1e-4)
    assert ("damaged" in capsys.readouterr().err) == (how != "a part left behind")
    assert [p.name for p in epochs().glob("epoch-*")] == ["epoch-0002"]
    json.loads((epochs() / "epoch-0002" / "state.json").read_text())


@pytest.mark.slow
def test_two_processes_on_one_run_do_not_hurt_each_other(tiny_course, monkeypatch, capsys):
    waits = tiny_course / "waits"
    call = [sys.executable, "-c", TRAIN, str(paths.CHAPTERS), str(waits)]
    other = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)
    while not list((paths.cache() / "runs").glob("2099_tiny/one/*/epoch-0002")):
        assert other.poll() is None
        time.sleep(0.1)
    acquire = files.FileLock.acquire

    def acquired(lock, **options):
        if not options:  # after the half second in which the other had it
            waits.touch()
        return acquire(lock, **options)

    monkeypatch.setattr(files.FileLock, "acquire", acquired)
    losses = tiny().history["loss"]
    said, _ = other.communicate(timeout=300)
    assert other.returncode == 0 and said == f"{losses}\n"
    assert "Another process trains this run" in capsys.readouterr().err


def test_a_closed_cache_is_said_before_the_training(tiny_course, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    began = []
    monkeypatch.setattr(training, "build", lambda *a: began.append(a))
    with pytest.raises(OSError, match=r"cannot be written: .*Set XDG_CACHE_HOME .*ask whoever"):
        tiny()
    assert began == []


def test_an_error_of_another_kind_is_no_full_disk(tmp_path):
    with pytest.raises(OSError, match="another"), files.room(Path(tmp_path), "It is kept"):
        raise OSError(errno.EIO, "another")


def summed(folder):
    """Give a kept folder, after a change, the sums that fit it."""
    (folder / files.SUMS).unlink()
    files.keep(folder.rename(folder.with_name("part-changed")), folder)


STATES = {  # what a state may be and is not: one that says how each epoch went
    "epoch-0003": lambda state: [],
    "epoch-0004": lambda state: {"epochs": 2},
    "epoch-0005": lambda state: state | {"epochs": 9},
    "epoch-0010": lambda state: state | {"history": {}},
    "epoch-0011": lambda state: state | {"history": state["history"] | {"loss": [1.0]}},
}


def test_later_epochs_that_are_none_are_passed_over(tiny_course, capsys):
    before, good = tiny(), epochs() / "epoch-0002"
    (epochs() / "epoch-0009").symlink_to("/nowhere")
    (epochs() / "epoch-0008").write_text("no folder")
    for name in ("epoch-0007", "epoch-0006"):
        shutil.copytree(good, epochs() / name)
    with np.load(good / "net.npz") as net:
        np.savez(epochs() / "epoch-0007" / "net.npz", **{n: net[n] * np.nan for n in net.files})
    summed(epochs() / "epoch-0007")
    (epochs() / "epoch-0006" / "net.npz").unlink()
    summed(epochs() / "epoch-0006")
    for name, change in STATES.items():
        shutil.copytree(good, epochs() / name)
        state = json.loads((good / "state.json").read_text())
        (epochs() / name / "state.json").write_text(json.dumps(change(state)))
        summed(epochs() / name)
    for name, change in {"epoch-0012": np.ravel, "epoch-0013": None}.items():  # another network's
        shutil.copytree(good, epochs() / name)
        with np.load(good / "net.npz") as net:
            weights = {n: change(net[n]) for n in net.files} if change else {"0": net["0"]}
        np.savez(epochs() / name / "net.npz", **weights)
        summed(epochs() / name)
    after = tiny()
    np.testing.assert_array_equal(after.probabilities, before.probabilities)
    assert after.history == before.history
    assert capsys.readouterr().err.count("is damaged: it is deleted") == 11
    assert [p.name for p in epochs().glob("epoch-*")] == ["epoch-0002"]


def test_what_was_kept_in_keras_own_format_is_gone_on_with(tiny_course):
    before, epoch = tiny(), epochs() / "epoch-0002"
    (epoch / "net.npz").unlink()
    before.net.save_weights(epoch / "net.weights.h5")
    summed(epoch)
    after = tiny()
    np.testing.assert_array_equal(after.probabilities, before.probabilities)
    assert after.history == before.history and (epoch / "net.weights.h5").exists()


def test_a_training_that_fills_the_disk_ends_in_a_sentence_and_leaves_no_part(
    tiny_course, small_disk, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_disk))
    (small_disk / "other").write_bytes(bytes(480 * 1024))
    with pytest.raises(OSError, match=rf"The training is kept in {small_disk}.*disk is full"):
        tiny()
    assert [path.name for path in epochs().iterdir()] == ["lock"]
    (small_disk / "other").unlink()
    assert len(tiny().history["loss"]) == 2
