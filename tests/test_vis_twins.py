"""Twins: what is random in them, what is not, and how similar two maps are said to be."""

import random

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import layers

from ilsvrc import vis

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def net():
    """A branching network whose weights no initialiser would draw."""
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(16, 3, padding="same", name="conv1")(image)
    x = layers.ReLU(name="relu1")(layers.BatchNormalization(name="bn1")(x))
    a = layers.Conv2D(16, 3, padding="same", name="conv2a")(x)
    b = layers.Conv2D(16, 1, name="conv2b")(x)
    x = layers.ReLU(name="relu2")(layers.Add(name="add")([a, b]))
    x = layers.Dropout(0.9, name="drop")(layers.Flatten(name="flatten")(x))
    model = keras.Model(image, layers.Dense(5, name="logits")(x), name="net")
    rng = np.random.default_rng(3)
    for weight in model.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) * rng.choice([-1, 1], weight.shape))
    model.get_layer("bn1").moving_variance.assign(np.full(16, 4.0))
    return model


def prepared(n=4):
    return np.random.default_rng(1).normal(size=(n, 16, 16, 3)).astype("float32")


def pairs(model, twin):
    both = zip(model.weights, model.get_weights(), twin.get_weights(), strict=True)
    return {weight.path: (learned, drawn) for weight, learned, drawn in both}


def predict(model):
    return keras.ops.convert_to_numpy(model(prepared(), training=False))


def test_a_twin_has_the_layers_but_nothing_of_what_was_learned(net):
    before, answers = net.get_weights(), predict(net)
    twin = vis.randomised(net)
    assert [layer.name for layer in twin.layers] == [layer.name for layer in net.layers]
    for path, (learned, drawn) in pairs(net, twin).items():
        assert not np.any(learned == drawn), path
    learned, drawn = pairs(net, twin)["logits/kernel"]
    assert abs(np.corrcoef(learned.ravel(), drawn.ravel())[0, 1]) < 0.03
    twin.set_weights([np.zeros_like(w) for w in twin.get_weights()])
    for weight, old in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    np.testing.assert_array_equal(predict(net), answers)


def test_weights_are_drawn_by_the_layers_own_initialisers(net):
    twin = vis.randomised(net)
    kernel, bias = twin.get_layer("logits").get_weights()
    limit = np.sqrt(6 / (16 * 16 * 16 + 5))  # Glorot's, of a uniform distribution
    assert 0.99 * limit < np.abs(kernel).max() < limit
    np.testing.assert_array_equal(bias, 0)
    gamma, beta, mean, variance = twin.get_layer("bn1").get_weights()
    for got, start in [(gamma, 1), (beta, 0), (mean, 0), (variance, 1)]:
        np.testing.assert_array_equal(got, start)


def test_a_seed_gives_a_twin_and_leaves_other_draws_alone(net):
    random.seed(5)
    expected = random.random()
    random.seed(5)
    first, again, other = (vis.randomised(net, seed=seed).get_weights() for seed in (0, 0, 1))
    assert random.random() == expected
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.any(first[0] == other[0])


