"""Top patches against a full sort and a brute-force receptive field; dead and duplicate units."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from keras import layers

from ilsvrc import ledger, vis

BOX = ["top", "left", "bottom", "right"]


def built(side, *stack):
    """Return a flat model of these layers on images of side x side x 1."""
    x = image = keras.Input((side, side, 1), name="image")
    for layer in stack:
        x = layer(x)
    return keras.Model(image, layers.Identity(name="last")(x), name="net")


def branches(order=1):
    """Two branches whose windows differ in size and in where their padding falls."""
    image = keras.Input((13, 13, 1), name="image")
    wide = layers.Conv2D(1, 4, padding="same")(image)
    narrow = layers.MaxPooling2D(2, 1, padding="same")(layers.Conv2D(1, 1)(image))
    x = layers.Concatenate()([wide, narrow][::order])
    x = layers.Add()([layers.Conv2D(2, 1)(x), layers.DepthwiseConv2D(2, padding="same")(x)])
    return keras.Model(image, layers.Identity(name="last")(x), name="net")


def gate():
    """A squeeze-and-excitation gate: through it each output sees the whole image."""
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(3, 3)(image)
    y = layers.Reshape((1, 1, 3))(layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    return keras.Model(image, layers.Identity(name="last")(layers.Multiply()([x, y])), name="net")


GEOMETRIES = {
    "valid": lambda: built(12, layers.Conv2D(1, 3), layers.Conv2D(1, (2, 4))),
    "same, odd": lambda: built(12, layers.Conv2D(1, 5, padding="same")),
    "same, even": lambda: built(12, layers.Conv2D(1, 4, padding="same")),
    "same, strides": lambda: built(
        13, layers.Conv2D(1, 3, 2, "same"), layers.MaxPooling2D(2, 2, "same")
    ),
    "same, even side": lambda: built(
        14, layers.Conv2D(1, 3, 2, "same"), layers.MaxPooling2D(3, 2, "same")
    ),
    "same, stride above size": lambda: built(12, layers.Conv2D(1, 1, 3, "same")),
    "dilated": lambda: built(  # the second window fills the gaps of the first
        14, layers.Conv2D(1, 3, padding="same", dilation_rate=2), layers.Conv2D(1, 2)
    ),
    "borders": lambda: built(
        12,
        layers.ZeroPadding2D(((2, 1), (0, 3))),
        layers.AveragePooling2D(3, 2),
        layers.Cropping2D(((1, 0), (0, 2))),
    ),
    "branches": branches,
    "branches, the narrow one first": lambda: branches(order=-1),
    "gate": gate,
    "AlexNet": lambda: built(
        67,
        layers.Conv2D(1, 11, 4),
        layers.MaxPooling2D(3, 2),
        layers.Conv2D(1, 5, padding="same"),
        layers.MaxPooling2D(3, 2),
        layers.Conv2D(1, 3, padding="same"),
    ),
    "ZFNet": lambda: built(
        56,
        layers.ZeroPadding2D(1),
        layers.Conv2D(1, 7, 2),
        layers.MaxPooling2D(3, 2, "same"),
        layers.Conv2D(1, 5, 2),
        layers.MaxPooling2D(3, 2, "same"),
        layers.Conv2D(1, 3, padding="same"),
    ),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_boxes_hold_exactly_the_pixels_that_move_a_unit(name):
    model = GEOMETRIES[name]()
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(1, 2, w.shape) for w in model.get_weights()])
    side = model.input_shape[1]
    # With positive weights, one pixel lit on a black image moves all units that can see it.
    lit = np.eye(side**2, dtype="float32").reshape(-1, side, side, 1)
    answers = model.predict(np.concatenate([0 * lit[:1], lit]), batch_size=512, verbose=0)
    moved = np.abs(answers[1:] - answers[0]).max(-1).reshape(side, side, *answers.shape[1:3]) > 0
    places = np.argwhere(moved.any((0, 1)))
    assert len(places) >= 4
    for (row, column), box in zip(places, ledger.boxes(model, "last", places), strict=True):
        top, left, bottom, right = box
        seen = np.zeros((side, side), bool)
        seen[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
        np.testing.assert_array_equal(moved[:, :, row, column], seen)
    if name != "gate":
        field = ledger.ledger(model).loc["last", "receptive_field"]
        assert np.ptp(box.reshape(2, 2), axis=0) == pytest.approx(field)


# Top patches


def small(units=4, seed=0):
    image = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(units, 3, 2, padding="same", name="conv1")(image)
    x = layers.ReLU(name="relu1")(x)
    x = layers.Dense(2, name="fc")(layers.Flatten(name="flatten")(x))
    model = keras.Model(image, x, name="net")
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    return model


def photographs(n, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (n, 12, 12, 3), dtype="uint8")


def prepare(images):
    return images.astype("float32") / 128 - 1


def test_top_patches_equal_a_full_sort():
    model, images = small(), photographs(150)
    top = vis.top_patches(model, "relu1", images, k=5, units=[2, 0], prepare=prepare)
    maps = vis.activations(model, prepare(images), "relu1")["relu1"]
    assert list(top.unit) == [2] * 5 + [0] * 5
    for unit, rows in top.groupby("unit"):
        best = maps[..., unit].reshape(150, -1).max(1)
        order = np.argsort(-best)[:5]
        np.testing.assert_array_equal(rows.image, order)
        np.testing.assert_allclose(rows.activation, best[order], rtol=1e-5)
        at = maps[rows.image, rows.row, rows.column, unit]
        np.testing.assert_allclose(rows.activation, at, rtol=1e-5)
    one = vis.top_patches(model, "relu1", images, k=5, units=2, prepare=prepare)
    pd.testing.assert_frame_equal(one, top[:5], rtol=1e-5)
    everything = vis.top_patches(model, "relu1", images, k=5, prepare=prepare)
    assert list(everything.unit.unique()) == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(
        everything[everything.unit == 2].reset_index(drop=True), top[:5], rtol=1e-5
    )


def test_batches_stream_and_a_memory_map_is_read_in_parts(tmp_path):
    model, images = small(), photographs(150)
    expected = vis.top_patches(model, "relu1", images, k=5, prepare=prepare)
    stream = (images[i : i + 37] for i in range(0, 150, 37))
    streamed = vis.top_patches(model, "relu1", stream, k=5, prepare=prepare)
    pd.testing.assert_frame_equal(streamed, expected, rtol=1e-5)
    np.save(tmp_path / "images.npy", images)
    read = []
    mapped = vis.top_patches(
        model,
        "relu1",
        np.load(tmp_path / "images.npy", mmap_mode="r"),
        k=5,
        prepare=lambda batch: read.append(len(batch)) or prepare(batch),
    )
    assert max(read) <= 64 and sum(read) == 150
    pd.testing.assert_frame_equal(mapped, expected, rtol=1e-5)


def test_an_image_counts_once_and_of_equals_the_first_wins():
    model, images = small(), prepare(photographs(3))
    again = np.concatenate([images, images[::-1]])  # 3 is 2, 4 is 1, 5 is 0
    pairs = np.split(again, 3)  # two images a batch
    top = vis.top_patches(model, "relu1", pairs, k=6, units=[1])
    assert sorted(top.image) == list(range(6))
    for first, second in zip(top.image[::2], top.image[1::2], strict=True):
        assert first < second and first + second == 5
    flat = vis.top_patches(model, "relu1", np.zeros((1, 12, 12, 3)), k=1)
    maps = vis.activations(model, np.zeros((1, 12, 12, 3)), "relu1")["relu1"][0]
    first = [np.unravel_index(maps[..., unit].argmax(), maps.shape[:2]) for unit in range(4)]
    np.testing.assert_array_equal(flat[["row", "column"]], first)


def test_fewer_images_than_patches():
    top = vis.top_patches(small(), "relu1", prepare(photographs(2)), k=9)
    assert list(top.unit) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_crops_are_the_pixels_of_the_box_and_grey_outside():
    model, images = small(), photographs(40)
    images[:, 0] = 255  # so that units answer at the border, too
    top = vis.top_patches(model, "relu1", images, k=9, prepare=prepare)
    assert (top[BOX].to_numpy() > 12).any()  # "same" with stride 2 pads at the end
    cut = vis.crops(images[top.image], top)
    assert cut.shape == (36, 3, 3, 3) and cut.dtype == np.uint8
    padded = np.full((40, 14, 14, 3), 128, "uint8")
    padded[:, 1:13, 1:13] = images
    for patch, row in zip(cut, top.itertuples(), strict=True):
        whole = padded[row.image, row.top + 1 : row.bottom + 1, row.left + 1 : row.right + 1]
        np.testing.assert_array_equal(patch, whole)
        weights, bias = model.get_layer("conv1").get_weights()
        seen = prepare(patch.astype("float32"))
        seen[: max(-row.top, 0)] = seen[:, : max(-row.left, 0)] = 0
        seen[12 - row.top :] = seen[:, 12 - row.left :] = 0
        answer = (seen * weights[..., row.unit]).sum() + bias[row.unit]
        assert max(answer, 0) == pytest.approx(row.activation, rel=1e-4)


def test_crops_stick_out_on_any_side():
    image = np.arange(48.0).reshape(4, 4, 3)
    padded = np.pad(image, [(5, 5), (5, 5), (0, 0)], constant_values=0.5)
    for top, left in [(-2, -1), (2, 3), (-3, 3), (-5, -5), (-4, 0), (4, 4), (0, 0)]:
        boxes = pd.DataFrame([[top, left, top + 4, left + 3]], columns=BOX)
        (cut,) = vis.crops(image[None], boxes, fill=0.5)
        np.testing.assert_array_equal(cut, padded[top + 5 : top + 9, left + 5 : left + 8])


# Which units to show


def test_the_strongest_units_come_first_and_none_repeats_another():
    rows = [(unit, image, strength) for unit, strength, images in [
        (0, 1.0, [7, 8, 9]), (1, 3.0, [1, 2, 3]), (2, 2.0, [3, 4, 5]), (3, 0.5, [0, 6, 10])
    ] for image in images]  # fmt: skip
    top = pd.DataFrame(rows, columns=["unit", "image", "activation"])
    assert list(vis.strongest_units(top, 3).unit.unique()) == [1, 0, 3]  # 2 shares an image with 1
    assert list(vis.strongest_units(top, 1).unit) == [1, 1, 1]
    assert list(vis.strongest_units(top, 9).unit.unique()) == [1, 0, 3]


# Units that do nothing, or the same


def test_dead_and_faint_units_are_counted():
    model, images = small(8), prepare(photographs(70))
    weights, bias = model.get_layer("conv1").get_weights()
    bias[[1, 5]] = -100  # never above zero
    weights[..., 6] *= 1e-4
    bias[6] = 1e-5
    model.get_layer("conv1").set_weights([weights, bias])
    for layer in ("conv1", "relu1"):
        dead, faint = vis.dead_units(model, layer, images)
        assert list(np.flatnonzero(dead)) == [1, 5]
        assert list(np.flatnonzero(faint)) == [6]
    assert not vis.dead_units(model, "relu1", images, faint=1e-6)[1].any()
    # A unit that answers to a single image, in a later batch, is alive.
    rare = np.concatenate(
        [images, 1000 * np.sign(weights[None, ..., 1])[:, [0] * 12][..., [0] * 12, :]]
    )
    assert list(np.flatnonzero(vis.dead_units(model, "relu1", rare)[0])) == [5]


def test_duplicates_are_found_whatever_their_gain_and_offset():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(5, 5, 3, 10))
    kernel[..., 7] = 3 * kernel[..., 2] + 1
    kernel[..., 4] = kernel[..., 1] + 0.1 * kernel[..., 0]  # correlation 0.995
    kernel[..., 9] = -kernel[..., 3]  # opposite is not the same
    kernel[..., 8] = 0
    np.testing.assert_array_equal(vis.duplicate_units(kernel), [[2, 7], [1, 4]])
    np.testing.assert_array_equal(vis.duplicate_units(kernel, above=0.999), [[2, 7]])
    maps = np.maximum(rng.normal(size=(4, 6, 6, 10)), 0)
    assert vis.duplicate_units(maps).shape == (0, 2)
    maps[..., 5] = maps[..., 0]
    np.testing.assert_array_equal(vis.duplicate_units(maps), [[0, 5]])


# The figure


def test_patches_are_drawn_unit_by_unit():
    pictures = np.zeros((13, 4, 4, 3))
    pictures[:9], pictures[9:] = 0.25, np.linspace(0.5, 1, 4)[:, None, None, None]
    units = [30] * 9 + [7] * 4
    fig = vis.patches(pictures, units)
    shown = {ax.get_title("left"): np.asarray(ax.images[0].get_array()) for ax in fig.axes}
    assert list(shown) == ["30", "7"]
    assert shown["30"].shape == (14, 14, 3) and shown["7"].shape == (9, 9, 3)
    assert set(np.unique(shown["30"])) == {0.25, 1}  # 1: the white between them
    np.testing.assert_allclose(shown["7"][0, 0], 0.5)
    np.testing.assert_allclose(shown["7"][5, 0], 0.5 + 2 / 6)
    assert fig.get_figwidth() == 7 and not plt.get_fignums()


def test_photographs_may_stand_beside_projections():
    pictures, photos = np.full((9, 4, 4, 3), 0.25), np.full((9, 4, 4, 3), 51, "uint8")
    (ax,) = vis.patches(pictures, [3] * 9, beside=photos).axes
    block = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(block[0, 0], 0.25)
    np.testing.assert_allclose(block[0, -1], 0.2)
    (ax,) = vis.patches(pictures, [3] * 9).axes
    assert set(np.unique(np.asarray(ax.images[0].get_array()))) == {0.25, 1}


# What is refused


def test_messages_say_what_would_do():
    model, images = small(), prepare(photographs(3))
    for look in (vis.top_patches, vis.dead_units):
        with pytest.raises(ValueError, match=r"Did you mean 'relu1'.*maps: conv1, relu1"):
            look(model, "relu_1", images)
        with pytest.raises(ValueError, match=r"'fc' puts out \(2,\), not maps"):
            look(model, "fc", images)
        with pytest.raises(ValueError, match=r"\(n, 12, 12, 3\), got \(12, 12, 3\)"):
            look(model, "relu1", iter(images))  # not batches, but single images
        for none in (images[:0], []):
            with pytest.raises(ValueError, match="no image to look at"):
                look(model, "relu1", none)
    with pytest.raises(ValueError, match="from 0 to 3 in this layer"):
        vis.top_patches(model, "relu1", images, units=[4])
    nested = keras.Sequential([keras.Input((12, 12, 3)), model])
    with pytest.raises(ValueError, match="holds another model, 'net'"):
        vis.top_patches(nested, "net", images)


def test_crops_refuse_what_does_not_fit():
    boxes = pd.DataFrame([[0, 0, 3, 3], [0, 0, 3, 4]], columns=BOX)
    with pytest.raises(ValueError, match=r"1 images, 2 boxes.*images\[top.image\]"):
        vis.crops(np.zeros((1, 9, 9, 3)), boxes)
    with pytest.raises(ValueError, match="of 2 sizes"):
        vis.crops(np.zeros((2, 9, 9, 3)), boxes)
