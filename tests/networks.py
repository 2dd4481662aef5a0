"""What tests ask of any network: each function returns a check, which asserts it of a model."""

import contextlib
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from ilsvrc import chapters, facts, ledger

PAGES = [name for name in chapters.names() if name[0].isdigit()]  # of a year
NETWORKS = [name for name in PAGES if "\nruns = " in chapters.code(chapters.path(name))]  # train

# A chapter of three short runs; the second fails unless MENDED is set.
TINY = """\
---
kernelspec:
  name: python3
  display_name: Python 3
---

```{code-cell} ipython3
:tags: [model]

import builtins
import os
from functools import partial

import keras

from ilsvrc import augment
from ilsvrc.profiles import Run


def tiny(input_shape=(32, 32, 3), classes=10, logits=False):
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, 4, name="conv1")(image)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(classes)(keras.layers.Dropout(0.5)(x))
    return keras.Model(image, x if logits else keras.layers.Softmax()(x))


def fit(model, data, epochs, callbacks, most=1000, wrong=None):
    if wrong and not os.environ.get("MENDED"):
        raise getattr(builtins, wrong)("a mistake")
    if data.train.batch > most:
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
    seen = [augment.RandomCrop(32), augment.Normalise(data.mean, 58)]
    net = augment.before(model, *seen, input_size=data.size)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return net.fit(
        data.train, validation_data=data.val, epochs=epochs, callbacks=callbacks, verbose=0
    )
```

```{code-cell} ipython3
:tags: [runs]

runs = [
    Run("one", tiny, fit, size=32, claim="a"),
    Run("two", tiny, partial(fit, wrong="ValueError"), size=32, claim="a"),
    Run("three", tiny, partial(fit, most=8), size=32, claim="a"),
]
```
"""


@contextlib.contextmanager
def counting():
    """Let networks be built to be counted, not to be run, EfficientNet-L2 among them.

    Keras walks through a network by recursion, a call a layer: L2's are close to Python's limit.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(3 * limit)
    try:
        with ledger.counting():
            yield
    finally:
        sys.setrecursionlimit(limit)


def drawn(initializer, shape, dtype=None, **options):
    """Return an initializer's answer from a few thousand numbers, drawn once and repeated.

    They have the spread of He's. Drawing each takes most of the time of a large network on
    TensorFlow, and on JAX, which compiles it for each shape, of a small one.
    """
    spread = (2 / max(np.prod(shape[:-1]), 1)) ** 0.5
    few = np.random.default_rng(0).normal(0, spread, 10_007)
    return keras.ops.convert_to_tensor(np.resize(few.astype("float32"), shape), dtype)


def learnable(model):
    """Return how many numbers learn; the statistics of batch norm do not."""
    return ledger.totals(model)["parameters"]


def outputs(model, names, images):
    """Return the layers' answers to images, as arrays of NumPy, batch norm as in prediction."""
    tapped = keras.Model(model.input, [model.get_layer(name).output for name in names])
    return [keras.ops.convert_to_numpy(value) for value in tapped(images, training=False)]


def apart(ours, theirs):
    """Return the largest difference of two lists of arrays, as a share of the largest value."""
    pairs = zip(ours, theirs, strict=True)
    return max(abs(one - other).max() / abs(other).max() for one, other in pairs)


def parameters(fact, count):
    """Return a check of the learnable numbers against the facts and the count given."""

    def check_parameters(model):
        assert learnable(model) == facts.value(f"{fact}.parameters") == count

    return check_parameters


def gmac(billions):
    """Return a check of the MACs, in billions, to three decimals."""

    def check_macs(model):
        assert round(ledger.totals(model)["macs"] / 1e9, 3) == billions

    return check_macs


def grids(sides):
    """Return a check of the outputs' sides by layer."""

    def check_grids(model):
        assert {name: model.get_layer(name).output.shape[1] for name in sides} == sides

    return check_grids


def order(names):
    """Return a check of all layers after the input, in their order."""

    def check_order(model):
        assert [layer.name for layer in model.layers[1:]] == list(names)

    return check_order


def relus(*names):
    """Return a check that these layers are ReLUs."""

    def check_activations(model):
        for name in names:
            assert model.get_layer(name).activation is keras.activations.relu, name

    return check_activations


def onnx_graph(name):
    """Return one of the graphs without weights that lie in the onnx package."""
    onnx = pytest.importorskip("onnx")
    return onnx.load(Path(onnx.__file__).parent / f"backend/test/data/light/{name}.onnx").graph


def attributes(node):
    """Return what a node of an ONNX graph is given, by name."""
    import onnx

    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
