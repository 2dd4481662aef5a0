"""Images decoded once for all users of a machine: `ILSVRC_ARRAYS` and `ilsvrc data decode`."""

import os

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ilsvrc import cli, data, paths, queue

pytestmark = pytest.mark.once


@pytest.fixture
def folder(tmp_path):
    """Five pictures of each of two classes."""
    for number, name in enumerate(("green", "red")):
        (tmp_path / "colours" / name).mkdir(parents=True)
        for index in range(5):
            picture = Image.new("RGB", (20, 20), (200 * number, 200 - 200 * number, index))
            picture.save(tmp_path / "colours" / name / f"{index}.png")
    return tmp_path / "colours"


@pytest.fixture
def shared(tmp_path, monkeypatch):
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("ILSVRC_ARRAYS", str(tmp_path / "shared"))
    return tmp_path / "shared"


def decode(*words):
    return CliRunner().invoke(cli.cli, ["data", "decode", *map(str, words)])


def own():
    """Return what the user's own cache holds of decoded images."""
    return [path.name for path in (paths.cache() / "arrays").glob("colours-*[!k]")]


def test_what_was_decoded_for_all_is_read_and_nothing_is_kept_by_the_user(
    folder, shared, monkeypatch
):
    alone = data.load("folder", 16, path=folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache of another user"))
    before = os.umask(0o077)  # an administrator's files are nobody else's, as a rule
    try:
        done = decode("folder", "--path", folder, "--size", 16, "--size", 8)
    finally:
        os.umask(before)
    assert done.exit_code == 0 and done.output.count(str(shared)) == 2, done.output
    together = data.load("folder", 16, path=folder)
    assert own() == []
    assert shared in map(
        type(shared), [together.x_train.filename, *together.x_train.filename.parents]
    )
    assert not together.x_train.flags.writeable
    np.testing.assert_array_equal(alone.x_train, together.x_train)
    assert alone.digest == together.digest
    for made in shared.glob("colours-*[!k]"):
        assert made.stat().st_mode & 0o777 == 0o755
        assert {file.stat().st_mode & 0o777 for file in made.iterdir()} == {0o644}


def test_what_is_not_shared_is_decoded_for_the_user_and_it_is_said(folder, shared, capsys):
    dataset = data.load("folder", 16, path=folder)
    assert len(dataset.y_train) == 8 and len(own()) == 1 and list(shared.iterdir()) == []
    assert "ilsvrc data decode --size 16" in capsys.readouterr().err


def test_a_shared_array_that_was_hurt_is_not_taken(folder, shared):
    made = data.share("folder", 16, path=folder)
    file = made / "x_train.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x07")
    dataset = data.load("folder", 16, path=folder)
    assert len(own()) == 1 and dataset.x_train[-1, -1, -1, -1] != 7
    assert data.share("folder", 16, path=folder) == made  # mended by the one whose folder it is
    assert data.arrays.files.sound(made, data.arrays.NEEDED)


def test_errors_say_what_to_do(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="export ILSVRC_ARRAYS="):
        data.share("folder", 16, path=folder)
    monkeypatch.setenv("ILSVRC_ARRAYS", str(tmp_path / "nowhere"))
    for do in (data.share, data.load):
        with pytest.raises(FileNotFoundError, match=r"mkdir -p .*nowhere.*ilsvrc data decode"):
            do("folder", 16, path=folder)
    monkeypatch.setenv("ILSVRC_ARRAYS", "relative")
    with pytest.raises(FileNotFoundError, match="no path from the root"):
        data.load("folder", 16, path=folder)
    assert "--profile laptop" in decode("folder").output
    assert "--profile laptop" in decode("--size", 16, "--profile", "laptop").output


def test_a_folder_that_cannot_be_written_is_named(folder, shared, monkeypatch):
    monkeypatch.setattr(type(shared), "write_bytes", lambda *_: os.open("/", os.O_WRONLY))
    with pytest.raises(OSError, match=r"ILSVRC_ARRAYS .*cannot be written.*as the user whose"):
        data.share("folder", 16, path=folder)


def test_the_sizes_of_a_profile_are_those_of_the_runs(monkeypatch, tmp_path):
    assert queue.stored_sizes("smoke") == []
    done = decode("--profile", "smoke")
    assert done.exit_code == 1 and "ilsvrc data fetch imagenette2-160" in done.output
