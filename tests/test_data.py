"""Data sets as arrays: layouts, odd files, the decode-once cache, choices, and what goes wrong."""

import io
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ilsvrc import data, paths
from ilsvrc.data import arrays

pytestmark = pytest.mark.once

RED, GREEN, BLUE = (220, 30, 20), (20, 200, 40), (30, 40, 220)


def picture(path, colour=RED, size=(40, 30), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes with a split: 6 red and 4 green pictures to train on, 2 each to validate on."""
    root = tmp_path / "colours"
    for split, counts in [("train", (6, 4)), ("val", (2, 2))]:
        for name, colour, count in zip(("red", "green"), (RED, GREEN), counts, strict=True):
            for index in range(count):
                picture(root / split / name / f"{index}.jpg", colour)
    return root


def near(image, colour):
    return np.abs(image.reshape(-1, 3).mean(0) - colour).max() < 8


def load(folder, size=16, **options):
    return data.load("folder", size, path=folder, **options)


def encoded(image, form="JPEG", **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


# Layouts


def test_a_folder_with_a_split(folder):
    dataset = load(folder)
    assert dataset.class_names == ["green", "red"]
    assert dataset.x_train.shape == (10, 16, 16, 3) and dataset.x_train.dtype == np.uint8
    assert dataset.y_train.tolist() == [0] * 4 + [1] * 6 and dataset.y_train.dtype == np.int32
    assert dataset.x_val.shape == (4, 16, 16, 3) and dataset.y_val.tolist() == [0, 0, 1, 1]
    assert near(dataset.x_train[0], GREEN) and near(dataset.x_val[-1], RED)
    assert not dataset.standin and not dataset.squashed and dataset.skipped == []
    assert isinstance(dataset.x_train, np.memmap) and not dataset.x_train.flags.writeable


def test_class_folders_alone_are_split_the_same_way_each_time(tmp_path):
    for index in range(10):
        picture(tmp_path / "a" / f"{index}.png", (index, 0, 0))
        picture(tmp_path / "b" / f"{index}.png", (index, 99, 0))
    first, again = load(tmp_path), load(tmp_path, seed=5)
    assert len(first.y_train) == 16 and first.y_val.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(first.x_val, again.x_val)
    seen = {
        int(x[0, 0, 0]) + 100 * int(y) for x, y in zip(first.x_train, first.y_train, strict=True)
    }
    held = {int(x[0, 0, 0]) + 100 * int(y) for x, y in zip(first.x_val, first.y_val, strict=True)}
    assert not seen & held and len(seen | held) == 20


@pytest.fixture
def small_catalogue(monkeypatch):
    """Let the catalogue's data sets be whole with a handful of images."""
    for name, entry in data.CATALOGUE.items():
        monkeypatch.setitem(data.CATALOGUE, name, replace(entry, images=4))


def test_tiny_imagenet_in_its_own_layout(tmp_path, monkeypatch):
    root = tmp_path / "tiny-imagenet-200"
    for name, colour in [("n02", RED), ("n01", GREEN)]:
        for index in range(3):
            picture(root / "train" / name / "images" / f"{name}_{index}.JPEG", colour)
        (root / "train" / name / f"{name}_boxes.txt").write_text("n_0.JPEG\t0\t0\t9\t9\n")
    picture(root / "val" / "images" / "val_0.JPEG", RED)
    picture(root / "val" / "images" / "val_1.JPEG", GREEN)
    (root / "val" / "val_annotations.txt").write_text(
        "val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\nval_2.JPEG\tn01\t0\t0\t9\t9\n"
    )
    (root / "words.txt").write_text("n01\tgreen frog, frog\nn02\tred fox\nn03\tnothing\n")
    monkeypatch.setenv("ILSVRC_DATA", str(tmp_path))
    whole = replace(data.CATALOGUE["tiny-imagenet-200"], images=8)
    monkeypatch.setitem(data.CATALOGUE, "tiny-imagenet-200", whole)
    dataset = data.load("tiny-imagenet-200", 64)
    assert dataset.class_names == ["green frog", "red fox"]
    assert dataset.y_train.tolist() == [0, 0, 0, 1, 1, 1] and dataset.y_val.tolist() == [0, 1]
    assert near(dataset.x_val[0], GREEN) and near(dataset.x_val[1], RED)
    assert dataset.skipped == []


# Odd files


def test_every_kind_of_colour_becomes_rgb():
    for mode in ("RGB", "CMYK"):
        image = Image.new("RGB", (50, 40), BLUE).convert(mode)
        assert near(arrays.decode(encoded(image, quality=95), 16), BLUE), mode
    grey = arrays.decode(encoded(Image.new("L", (50, 40), 130)), 16)
    assert grey.shape == (16, 16, 3) and near(grey, (130, 130, 130))
    for mode in ("P", "RGBA"):
        image = Image.new("RGB", (50, 40), BLUE).convert(mode)
        assert near(arrays.decode(encoded(image, "PNG"), 16), BLUE), mode
    deep = Image.fromarray(np.full((40, 50), 200 * 256, np.uint16))
    assert near(arrays.decode(encoded(deep, "PNG"), 16), (200, 200, 200))


def test_exif_turns_the_picture_upright():
    upright = Image.new("RGB", (64, 64), RED)
    upright.paste(GREEN, (0, 0, 64, 32))  # green above red
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    stored = encoded(upright.rotate(90), exif=exif, quality=95)
    image = arrays.decode(stored, 32)
    assert near(image[:12], GREEN) and near(image[-12:], RED)


def test_the_largest_centred_square_is_kept_at_any_scale():
    image = Image.new("RGB", (300, 100), RED)
    image.paste(GREEN, (100, 0, 200, 100))
    for size in (8, 64, 100, 150):  # 8 pixels: JPEG decodes at an eighth
        assert near(arrays.decode(encoded(image, quality=95), size)[:, 2:-2], GREEN), size
    tall = arrays.decode(encoded(image.rotate(90, expand=True), quality=95), 50)
    assert near(tall[2:-2], GREEN)


@pytest.fixture
def blemished(folder):
    """The colours, with a truncated, an empty and a text file among them."""
    whole = picture(folder / "train" / "red" / "broken.jpg", size=(200, 200)).read_bytes()
    (folder / "train" / "red" / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "train" / "green" / "0.jpg.html").write_text("<p>not an image</p>")
    (folder / "val" / "green" / "empty.png").write_bytes(b"")
    (folder / "val" / "green" / ".DS_Store").write_bytes(b"hidden")
    return folder


def test_bad_files_are_named_counted_and_left_out(blemished):
    for _ in ("decoded", "read back"):
        with pytest.warns(UserWarning, match="3 of 17 files are no readable image") as caught:
            dataset = load(blemished)
        assert [file for file, _ in dataset.skipped] == [
            "train/green/0.jpg.html",
            "train/red/broken.jpg",
            "val/green/empty.png",
        ]
        assert "broken.jpg" in str(caught[0].message) and "truncated" in str(caught[0].message)
        assert dataset.y_train.tolist() == [0] * 4 + [1] * 6 and len(dataset.x_train) == 10
        pairs = dataset.x_train, dataset.y_train
        assert all(near(x, (GREEN, RED)[y]) for x, y in zip(*pairs, strict=True))
        assert len(dataset.x_val) == len(dataset.y_val) == 4


def test_bad_files_are_refused_on_demand(blemished):
    with pytest.raises(ValueError, match=r"3 of 17 .*0\.jpg\.html.*broken\.jpg.*empty\.png"):
        load(blemished, bad="raise")


def test_without_bad_files_nothing_is_said(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(folder)
        load(folder, bad="raise")


# The cache


def test_files_are_decoded_once_a_size(folder, monkeypatch):
    first = load(folder)
    monkeypatch.setattr(arrays, "decode", lambda *_: pytest.fail("decoded again"))
    again = load(folder)
    np.testing.assert_array_equal(first.x_train, again.x_train)
    assert again.digest == first.digest and again.y_train.tolist() == first.y_train.tolist()


def test_another_content_of_the_same_size_is_decoded_anew(folder):
    changing = picture(folder / "train" / "green" / "0.bmp", GREEN)
    before, size = load(folder), changing.stat().st_size
    picture(changing, BLUE)
    assert changing.stat().st_size == size
    after = load(folder)
    assert near(before.x_train[0], GREEN) and near(after.x_train[0], BLUE)
    assert before.digest != after.digest


def test_the_digest_is_the_content_not_the_place_size_or_time(folder, tmp_path):
    import shutil

    moved = tmp_path / "elsewhere" / "colours"
    shutil.copytree(folder, moved, copy_function=shutil.copyfile)
    assert load(folder).digest == load(moved, size=8).digest


def test_a_build_that_dies_leaves_nothing_behind(folder, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(arrays, "decode", die)
        with pytest.raises(KeyboardInterrupt):
            load(folder)
    left = [path for path in (paths.cache() / "arrays").iterdir() if path.suffix != ".lock"]
    assert left == []
    assert len(load(folder).x_train) == 10


def test_what_a_killed_process_left_is_cleared_away(folder):
    load(folder)
    (done,) = [path for path in (paths.cache() / "arrays").iterdir() if path.is_dir()]
    done.rename(done.with_name(done.name + ".partial"))
    (done.with_name(done.name + ".partial") / "x_train.npy").write_bytes(b"half")
    assert len(load(folder).x_train) == 10
    assert not done.with_name(done.name + ".partial").exists()


def test_two_processes_decode_once(folder, tmp_path):
    log = tmp_path / "log"
    code = f"""
import time
from ilsvrc import data
from ilsvrc.data import arrays
build = arrays._build
def slow(*args):
    with open({str(log)!r}, "a") as file:
        file.write("built\\n")
    time.sleep(0.5)
    build(*args)
arrays._build = slow
print(int(data.load("folder", 16, path={str(folder)!r}).x_train.sum()))
"""
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=-1, text=True) for _ in range(2)]
    sums = [process.communicate(timeout=60)[0] for process in both]
    assert sums[0] == sums[1] and int(sums[0]) > 0
    assert log.read_text() == "built\n"


def test_a_full_disk_is_said_before_work_begins(folder, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 100))
    with pytest.raises(OSError, match=r"MiB are free.*XDG_CACHE_HOME"):
        load(folder)


