"""Folders and files as people have them: what is no picture, no split, not whole, not readable."""

import dataclasses
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ilsvrc import cli, data, profiles, vis
from ilsvrc.data import arrays

pytestmark = pytest.mark.once

PHOTOGRAPH = np.random.default_rng(0).integers(0, 255, (30, 40, 3), "uint8")


def picture(path, shade=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (shade, shade, shade)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b"):
        for index in range(5):
            picture(tmp_path / "set" / name / f"{index}.png", 40 * index)
    return tmp_path / "set"


def load(folder, size=16, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return data.load("folder", size, path=folder, **options)


def encoded(image, form="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


# What counts


@pytest.mark.parametrize(
    "name",
    [
        *(
            ".ipynb_checkpoints/4-checkpoint.png",
            ".git/x.png",
            "__MACOSX/._1.png",
            "c/.hidden/9.png",
        ),
        *("README.txt", "Thumbs.db", "desktop.ini", "labels.csv", "boxes.XML", "notes.md"),
    ],
)
def test_what_lies_beside_pictures_is_left_out_without_a_word(folder, name):
    stray = folder / "a" / name
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes((folder / "a" / "1.png").read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = data.load("folder", 16, path=folder)
    assert len(dataset.y_train) + len(dataset.y_val) == 10 and dataset.skipped == []


def test_a_link_that_leads_nowhere_is_named_and_the_rest_is_loaded(folder):
    (folder / "a" / "gone.png").symlink_to("/nowhere/gone.png")
    dataset = load(folder)
    assert dataset.skipped == [("a/gone.png", "a link that leads nowhere, to '/nowhere/gone.png'")]
    assert len(dataset.y_train) + len(dataset.y_val) == 10


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_regular_file_is_not_waited_for(folder, make):
    make(folder / "a" / "pipe.png")
    done = []
    thread = threading.Thread(target=lambda: done.append(load(folder)), daemon=True)
    thread.start()
    thread.join(30)
    assert done and done[0].skipped == [("a/pipe.png", "no regular file")]


@pytest.mark.parametrize(
    "folders", [("training", "validation"), ("Train", "Val"), ("train", "dev")]
)
def test_splits_under_other_names_are_no_classes(folder, tmp_path, folders):
    for split in folders:
        for name in ("a", "b"):
            picture(tmp_path / "split" / split / name / "1.png")
    with pytest.raises(ValueError, match=r"rename .*(validation|Val|dev) to val"):
        load(tmp_path / "split")


@pytest.mark.parametrize("splits", [("Train", "Test"), ("images_train", "images_2"), "abc"])
def test_folders_that_hold_the_same_classes_are_splits(tmp_path, splits):
    for split in splits:
        for name in ("cats", "dogs"):
            picture(tmp_path / "set" / split / name / "1.png")
    with pytest.raises(ValueError, match=r"cats, dogs, so they are splits.*to val"):
        load(tmp_path / "set")


def test_what_a_system_puts_beside_pictures_is_no_class(folder):
    for name in ("@eaDir", "$RECYCLE.BIN", "lost+found", "System Volume Information"):
        picture(folder / name / "1.png")
        picture(folder / "a" / name / "2.png")
    dataset = load(folder)
    assert dataset.class_names == ["a", "b"] and len(dataset.y_train) + len(dataset.y_val) == 10


def test_folders_that_are_links_are_followed_named_or_missed_by_name(folder, tmp_path):
    (folder / "a").rename(tmp_path / "elsewhere")
    (folder / "a").symlink_to(tmp_path / "elsewhere")
    assert load(folder).class_names == ["a", "b"]
    (folder / "b" / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"more is a link to a folder within a class"):
        load(folder)
    (folder / "b" / "more").unlink()
    (folder / "c").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"c is a link that leads nowhere"):
        load(folder)


@pytest.mark.parametrize("link", ["val", "val/a"])
def test_a_folder_that_counts_twice_is_refused(folder, tmp_path, link):
    folder.rename(tmp_path / "train")
    for name in ("a", "b"):
        picture(tmp_path / "val" / name / "9.png")
    shutil.rmtree(tmp_path / link)
    (tmp_path / link).symlink_to(tmp_path / link.replace("val", "train"))
    with pytest.raises(ValueError, match=r"train/a and val/a are one folder, by a link"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("one", "other"), [("caf\u00e9", "cafe\u0301"), ("Dogs", "dogs"), ("a", "a ")]
)
def test_a_class_that_is_spelled_otherwise_in_val_is_named(tmp_path, one, other):
    for name in (f"train/{one}", f"val/{other}", "train/z", "val/z"):
        picture(tmp_path / name / "1.png")
    with pytest.raises(ValueError, match=re.escape(f"Rename {other!a} to {one!a}.")):
        load(tmp_path)


def test_two_classes_of_one_name_can_be_told_apart(folder):
    (folder / "a").rename(folder / "n01440764")
    (folder / "b").rename(folder / "tench")
    assert load(folder).class_names == ["tench (n01440764)", "tench"]


def test_names_that_cannot_be_printed_are_spelled_out(folder):
    (folder / "a" / "9\n\x1b[31m.png").write_text("no picture")
    with pytest.warns(UserWarning, match=r"'a/9\\n\\x1b\[31m\.png' \(no picture") as said:
        data.load("folder", 16, path=folder)
    assert str(said[0].message).isprintable()


def test_a_folder_may_have_as_long_a_name_as_a_disk_allows(folder):
    long = folder.rename(folder.with_name("l" * 250))
    assert load(long).name == "folder" and len(load(long).class_names) == 2


def test_a_path_for_a_name_is_told_from_a_name(folder):
    for name in (folder, str(folder)):
        with pytest.raises(ValueError, match=r'is a folder: load\("folder", path=\.\.\.\)'):
            data.load(name)


@pytest.mark.parametrize("name", ["set", "b", "inner"])
def test_a_folder_that_cannot_be_opened_is_named(folder, monkeypatch, name):
    (folder / "b" / "inner").mkdir()
    scandir = os.scandir

    def closed(path):
        if os.path.basename(path) == name:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(ValueError, match=rf"{name} cannot be opened \(Permission denied\)"):
        load(folder)


def test_a_class_folder_whose_name_is_no_text_is_one(folder):
    odd = os.path.join(os.fsencode(folder), b"\xff")
    os.rename(os.path.join(os.fsencode(folder), b"a"), odd)
    assert len(load(folder).class_names) == 2


def test_classes_that_are_called_like_a_split_among_others_are_classes(folder):
    for index in range(5):
        picture(folder / "Train" / f"{index}.png")
    assert load(folder).class_names == ["Train", "a", "b"]


# Whole or not, and where


def imagenette(root):
    for split in ("train", "val"):
        for name in ("n01440764", "n02102040"):
            for index in range(4):
                picture(root / split / name / f"{index}.png")
    return root


def test_a_half_unpacked_set_is_refused_and_listed_as_such(tmp_path, monkeypatch):
    imagenette(tmp_path / "imagenette2-160")
    monkeypatch.setenv("ILSVRC_DATA", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"holds 16 of the 13,394 images .*unpack the archive again"
    ):
        data.load("imagenette", 64)
    assert [row["name"] for row in data.status() if not row["whole"]] == ["imagenette2-160"]


HALVES = {
    "nothing": lambda root: root.mkdir(parents=True),
    "an empty train": lambda root: (root / "train").mkdir(parents=True),
    "one class": lambda root: picture(root / "train" / "n01440764" / "0.png"),
    "no val": lambda root: shutil.rmtree(imagenette(root) / "val"),
    "an empty val": lambda root: [shutil.rmtree(c) for c in (imagenette(root) / "val").iterdir()],
    "an empty class": lambda root: (imagenette(root) / "train" / "n02979186").mkdir(),
    "no train": lambda root: shutil.rmtree(imagenette(root) / "train"),
    "some": lambda root: imagenette(root),
}


@pytest.mark.parametrize("state", HALVES)
@pytest.mark.parametrize("name", ["imagenette2-160", "tiny-imagenet-200"])
def test_whatever_is_missing_of_a_known_set_it_is_to_be_unpacked_again(
    tmp_path, monkeypatch, state, name
):
    HALVES[state](tmp_path / name)
    monkeypatch.setenv("ILSVRC_DATA", str(tmp_path))
    for ask in (data.load, data.fetch):
        with pytest.raises(
            ValueError, match=rf"unpack the archive again.*ilsvrc data fetch {name}"
        ):
            ask(name)
    done = CliRunner().invoke(cli.cli, ["data", "fetch", name])
    assert done.exit_code == 1 and "unpack the archive again" in str(done.exception)


def test_a_set_with_more_than_its_own_images_is_refused(tmp_path, monkeypatch):
    root = imagenette(tmp_path / "imagenette2-160")
    entry = dataclasses.replace(data.CATALOGUE["imagenette2-160"], images=16)
    monkeypatch.setitem(data.CATALOGUE, "imagenette2-160", entry)
    assert len(data.load("imagenette2-160", 8, path=root).y_val) == 8
    picture(root / "val" / "n01440764" / "3 (1).png")
    with pytest.raises(ValueError, match="holds 17 images, and imagenette2-160 has 16"):
        data.load("imagenette2-160", 8, path=root)


def test_a_data_folder_without_imagenette_is_no_stand_in_without_a_word(tmp_path, monkeypatch):
    laptop = profiles.PROFILES["laptop"]
    assert profiles.best_data(laptop) == "photographs"
    monkeypatch.setenv("ILSVRC_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no Imagenette is there.*Unset it to work with"):
        profiles.best_data(laptop)
    assert profiles.best_data(profiles.PROFILES["smoke"]) == "photographs"
    imagenette(tmp_path / "imagenette2-320")
    assert profiles.best_data(laptop) == "imagenette"


@pytest.mark.parametrize("deep", ["archive", "one/two/three"])
@pytest.mark.parametrize("tops", [("roses", "tulips"), ("train/roses", "val/roses")])
def test_a_set_one_folder_deeper_is_named(tmp_path, deep, tops):
    for top in tops:
        picture(tmp_path / deep / top / "1.png")
    said = re.escape(f"give path={str(tmp_path / deep)!r}")
    with pytest.raises(ValueError, match=said):
        load(tmp_path)


@pytest.mark.parametrize(
    ("path", "kind", "said"),
    [
        ("", ValueError, "path= is '': give the path of a folder"),
        (5, ValueError, "path= is 5: give the path"),
        (b"set", ValueError, "path= is b'set'"),
        ("~nobody-of-this-name/set", FileNotFoundError, "no such home"),
    ],
)
@pytest.mark.parametrize("name", ["folder", "imagenette", "tiny-imagenet-200"])
def test_a_path_that_is_none_is_refused(tmp_path, monkeypatch, path, kind, said, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=said):
        data.load(name, path=path)


def test_a_home_that_is_not_there_is_refused_in_ilsvrc_data(monkeypatch):
    monkeypatch.setenv("ILSVRC_DATA", "~nobody-of-this-name/sets")
    with pytest.raises(FileNotFoundError, match=r"ILSVRC_DATA is .*no such home"):
        data.find("imagenette")


@pytest.mark.parametrize(
    "wrong",
    [
        *({"size": 0}, {"size": "64"}, {"size": 64.0}, {"size": True}, {"size": None}),
        *({"size": 10**6}, {"images": -1}, {"images": "all"}, {"images": 20.5}, {"images": True}),
        *({"seed": -1}, {"seed": None}, {"seed": "one"}, {"seed": 1.0}),
    ],
)
@pytest.mark.parametrize("name", ["photographs", "folder"])
def test_numbers_that_mean_nothing_are_refused(folder, name, wrong):
    (what, value) = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=rf"^{what} is {value!r}; it must be a whole number from"):
        data.load(name, path=folder, **wrong)


@pytest.mark.parametrize("name", ["photographs", "folder"])
def test_numbers_of_numpy_are_numbers(folder, name):
    numpys = {"size": np.int64(8), "images": np.uint8(20), "seed": np.int32(0)}
    first, again = (
        data.load(name, 8, path=folder, images=20),
        data.load(name, path=folder, **numpys),
    )
    np.testing.assert_array_equal(first.x_train, again.x_train)


@pytest.mark.parametrize("name", [5, None, ["imagenette"]])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="No data set is called"):
        data.load(name)


# Tiny ImageNet


@pytest.fixture
def tiny(tmp_path):
    """Tiny ImageNet's layout, of two classes and four validation images."""
    for name in ("n01", "n02"):
        for index in range(3):
            picture(tmp_path / "train" / name / "images" / f"{name}_{index}.png")
    for index in range(4):
        picture(tmp_path / "val" / "images" / f"val_{index}.png", 40 * index)
    lines = [f"val_{index}.png\tn0{1 + index % 2}\t0\t0\t9\t9\n" for index in range(4)]
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(lines))
    return tmp_path