def test_a_twin_does_not_get_back_the_weights_that_the_network_began_with():
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((50,)), layers.Dense(100), layers.Dense(20)])
    for began, drawn in list(pairs(model, vis.randomised(model, seed=3)).values())[::2]:
        assert abs(np.corrcoef(began.ravel(), drawn.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("down_to", "redrawn"),
    [
        ("logits", {"logits"}),
        ("relu2", {"logits"}),
        ("conv2b", {"logits", "conv2b"}),
        ("conv2a", {"logits", "conv2b", "conv2a"}),
        ("bn1", {"logits", "conv2b", "conv2a", "bn1"}),
        ("conv1", {"logits", "conv2b", "conv2a", "bn1", "conv1"}),
    ],
)
def test_from_the_top_down_to_a_layer(net, down_to, redrawn):
    twin = vis.randomised(net, down_to)
    for path, (learned, drawn) in pairs(net, twin).items():
        assert (learned != drawn).all() == (path.split("/")[0] in redrawn), path
        assert (learned == drawn).all() == (path.split("/")[0] not in redrawn), path


def test_a_wrong_layer_or_a_nested_model_is_refused(net):
    with pytest.raises(ValueError, match=r"no layer 'conv2'.*Did you mean 'conv2"):
        vis.randomised(net, "conv2")
    with pytest.raises(ValueError, match="holds another model, 'net'"):
        vis.randomised(keras.Model(net.input, net(net.input)))


def test_similarity_is_spearmans_for_each_image():
    a = np.array([[[1.0, 2], [3, 4]]] * 4)
    b = np.array([[[1.0, 8], [27, 64]], [[9, 3], [1, 0]], [[2, 1], [4, 3]], [[5, 5], [5, 5]]])
    np.testing.assert_allclose(vis.similarity(a, b), [1, -1, 0.6, 0])
    noise = RNG.normal(size=(2, 3, 50, 50, 3))
    assert np.abs(vis.similarity(*noise)).max() < 0.06
    with pytest.raises(ValueError, match="shorter"):
        vis.similarity(a, b[:3])


def images_of(fig):
    return [ax for ax in fig.axes if ax.images]


def test_a_map_is_drawn_above_its_twins_with_how_similar_they_are(net):
    photographs = RNG.integers(0, 255, (4, 16, 16, 3), dtype="uint8")

    def maps(model):
        return vis.saliency(model, prepared(), 2)

    fig = vis.with_twin(maps, net, photographs, titles=["a", "b", "c", "d"], seed=7)
    twins = maps(vis.randomised(net, seed=7))
    rho = vis.similarity(maps(net), twins).mean()
    assert abs(rho) < 0.3  # the network's own weights are random, too
    axes = images_of(fig)
    labels = [ax.get_ylabel() for ax in axes[::4]]
    assert labels == ["", "network", f"all random\nρ = {rho:.2f}"]
    assert [ax.get_title("left") for ax in axes[:4]] == ["a", "b", "c", "d"]
    shade = np.asarray(axes[8].images[-1].get_array())
    assert np.corrcoef(shade.ravel(), twins[0].ravel())[0, 1] > 0.95
    assert not plt.get_fignums()


def test_a_map_that_knows_nothing_of_the_network_is_caught(net):
    """An edge detector looks like an explanation, and is the same for the twin."""

    def edges(model):
        return np.abs(np.diff(prepared(), axis=1)).sum(-1)

    fig = vis.with_twin(edges, net)
    assert images_of(fig)[-4].get_ylabel() == "all random\nρ = 1.00"


def test_twins_from_the_top_down_have_a_row_each_and_drift_away(net):
    def maps(model):
        return vis.activations(model, prepared(), "relu1")["relu1"].mean(-1)

    fig = vis.with_twin(maps, net, down_to=["logits", "conv2a", "conv1"])
    labels = [ax.get_ylabel() for ax in images_of(fig)[::4]]
    assert labels[0] == "network"
    assert labels[1:3] == ["random from\nlogits\nρ = 1.00", "random from\nconv2a\nρ = 1.00"]
    assert float(labels[3].split("= ")[1]) < 0.9


def test_pictures_have_twins_too(net):
    def pictures(model):
        kernel = model.get_layer("conv1").get_weights()[0]
        return np.clip(0.5 + kernel, 0, 1).transpose(3, 0, 1, 2)[:3]

    fig = vis.with_twin(pictures, net)
    axes = images_of(fig)
    assert len(axes) == len(fig.axes) == 6
    np.testing.assert_array_equal(axes[1].images[0].get_array(), pictures(net)[1])
    twin = vis.randomised(net)
    np.testing.assert_array_equal(axes[4].images[0].get_array(), pictures(twin)[1])