# Choices


def test_a_subset_is_balanced_drawn_by_seed_and_nested(tmp_path):
    for name, count in [("a", 3), ("b", 40), ("c", 40)]:
        for index in range(count):
            picture(tmp_path / "train" / name / f"{index}.png", (index, 0, 0), (4, 4))
        picture(tmp_path / "val" / name / "0.png")

    def chosen(images, seed=0):
        d = load(tmp_path, 4, images=images, seed=seed)
        assert len(d.y_val) == 3
        return d, [(int(y), int(x[0, 0, 0])) for x, y in zip(d.x_train, d.y_train, strict=True)]

    small, pairs = chosen(6)
    assert np.bincount(small.y_train).tolist() == [2, 2, 2] and len(set(pairs)) == 6
    large, more = chosen(23)
    assert np.bincount(large.y_train).tolist() == [3, 10, 10]  # the small class gives what it has
    assert set(pairs) < set(more)
    assert chosen(6)[1] == pairs and chosen(6, seed=1)[1] != pairs
    assert len(chosen(1000)[1]) == 83
    assert small.digest == large.digest
    with pytest.raises(ValueError, match="images=2 is too few for 3 classes"):
        chosen(2)


# Where things are


def imagenette(place, name, size):
    for split in ("train", "val"):
        for wnid, colour in [("n01440764", RED), ("n03888257", GREEN)]:
            picture(place / name / split / wnid / f"{split}.JPEG", colour, size)
    return place / name