ANNOTATIONS = {
    "no tabs": (lambda text: text.replace("\t", " "), r"line 1: 'val_0\.png n01 0 0 9 9' is no"),
    "a name alone": (lambda text: text + "val_9.png\n", r"line 5: 'val_9\.png' is no image"),
    "two classes": (lambda text: text + "val_0.png\tn02\n", r"line 5: .*and its one class"),
    "a line less": (lambda text: text[text.index("\n") + 1 :], r"val_0\.png is, it does not say"),
    "empty": (lambda text: "", "it does not say"),
    "another class": (lambda text: text.replace("n02", "n09"), r"says 'n09', which train/ has not"),
    "no class": (lambda text: text.replace("n02", ""), "it does not say"),
    "no text": (lambda text: "\0\xff" * 40, "is no image, a tab and its one class"),
}


@pytest.mark.parametrize("how", ANNOTATIONS)
def test_annotations_that_are_none_are_refused(tiny, how):
    file = tiny / "val" / "val_annotations.txt"
    change, said = ANNOTATIONS[how]
    file.write_bytes(change(file.read_text()).encode("latin-1"))
    with pytest.raises(
        ValueError, match=rf"val_annotations\.txt.*{said}.*Unpack the archive again"
    ):
        load(tiny)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: f"{text}\n\n{text}gone.png\tn05\n".encode(),
    ],
)
def test_annotations_as_other_systems_write_them_are_read(tiny, change):
    file = tiny / "val" / "val_annotations.txt"
    file.write_bytes(change(file.read_text()))
    assert load(tiny).y_val.tolist() == [0, 0, 1, 1]


