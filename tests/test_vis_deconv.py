"""The deconvnet and guided backpropagation equal loops written by hand, and nothing else."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from ilsvrc import vis

RULES = {  # at a ReLU: its own input, and the signal from above
    "deconvnet": lambda x, signal: np.maximum(signal, 0),
    "guided": lambda x, signal: np.maximum(signal, 0) * (x > 0),
    "gradient": lambda x, signal: signal * (x > 0),
    "no rectification": lambda x, signal: signal,
    "wrong sign": lambda x, signal: np.minimum(signal, 0),
}


class LocalResponseNorm(layers.Layer):
    """Strong enough to move a unit's strongest place."""

    def call(self, x):
        return x / (0.1 + ops.sum(ops.square(x), axis=-1, keepdims=True))


def network(pool=2, norm=False, inside=False, shared=False):
    """Two convolutions with ReLUs, a pooling between them; every weight random."""
    relu = layers.ReLU(name="relu")
    image = keras.Input((9, 9, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu" if inside else None, name="conv1")(image)
    if not inside:
        x = relu(x) if shared else layers.Activation("relu", name="relu1")(x)
    x = LocalResponseNorm(name="norm1")(x) if norm else x
    x = layers.Dropout(0.5, name="drop1")(layers.MaxPooling2D(pool, 2, name="pool1")(x))
    x = layers.Conv2D(5, 2, activation="relu" if inside else None, name="conv2")(x)
    if not inside:
        x = relu(x) if shared else layers.ReLU(name="relu2")(x)
    x = layers.Dense(3, name="fc")(layers.Flatten(name="flatten")(x))
    model = keras.Model(image, x, name="net")
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.5, w.shape) for w in model.get_weights()])
    model.get_layer("conv1").bias.assign(np.full(4, -3))  # many windows are zero all over
    model.get_layer("conv2").bias.assign(np.full(5, 0.5))  # every unit answers somewhere
    return model


def photographs(n=3):
    return np.random.default_rng(1).normal(size=(n, 9, 9, 3)).astype("float32")


def project_by_hand(model, image, unit, rule, pool=2, norm=False, corner=False):
    """One image up to relu2 and the unit's strongest activation down again, in loops."""
    first, bias1, second, bias2 = (w.astype(float) for w in model.get_weights()[:4])

    def convolve(x, kernel, bias):
        size = kernel.shape[0]
        y = np.zeros((len(x) - size + 1, len(x) - size + 1, kernel.shape[-1]))
        for i, j, k in np.ndindex(y.shape):
            y[i, j, k] = (x[i : i + size, j : j + size] * kernel[..., k]).sum() + bias[k]
        return y

    def transposed(signal, kernel, shape):
        size, down = kernel.shape[0], np.zeros(shape)
        for i, j, k in np.ndindex(signal.shape):
            down[i : i + size, j : j + size] += signal[i, j, k] * kernel[..., k]
        return down

    conv1 = convolve(image.astype(float), first, bias1)
    relu1 = np.maximum(conv1, 0)
    maps = relu1 / (0.1 + (relu1**2).sum(-1, keepdims=True)) if norm else relu1
    side = (len(maps) - pool) // 2 + 1
    pooled, switches = np.zeros((side, side, maps.shape[-1])), {}
    for i, j, k in np.ndindex(pooled.shape):
        window = maps[2 * i : 2 * i + pool, 2 * j : 2 * j + pool, k]
        y, x = np.unravel_index(window.argmax(), window.shape)
        pooled[i, j, k] = window[y, x]
        switches[i, j, k] = (2 * i, 2 * j, k) if corner else (2 * i + y, 2 * j + x, k)
    conv2 = convolve(pooled, second, bias2)
    relu2 = np.maximum(conv2, 0)

    strongest = np.unravel_index(relu2[..., unit].argmax(), relu2.shape[:2])
    signal = np.zeros_like(relu2)
    signal[strongest][unit] = relu2[strongest][unit]
    signal = transposed(rule(conv2, signal), second, pooled.shape)
    unpooled = np.zeros_like(relu1)
    for place, switch in switches.items():
        unpooled[switch] += signal[place]
    return transposed(rule(conv1, unpooled), first, image.shape)