def test_look_up_explicit_path_then_ilsvrc_data_then_cache(tmp_path, monkeypatch):
    assert data.find("imagenette2-160") is None and data.find("imagenette") is None
    cached = imagenette(paths.cache() / "data", "imagenette2-160", (20, 16))
    assert data.find("imagenette2-160") == cached
    own = imagenette(tmp_path / "own", "imagenette2-160", (20, 16))
    monkeypatch.setenv("ILSVRC_DATA", str(tmp_path / "own"))
    assert data.find("imagenette2-160") == own
    monkeypatch.setenv("ILSVRC_DATA", str(own))  # the data set's own folder will do
    assert data.find("imagenette2-160") == own
    given = imagenette(tmp_path / "given", "imagenette2-160", (20, 16))
    assert data.find("imagenette2-160", tmp_path / "given") == given
    assert data.find("imagenette2-160", given) == given
    assert data.find("imagenette2-160", tmp_path / "nowhere") is None  # and nothing else is tried
    assert data.find("imagenette2-320") is None


def test_imagenette_is_the_variant_that_suits_the_size(tmp_path, monkeypatch, small_catalogue):
    monkeypatch.setenv("ILSVRC_DATA", str(tmp_path))
    imagenette(tmp_path, "imagenette2-224", (24, 24))
    squashed = data.load("imagenette", 8)
    assert squashed.name == "imagenette2-224" and squashed.squashed
    assert squashed.class_names == ["tench", "parachute"] and "fast.ai" in squashed.credit
    imagenette(tmp_path, "imagenette2-160", (20, 16))
    imagenette(tmp_path, "imagenette2-320", (40, 32))
    small, large = data.load("imagenette", 160), data.load("imagenette", 161)
    assert (small.name, large.name) == ("imagenette2-160", "imagenette2-320")
    assert not small.squashed


