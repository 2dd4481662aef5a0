"""Augmentation by what it means: where crops come from, what colours shift, what a test view is."""

import keras
import numpy as np
import pytest
from PIL import Image

from ilsvrc import augment, backend

EIGENVALUES = np.array([0.2, 0.02, 0.004], "float32")
EIGENVECTORS = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0].astype("float32")
ALL = {
    "centre": lambda: augment.CentreCrop(8),
    "crop": lambda: augment.RandomCrop(8),
    "resized": lambda: augment.RandomResizedCrop(8, scale=(0.2, 0.9)),
    "jitter": lambda: augment.ScaleJitter(8, 9, 16),
    "flip": lambda: augment.RandomFlip(),
    "colour": lambda: augment.PCAColour(EIGENVALUES, EIGENVECTORS),
    "normalise": lambda: augment.Normalise([1, 2, 3], 58),
}


@pytest.fixture(autouse=True)
def same_draws():
    keras.utils.set_random_seed(11)


def numbered(count, height, width):
    """Return images whose every pixel says which image, row and column it is."""
    place = np.stack(np.meshgrid(*map(np.arange, (count, height, width)), indexing="ij"), -1)
    return place.astype("uint8")


def noise(count, height, width):
    return np.random.default_rng(3).integers(0, 256, (count, height, width, 3), "uint8")


def smooth(count, height, width):
    small = np.random.default_rng(4).integers(0, 256, (count, 5, 5, 3), "uint8")
    return np.stack([np.asarray(Image.fromarray(i).resize((width, height))) for i in small])


def run(layer, images, **options):
    return keras.ops.convert_to_numpy(layer(images, **options))


def pillow(image, size, box):
    """Return Pillow's own resizing of a window, without its rounding to whole grey levels."""
    colours = [Image.fromarray(image[..., c].astype("float32")) for c in range(3)]
    return np.stack([c.resize((size, size), Image.BILINEAR, box) for c in colours], axis=-1)