def test_validation_images_sorted_into_folders_are_taken_as_such(tiny):
    for index in range(4):
        target = tiny / "val" / f"n0{1 + index // 2}" / "images" / f"val_{index}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        (tiny / "val" / "images" / f"val_{index}.png").rename(target)
    with pytest.raises(ValueError, match="images has no folder of its name in train/"):
        load(tiny)
    (tiny / "val" / "images").rmdir()
    dataset = load(tiny)
    assert dataset.y_val.tolist() == [0, 0, 1, 1]
    assert [int(image[0, 0, 0]) for image in dataset.x_val] == [0, 40, 80, 120]


def test_annotations_without_a_folder_to_train_on_are_half_a_set(tiny):
    shutil.rmtree(tiny / "train")
    with pytest.raises(ValueError, match="has no folder 'train'"):
        load(tiny)


def test_a_set_unpacked_twice_deep_is_found(tmp_path, monkeypatch):
    inner = imagenette(tmp_path / "imagenette2-160" / "imagenette2-160")
    monkeypatch.setenv("ILSVRC_DATA", str(tmp_path))
    assert data.find("imagenette") == inner
    assert data.find("imagenette", tmp_path / "imagenette2-160") == inner


def test_a_dot_inside_the_set_is_the_set(tmp_path, monkeypatch):
    root = imagenette(tmp_path / "imagenette2-160")
    monkeypatch.chdir(root)
    monkeypatch.setenv("ILSVRC_DATA", ".")
    assert data.find("imagenette").resolve() == root


