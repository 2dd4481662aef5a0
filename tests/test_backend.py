import keras
import numpy as np
import pytest
from keras import ops

from ilsvrc import backend


def test_value_and_grad_of_a_sum_of_cubes():
    f = backend.value_and_grad(lambda x: ops.sum(x**3))
    x = np.arange(6, dtype="float64").reshape(2, 3)
    value, gradient = f(x)
    assert float(value) == pytest.approx((x**3).sum())
    np.testing.assert_allclose(ops.convert_to_numpy(gradient), 3 * x**2)


def test_value_and_grad_goes_through_a_network():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    _, gradient = backend.value_and_grad(lambda x: ops.sum(model(x)))(np.ones((2, 3)))
    weights = ops.convert_to_numpy(model.layers[0].kernel)[:, 0]
    np.testing.assert_allclose(ops.convert_to_numpy(gradient), np.stack([weights] * 2), rtol=1e-5)


def test_value_and_grad_takes_further_arrays_and_is_traced_once():
    traced = []

    def f(x, scale, index):
        traced.append(1)
        return ops.sum(ops.take(x, index, axis=0) * scale)

    step = backend.value_and_grad(f)
    for scale, index in [(2, 0), (3, 1)]:
        value, gradient = step(np.ones((2, 3)), np.float32(scale), np.array([index]))
        assert float(value) == 3 * scale
        expected = scale * np.eye(2)[index][:, None] * np.ones(3)
        np.testing.assert_array_equal(ops.convert_to_numpy(gradient), expected)
    assert len(traced) == 1 or backend.name() == "torch"


def test_value_and_grad_takes_batches_of_any_size():
    step = backend.value_and_grad(lambda x, scale: ops.sum(x**2 * scale))
    for n in (1, 3, 1):
        value, gradient = step(np.ones((n, 2)), np.full((n, 1), n, "float32"))
        assert float(value) == 2 * n**2
        np.testing.assert_array_equal(ops.convert_to_numpy(gradient), np.full((n, 2), 2 * n))


def test_gradients_of_many_functions_raise_no_warning(caplog):
    for factor in range(8):
        value, _ = backend.value_and_grad(lambda x, factor=factor: ops.sum(factor * x))(np.ones(3))
        assert float(value) == 3 * factor
    assert not caplog.records


def test_value_and_grad_of_several_values_differentiates_their_sum():
    x = np.arange(6, dtype="float32").reshape(2, 3)
    values, gradient = backend.value_and_grad(lambda x: ops.sum(x**2, axis=1))(x)
    np.testing.assert_allclose(ops.convert_to_numpy(values), (x**2).sum(1))
    np.testing.assert_allclose(ops.convert_to_numpy(gradient), 2 * x)


@pytest.mark.parametrize("training", [False, True])
def test_forward_is_the_network_called_and_leaves_its_averages(training):
    x = keras.Input((4,))
    y = keras.layers.BatchNormalization(momentum=0.5)(x)
    model = keras.Model(x, [y, keras.layers.Dense(2)(y)])
    before, batch = model.get_weights(), np.random.default_rng(0).normal(3, 2, (6, 4))
    for n in (6, 3):
        found = backend.forward(model, batch[:n], training=training)
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
        expected = model(batch[:n], training=training)
        model.set_weights(before)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(*map(ops.convert_to_numpy, (one, other)), rtol=1e-4)


def test_forward_sees_weights_that_were_set():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for value in (1.0, 3.0):
        model.set_weights([np.full((2, 1), value), np.zeros(1)])
        found = ops.convert_to_numpy(backend.forward(model, np.ones((1, 2))))
        assert found == pytest.approx(2 * value)


def test_reseeding_repeats_dropout_and_gives_each_layer_its_own_stream():
    x = keras.Input((200,))
    drop = [keras.layers.Dropout(0.5)(x), keras.layers.Dropout(0.5)(x)]
    inner = keras.Model(x, drop)
    outer = keras.Model(x, inner(x))  # generators of a model within a model are found, too

    def run(number):
        backend.reseed(outer, number)
        return [ops.convert_to_numpy(y) for y in outer(np.ones((1, 200)), training=True)]

    first, again, other = run(1), run(1), run(2)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], first[1])


def test_the_machine_is_named():
    assert backend.name() == keras.backend.backend()
    assert backend.on_cpu()
    assert "cores" in backend.device()
    assert backend.precision() == "float32"
    assert backend.peak_memory() > 10_000_000
    assert backend.versions()["keras"] == keras.__version__


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"), True),
        (ValueError("shapes do not fit"), False),
    ],
)
def test_memory_that_ran_out_is_told_from_other_errors(error, memory):
    assert backend.out_of_memory(error) is memory
