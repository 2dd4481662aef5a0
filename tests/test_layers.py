"""The grouped convolution: the framework's output, gradients and weights, whatever it runs on."""

import keras
import numpy as np
import pytest

from ilsvrc import backend, layers

ARGUMENTS = {
    "conv2": {"filters": 16, "kernel_size": 5, "padding": "same", "groups": 2},
    "strided": {"filters": 12, "kernel_size": 3, "strides": 2, "groups": 4, "use_bias": False},
    "dilated": {"filters": 8, "kernel_size": 3, "dilation_rate": 2, "groups": 2},
    "uneven": {"filters": 24, "kernel_size": (3, 1), "groups": 8, "activation": "relu"},
    "dense": {"filters": 6, "kernel_size": 3},
}


def pair(arguments, channels=8, size=9):
    """Return Keras's layer and ours with the same random weights, and an input for them."""
    ours, theirs = layers.GroupedConv2D(**arguments), keras.layers.Conv2D(**arguments)
    for layer in ours, theirs:
        layer.build((None, size, size, channels))
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=w.shape).astype("float32") for w in theirs.get_weights()]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    return ours, theirs, rng.normal(size=(2, size, size, channels)).astype("float32")


def close(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


@pytest.mark.parametrize("case", ARGUMENTS)
def test_output_is_that_of_keras(case):
    ours, theirs, x = pair(ARGUMENTS[case])
    assert close(keras.ops.convert_to_numpy(ours(x)), keras.ops.convert_to_numpy(theirs(x)))


def test_a_network_without_groups_would_be_noticed():
    ours, _, x = pair(ARGUMENTS["conv2"])
    first = keras.ops.convert_to_numpy(ours(x))
    x[..., 4:] += 1
    second = keras.ops.convert_to_numpy(ours(x))
    assert close(first[..., :8], second[..., :8])
    assert not close(first[..., 8:], second[..., 8:])


def test_gradients_are_those_of_keras():
    ours, theirs, x = pair(ARGUMENTS["conv2"])
    kernel = ours.get_weights()[0]

    def loss(layer):
        return lambda k: keras.ops.sum(keras.ops.square(layer.convolution_op(x, k)))

    for ours_is, theirs_is in zip(
        backend.value_and_grad(loss(ours))(kernel),
        backend.value_and_grad(loss(theirs))(kernel),
        strict=True,
    ):
        assert close(ours_is, theirs_is)


def test_elsewhere_than_on_a_processor_the_frameworks_convolution_runs(monkeypatch):
    ours, _, x = pair(ARGUMENTS["conv2"])
    here = keras.ops.convert_to_numpy(ours(x))
    calls = []
    monkeypatch.setattr(backend, "on_cpu", lambda: calls.append(1) or False)
    assert close(keras.ops.convert_to_numpy(ours(x)), here)
    assert calls


def test_half_precision_computes_in_it_and_keeps_weights_in_float32():
    layer = layers.GroupedConv2D(4, 3, groups=2, dtype="mixed_bfloat16")
    output = layer(np.ones((1, 5, 5, 4), "float32"))
    assert keras.backend.standardize_dtype(output.dtype) == "bfloat16"
    assert layer.kernel.dtype == "float32"


def test_saved_network_comes_back_the_same(tmp_path):
    inputs = keras.Input((9, 9, 4))
    model = keras.Model(inputs, layers.GroupedConv2D(6, 3, groups=2, name="conv2")(inputs))
    model.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    assert isinstance(again.get_layer("conv2"), layers.GroupedConv2D)
    x = np.random.default_rng(0).normal(size=(2, 9, 9, 4)).astype("float32")
    assert close(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_refuses_channels_that_do_not_divide():
    with pytest.raises(ValueError, match="evenly divisible"):
        layers.GroupedConv2D(6, 3, groups=4)
    with pytest.raises(ValueError, match="evenly divisible"):
        layers.GroupedConv2D(6, 3, groups=2).build((None, 9, 9, 3))


@pytest.mark.parametrize("case", [*ARGUMENTS, "single maps", "bundles", "wide groups"])
def test_bundles_of_groups_are_one_convolution_too(case):
    many = {
        "single maps": {"filters": 64, "groups": 64},  # two bundles of 32
        "bundles": {"filters": 96, "groups": 32},
        "wide groups": {"filters": 16, "groups": 1},
    }
    arguments = ARGUMENTS.get(case) or {"kernel_size": 3, "padding": "same", **many[case]}
    channels = 8 if case in ARGUMENTS else 64
    ours, theirs = layers.BundledConv2D(**arguments), keras.layers.Conv2D(**arguments)
    rng = np.random.default_rng(1)
    for layer in ours, theirs:
        layer.build((None, 9, 9, channels))
    weights = [rng.normal(size=w.shape).astype("float32") for w in theirs.get_weights()]
    x = rng.normal(size=(2, 9, 9, channels)).astype("float32")
    for layer in ours, theirs:
        layer.set_weights(weights)
    a, b = (keras.ops.convert_to_numpy(layer(x)) for layer in (ours, theirs))
    assert close(a, b)
    steps = [
        backend.value_and_grad(
            lambda k, n=n: keras.ops.sum(keras.ops.square(n.convolution_op(x, k)))
        )
        for n in (ours, theirs)
    ]
    assert close(*(keras.ops.convert_to_numpy(step(weights[0])[1]) for step in steps))
