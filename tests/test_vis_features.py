"""Feature visualisation: that pictures show what units answer to, and how they come about."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy.ndimage import gaussian_filter
from skimage.feature import match_template

from ilsvrc import data, vis
from ilsvrc.vis import features

MEAN, STD = [120, 110, 100], 50.0


def network(kernel, bias=0.0, side=32):
    """Return a network whose first layer is given, with a second one and three classes."""
    image = keras.Input((side, side, 3), name="image")
    x = layers.Conv2D(kernel.shape[-1], kernel.shape[0], name="conv1")(image)
    x = layers.ReLU(name="relu1")(x)
    x = layers.Conv2D(6, 3, strides=2, name="conv2")(x)
    x = layers.Flatten(name="flatten")(layers.Activation("relu", name="relu2")(x))
    model = keras.Model(image, layers.Dense(3, name="logits")(x), name="net")
    rng = np.random.default_rng(0)
    for weight in model.weights:
        spread = np.prod(weight.shape[:-1]) ** -0.5 if len(weight.shape) > 1 else 0
        weight.assign(spread * rng.normal(size=weight.shape))
    model.get_layer("conv1").set_weights([kernel, np.full(kernel.shape[-1], bias)])
    return model


@pytest.fixture(scope="module")
def net():
    kernel = np.random.default_rng(0).normal(size=(5, 5, 3, 4))
    kernel = gaussian_filter(kernel, (1, 1, 0, 0), mode="wrap")
    return network(0.5 * (kernel - kernel.mean((0, 1))))  # blind to even surfaces


def mean_activation(model, layer, pictures):
    """Return the units' means over their maps, (n, channels), of pictures from 0 to 1."""
    found = vis.activations(model, (255 * pictures - MEAN) / STD, layer)[layer]
    return found.mean(axis=tuple(range(1, found.ndim - 1)))


def inverse_sigmoid(pictures):
    pictures = np.asarray(pictures, "float64")
    return np.log(pictures / (1 - pictures))


# What the pictures show


@pytest.mark.parametrize(("layer", "seen"), [("conv1", "relu1"), ("relu2",) * 2, ("logits",) * 2])
def test_a_picture_excites_its_unit_more_than_any_photograph_does(net, layer, seen):
    temple = np.asarray(data.open_photograph("temple").resize((320, 192)), "float32") / 255
    crops = [temple[y : y + 32, x : x + 32] for y in range(0, 192, 32) for x in range(0, 320, 32)]
    pictures, climb = vis.feature_visualisation(net, layer, [2, 0], MEAN, STD, steps=48)
    assert pictures.shape == (2, 32, 32, 3) and climb.shape == (48, 2)
    assert pictures.min() >= 0 and pictures.max() <= 1
    best = mean_activation(net, seen, np.stack(crops)).max(0)[[2, 0]]
    own = mean_activation(net, seen, pictures)[[0, 1], [2, 0]]
    assert (own > 1.5 * best).all(), (own, best)
    assert (own > 10 * abs(climb[0])).all(), (own, climb[0])
    assert (climb[-8:].mean(0) > climb[:8].mean(0)).all()


def planted():
    """Return two filters of 9 x 9: slanted stripes in grey, and upright ones in red and cyan."""
    y, x = np.mgrid[-4:5, -4:5]
    slanted = np.cos(2 * np.pi * (x + y) / 8)[..., None] * np.ones(3)
    upright = np.cos(2 * np.pi * x / 9)[..., None] * np.array([1, -0.5, -0.5])
    kernel = np.stack([slanted - slanted.mean(), upright], axis=-1)
    return kernel / np.sqrt((kernel**2).sum((0, 1, 2)))


def test_a_picture_shows_the_filter_that_was_planted():
    kernel = planted()
    pictures, _ = vis.feature_visualisation(network(kernel, side=48), "conv1", [0, 1], MEAN, STD)
    for i, j in [(0, 0), (1, 1), (0, 1), (1, 0)]:
        likeness = match_template(pictures[i], kernel[..., j]).max()  # at the best place
        assert likeness > 0.8 if i == j else likeness < 0.6, (i, j, likeness)


@pytest.mark.parametrize("layer", ["conv1", "relu1"])
def test_a_unit_that_never_fired_finds_its_way(layer):
    model = network(0.5 * planted(), bias=-2.0)
    start, _ = vis.feature_visualisation(model, layer, [0, 1], MEAN, STD, steps=0)
    end, _ = vis.feature_visualisation(model, layer, [0, 1], MEAN, STD, steps=48)
    assert (mean_activation(model, "relu1", start) == 0).all()
    assert (mean_activation(model, "relu1", end).diagonal() > 0.1).all()