@pytest.mark.parametrize("named", ["imagenett", "train/file.txt"])
def test_a_mistyped_ilsvrc_data_is_not_passed_over(tmp_path, monkeypatch, named):
    monkeypatch.setenv("ILSVRC_DATA", str(tmp_path / named))
    for ask in (lambda: data.find("imagenette"), lambda: data.load("imagenette"), data.status):
        with pytest.raises(FileNotFoundError, match=r"ILSVRC_DATA names .*no such folder"):
            ask()


@pytest.mark.parametrize(
    ("there", "said"),
    [("imagenette2-160.tgz", "still packed"), ("imagenette-160/train/x", "first edition")],
)
def test_what_lies_there_instead_is_mentioned(tmp_path, monkeypatch, there, said):
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_bytes(b"")
    monkeypatch.setenv("ILSVRC_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=said):
        data.load("imagenette")


# Reading and decoding


def test_what_could_not_be_read_once_is_read_when_it_can_be(folder, monkeypatch):
    target, read = folder / "a" / "1.png", arrays._bytes

    def refuse(path):
        if path == target:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(arrays, "_bytes", refuse)
    for _ in ("decoded", "read back"):
        assert load(folder).skipped == [("a/1.png", "Permission denied")]
    monkeypatch.setattr(arrays, "_bytes", read)
    dataset = load(folder)
    assert dataset.skipped == [] and len(dataset.y_train) + len(dataset.y_val) == 10


def test_a_moment_without_memory_is_not_remembered(folder, monkeypatch):
    decode, failures = arrays.decode, iter([MemoryError()])

    def short(source, size):
        for failure in failures:
            raise failure
        return decode(source, size)

    monkeypatch.setattr(arrays, "decode", short)
    assert len(load(folder).skipped) == 1
    assert load(folder).skipped == []


def test_a_file_that_starts_another_program_is_not_opened(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(a))
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(ValueError, match=r"no picture of a known format \(JPEG, PNG"):
        arrays.decode(page, 16)
    assert started == []


def test_a_picture_that_would_take_gigabytes_is_refused():
    blank = encoded(Image.new("L", (9_000, 9_000)), compress_level=9)
    assert len(blank) < 200_000
    with pytest.raises(ValueError, match=r"81,000,000 pixels, where 64,000,000"):
        arrays.decode(blank, 16)


def test_a_file_of_gigabytes_is_not_read(folder):
    with (folder / "a" / "9.png").open("wb") as file:
        file.truncate(arrays.LARGEST_FILE + 1)  # it takes no room
    ((name, said),) = load(folder).skipped
    assert (
        name == "a/9.png" and said == "a file of 384,000,001 bytes, where 384,000,000 is the most"
    )


def test_large_pictures_are_unpacked_one_at_a_time(monkeypatch):
    inside, most = [], []
    fit = arrays.ImageOps.exif_transpose

    def watched(image):
        inside.append(1)
        most.append(len(inside))
        found = fit(image)
        inside.pop()
        return found

    monkeypatch.setattr(arrays.ImageOps, "exif_transpose", watched)
    large = encoded(Image.new("L", (3_000, 3_000)))
    threads = [threading.Thread(target=arrays.decode, args=(large, 16)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(most) == 4


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_more_than_eight_bits_are_scaled(bits, tmp_path):
    half = np.full((30, 40), 1 << (bits - 1), np.uint16)
    image = Image.fromarray(half)
    content = encoded(image, "TIFF", tiffinfo={258: bits} if bits == 16 else {})
    if bits == 16:
        assert np.abs(arrays.decode(content, 16).astype(int) - 128).max() <= 1
        assert np.abs(arrays.decode(encoded(image, "PNG"), 16).astype(int) - 128).max() <= 1
    else:
        opened = Image.open(io.BytesIO(content))
        opened.tag_v2[258] = (bits,)  # as a camera writes it; Pillow itself writes 16
        assert np.abs(np.asarray(arrays._eight_bits(opened)).astype(int) - 128).max() <= 1


@pytest.mark.parametrize("kind", ["float32", "int32"])
def test_pixels_of_no_known_range_are_refused(kind):
    values = np.linspace(0, 1, 1200).reshape(30, 40) * (1 if kind == "float32" else 1e6)
    with pytest.raises(ValueError, match=r"of no known range: save it in 8 bits"):
        arrays.decode(encoded(Image.fromarray(values.astype(kind)), "TIFF"), 16)


def test_a_file_of_signed_numbers_is_refused():
    for values, kind in [(PHOTOGRAPH[..., 0], 2), (np.full((30, 40), 900, np.uint16), 2)]:
        content = encoded(Image.fromarray(values), "TIFF", tiffinfo={339: kind})
        with pytest.raises(ValueError, match=r"signed pixels.*save it in 8 bits"):
            arrays.decode(content, 16)


def test_a_file_in_which_0_is_white_is_inverted():
    dark = np.full((30, 40), 6553, np.uint16)
    found = arrays.decode(encoded(Image.fromarray(dark), "TIFF", tiffinfo={262: 0}), 16)
    assert np.abs(found.astype(int) - 230).max() <= 1


CLEAR = {
    "RGBA": lambda: encoded(Image.new("RGBA", (40, 30), (9, 9, 9, 0))),
    "WebP": lambda: encoded(Image.new("RGBA", (40, 30), (9, 9, 9, 0)), "WEBP", lossless=True),
    "TIFF": lambda: encoded(Image.new("RGBA", (40, 30), (9, 9, 9, 0)), "TIFF"),
    "LA": lambda: encoded(Image.new("LA", (40, 30), (9, 0))),
    "a colour of RGB": lambda: encoded(
        Image.new("RGB", (40, 30), (1, 2, 3)), transparency=(1, 2, 3)
    ),
    "a colour of L": lambda: encoded(Image.new("L", (40, 30), 9), transparency=9),
    "a colour of P": lambda: encoded(Image.new("P", (40, 30), 0), transparency=0),
    "GIF": lambda: encoded(Image.new("P", (40, 30), 0), "GIF", transparency=0),
}


@pytest.mark.parametrize("kind", CLEAR)
def test_what_is_transparent_lies_on_white(kind):
    assert arrays.decode(CLEAR[kind](), 16).min() == 255


def test_what_is_half_transparent_is_mixed_with_white_and_stays_upright():
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 255))
    image.paste((0, 0, 0, 128), (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    found = arrays.decode(encoded(image.rotate(90), exif=exif), 32)
    assert found[4, 16].tolist() == [127] * 3 and found[-4, 16].tolist() == [255, 0, 0]


def test_a_transparent_colour_of_16_bits_is_refused():
    deep = Image.fromarray(np.full((30, 40), 7000, np.uint16))
    with pytest.raises(ValueError, match=r"transparent colour .*save it in 8 bits"):
        arrays.decode(encoded(deep, transparency=7000), 16)


@pytest.mark.parametrize("form", ["TIFF", "GIF", "WEBP", "PNG"])
def test_a_file_of_several_pictures_is_named_and_left_out(folder, form):
    pictures = [Image.fromarray(np.roll(PHOTOGRAPH, n, 0)) for n in range(3)]
    several = encoded(pictures[0], form, save_all=True, append_images=pictures[1:])
    (folder / "a" / "9.png").write_bytes(several)
    dataset = load(folder)
    assert dataset.skipped == [("a/9.png", "3 pictures in one file: save the one that is meant")]
    assert len(dataset.y_train) + len(dataset.y_val) == 10


def test_a_phones_photograph_with_its_preview_is_taken():
    first, preview = (Image.fromarray(np.full((30, 40, 3), n, "uint8")) for n in (200, 50))
    content = encoded(first, "MPO", save_all=True, append_images=[preview])
    assert np.abs(arrays.decode(content, 16).astype(int) - 200).max() < 4


def test_a_class_that_cannot_be_read_says_why(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(arrays, "_bytes", refuse)
    with pytest.raises(
        ValueError, match=r"none of the 4 train files of 'a' .*Permission denied. Let"
    ):
        load(folder)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_that_is_taken_gives_three_bytes_a_pixel(mode):
    image = Image.fromarray(PHOTOGRAPH).convert("I" if mode == "I;16" else mode)
    image = image.convert(mode) if mode == "I;16" else image
    form = "PNG" if mode in ("1", "L", "LA", "P", "RGBA", "I;16") else "JPEG"
    found = arrays.decode(encoded(image, form), 16)
    assert found.shape == (16, 16, 3) and found.dtype == np.uint8


# Names


NAMES = ["$5 bill$", "a_b^c", "<script>alert(1)</script>", "강아지", "$\\frac{$"]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_figure_bears_any_name():
    images = np.zeros((5, 16, 16, 3), "uint8")
    odds = np.eye(5)[[1, 2, 3, 4, 0]] * 0.6 + 0.08
    for figure in (
        vis.mistakes(images, np.arange(5), odds, NAMES),
        vis.gallery(images, NAMES, columns=5),
        vis.confusion(np.arange(5), odds.argmax(1), NAMES),
        vis.overlay(images[:1], {NAMES[0]: np.zeros((1, 16, 16))}),
    ):
        figure.savefig(io.BytesIO())
        plt.close(figure)


def test_figures_take_a_font_for_korean_where_there_is_one():
    code = (
        "import matplotlib.font_manager as f; f.get_font_names = lambda: ['NanumGothic', 'Other'];"
        "from ilsvrc.vis import style; print(style.STYLE['font.family'])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip().splitlines()[-1] == "['DejaVu Sans', 'NanumGothic']"
