"""Attribution: maps against gradients by hand, sums that must hold, and planted objects."""

import io
from functools import partial

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import layers
from scipy import stats

from ilsvrc import vis

RNG = np.random.default_rng(0)
# Weights are set by hand or by `weighted`: drawing them first takes JAX a second for each shape.
conv = partial(layers.Conv2D, kernel_initializer="zeros")
dense = partial(layers.Dense, kernel_initializer="zeros")
EVERY = ["saliency", "smoothgrad", "integrated_gradients", "class_activation_map"]


def built(*stack, shape=(6, 5, 3), name="net"):
    """Return a model of layers one after the other, with random weights, biases included."""
    image = x = keras.Input(shape, name="image")
    for layer in stack:
        x = layer(x)
    return weighted(keras.Model(image, x, name=name))


def weighted(model, seed=0):
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        scale = np.sqrt(2 / max(np.prod(weight.shape[:-1]), 1)) if len(weight.shape) > 1 else 0.3
        weight.assign(scale * rng.normal(size=weight.shape))
    return model


def linear():
    return built(layers.Flatten(), dense(4, name="logits"))


def perceptron():
    return built(
        layers.Flatten(),
        dense(20, name="hidden"),
        layers.ReLU(name="relu"),
        layers.Dropout(0.9, name="drop"),
        dense(4, name="logits"),
    )


def convolutional():
    return built(
        conv(8, 3, padding="same", name="conv1"),
        layers.ReLU(name="relu1"),
        layers.MaxPooling2D(name="pool1"),
        conv(8, 3, name="conv2"),
        layers.ReLU(name="relu2"),
        layers.Dropout(0.9, name="drop"),
        layers.Flatten(name="flatten"),
        dense(4, name="logits"),
        shape=(15, 14, 3),
    )


def pooled():
    return built(
        conv(6, 5, strides=2, name="conv1"),
        layers.ReLU(name="relu1"),
        conv(8, 3, padding="same", name="conv2"),
        layers.GlobalAveragePooling2D(name="mean"),
        layers.Dropout(0.9, name="drop"),
        dense(4, name="logits"),
        shape=(15, 14, 3),
    )


def some_images(model, n=3):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, *model.input_shape[1:])).astype("float32")


def logits(model, images):
    return keras.ops.convert_to_numpy(model(np.asarray(images, "float32"), training=False))


def perceptron_gradients(model, images, classes):
    """The gradient of a network with one hidden layer, by hand: (n, height, width, channels)."""
    (w1, b1), (w2, _) = (model.get_layer(name).get_weights() for name in ("hidden", "logits"))
    on = images.reshape(len(images), -1) @ w1 + b1 > 0
    return ((on * w2[:, classes].T) @ w1.T).reshape(images.shape)


# Gradients


def test_saliency_of_a_linear_network_is_its_weights():
    model = linear()
    w = model.get_layer("logits").get_weights()[0].reshape(6, 5, 3, 4)
    maps = vis.saliency(model, some_images(model), [2, 0, 2])
    np.testing.assert_allclose(maps, np.abs(w[..., [2, 0, 2]]).max(2).transpose(2, 0, 1), rtol=1e-5)


def test_saliency_passes_a_relu_where_it_is_open():
    model = perceptron()
    images = some_images(model, 40)  # more than a batch
    classes = np.arange(40) % 4
    by_hand = np.abs(perceptron_gradients(model, images, classes)).max(-1)
    np.testing.assert_allclose(vis.saliency(model, images, classes), by_hand, rtol=1e-4, atol=1e-6)
    alone = vis.saliency(model, images[:2], 1)
    np.testing.assert_allclose(alone[1], by_hand[1], rtol=1e-4, atol=1e-6)


def unit():
    """One hidden unit, whose smoothed gradient has a closed form."""
    return built(
        layers.Flatten(),
        dense(1, name="hidden"),
        layers.ReLU(),
        dense(2, name="logits"),
    )