# How they come about


def test_without_any_help_it_is_gradient_ascent_on_pixels():
    kernel = np.random.default_rng(3).normal(size=(3, 3, 3, 2))
    model, plain = network(kernel, bias=100.0, side=8), dict.fromkeys(
        ["fourier", "colours", "transforms"], False
    )  # fmt: skip
    start, _ = vis.feature_visualisation(model, "conv1", [1], MEAN, STD, steps=0, **plain)
    end, climb = vis.feature_visualisation(model, "conv1", [1], MEAN, STD, steps=1, **plain)
    np.testing.assert_allclose(climb[0], mean_activation(model, "conv1", start)[:, 1], rtol=1e-5)
    gradient = np.zeros((8, 8, 3))
    for y in range(6):
        for x in range(6):
            gradient[y : y + 3, x : x + 3] += kernel[..., 1] / 36
    gradient = gradient * 255 / STD * start[0] * (1 - start[0])
    step = features.LENGTH * gradient / np.sqrt((gradient**2).mean())
    by_hand = 1 / (1 + np.exp(-(inverse_sigmoid(start[0]) + step)))
    np.testing.assert_allclose(end[0], by_hand, atol=1e-5)


def slope(pictures):
    """Return the exponent with which amplitudes change with frequency."""
    waves = np.abs(np.fft.fft2(inverse_sigmoid(pictures), axes=(1, 2))).mean((0, 3))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    band = (frequency > 1.5 / 64) & (frequency < 0.5)
    return np.polyfit(np.log(frequency[band]), np.log(waves[band]), 1)[0]


def test_the_start_has_the_spectrum_of_photographs():
    model = network(planted(), side=64)
    for fourier, exponent in [(True, -1), (False, 0)]:
        start, _ = vis.feature_visualisation(
            model, "conv2", range(6), MEAN, STD, steps=0, fourier=fourier
        )
        assert slope(start) == pytest.approx(exponent, abs=0.05)


def test_the_start_has_the_colours_of_photographs(net):
    found = {}
    for colours in (True, False):
        start, _ = vis.feature_visualisation(
            net, "conv2", range(6), MEAN, STD, steps=0, fourier=False, colours=colours
        )
        found[colours] = np.cov(inverse_sigmoid(start).reshape(-1, 3).T)
    expected = features.COLOURS @ features.COLOURS.T
    np.testing.assert_allclose(
        found[True] / np.trace(found[True]), expected / np.trace(expected), atol=0.01
    )
    np.testing.assert_allclose(found[False] / np.trace(found[False]), np.eye(3) / 3, atol=0.01)
    assert np.trace(found[True]) == pytest.approx(np.trace(found[False]), rel=0.05)


