"""The ledger against sums by hand, other people's totals, and ledgers with a planted mistake."""

import math

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from ilsvrc import ledger

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def trunk():
    return alexnet_trunk(groups=2)


def alexnet_trunk(groups):
    """Build AlexNet's layers at the paper's size, for their numbers alone."""
    x = inputs = keras.Input((227, 227, 3))
    x = layers.Conv2D(96, 11, 4, name="conv1")(x)
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    x = layers.Conv2D(256, 5, padding="same", groups=groups, name="conv2")(x)
    x = layers.MaxPooling2D(3, 2, name="pool2")(x)
    x = layers.Conv2D(384, 3, padding="same", name="conv3")(x)
    x = layers.Conv2D(384, 3, padding="same", groups=groups, name="conv4")(x)
    x = layers.Conv2D(256, 3, padding="same", groups=groups, name="conv5")(x)
    x = layers.MaxPooling2D(3, 2, name="pool5")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(40, name="fc6")(x)
    return keras.Model(inputs, x, name="alexnet_trunk")


def built(layer, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


def last(model):
    return ledger.ledger(model).iloc[-1]


def test_alexnet_by_hand(trunk):
    table = ledger.ledger(trunk)
    assert table.loc["conv1", "parameters"] == 11 * 11 * 3 * 96 + 96
    assert table.loc["conv1", "macs"] == 55 * 55 * 96 * 11 * 11 * 3
    assert table.loc["conv1", "activation_bytes"] == 55 * 55 * 96 * 4
    assert table.loc["conv1", "output"] == (55, 55, 96)
    assert table.loc["conv2", "parameters"] == 5 * 5 * 48 * 256 + 256
    assert table.loc["conv2", "macs"] == 27 * 27 * 256 * 5 * 5 * 48
    assert table.loc["fc6", "macs"] == 6 * 6 * 256 * 40
    seen = {"conv1": (11, 4), "pool1": (19, 8), "conv2": (51, 8), "pool2": (67, 16)}
    seen |= {"conv3": (99, 16), "conv4": (131, 16), "conv5": (163, 16), "pool5": (195, 32)}
    for name, (field, stride) in seen.items():
        assert (table.loc[name, "receptive_field"], table.loc[name, "stride"]) == (field, stride)
    for name in ("flatten", "fc6"):
        assert table.loc[name, "receptive_field"] is None and table.loc[name, "stride"] is None


@pytest.mark.parametrize(
    "layer, macs",
    [
        (layers.Conv2D(8, 3, groups=2), 6 * 6 * 8 * 3 * 3 * 2),
        (layers.Conv2D(8, (1, 7), 2, padding="same"), 4 * 4 * 8 * 7 * 4),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 6 * 6 * 4 * 2 * 9),
        (layers.SeparableConv2D(10, 3), 6 * 6 * (9 * 4 + 4 * 10)),
        (layers.Conv2DTranspose(5, 3, 2), 8 * 8 * 9 * 4 * 5),
        (layers.Dense(6), 8 * 8 * 4 * 6),
        (layers.MaxPooling2D(2), 0),
        (layers.BatchNormalization(), 0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_macs_of_each_kind(layer, macs):
    model = built(layer, (8, 8, 4))
    assert last(model)["macs"] == macs
    assert ledger.totals(model)["parameters"] + ledger.totals(model)["statistics"] == (
        model.count_params()
    )


def brute_field(model, size, at):
    """Measure a receptive field: which input rows and columns move one output?"""
    inside = keras.ops.convert_to_numpy
    zero = inside(model(np.zeros((1, size, size, 1), "float32")))
    moved = []
    for axis in (1, 2):
        hit = []
        for i in range(size):
            image = np.zeros((1, size, size, 1), "float32")
            image[(slice(None), i) if axis == 1 else (slice(None), slice(None), i)] = 1
            hit.append(inside(model(image))[0, at, at, 0] != zero[0, at, at, 0])
        moved.append(max(np.flatnonzero(hit)) - min(np.flatnonzero(hit)) + 1)
    return tuple(int(m) for m in moved)


def test_receptive_field_is_what_moves_an_output():
    ones = {"kernel_initializer": "ones", "padding": "same"}
    x = inputs = keras.Input((48, 48, 1))
    x = layers.Conv2D(1, 3, 2, **ones)(x)
    a = layers.Conv2D(1, (1, 5), dilation_rate=2, **ones)(x)
    b = layers.AveragePooling2D(3, 1, padding="same")(layers.Conv2D(1, 3, **ones)(x))
    x = layers.Conv2D(1, 3, **ones)(layers.Add()([x, layers.ReLU()(b)]))
    x = layers.Conv2D(1, 1, **ones)(layers.Concatenate()([a, x]))
    x = layers.Conv2DTranspose(1, 4, 2, **ones)(x)
    model = keras.Model(inputs, x)
    row = last(model)
    assert row["stride"] == 1
    assert row["receptive_field"] == (17, 21)
    assert brute_field(model, 48, 24) == (17, 21)


def test_branches_join_with_the_larger_field():
    inputs = keras.Input((16, 16, 3))
    a = layers.Conv2D(4, 1, name="a")(inputs)
    b = layers.Conv2D(4, 5, padding="same", name="b")(layers.Conv2D(2, 1, name="b0")(inputs))
    x = layers.Concatenate(name="join")([a, b])
    gate = layers.Dense(8, name="gate")(layers.GlobalAveragePooling2D(name="mean")(x))
    gated = layers.Multiply(name="gated")([x, layers.Reshape((1, 1, 8))(gate)])
    table = ledger.ledger(keras.Model(inputs, gated))
    assert table.index[1:5].tolist() == ["a", "b0", "b", "join"]  # branch after branch
    assert table.loc["join", "receptive_field"] == 5
    assert table.loc["mean", "receptive_field"] is None
    assert table.loc["gated", "receptive_field"] is None  # the gate has seen the whole image
    assert table.loc["gated", "stride"] == 1


def test_shared_layers_count_once_but_work_twice():
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, shared(shared(inputs)))
    table = ledger.ledger(model)
    assert table["parameters"].sum() == model.count_params()
    assert table.loc["shared:2", "macs"] == table.loc["shared", "macs"] == 8 * 8 * 3 * 9 * 3
    assert table.loc["shared:2", "receptive_field"] == 5


def test_what_learns_and_what_is_only_kept_are_counted_apart():
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(5, 3, name="conv")(inputs))
    x = layers.Dropout(0.5)(layers.Normalization(mean=[0.0] * 5, variance=[1.0] * 5)(x))
    model = keras.Model(inputs, x)
    table = ledger.ledger(model)
    assert tuple(table.loc["norm", ["parameters", "statistics"]]) == (10, 10)
    assert ledger.totals(table)["statistics"] + ledger.totals(table)["parameters"] == (
        model.count_params()
    )
    model.get_layer("conv").trainable = model.get_layer("norm").trainable = False
    frozen = ledger.ledger(model)  # what is frozen was learned
    assert (frozen[["parameters", "statistics"]] == table[["parameters", "statistics"]]).all(
        axis=None
    )
    assert "statistics" not in table._repr_html_()


def test_operations_and_sequential_models_are_read_too():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.ops.relu(layers.Conv2D(2, 3)(inputs)) + 1.0)
    assert ledger.totals(model)["parameters"] + ledger.totals(model)["statistics"] == (
        model.count_params()
    )
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3), layers.Flatten()])
    assert ledger.totals(model)["macs"] == 6 * 6 * 2 * 27