def tiny(size=8, outputs=1):
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(4, 3, name="conv1")(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    heads = [keras.layers.Dense(5, name=f"head{i}")(x) for i in range(outputs)]
    return keras.Model(inputs, heads if outputs > 1 else heads[0], name="tiny")


def test_random_crops_are_windows_of_their_image_each_at_its_own_place():
    images = numbered(200, 12, 14)
    crops = run(augment.RandomCrop(8), images, training=True)
    assert crops.dtype == "float32" and crops.shape == (200, 8, 8, 3)
    tops, lefts = crops[:, 0, 0, 1].astype(int), crops[:, 0, 0, 2].astype(int)
    for b, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        np.testing.assert_array_equal(crops[b], images[b, top : top + 8, left : left + 8])
    assert set(tops) == set(range(5)) and set(lefts) == set(range(7))
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.3


def test_one_place_for_the_whole_batch_would_be_noticed():
    crops = keras.layers.RandomCrop(8, 8)(numbered(16, 12, 14), training=True)
    assert len(np.unique(keras.ops.convert_to_numpy(crops)[:, 0, 0, 1])) == 1
    crops = run(augment.RandomCrop(8), numbered(16, 12, 14), training=True)
    assert len(np.unique(crops[:, 0, 0, 1])) > 1


def test_at_test_time_a_crop_is_the_centre_to_the_pixel():
    images = noise(3, 13, 12)
    centre = images[:, 2:10, 2:10]
    np.testing.assert_array_equal(run(augment.RandomCrop(8), images), centre)
    np.testing.assert_array_equal(run(augment.CentreCrop(8), images, training=True), centre)


def test_half_of_the_images_are_mirrored_left_to_right():
    images = noise(400, 3, 4)
    out = run(augment.RandomFlip(), images, training=True)
    mirrored = (out == images[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (out == images).all((1, 2, 3))).all()
    assert 160 < mirrored.sum() < 240
    np.testing.assert_array_equal(run(augment.RandomFlip(), images), images)


@pytest.mark.parametrize("size", [16, 64, 224])
def test_stored_images_give_their_central_pixels_at_test_time(size):
    images = noise(2, round(size * 256 / 224), round(size * 256 / 224))
    out = run(augment.RandomResizedCrop(size), images)
    np.testing.assert_array_equal(out, run(augment.CentreCrop(size), images))


@pytest.mark.parametrize("height, width, size", [(40, 60, 16), (20, 16, 24), (33, 33, 32)])
def test_resizing_is_pillows(height, width, size):
    images = noise(2, height, width)
    side = round(min(height, width) * 224 / 256)
    top, left = (height - side) // 2, (width - side) // 2
    out = run(augment.RandomResizedCrop(size), images)
    for image, mine in zip(images, out, strict=True):
        box = (left, top, left + side, top + side)
        assert np.abs(pillow(image, size, box) - mine).max() < 0.01
        plain = Image.fromarray(image).crop(box).resize((size, size), Image.NEAREST)
        assert np.abs(np.asarray(plain, "float32") - mine).max() > 10


def edges(out):
    """Return top, bottom, left, right of the windows that were resized from `numbered` images."""
    n = out.shape[1]
    sides = []
    for axis in (1, 2):
        line = out[..., axis].mean(axis=3 - axis)  # along rows, then along columns
        step = (line[:, -3] - line[:, 2]) / (n - 5)
        sides += [line[:, 2] + 0.5 - 2.5 * step, line[:, -3] + 0.5 + 2.5 * step]
    return sides


def test_resized_crops_have_the_papers_areas_and_ratios():
    images = numbered(250, 60, 80)
    out = run(augment.RandomResizedCrop(16), images, training=True)
    top, bottom, left, right = edges(out)
    area = (bottom - top) * (right - left) / (60 * 80)
    ratio = (right - left) / (bottom - top)
    assert 0.07 < area.min() < 0.13 and 0.9 < area.max() < 1.02
    assert 0.49 < area.mean() < 0.59  # evenly from 0.08 to 1: 0.54
    assert 0.74 < ratio.min() < 0.8 and 1.25 < ratio.max() < 1.35
    assert top.min() > -0.1 and left.min() > -0.1 and bottom.max() < 60.1 and right.max() < 80.1
    places = np.stack([top / (60 - bottom + top), left / (80 - right + left)])[:, area < 0.7]
    assert np.abs(places.mean(axis=1) - 0.5).max() < 0.1
    assert np.abs(np.corrcoef(places)[0, 1]) < 0.3


def test_resized_crops_are_pillows_of_that_window():
    images, layer = smooth(4, 40, 60), augment.RandomResizedCrop(12)
    net = keras.Sequential([layer])
    backend.reseed(net, 3)
    out = run(layer, images, training=True)
    backend.reseed(net, 3)
    boxes = edges(run(layer, numbered(4, 40, 60), training=True))
    for image, mine, top, bottom, left, right in zip(images, out, *boxes, strict=True):
        box = (max(left, 0), max(top, 0), min(right, 60), min(bottom, 40))
        assert np.abs(pillow(image, 12, box) - mine).max() < 3  # of a range of 200


def test_wide_images_still_give_windows_inside():
    out = run(augment.RandomResizedCrop(8, scale=(0.9, 1)), noise(50, 20, 80), training=True)
    assert np.isfinite(out).all() and out.min() >= 0 and out.max() <= 255


def test_scale_jitter_draws_scales_and_keeps_shapes():
    out = run(augment.ScaleJitter(16, 16, 32), numbered(250, 64, 96), training=True)
    top, bottom, left, right = edges(out)
    np.testing.assert_allclose(bottom - top, right - left, rtol=0.01)
    sides = 64 * 16 / (bottom - top)
    assert 15.9 < sides.min() < 17 and 31 < sides.max() < 32.1
    assert 23 < sides.mean() < 25
    assert top.min() > -0.1 and bottom.max() < 64.1 and right.max() < 96.1
    inside = sides > 20  # a window of all 64 rows lies in one place only
    rest = np.stack([64 - bottom + top, 96 - right + left])[:, inside]
    assert np.abs(np.corrcoef(np.stack([top, left])[:, inside] / rest)[0, 1]) < 0.3


def test_scale_jitter_tests_midway():
    images = smooth(2, 48, 48)
    out = run(augment.ScaleJitter(16, 16, 32), images)  # resized to 24, the central 16
    for image, mine in zip(images, out, strict=True):
        assert np.abs(pillow(image, 24, (0, 0, 48, 48))[4:20, 4:20] - mine).max() < 0.01


@pytest.mark.parametrize("name", ["crop", "resized", "jitter"])
def test_images_of_the_networks_size_stay_as_they_are_at_test_time(name):
    images = noise(2, 8, 8)
    np.testing.assert_array_equal(run(ALL[name](), images), images)


def test_colour_shifts_lie_along_the_eigenvectors_with_the_papers_spread():
    images = noise(3000, 2, 2)
    out = run(augment.PCAColour(EIGENVALUES, EIGENVECTORS), images, training=True)
    shift = out - images
    assert np.abs(shift - shift[:, :1, :1]).max() < 1e-3  # one colour for the whole image
    along = shift[:, 0, 0] @ EIGENVECTORS
    np.testing.assert_allclose(along.std(axis=0), 255 * 0.1 * EIGENVALUES, rtol=0.07)
    assert np.abs(along.mean(axis=0) / along.std(axis=0)).max() < 0.1
    assert np.abs(np.corrcoef(along.T) - np.eye(3)).max() < 0.1
    np.testing.assert_array_equal(run(augment.PCAColour(EIGENVALUES, EIGENVECTORS), images), images)


def test_colour_directions_are_those_of_the_images():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(40, 32, 32, 3)) * np.sqrt(EIGENVALUES) * 255 / 4
    images = 120 + scores @ EIGENVECTORS.T
    values, vectors = augment.pca_colour(images)
    np.testing.assert_allclose(values, EIGENVALUES / 16, rtol=0.1)
    np.testing.assert_allclose(np.abs((vectors * EIGENVECTORS).sum(axis=0)), 1, atol=0.01)


@pytest.mark.parametrize("scale", [1, 0.3])  # 0.3: what a layer may get from the one before
@pytest.mark.parametrize("name", ALL)
def test_half_precision_leaves_256_grey_levels_apart(name, scale):
    levels = np.arange(256, dtype="uint8").repeat(64 * 3).reshape(256, 8, 8, 3)
    levels = levels if scale == 1 else levels * np.float32(scale)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        out = ALL[name]()(levels)
        halved = keras.layers.Rescaling(1 / 255)(levels)
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(out.dtype) == "float32"
    assert len(np.unique(keras.ops.convert_to_numpy(out)[:, 4, 4, 0])) == 256
    halved = keras.ops.convert_to_numpy(keras.ops.cast(halved, "float32"))
    assert len(np.unique(halved[:, 4, 4, 0])) < 256  # what this test is there to notice


def test_normalise_takes_numbers_colours_and_mean_images():
    images = noise(2, 4, 4)
    for mean in (100, [1, 2, 3], np.random.default_rng(0).uniform(0, 255, (4, 4, 3))):
        out = run(augment.Normalise(mean, 58), images, training=True)
        np.testing.assert_allclose(out, (images.astype(float) - mean) / 58, atol=1e-5)


def test_the_same_seed_gives_the_same_images():
    images = noise(8, 12, 12)
    net = augment.before(
        tiny(), *(ALL[name]() for name in ("crop", "flip", "colour")), input_size=12
    )

    def drawn(number):
        backend.reseed(net, number)
        x = images
        for layer in net.layers[1:4]:
            x = layer(x, training=True)
        return keras.ops.convert_to_numpy(x)

    np.testing.assert_array_equal(drawn(1), drawn(1))
    assert np.abs(drawn(1) - drawn(2)).max() > 1


def test_network_behind_its_images_trains_inside_fit():
    model = tiny()
    net = augment.before(
        model,
        augment.RandomCrop(8),
        augment.RandomFlip(),
        augment.PCAColour(EIGENVALUES, EIGENVECTORS),
        augment.Normalise(120, 58),
        input_size=12,
    )
    images, labels = noise(32, 12, 12), np.arange(32) % 5
    images[..., 0] = 50 * labels[:, None, None]  # redness tells the class
    net.compile(
        keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    before = model.get_layer("conv1").get_weights()[0].copy()
    history = net.fit(images, labels, batch_size=16, epochs=12, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert np.abs(model.get_layer("conv1").get_weights()[0] - before).max() > 0
    np.testing.assert_allclose(
        net.predict(images, verbose=0),
        model.predict(augment.prepare(net, images), verbose=0),
        atol=1e-4,
    )
    # what `prepare` makes is what the network saw, at test time: the central crop, normalised
    expected = (images[:, 2:10, 2:10].astype("float32") - 120) / 58
    np.testing.assert_allclose(augment.prepare(net, images, batch=5), expected, atol=1e-5)
    assert model.get_layer("conv1").output.shape == (None, 6, 6, 4)  # still open to look into


def test_every_epoch_sees_other_crops_without_another_trace():
    seen, traces = [], []

    class Spy(keras.layers.Layer):
        def call(self, x):
            traces.append(1)
            return x

    inputs = keras.Input((4, 4, 3))
    x = keras.layers.GlobalAveragePooling2D()(Spy()(inputs))
    net = augment.before(keras.Model(inputs, x), augment.RandomCrop(4), input_size=40)
    net.compile(keras.optimizers.SGD(0.0), "mse")
    images = np.zeros((4, 40, 40, 3), "uint8") + np.arange(40, dtype="uint8")[:, None, None]
    traces.clear()
    for _ in range(5):
        seen.append(net.fit(images, np.zeros((4, 3)), epochs=1, verbose=0).history["loss"][0])
    assert len(set(seen)) > 1
    assert len(traces) <= 3


def test_several_outputs_keep_their_names_and_losses():
    net = augment.before(tiny(outputs=2), augment.CentreCrop(8), augment.Normalise(0, 255))
    assert net.output_names == ["head0", "head1"]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile("sgd", [loss, loss], loss_weights=[1, 0.3])
    labels = np.arange(6) % 5
    history = net.fit(noise(6, 9, 11), [labels, labels], epochs=1, verbose=0).history
    assert {"head0_loss", "head1_loss"} <= set(history)
    assert augment.predict_views(net, noise(6, 9, 11), "five").shape == (6, 5)


def test_saved_with_its_images_a_network_comes_back_the_same(tmp_path):
    layers = [ALL[name]() for name in ("crop", "resized", "jitter", "flip", "colour", "centre")]
    net = augment.before(tiny(), *layers, augment.Normalise([1, 2, 3], 58))
    net.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    images = noise(3, 20, 24)
    np.testing.assert_allclose(
        again.predict(images, verbose=0), net.predict(images, verbose=0), atol=1e-4
    )
    for one, other in zip(net.layers, again.layers, strict=True):
        if not isinstance(one, keras.Model):
            assert one.get_config() == other.get_config()


def test_views_are_corners_and_centre_then_their_mirrors():
    images = noise(2, 11, 14)
    ten = augment.views(images, 8, "ten")
    corners = [(0, 0), (0, 6), (3, 0), (3, 6), (1, 3)]
    assert ten.shape == (10, 2, 8, 8, 3) and ten.dtype == "uint8"
    for view, (top, left) in enumerate(corners):
        cut = images[:, top : top + 8, left : left + 8]
        np.testing.assert_array_equal(ten[view], cut)
        np.testing.assert_array_equal(ten[view + 5], cut[:, :, ::-1])
    np.testing.assert_array_equal(augment.views(images, 8, "five"), ten[:5])
    np.testing.assert_array_equal(augment.views(images, 8, "centre"), ten[4:5])


@pytest.mark.parametrize("softmax", [False, True])
def test_views_are_averaged_as_probabilities(softmax):
    model = tiny()
    model.set_weights([5 * np.random.default_rng(1).normal(size=w.shape) for w in model.weights])
    if softmax:
        model = keras.Model(model.input, keras.layers.Softmax(name="p")(model.output))
    net = augment.before(model, augment.RandomCrop(8), augment.Normalise(120, 58), input_size=12)
    images = noise(7, 12, 12)
    cut = (augment.views(images, 8, "ten").astype("float32") - 120) / 58
    each = [keras.ops.convert_to_numpy(model(view)) for view in cut]
    soft = each if softmax else [np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in each]
    for batch in (4, 25):  # the views of one image at a time, of two
        out = augment.predict_views(net, images, "ten", batch=batch)
        np.testing.assert_allclose(out, np.mean(soft, axis=0), atol=1e-4)
    np.testing.assert_allclose(out.sum(axis=-1), 1, atol=1e-5)
    logits = np.mean(each, axis=0)
    other = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert np.abs(out - other).max() > 0.01  # the softmax of mean logits is another thing
    one = augment.predict_views(net, images, "centre")
    np.testing.assert_allclose(one, soft[4], atol=1e-4)


@pytest.mark.parametrize(
    "what, message",
    [
        (lambda: augment.RandomCrop(9)(noise(2, 8, 12)), "9 px does not fit"),
        (lambda: augment.RandomCrop(9)(noise(2, 8, 12), training=True), "9 px does not fit"),
        (lambda: augment.CentreCrop(4)(noise(2, 8, 8)[0]), r"image\[None\]"),
        (lambda: augment.RandomFlip()(noise(2, 8, 8)[..., :1]), "colour images"),
        (lambda: augment.PCAColour([1, 2], EIGENVECTORS), "pca_colour"),
        (lambda: augment.ScaleJitter(224, 200, 256), "size <= low <= high"),
        (lambda: augment.RandomResizedCrop(8, scale=(8, 100)), "fractions"),
        (lambda: augment.RandomResizedCrop(8, ratio=(2, 1)), "ratios"),
        (lambda: augment.Normalise(0, 0), "above 0"),
        (lambda: augment.views(noise(1, 9, 9), 8, "twelve"), "'centre', 'five' or 'ten'"),
        (lambda: augment.views(noise(1, 9, 9), 10, "ten"), "10 px does not fit"),
        (lambda: augment.before(tiny(), augment.RandomCrop(7)), "CentreCrop"),
        (lambda: augment.before(tiny(), augment.RandomCrop(8), input_size=7), "does not fit"),
        (lambda: augment.before(tiny(), augment.RandomFlip(), input_size=9), "CentreCrop"),
        (lambda: augment.prepare(tiny(), noise(1, 8, 8)), "augment.before"),
    ],
)
def test_errors_say_what_to_do(what, message):
    with pytest.raises(ValueError, match=message):
        what()