def test_smoothgrad_tends_to_the_gradient_of_the_smoothed_network():
    model = unit()
    images = some_images(model, 3)
    (w1, _), (w2, _) = (model.get_layer(name).get_weights() for name in ("hidden", "logits"))
    signal = images.reshape(3, -1) @ w1
    model.get_layer("hidden").set_weights([w1, -signal.mean(0)])
    sigma = 0.15 * np.ptp(images, axis=(1, 2, 3))
    z = (signal - signal.mean())[:, 0] / (sigma * np.linalg.norm(w1))
    share = stats.norm.cdf(z)  # of the noisy copies that open the ReLU
    weights = np.abs(w1 * w2[:, 1]).reshape(6, 5, 3).max(-1)

    def error(n, seed):
        maps = vis.smoothgrad(model, images, 1, n=n, seed=seed)
        return np.abs(maps - share[:, None, None] * weights).max() / weights.max()

    assert error(1000, 0) < 0.05
    noisy, calm = (np.mean([error(n, seed) for seed in range(4)]) for n in (8, 128))
    assert 2 < noisy / calm < 8  # the mean over 16 times as many is about 4 times as good


def test_smoothgrad_does_not_jump_where_the_gradient_does():
    model = unit()
    (image,) = some_images(model, 1)
    w1, _ = model.get_layer("hidden").get_weights()
    model.get_layer("hidden").set_weights([w1, -image.reshape(1, -1)[0] @ w1])  # at the bend
    step = 1e-3 * w1.reshape(image.shape)
    ways = np.stack([image - step, image + step])

    def jump(maps):
        return np.abs(maps[1] - maps[0]).max() / maps.max()

    smooth = vis.smoothgrad(model, ways, 1)
    assert jump(vis.saliency(model, ways, 1)) == 1
    assert jump(smooth) < 0.05
    np.testing.assert_array_equal(smooth, vis.smoothgrad(model, ways, 1))
    assert np.abs(smooth - vis.smoothgrad(model, ways, 1, seed=1)).max() > 0.01 * smooth.max()


def test_smoothgrad_without_noise_is_saliency():
    model = perceptron()
    images = some_images(model)
    expected = vis.saliency(model, images, [0, 1, 2])
    maps = vis.smoothgrad(model, images, [0, 1, 2], n=2, noise=0)
    np.testing.assert_allclose(maps, expected, rtol=1e-5)


def test_integrated_gradients_add_up_to_the_rise_of_the_logit():
    model = convolutional()
    images = some_images(model, 4)
    for baseline in (0, np.array([0.5, -1, 0.2], "float32"), images[::-1]):
        start = np.broadcast_to(np.float32(baseline), images.shape)
        rises = logits(model, images) - logits(model, start)
        classes = np.abs(rises).argmax(-1)
        rise = rises[range(4), classes]
        maps, errors = vis.integrated_gradients(model, images, classes, baseline=baseline)
        np.testing.assert_allclose(maps.sum((1, 2)), rise, rtol=0.02)
        np.testing.assert_allclose(errors, np.abs(maps.sum((1, 2)) / rise - 1), atol=1e-4)
        coarse = vis.integrated_gradients(model, images, classes, steps=2, baseline=baseline)[1]
        assert errors.max() < 0.02 < coarse.max()


def test_integrated_gradients_of_a_linear_network_are_exact():
    model = linear()
    images = some_images(model)
    w = model.get_layer("logits").get_weights()[0].reshape(6, 5, 3, 4)
    maps, errors = vis.integrated_gradients(model, images, 3, steps=1, baseline=0.5)
    by_hand = ((images - 0.5) * w[..., 3]).sum(-1)
    np.testing.assert_allclose(maps, by_hand, rtol=1e-4, atol=1e-5)
    assert errors.max() < 1e-4
    assert maps.min() < 0 < maps.max()


def test_integrated_gradients_are_taken_at_midpoints():
    """A ReLU that opens at 0.6 of the way is open at the second of two midpoints, 0.75."""
    model = unit()
    images = some_images(model, 1)
    (w1, _), (w2, _) = (model.get_layer(name).get_weights() for name in ("hidden", "logits"))
    w1 = w1 * np.sign(images.ravel() @ w1)
    model.get_layer("hidden").set_weights([w1, -0.6 * images.ravel() @ w1])
    expected = (images * w1.reshape(images.shape) * w2[0, 1] / 2).sum(-1)
    maps, errors = vis.integrated_gradients(model, images, 1, steps=2)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)
    assert errors == pytest.approx(0.5 / 0.4 - 1, rel=1e-3)


