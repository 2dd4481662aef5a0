"""Gradient norms against a formula by hand, differences, and what heads and batch norm do."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from ilsvrc import vis

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(6, 8, 8, 3)).astype("float32")
LABELS = np.array([0, 1, 2, 0, 1, 2])


def network(dropout=0.0, heads=False):
    """Two convolutions with batch norm; with `heads` an early head beside the main one."""
    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv1")(images)
    x = layers.BatchNormalization(name="bn1")(x)
    x = early = layers.ReLU(name="relu1")(x)
    x = layers.Dropout(dropout, name="dropout1")(x)
    x = layers.Conv2D(5, 3, name="conv2")(x)
    outputs = [layers.Dense(3, name="dense")(layers.GlobalAveragePooling2D(name="pool")(x))]
    if heads:
        outputs.append(layers.Dense(3, name="head")(layers.Flatten(name="flat")(early)))
    return keras.Model(images, outputs if heads else outputs[0], name="two")


def loss(model, weights=(1.0,), training=False):
    outputs = model(IMAGES, training=training)
    total = 0.0
    for weight, one in zip(weights, keras.tree.flatten(outputs), strict=False):
        odds = ops.convert_to_numpy(ops.log_softmax(one))
        total -= weight * odds[np.arange(6), LABELS].mean()
    return total


def test_a_dense_layers_gradient_is_inputs_times_errors():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(3, name="d")])
    x = IMAGES.reshape(6, -1)
    errors = ops.convert_to_numpy(ops.softmax(model(IMAGES))) - np.eye(3)[LABELS]
    expected = np.linalg.norm(x.T @ errors / 6)
    norms = vis.gradient_norms(keras.Model(model.inputs, model.outputs), IMAGES, LABELS)
    assert norms == pytest.approx({"d": expected}, rel=1e-4)


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.3)])
def test_the_norms_are_those_of_the_losss_differences(weights):
    model = network(heads=True)
    norms = vis.gradient_norms(model, IMAGES, LABELS, weights=weights)
    assert list(norms) == ["conv1", "conv2", "dense", "head"]
    for name in ("conv1", "dense"):
        kernel = model.get_layer(name).kernel
        start = ops.convert_to_numpy(kernel)
        slopes = []
        for place in np.ndindex(start.shape):
            sides = []
            for step in (0.01, -0.01):
                moved = start.copy()
                moved[place] += step
                kernel.assign(moved)
                sides.append(loss(model, weights))
            slopes.append((sides[0] - sides[1]) / 0.02)
        kernel.assign(start)
        assert norms[name] == pytest.approx(np.linalg.norm(slopes), rel=0.02)
    assert (norms["head"] > 0) == (len(weights) == 2)


def test_other_weights_and_frozen_layers_are_seen_on_the_same_network():
    model = network(heads=True)
    first, both = (vis.gradient_norms(model, IMAGES, LABELS, weights) for weights in [(1,), (1, 9)])
    assert both["conv1"] > first["conv1"] and both["dense"] == pytest.approx(first["dense"])
    model.get_layer("dense").bias.assign([0.0, 0.0, 9.0])  # sure of the wrong class
    assert vis.gradient_norms(model, IMAGES, LABELS)["conv1"] > 1.2 * first["conv1"]
    model.get_layer("conv1").trainable = False
    norms = vis.gradient_norms(model, IMAGES, LABELS)
    assert list(norms) == ["conv2", "dense", "head"]


def test_training_takes_the_batchs_own_statistics_and_leaves_the_model_as_it_is():
    model = network(dropout=0.5)
    before = [ops.convert_to_numpy(v) for v in model.variables]
    still = vis.gradient_norms(model, IMAGES * 9, LABELS)
    moving = vis.gradient_norms(model, IMAGES * 9, LABELS, training=True)
    assert moving["conv1"] < 0.5 * still["conv1"]  # batch norm takes the ninefold scale out
    for a, b in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(a, ops.convert_to_numpy(b))


def test_a_softmax_is_refused():
    images = keras.Input((8, 8, 3))
    x = layers.Dense(3, name="dense")(layers.Flatten(name="flat")(images))
    model = keras.Model(images, layers.Softmax(name="softmax")(x))
    with pytest.raises(ValueError, match="logits=True"):
        vis.gradient_norms(model, IMAGES, LABELS)


def test_more_weights_than_outputs_are_refused():
    with pytest.raises(ValueError, match=r"Weights .1.0, 0.3. for the 1 output\(s\) of 'two'"):
        vis.gradient_norms(network(), IMAGES, LABELS, weights=(1, 0.3))