def test_a_picture_does_not_depend_on_the_others_and_repeats_by_its_seed(net, monkeypatch):
    def run(units, seed=0, steps=8):
        return vis.feature_visualisation(net, "conv2", units, MEAN, STD, steps=steps, seed=seed)

    pictures, climb = run([3, 1])
    for i, unit in enumerate([3, 1]):
        alone, alone_climb = run([unit])
        np.testing.assert_allclose(pictures[i], alone[0], atol=1e-3)
        np.testing.assert_allclose(climb[:, i], alone_climb[:, 0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(run([3])[0][0], pictures[0], atol=1e-3)
    starts, others = run([3, 1], steps=0)[0], run([3, 1], steps=0, seed=1)[0]
    assert abs(starts[0] - starts[1]).max() > 1e-3 and abs(starts - others).max() > 1e-3
    monkeypatch.setattr(features, "_noise", lambda seed, unit, side: np.ones((side, side, 3)))
    assert abs(run([3], seed=1)[0] - run([3], seed=0)[0]).max() > 0.01  # by its views alone


def test_the_fourier_basis_is_orthogonal_and_ordered_by_frequency():
    for side in (8, 9):
        basis, strength = features.fourier_basis(side)
        np.testing.assert_allclose(basis.T @ basis, np.eye(side), atol=1e-12)
        waves = abs(np.fft.rfft(basis, axis=0)).argmax(0)
        assert waves.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4][:side]
        assert (strength**2).mean() == pytest.approx(1)
        np.testing.assert_allclose(strength[1, 0] / strength[[1, 3], 0], [1, 2**0.5])
        assert strength[5, 7] / strength[7, 5] == pytest.approx(1)


def look(pictures, view):
    view = ops.convert_to_tensor(np.asarray(view, "float32"))
    return ops.convert_to_numpy(features.sample(ops.convert_to_tensor(pictures), view))


def test_a_view_is_shifted_turned_and_scaled():
    pictures = np.random.default_rng(0).uniform(size=(2, 9, 9, 3)).astype("float32")
    np.testing.assert_array_equal(look(pictures, np.eye(2, 3)), pictures)
    shifted = look(pictures, [[1, 0, 2], [0, 1, -3]])
    np.testing.assert_allclose(shifted, np.roll(pictures, (-2, 3), (1, 2)), atol=1e-6)
    turned = look(pictures, [[0, -1, 0], [1, 0, 0]])
    np.testing.assert_allclose(turned, np.rot90(pictures, -1, (1, 2)), atol=1e-6)
    between = look(pictures, [[1, 0, 0.5], [0, 1, 0]])
    np.testing.assert_allclose(between, (pictures + np.roll(pictures, -1, 1)) / 2, atol=1e-6)
    smaller = look(pictures, [[2, 0, 0], [0, 2, 0]])
    np.testing.assert_allclose(smaller[:, 4:7, 4:7], pictures[:, 4:9:2, 4:9:2], atol=1e-6)


def test_views_vary_within_their_bounds():
    rng = np.random.default_rng(0)
    views = np.stack([features.random_view(rng, 64) for _ in range(500)])
    scale = np.sqrt(np.linalg.det(views[:, :, :2]))
    angle = np.rad2deg(np.arctan2(views[:, 1, 0], views[:, 0, 0]))
    bounds = [(scale, 0.8, 1.2), (angle, -15, 15), (views[:, 0, 2], -8, 8), (views[:, 1, 2], -8, 8)]
    for values, low, high in bounds:
        margin = (high - low) / 20
        assert low <= values.min() < low + margin and high - margin < values.max() <= high
    np.testing.assert_allclose(views[:, 0, 0], views[:, 1, 1])


def test_the_ablation_adds_one_help_at_a_time():
    task = (network(planted(), side=12), "conv1", [1, 0], MEAN, STD)
    starts = vis.feature_ablation(*task, steps=0)
    assert list(starts) == ["pixels", "+ frequencies", "+ colours", "+ transforms"]
    for kind, fourier, colours in [("pixels", 0, 0), ("+ frequencies", 1, 0), ("+ colours", 1, 1)]:
        start, _ = vis.feature_visualisation(*task, steps=0, fourier=fourier, colours=colours)
        np.testing.assert_array_equal(starts[kind], start)
    ends = vis.feature_ablation(*task, steps=2, seed=3)
    with_all, _ = vis.feature_visualisation(*task, steps=2, seed=3)
    np.testing.assert_allclose(ends["+ transforms"], with_all, atol=1e-3)
    assert abs(ends["+ transforms"] - ends["+ colours"]).max() > 0.01


def test_what_does_not_fit_is_refused(net):
    with pytest.raises(ValueError, match=r"Did you mean 'conv1'"):
        vis.feature_visualisation(net, "conv_1", [0], MEAN, STD)
    with pytest.raises(ValueError, match=r"from 0 to 5 in this layer"):
        vis.feature_visualisation(net, "conv2", [6], MEAN, STD)
    grey = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3, name="conv1")])
    with pytest.raises(ValueError, match=r"\(8, 8, 1\).*3 colours"):
        vis.feature_visualisation(grey, "conv1", [0], MEAN, STD)
    nested = keras.Sequential([keras.Input((32, 32, 3)), net])
    with pytest.raises(ValueError, match=r"get_layer\('net'\)"):
        vis.feature_visualisation(nested, "conv1", [0], MEAN, STD)


def test_a_gallery_shows_the_pictures_in_order_with_their_titles():
    pictures = np.random.default_rng(0).uniform(size=(5, 6, 6, 3))
    fig = vis.gallery(pictures, ["a", "b", "", "d", "e"], columns=3)
    shown = [ax for ax in fig.axes if ax.images]
    for ax, picture, title in zip(shown, pictures, ["a", "b", "", "d", "e"], strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), picture)
        assert ax.get_title("center") == title
    rows = [round(ax.get_position().y0, 3) for ax in shown]
    assert rows[0] == rows[2] > rows[3]
    with pytest.raises(ValueError, match="5 pictures"):
        vis.gallery(pictures, ["a"])