def distance(a, b):
    return np.abs(a - b).max() / np.abs(a).max()


@pytest.mark.parametrize(("pool", "norm"), [(2, False), (3, True)])
@pytest.mark.parametrize(
    ("function", "name"), [(vis.deconvnet, "deconvnet"), (vis.guided_backprop, "guided")]
)
def test_projections_equal_loops_and_no_planted_mistake(function, name, pool, norm):
    model, images, units = network(pool, norm), photographs(), [3, 0, 4]
    projected = function(model, images, "relu2", units)
    assert projected.shape == images.shape

    def by_hand(rule, norm=norm, corner=False):
        pairs = zip(images, units, strict=True)
        return np.stack([project_by_hand(model, *p, rule, pool, norm, corner) for p in pairs])

    assert distance(projected, by_hand(RULES[name])) < 1e-5
    for other in RULES:
        if other != name:
            assert distance(projected, by_hand(RULES[other])) > 0.1, other
    assert distance(projected, by_hand(RULES[name], corner=True)) > 0.1
    assert not norm or distance(projected, by_hand(RULES[name], norm=False)) > 0.1


def test_one_activation_is_kept_and_the_others_are_zeroed():
    model, images = network(), photographs(1)
    top = vis.top_patches(model, "relu2", images, k=1, units=[3])
    seen = np.zeros((9, 9), bool)
    seen[top.top[0] : top.bottom[0], top.left[0] : top.right[0]] = True
    projected = vis.deconvnet(model, images, "relu2", 3)[0]
    assert 0 < seen.sum() < seen.size
    assert np.abs(projected[seen]).min(-1).max() > 0
    assert not projected[~seen].any()


def test_the_projection_grows_with_the_activation():
    model, images = network(), photographs()
    model.get_layer("conv1").bias.assign(np.zeros(4))
    model.get_layer("conv2").bias.assign(np.zeros(5))
    one, three = (vis.deconvnet(model, f * images, "relu2", 3) for f in (1, 3))
    np.testing.assert_allclose(three, 3 * one, rtol=1e-4, atol=1e-5)


def test_a_relu_may_sit_in_a_convolution_or_serve_twice():
    plain = vis.deconvnet(network(), photographs(), "relu2", 3)
    inside = vis.deconvnet(network(inside=True), photographs(), "conv2", 3)
    shared = network(shared=True)
    last = keras.Model(shared.inputs, shared.get_layer("fc").output)
    above = layers.Identity(name="above")(shared.get_layer("flatten").input)
    shared = vis.deconvnet(keras.Model(last.inputs, above), photographs(), "above", 3)
    np.testing.assert_allclose(inside, plain, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(shared, plain, rtol=1e-4, atol=1e-6)


def test_before_its_relu_a_unit_projects_as_after_it_and_a_silent_one_not_at_all():
    model = network()
    before, after = (vis.deconvnet(model, photographs(), n, 1) for n in ("conv2", "relu2"))
    np.testing.assert_allclose(before, after, rtol=1e-4, atol=1e-6)
    assert after.any()
    model.get_layer("conv2").bias.assign(np.full(5, -100))
    assert not vis.deconvnet(model, photographs(), "conv2", 1).any()


def test_many_images_go_in_parts_each_with_its_own_unit():
    model, images, units = network(), photographs(70), np.arange(70) % 5
    together = vis.deconvnet(model, images, "relu2", units)
    some = [0, 31, 32, 69]
    alone = vis.deconvnet(model, images[some], "relu2", units[some])
    np.testing.assert_allclose(together[some], alone, rtol=1e-4, atol=1e-6)


def test_the_model_is_left_as_it_was():
    model, images = network(norm=True), photographs()

    def state():
        nodes = [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in model.layers]
        return nodes, [x.name for x in model.layers], [id(x.output) for x in model.layers]

    before, answers, weights = state(), model.predict(images, verbose=0), model.get_weights()
    vis.deconvnet(model, images, "relu2", 3)
    vis.guided_backprop(model, images, "norm1", 3)
    assert state() == before
    np.testing.assert_array_equal(model.predict(images, verbose=0), answers)
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_batch_norm_keeps_its_statistics():
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(2, 3, use_bias=False, name="conv")(image)
    x = layers.BatchNormalization(epsilon=0, name="bn")(x)
    model = keras.Model(image, layers.ReLU(name="relu")(x))
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 3, 2))
    scale, offset, mean, variance = [2, 3], [9, 9], [0.5, -0.5], [4, 0.25]
    model.set_weights([kernel, *np.array([scale, offset, mean, variance], float)])
    images = rng.normal(size=(1, 6, 6, 3))
    maps = vis.activations(model, images, "relu")["relu"][0, ..., 1]
    y, x = np.unravel_index(maps.argmax(), maps.shape)
    expected = np.zeros((6, 6, 3))
    expected[y : y + 3, x : x + 3] = maps[y, x] * kernel[..., 1] * 3 / 0.5
    np.testing.assert_allclose(vis.deconvnet(model, images, "relu", 1)[0], expected, rtol=1e-4)


