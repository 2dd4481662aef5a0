"""The embedded photographs: the same each time, split by columns, with something to see in each."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ilsvrc import data
from ilsvrc.data import photographs

pytestmark = pytest.mark.once


def test_ten_classes_of_colour_crops_without_any_data_here():
    dataset = data.load(size=32, images=200)
    assert dataset.name == "photographs" and dataset.standin and not dataset.squashed
    assert len(dataset.class_names) == len(set(dataset.class_names)) == 10
    assert dataset.x_train.shape == (200, 32, 32, 3) and dataset.x_train.dtype == np.uint8
    assert np.bincount(dataset.y_train).tolist() == [20] * 10
    assert np.bincount(dataset.y_val).tolist() == [50] * 10 and dataset.y_val.dtype == np.int32
    for image in dataset.x_train[::20].astype(int):
        assert np.abs(image[..., 0] - image[..., 2]).max() > 4  # colour


def test_the_seed_and_nothing_else_decides():
    first, again, other, more = (
        photographs.crops(size, train, 20, seed)
        for size, train, seed in [(16, 20, 3), (16, 20, 3), (16, 20, 4), (32, 40, 3)]
    )
    for part, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(part, same)
    assert (first[0] != other[0]).any() and (first[2] != other[2]).any()
    assert first[-1] == other[-1] == more[-1]
    # More and larger crops: the first two of each class show the same places.
    larger = more[0].reshape(10, 4, 16, 2, 16, 2, 3).mean((3, 5))[:, :2].reshape(20, 16, 16, 3)
    assert np.abs(larger - first[0]).mean() < 4 < np.abs(larger - other[0]).mean()


def test_training_and_validation_are_a_crop_apart():
    for photograph in photographs.PHOTOGRAPHS:
        image = data.open_photograph(photograph.name)
        (start, end), (val_start, val_end) = photographs.bands(image)
        largest = photographs.LONGEST * min(image.size)
        assert start == 0 and val_end == image.width
        assert val_start - end >= largest - 1, photograph.name
        assert min(end - start, val_end - val_start) > largest, photograph.name


def test_every_crop_has_contrast():
    x_train, _, x_val, _, _ = photographs.crops(64, 200, 100, seed=1)
    grey = np.concatenate([x_train, x_val]).mean(-1)
    assert grey.std((1, 2)).min() > 6  # 10 before it was made smaller


def test_each_photograph_is_credited():
    credit = photographs.credit()
    for photograph in photographs.PHOTOGRAPHS:
        assert f"{photograph.name}: " in credit
        assert any(
            licence in photograph.credit
            for licence in ("CC0", "CC BY", "public domain", "no known copyright")
        )


def test_photographs_ship_inside_the_packages():
    for photograph in photographs.PHOTOGRAPHS:
        package = Path(importlib.util.find_spec(photograph.package).origin).parent
        assert package in photographs.locate(photograph).parents


def test_what_is_not_there_is_said():
    with pytest.raises(ValueError, match=r"'dog'.*astronaut"):
        data.open_photograph("dog")
    lost = photographs.Photograph("dog", "skimage", "data/dog.png", "")
    with pytest.raises(FileNotFoundError, match="inside the package 'skimage'"):
        photographs.locate(lost)
    with pytest.raises(ValueError, match="images=9 is too few"):
        data.load(size=8, images=9)


def test_the_probe_is_the_middle_of_the_temple():
    probe = data.probe(64)
    assert probe.shape == (64, 64, 3) and probe.dtype == np.uint8
    middle = data.open_photograph("temple").crop((107, 0, 534, 427)).resize((64, 64))
    assert np.abs(probe.astype(int) - np.asarray(middle)).mean() < 4


def test_a_square_stands_upright():
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (20, 0, 40, 20))
    exif = image.getexif()
    exif[0x0112] = 6  # the camera lay on its side: turn by 90 degrees clockwise
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    turned = data.square(Image.open(file), 8)
    assert (turned[0] == (255, 0, 0)).all() and (turned[-1] == (0, 0, 255)).all()