def test_status_names_what_is_here_and_what_could_be(tmp_path, monkeypatch):
    root = imagenette(tmp_path, "imagenette2-160", (20, 16))
    monkeypatch.setenv("ILSVRC_DATA", str(tmp_path))
    rows = {row["name"]: row for row in data.status()}
    assert set(rows) == {"photographs", *data.CATALOGUE}
    assert rows["photographs"]["where"] == "embedded" and rows["photographs"]["images"] == 10
    here = rows["imagenette2-160"]
    assert here["where"] == root and here["images"] == 4 and not here["whole"]
    assert here["bytes"] == sum(path.stat().st_size for path in root.rglob("*.JPEG"))
    missing = rows["imagenette2"]
    assert missing["where"] is None and missing["bytes"] == 1_557_161_267


# What goes wrong


def test_missing_data_say_the_next_command(monkeypatch, tmp_path):
    monkeypatch.setenv("ILSVRC_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        data.load("imagenette", 128)
    message = str(caught.value)
    assert "ilsvrc data fetch imagenette2-160" in message and "94 MiB" in message
    assert "ILSVRC_DATA=" in message and "data (no such folder)" in message
    with pytest.raises(FileNotFoundError, match=r"cannot be downloaded.*ILSVRC_DATA="):
        data.load("imagenette2-224")
    with pytest.raises(FileNotFoundError, match="no folder"):
        load(tmp_path / "gone")


@pytest.mark.parametrize("ask", [data.load, data.find, data.fetch])
def test_a_wrong_name_meets_the_right_one(ask):
    with pytest.raises(ValueError, match=r"called 'imagenete'.*Did you mean 'imagenette'"):
        ask("imagenete")


def test_wrong_options_are_refused(folder):
    with pytest.raises(ValueError, match="'skip' or 'raise'"):
        load(folder, bad="ignore")
    with pytest.raises(ValueError, match="download='no': say True or False"):
        load(folder, download="no")
    with pytest.raises(ValueError, match="path="):
        data.load("folder")
    with pytest.raises(ValueError, match="nothing to find or to fetch"):
        data.fetch("photographs")


def test_a_data_set_too_small_says_what_is_missing(folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="at least two class folders, and has none"):
        load(empty)
    picture(empty / "only" / "0.jpg")
    with pytest.raises(ValueError, match="has only 'only'"):
        load(empty)
    picture(empty / "other" / "0.jpg")
    with pytest.raises(ValueError, match="no training image in only, other"):
        load(empty)  # one image a class cannot be split
    (folder / "train" / "blue").mkdir()
    with pytest.raises(ValueError, match="no training image in blue"):
        load(folder)
    (folder / "train" / "blue").rmdir()
    picture(folder / "val" / "stranger" / "0.jpg")
    with pytest.raises(ValueError, match="stranger has no folder of its name in train/"):
        load(folder)


def test_a_class_without_a_readable_image_is_refused(folder):
    for path in (folder / "val" / "red").iterdir():
        path.write_text("not an image")
    said = r"none of the 2 val files of 'red' is .*val/red/0\.jpg: no picture .*replace them"
    with pytest.raises(ValueError, match=said):
        load(folder)


def test_half_a_split_is_refused(folder):
    (folder / "val").rename(folder / "validation")
    with pytest.raises(ValueError, match="rename validation to val"):
        load(folder)
    shutil.rmtree(folder / "validation")
    with pytest.raises(ValueError, match="no folder 'val'"):
        load(folder)


def test_importing_data_is_quick_and_brings_no_framework():
    code = (
        "import sys; from ilsvrc import data; data.load; print([m for m in ('keras', 'tensorflow', "
        "'jax', 'torch', 'sklearn', 'skimage', 'matplotlib', 'pandas', 'requests')"
        " if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


# Real images


@pytest.mark.real
@pytest.mark.slow
def test_real_imagenette_is_whole(real_imagenette):
    dataset = data.load("imagenette", 32, bad="raise")  # its grey-scale files are no obstacle
    assert dataset.x_train.shape == (9469, 32, 32, 3) and dataset.x_val.shape == (3925, 32, 32, 3)
    assert dataset.class_names[0] == "tench" and len(dataset.class_names) == 10
    assert np.bincount(dataset.y_val).min() > 300 and np.bincount(dataset.y_train).min() > 800
    assert 100 < dataset.x_train.mean() < 130
    start = time.perf_counter()
    data.load("imagenette", 32)
    assert time.perf_counter() - start < 3  # 0.2 s on a quiet machine