# Colours


def test_contrast_scales_each_projection_around_grey():
    projections = np.zeros((3, 20, 20, 3))
    projections[0, :10], projections[0, 10:15] = 2, -1
    projections[1] = projections[0] / 100
    shown = vis.contrast(projections)
    np.testing.assert_allclose(shown[0, 0, 0], 1)
    np.testing.assert_allclose(shown[0, 12, 0], 0.25)
    np.testing.assert_allclose(shown[1], shown[0])
    np.testing.assert_allclose(shown[2], 0.5)  # silent
    projections[0, 0, 0, 0] = -1e6  # one pixel does not set the scale
    np.testing.assert_allclose(vis.contrast(projections)[0, 1:], shown[0, 1:])
    assert vis.contrast(projections)[0, 0, 0, 0] == 0


# What is refused


def bent(layer):
    image = keras.Input((9, 9, 3))
    x = layer(layers.Conv2D(2, 3, name="conv1")(image))
    x = layers.Conv2D(2, 3, name="conv2")(x)
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (layers.Activation("tanh", name="bend"), "tanh"),
        (layers.Conv2D(2, 3, activation="sigmoid", name="bend"), "sigmoid"),
        (layers.LeakyReLU(name="bend"), "LeakyReLU"),
        (layers.ReLU(max_value=6, name="bend"), "ReLU"),
        (layers.ReLU(negative_slope=0.1, name="bend"), "ReLU"),
        (lambda x: ops.tanh(x), "Tanh"),
    ],
)
def test_other_nonlinearities_are_refused(layer, kind):
    for function in (vis.deconvnet, vis.guided_backprop):
        with pytest.raises(ValueError, match=rf"is a {kind}\b.*plain ReLUs.*saliency"):
            function(bent(layer), photographs(), "conv2", 0)


def test_what_lies_above_the_layer_may_bend():
    model = bent(layers.Activation("tanh", name="bend"))
    assert vis.deconvnet(model, photographs(), "conv1", 0).any()


def test_messages_say_what_would_do():
    model, images = network(), photographs()
    with pytest.raises(ValueError, match=r"Did you mean 'relu2'.*maps: conv1, relu1"):
        vis.deconvnet(model, images, "relu_2", 0)
    with pytest.raises(ValueError, match=r"'fc' puts out \(3,\), not maps"):
        vis.deconvnet(model, images, "fc", 0)
    with pytest.raises(ValueError, match=r"\(n, 9, 9, 3\), got \(9, 9, 3\)"):
        vis.guided_backprop(model, images[0], "relu2", 0)
    for units in (5, -1, 1.0, [0, 1, 5]):
        with pytest.raises(ValueError, match="from 0 to 4 in this layer"):
            vis.deconvnet(model, images, "relu2", units)
    with pytest.raises(ValueError, match="one for each of 3 images"):
        vis.deconvnet(model, images, "relu2", [0, 1])
    nested = keras.Sequential([keras.Input((9, 9, 3)), network()])
    with pytest.raises(ValueError, match="holds another model, 'net'"):
        vis.deconvnet(nested, images, "net", 0)