def test_a_resampled_grid_is_unknown_not_wrong():
    row = last(built(layers.Resizing(5, 5), (8, 8, 3)))
    assert math.isnan(row["receptive_field"]) and math.isnan(row["stride"])


@pytest.mark.slow
def test_vgg16_and_resnet50_as_others_count_them():
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3))
    table = ledger.ledger(model)
    dense = 7 * 7 * 512 * 4096 + 4096 * 4096 + 4096 * 1000
    assert ledger.totals(table)["macs"] + dense == 15_470_264_320
    assert table.loc["block5_conv3", "receptive_field"] == 196
    assert table.loc["block5_pool", "receptive_field"] == 212

    model = keras.applications.ResNet50(weights=None)
    table = ledger.ledger(model)
    assert ledger.totals(table)["macs"] == 3_857_973_248
    sums = ledger.totals(table)
    assert (sums["parameters"], sums["statistics"]) == (25_583_592, 53_120)
    assert sums["parameters"] + sums["statistics"] == model.count_params()
    assert ledger.totals(table)["activation_bytes"] == sum(
        4 * math.prod(layer.output.shape[1:]) for layer in model.layers
    )
    assert table.loc["conv5_block3_out", "receptive_field"] == 483


def test_groups_and_dilation_count(trunk):
    right, ungrouped = ledger.totals(trunk), ledger.totals(alexnet_trunk(groups=1))
    assert ungrouped["parameters"] - right["parameters"] == 1_413_120
    assert ungrouped["macs"] - right["macs"] == (
        27 * 27 * 256 * 25 * 48 + 13 * 13 * (384 * 9 * 192 + 256 * 9 * 192)
    )
    dilated = last(built(layers.Conv2D(1, 3, dilation_rate=3), (16, 16, 1)))
    assert dilated["receptive_field"] == 7