# Planted objects: a red square makes class 0, a green one class 1


def planted(side=40):
    """An image with a red and a green square, and where they are."""
    image = 0.05 * np.random.default_rng(1).normal(size=(side, side, 3)).astype("float32")
    squares = np.zeros((2, side, side), bool)
    squares[0, 5:17, 21:33] = squares[1, 22:34, 6:18] = True
    for colour in (0, 1):
        image[squares[colour], colour] += 1
    return image[None], squares


def detector(side=40):
    """A network whose classes are redness and greenness: its weights are written by hand."""
    model = built(
        conv(2, 4, strides=2, padding="same", name="conv1"),
        layers.ReLU(name="relu1"),
        conv(2, 3, padding="same", name="conv2"),
        layers.ReLU(name="relu2"),
        layers.Flatten(name="flatten"),
        layers.Dropout(0.9, name="drop"),
        dense(2, name="logits"),
        shape=(side, side, 3),
    )
    opposite = np.array([[1, -1], [-1, 1]])
    colours = np.concatenate([opposite, [[0, 0]]])  # red less green, green less red, no blue
    places = np.tile(opposite, (side * side // 4, 1))
    model.set_weights(
        [
            *(np.ones((4, 4, 1, 1)) * colours / 16, np.full(2, -0.1)),
            *(np.ones((3, 3, 1, 1)) * np.eye(2) / 9, np.full(2, -0.1)),
            *(places / 100, np.zeros(2)),
        ]
    )
    return model


def overlap(map, square):
    """Intersection over union of a square with the pixels above half of the map's greatest."""
    found = map > map.max() / 2
    return (found & square).sum() / (found | square).sum()


@pytest.mark.parametrize(
    "method",
    [
        lambda *asked: vis.grad_cam(*asked, "relu2"),
        lambda *asked: vis.grad_cam(*asked, "relu1"),
        lambda *asked: vis.occlusion(*asked, patch=6, stride=3),
        lambda *asked: vis.occlusion(*asked, patch=6, stride=3, probability=True),
    ],
    ids=["Grad-CAM", "Grad-CAM, lower", "occlusion", "occlusion, probability"],
)
def test_the_planted_object_of_each_class_is_found(method):
    images, squares = planted()
    for label in (0, 1):
        (found,) = method(detector(), images, label)
        assert overlap(found, squares[label]) > 0.6
        assert overlap(found, squares[1 - label]) == 0


def test_grad_cam_without_anything_in_favour_is_zero():
    images, squares = planted()
    images[:, squares[0]] = 0
    maps = vis.grad_cam(detector(), images, 0, "relu2")
    np.testing.assert_array_equal(maps, 0)
    with np.errstate(all="raise"):
        drawn = vis.overlay(np.zeros((1, 40, 40, 3), "uint8"), {"Grad-CAM": maps})
        drawn.savefig(io.BytesIO(), dpi=30)


def test_maps_lie_where_the_layer_looks():
    """Without padding and with an odd stride the grid's centres are no even parts of the image."""
    model = built(
        conv(1, 7, strides=3, name="conv1"),
        layers.MaxPooling2D(3, 2, name="pool1"),
        layers.GlobalAveragePooling2D(name="mean"),
        dense(1, name="logits"),
        shape=(64, 58, 1),
    )
    model.set_weights([np.ones((7, 7, 1, 1)), np.zeros(1), np.ones((1, 1)), np.zeros(1)])
    y, x = np.mgrid[:64, :58]
    for at in [(18, 18), (30, 24), (42, 36)]:
        image = np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 50)[None, ..., None]
        for maps in (
            vis.grad_cam(model, image, 0, "pool1"),
            vis.class_activation_map(model, image, 0),
        ):
            assert maps.shape == (1, 64, 58)
            weight = np.maximum(maps[0] - maps.max() / 2, 0)
            centre = [(weight * axis).sum() / weight.sum() for axis in (y, x)]
            assert centre == pytest.approx(at, abs=1)


def test_a_gate_that_sees_the_whole_image_leaves_the_map_in_place():
    images, _ = planted()
    image = keras.Input((40, 40, 3))
    x = conv(4, 3, padding="same", name="conv1")(image)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = conv(4, 1, activation="sigmoid")(gate)
    x = layers.Multiply(name="gated")([x, gate])
    x = layers.GlobalAveragePooling2D()(x)
    model = weighted(keras.Model(image, dense(2)(x)))
    gated, raw = (vis.class_activation_map(model, images, 0, raw=raw) for raw in (False, True))
    np.testing.assert_allclose(gated, raw, rtol=1e-5)


# Grad-CAM and class activation maps


def test_the_mean_of_the_class_activation_map_and_the_bias_are_the_logit():
    model = pooled()
    images, classes = some_images(model), np.array([3, 0, 1])
    cam = vis.class_activation_map(model, images, classes, raw=True)
    assert cam.shape == (3, 6, 5)
    bias = model.get_layer("logits").get_weights()[1]
    expected = logits(model, images)[range(3), classes]
    np.testing.assert_allclose(cam.mean((1, 2)) + bias[classes], expected, rtol=1e-4)


def test_grad_cam_is_the_class_activation_map_up_to_scale():
    model = pooled()
    images = some_images(model)
    cam = vis.class_activation_map(model, images, 2, raw=True)
    grad = vis.grad_cam(model, images, 2, "conv2", raw=True)
    np.testing.assert_allclose(30 * grad, np.maximum(cam, 0), rtol=1e-4, atol=1e-5)
    assert (cam < 0).any() and (cam > 0).any()


def test_grad_cam_weighs_a_channel_by_its_mean_gradient():
    model = built(conv(6, 3, name="conv1"), layers.Flatten(), dense(4, name="logits"))
    images = some_images(model)
    maps = vis.activations(model, images, "conv1")["conv1"]
    gradient = model.get_layer("logits").get_weights()[0].reshape(4, 3, 6, 4)
    by_hand = np.maximum((maps * gradient.mean((0, 1))[:, 2]).sum(-1), 0)
    raw = vis.grad_cam(model, images, 2, "conv1", raw=True)
    np.testing.assert_allclose(raw, by_hand, rtol=1e-4, atol=1e-6)
    assert 0 < (by_hand > 0).mean() < 1


def test_grad_cam_weighs_a_branch_by_its_own_gradient():
    """Past a skip connection: only the branch's maps and gradients count."""
    image = keras.Input((8, 8, 3))
    x = conv(5, 3, padding="same", name="conv1")(image)
    branch = conv(5, 3, padding="same", name="branch")(x)
    scaled = branch * np.float32(3)
    total = layers.Add(name="add")([x, scaled])
    out = dense(3, name="logits")(layers.GlobalAveragePooling2D()(total))
    model = weighted(keras.Model(image, out))
    images = some_images(model, 2)
    maps = vis.activations(model, images, "branch")["branch"]
    weights = 3 * model.get_layer("logits").get_weights()[0][:, 1] / 64
    by_hand = np.maximum((maps * weights).sum(-1), 0)
    raw = vis.grad_cam(model, images, 1, "branch", raw=True)
    np.testing.assert_allclose(raw, by_hand, rtol=1e-4, atol=1e-6)


# Occlusion


def loop(model, image, label, patch, stride, fill, probability):
    """Occlusion, one square after the other."""
    height, width = image.shape[:2]

    copies, places = [image], []
    for top in range(0, height, stride):
        for left in range(0, width, stride):
            y, x = top + (stride - patch) // 2, left + (stride - patch) // 2
            covered = image.copy()
            covered[max(y, 0) : y + patch, max(x, 0) : x + patch] = fill
            copies.append(covered)
            places.append((top, left))
    scores = logits(model, copies).astype("float64")
    if probability:
        scores = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    map = np.zeros((height, width))
    for (top, left), score in zip(places, scores[1:, label], strict=True):
        map[top : top + stride, left : left + stride] = scores[0, label] - score
    return map


@pytest.mark.parametrize(("patch", "stride"), [(5, 2), (4, 4), (3, 4)])
@pytest.mark.parametrize("probability", [False, True])
def test_occlusion_is_the_plain_loop(patch, stride, probability):
    model = convolutional()
    images, classes = some_images(model, 2), [3, 1]
    maps = vis.occlusion(model, images, classes, patch, stride, probability=probability)
    for image, label, map in zip(images, classes, maps, strict=True):
        mean = image.mean((0, 1))
        expected = loop(model, image, label, patch, stride, mean, probability)
        np.testing.assert_allclose(map, expected, rtol=1e-4, atol=2e-6)
        assert expected.std() > 1e-4


def test_occlusion_covers_with_the_given_colour():
    model = convolutional()
    images = some_images(model, 1)
    for fill in (2.0, [1, 0, -1]):
        (map,) = vis.occlusion(model, images, 0, 5, 5, fill=fill)
        expected = loop(model, images[0], 0, 5, 5, fill, False)
        np.testing.assert_allclose(map, expected, rtol=1e-4, atol=1e-5)


def test_occlusion_refuses_squares_that_do_not_fit():
    model = convolutional()
    for patch, stride in [(0, 2), (3, 0), (15, 2), (3, 15)]:
        with pytest.raises(ValueError, match=rf"{patch} px every {stride} px: .* 15x14"):
            vis.occlusion(model, some_images(model), 0, patch, stride)


# Refusals


def with_auxiliary_head():
    image = keras.Input((12, 12, 3), name="image")
    x = layers.ReLU(name="relu1")(conv(4, 3, name="conv1")(image))
    y = conv(4, 3, name="conv2")(x)
    out = dense(5, name="logits")(layers.GlobalAveragePooling2D()(y))
    side = layers.GlobalAveragePooling2D()(conv(4, 3, name="auxiliary_conv")(x))
    side = dense(5, name="auxiliary")(side)
    both = weighted(keras.Model(image, [out, side], name="twoheaded"))
    return both, keras.Model(image, out)


def test_of_several_outputs_the_first_counts():
    both, first = with_auxiliary_head()
    images = some_images(both, 2)
    for name in EVERY:
        found, expected = (np.asarray(getattr(vis, name)(m, images, 3)[0]) for m in (both, first))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    for method in (
        lambda model: vis.grad_cam(model, images, 3, "relu1"),
        lambda model: vis.occlusion(model, images, 3, 4, 4),
    ):
        np.testing.assert_allclose(method(both), method(first), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"'auxiliary_conv'.*maps: conv1, relu1, conv2\."):
        vis.grad_cam(both, images, 3, "auxiliary_conv")


@pytest.mark.parametrize("name", [*EVERY, "occlusion", "grad_cam"])
def test_what_cannot_be_asked_is_refused(name):
    def ask(model, images, classes):
        more = {"occlusion": (4, 4), "grad_cam": ("conv1",)}.get(name, ())
        return getattr(vis, name)(model, images, classes, *more)

    model = pooled()
    images = some_images(model)
    with pytest.raises(ValueError, match=r"softmax, 'softmax'.*logits=True"):
        ask(keras.Model(model.input, layers.Softmax(name="softmax")(model.output)), images, 0)
    if name in ("class_activation_map", "grad_cam"):  # these need one graph
        with pytest.raises(ValueError, match="holds another model, 'net'"):
            ask(keras.Model(model.input, model(model.input)), images, 0)
    with pytest.raises(ValueError, match=r"\(n, 15, 14, 3\), got \(15, 14, 3\)"):
        ask(model, images[0], 0)
    for classes in (4, -1, [0, 1], [[0], [1], [2]], 1.0, [0, 1, 9]):
        with pytest.raises(
            ValueError, match="from 0 to 3, one for each of 3 images or one for all"
        ):
            ask(model, images, classes)


def test_grad_cam_names_the_layers_that_would_do():
    model = convolutional()
    images = some_images(model)
    with pytest.raises(ValueError, match=r"'relu_2'.*Did you mean 'relu2'.*conv1, relu1, pool1"):
        vis.grad_cam(model, images, 0, "relu_2")
    with pytest.raises(ValueError, match=r"'flatten' puts out .*Layers with maps: conv1, relu1"):
        vis.grad_cam(model, images, 0, "flatten")


def test_class_activation_maps_are_refused_where_nothing_is_averaged():
    model = convolutional()
    expected = r"ends in 'relu2' and 'logits'.*GlobalAveragePooling2D.*maps: conv1, relu1, pool1"
    with pytest.raises(ValueError, match=expected):
        vis.class_activation_map(model, some_images(model), 0)


# Overlay


def drawn(fig):
    return [ax for ax in fig.axes if ax.images]


def heat(ax):
    """A map as it was drawn: values from -1 to 1, and how densely they cover the photograph."""
    image = ax.images[-1]
    return np.asarray(image.get_array()), np.asarray(image.get_alpha())


def texts(fig):
    return [t.get_text() for t in fig.findobj(plt.Text) if t.get_text() and t.get_visible()]


def test_overlay_has_a_row_for_each_method():
    photographs = RNG.integers(0, 255, (2, 20, 30, 3), dtype="uint8")
    ramp = np.linspace(-1, 4, 200).reshape(10, 20)
    maps = {"up": np.stack([ramp, 100 * ramp]), "down": np.stack([-ramp, ramp[::-1]])}
    fig = vis.overlay(photographs, maps, ["church", "tench"])
    axes = drawn(fig)
    assert len(axes) == 6
    assert [ax.get_title("left") for ax in axes[:2]] == ["church", "tench"]
    assert [ax.get_ylabel() for ax in axes[::2]] == ["", "up", "down"]
    np.testing.assert_array_equal(axes[1].images[0].get_array(), photographs[1])
    for ax in axes[2:4]:  # each on a scale of its own, over the paled photograph, on all of it
        value, alpha = heat(ax)
        np.testing.assert_allclose(value, np.clip(ramp / 4, -1, 1), atol=0.02)
        np.testing.assert_allclose(alpha, np.abs(value))
        assert [list(i.get_extent()) for i in ax.images] == [[-0.5, 29.5, 19.5, -0.5]] * 2
    np.testing.assert_allclose(axes[2].images[0].get_array() * 255, photographs[0].mean(-1))
    assert {"against", "none", "for"} <= set(texts(fig))


def test_overlay_of_one_image_stands_side_by_side():
    photograph = RNG.random((1, 8, 8, 3))
    maps = {name: RNG.random((1, 4, 4)) for name in ("a", "b", "c", "d", "e")}
    fig = vis.overlay(photograph, maps, ["church"])
    assert [ax.get_title("left") for ax in drawn(fig)] == ["church", *"abcde"]
    assert {"none", "strongest"} <= set(texts(fig)) and "against" not in texts(fig)
    assert fig.get_figwidth() == 7
    assert min(t.get_fontsize() for t in fig.findobj(plt.Text) if t.get_text()) >= 8
    assert not plt.get_fignums()


def test_overlay_draws_pictures_as_they_are_and_needs_no_photograph():
    pictures = RNG.random((3, 6, 6, 3))
    fig = vis.overlay(None, {"pictures": pictures})
    assert len(drawn(fig)) == len(fig.axes) == 3  # no scale of colours
    for ax, picture in zip(drawn(fig), pictures, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), picture)


def test_overlay_keeps_an_odd_pixel_from_hiding_the_rest():
    map = np.ones((1, 20, 20))
    map[0, 3, 3] = 1000
    value, _ = heat(drawn(vis.overlay(None, {"saliency": map}))[0])
    assert value.min() == 1
    lonely = np.zeros((1, 20, 20))
    lonely[0, 3, 3] = 1e-9
    value, _ = heat(drawn(vis.overlay(None, {"saliency": lonely}))[0])
    assert value.max() == 1 and value.sum() == 1


def test_overlay_refuses_what_does_not_fit():
    photographs = np.zeros((2, 8, 8, 3))
    with pytest.raises(ValueError, match="'Grad-CAM' has 3, but there are 2 images"):
        vis.overlay(photographs, {"Grad-CAM": np.zeros((3, 8, 8))})
    with pytest.raises(ValueError, match="'titles' has 1"):
        vis.overlay(photographs, {"Grad-CAM": np.zeros((2, 8, 8))}, ["church"])