def test_stages_add_up(trunk):
    folded = ledger.stages(
        trunk, {"first": ["conv1", "pool1"], "other convolutions": ["conv", "pool"], "dense": "fc"}
    )
    assert list(folded.index) == ["first", "other convolutions", "dense", "(other)"]
    assert ledger.totals(folded) == ledger.totals(trunk)
    assert folded.loc["first", "receptive_field"] == 19  # conv1 went by its longer prefix
    assert folded.loc["other convolutions", "output"] == (6, 6, 256)
    assert folded.loc["other convolutions", "kind"] == "4 Conv2D"
    assert folded.loc["(other)", "kind"] == "InputLayer, Flatten"
    assert folded.loc["dense", "receptive_field"] is None
    everything = ledger.stages(ledger.ledger(trunk), {"all": ""})
    assert ledger.totals(everything) == ledger.totals(trunk)


def test_stages_refuse_what_they_do_not_find(trunk):
    with pytest.raises(ValueError, match=r"begins with 'convx' \(stage 'first'\).*conv1"):
        ledger.stages(trunk, {"first": "convx"})
    with pytest.raises(ValueError, match="Both 'a' and 'b' ask for 'conv'"):
        ledger.stages(trunk, {"a": "conv", "b": "conv"})


def test_errors_say_what_to_do():
    inner = built(layers.Conv2D(2, 3, name="conv"), (8, 8, 3))
    with pytest.raises(ValueError, match=r"ledger\.flattened\(model\).*model.get_layer\("):
        ledger.ledger(built(inner, (8, 8, 3)))
    with pytest.raises(ValueError, match="fixed input_shape"):
        ledger.ledger(built(layers.Conv2D(2, 3), (None, None, 3)))
    with pytest.raises(ValueError, match=r"keras\.Input"):
        ledger.ledger(keras.Sequential([layers.Dense(2)]))


def test_a_notebook_shows_a_readable_table(trunk):
    table = ledger.ledger(trunk)
    page = table._repr_html_()
    assert "105,415,200" in page and "55×55×96" in page and ">all<" in page
    assert f"<td>{table['parameters'].sum():,}</td>" in page  # the sums' row
    assert isinstance(table.head(2), pd.DataFrame) and "total" in table.head(2)._repr_html_()
    assert ">11<" in table[["receptive_field"]]._repr_html_()
    assert "nan" not in page.lower() and "None" not in page


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_network_of_shapes_is_counted_as_one_of_values_is_and_leaves_no_trace(policy):
    drawn = []

    def draw(shape, dtype=None):
        drawn.append(shape)
        return keras.ops.ones(shape, dtype)

    def build():
        image = keras.Input((16, 16, 3))
        x = layers.BatchNormalization()(layers.Conv2D(4, 3, kernel_initializer=draw)(image))
        return keras.Model(image, layers.Dense(10)(layers.Flatten()(x)))

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        with ledger.counting():
            sketch = build()
        assert keras.config.dtype_policy().name == policy
        counted = ledger.totals(sketch)
        keras.Sequential([keras.Input((2,)), layers.Lambda(lambda x: x + 1)])  # draws what waits
        whole = build()
    finally:
        keras.config.set_dtype_policy(before)
    assert counted == ledger.totals(whole) and drawn == [(3, 3, 3, 4)]  # of the whole alone
    images = np.zeros((2, 16, 16, 3), "float32")
    assert whole.predict(images, verbose=0).shape == (2, 10)
