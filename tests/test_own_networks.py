"""Networks that people bring: nested, subclassed, with unknown layers, heads and functions."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from ilsvrc import ledger, vis

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 16, 14, 3)).astype("float32")
LOOKS = {
    "saliency": lambda model: vis.saliency(model, IMAGES, 1),
    "smoothgrad": lambda model: vis.smoothgrad(model, IMAGES, 1, n=3),
    "integrated": lambda model: vis.integrated_gradients(model, IMAGES, 1, steps=8)[0],
    "occlusion": lambda model: vis.occlusion(model, IMAGES, 1, patch=6, stride=5),
}


def body(name="body"):
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 14, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    return keras.Model(image, layers.MaxPooling2D(name="pool")(x), name=name)


def transfer():
    """Keras' own guide: augmentation and a base, each a model, inside another."""
    keras.utils.set_random_seed(1)
    image = keras.Input((16, 14, 3))
    x = keras.Sequential([layers.RandomFlip(name="flip")], name="augmentation")(image)
    x = layers.GlobalAveragePooling2D(name="mean")(body()(x))
    return keras.Model(image, layers.Dense(4, name="head")(x), name="transfer")


class Subclass(keras.Model):
    def __init__(self):
        super().__init__(name="subclass")
        keras.utils.set_random_seed(1)
        self.body, self.mean, self.head = body(), layers.GlobalAveragePooling2D(), layers.Dense(4)

    def call(self, x):
        return {"answer": self.head(self.mean(self.body(x))), "maps": self.body(x)}


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_at_a_nested_or_subclassed_model_is_that_at_the_flat_one(look):
    flat = ledger.flattened(transfer())
    expected = LOOKS[look](flat)
    np.testing.assert_allclose(LOOKS[look](transfer()), expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(LOOKS[look](Subclass()), expected, rtol=1e-3, atol=1e-5)
    assert np.abs(expected).max() > 0


@pytest.mark.once
def test_a_flattened_model_is_the_same_function_of_the_same_weights():
    nested = transfer()
    flat = ledger.flattened(nested)
    names = [layer.name for layer in flat.layers]
    assert names[1:] == ["flip", "conv", "norm", "pool", "mean", "head"]
    assert flat.get_layer("conv") is nested.get_layer("body").get_layer("conv")
    np.testing.assert_allclose(
        ops.convert_to_numpy(flat(IMAGES, training=False)),
        ops.convert_to_numpy(nested(IMAGES, training=False)),
        rtol=1e-6,
    )
    assert ledger.totals(flat)["parameters"] == 6 * 28 + 12 + 4 * 7


@pytest.mark.once
def test_models_within_models_within_models_are_flattened():
    outer = keras.Sequential([keras.Input((16, 14, 3)), transfer()], name="outer")
    assert len(ledger.calls(ledger.flattened(outer))) == 7
    with pytest.raises(ValueError, match=r"'transfer'.*ledger\.flattened\(model\)"):
        ledger.ledger(outer)
    image = keras.Input((16, 14, 3))
    holds_a_subclass = keras.Model(image, Subclass()(image)["answer"])
    with pytest.raises(ValueError, match=r"'subclass' is a subclass .*Saliency"):
        ledger.flattened(holds_a_subclass)


@pytest.mark.once
@pytest.mark.slow
def test_a_nested_network_of_keras_applications_is_flattened_and_counted():
    nested = keras.applications.ConvNeXtTiny(weights=None, input_shape=(32, 32, 3), classes=10)
    assert ledger.totals(ledger.flattened(nested))["parameters"] == nested.count_params()


# Heads that are no logits


def headed(*ends):
    image = keras.Input((16, 14, 3))
    x = layers.Dense(4, name="d")(layers.Flatten()(image))
    for end in ends:
        x = end(x)
    return keras.Model(image, x, name="net")


def probability(x):
    return ops.softmax(2 * x)


HEADS = {
    "softmax": layers.Activation("softmax"),
    "a softmax layer": layers.Softmax(),
    "an operation": ops.softmax,
    "log-softmax": layers.Activation("log_softmax"),
    "sigmoid": layers.Activation("sigmoid"),
    "a dense layer with a softmax": layers.Dense(4, activation="softmax"),
    "a function of one's own": layers.Lambda(probability),
    # Keras' own ending of a network in mixed precision
    "softmax, then float32": lambda x: layers.Activation("linear")(layers.Softmax()(x)),
    "shares by hand": layers.Lambda(lambda x: ops.exp(x) / ops.sum(ops.exp(x), -1, keepdims=True)),
}


@pytest.mark.parametrize("head", HEADS)
def test_probabilities_are_refused_with_the_way_out(head):
    model = headed(HEADS[head])
    for look in (LOOKS["saliency"], lambda m: vis.class_activation_map(m, IMAGES, 1)):
        with pytest.raises(ValueError, match=r"probabilities.*logits=True.*classifier_activation"):
            look(model)
    within = keras.Sequential([keras.Input((16, 14, 3)), model], name="outer")
    with pytest.raises(ValueError, match="puts out probabilities"):
        LOOKS["saliency"](within)


def test_what_is_like_a_probability_and_is_none_is_taken():
    for end in (layers.ReLU(), layers.Lambda(lambda x: x / 100), layers.Activation("linear")):
        assert LOOKS["saliency"](headed(end)).shape == (3, 16, 14)


def test_what_takes_more_than_images_says_how_it_could_be_asked():
    image, other = keras.Input((16, 14, 3)), keras.Input((2,))
    x = layers.Concatenate()([layers.Flatten()(image), other])
    two = keras.Model([image, other], layers.Dense(3)(x), name="two")
    with pytest.raises(ValueError, match=r"'two' takes 2 inputs.*model\(\[image, constant\]\)"):
        LOOKS["saliency"](two)
    fixed = keras.Input((16, 14, 3))
    constant = layers.Lambda(lambda x: ops.zeros((ops.shape(x)[0], 2)), output_shape=(2,))(fixed)
    one = keras.Model(fixed, two([fixed, constant]))
    assert LOOKS["saliency"](one).shape == (3, 16, 14)
    with pytest.raises(ValueError, match="A Keras model is asked for, got a function"):
        vis.saliency(lambda x: x, IMAGES, 0)


# What the ledger does not know


class Block(layers.Layer):
    """Two convolutions that the ledger cannot see."""

    def __init__(self, **options):
        super().__init__(**options)
        self.one = layers.Conv2D(4, 3, padding="same")
        self.two = layers.Conv2D(4, 3, padding="same")

    def call(self, x):
        return self.two(self.one(x))


class Pools(layers.Layer):
    """Layers within, and no weight in any of them."""

    def __init__(self, **options):
        super().__init__(**options)
        self.pool = layers.AveragePooling2D(5, 1, padding="same")

    def call(self, x):
        return self.pool(x)


class Scale(layers.Layer):
    """Weights of its own, and no layer within."""

    def build(self, shape):
        self.scale = self.add_weight((shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale


class Twice(layers.Conv2D):
    """A subclass of a layer that is understood, with a call of its own."""

    def call(self, x):
        return super().call(super().call(x))


class Average(layers.Layer):
    """Neither weights nor a layer within, and yet each output sees five inputs a side."""

    def call(self, x):
        return ops.average_pool(x, 5, 1, "same")


KERNEL = RNG.normal(size=(3, 3, 4, 4)).astype("float32")
UNKNOWN = {
    "a subclass": Twice(4, 3, padding="same", name="unknown"),
    "a pooling by hand": Average(name="unknown"),
    "a convolution by hand": layers.Lambda(
        lambda x: ops.conv(x, KERNEL, padding="same"), name="unknown"
    ),
    "a block": Block(name="unknown"),
    "poolings within": Pools(name="unknown"),
    "weights of its own": Scale(name="unknown"),
    "attention": layers.EinsumDense("byxc,cd->byxd", output_shape=(16, 14, 4), name="unknown"),
    "a wrapper": layers.SpectralNormalization(layers.Conv2D(4, 3, padding="same"), name="unknown"),
    "a layer over time": layers.TimeDistributed(layers.Dense(4), name="unknown"),
}


@pytest.mark.once
@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_is_not_understood_is_never_a_number(kind):
    image = keras.Input((16, 14, 3))
    x = UNKNOWN[kind](layers.Conv2D(4, 3, padding="same", name="conv")(image))
    model = keras.Model(image, layers.Conv2D(2, 1, name="last")(x))
    row = ledger.ledger(model).loc["unknown"]
    assert np.isnan(row.macs) and np.isnan(row.receptive_field) and np.isnan(row.stride)
    assert np.isnan(ledger.ledger(model).loc["last"].receptive_field)
    assert np.isnan(ledger.totals(model)["macs"])
    sums = ledger.totals(model)
    assert sums["parameters"] + sums["statistics"] == model.count_params()
    assert ">?<" in ledger.ledger(model)._repr_html_()
    assert ledger.boxes(model, "last", [[8, 7]]).tolist() == [[-1, -1, 17, 15]]


class NormTanh(layers.Layer):
    """What is called a norm need not be one."""

    def call(self, x):
        return ops.tanh(x)


class Clipped(layers.ReLU):
    def call(self, x):
        return ops.clip(x, 0, 1)


BEND = {
    "Block": Block(name="own"),
    "NormTanh": NormTanh(name="own"),
    "Clipped": Clipped(name="own"),
    "Lambda": layers.Lambda(ops.tanh, name="own"),
    "LayerNormalization": layers.LayerNormalization(name="own"),
    "UnitNormalization": layers.UnitNormalization(name="own"),
}


@pytest.mark.parametrize("kind", BEND)
def test_the_deconvnet_refuses_what_it_does_not_know(kind):
    image = keras.Input((16, 14, 3))
    model = keras.Model(image, layers.ReLU(name="r")(BEND[kind](image)))
    with pytest.raises(ValueError, match=rf"'own' is a {kind}"):
        vis.deconvnet(model, IMAGES, "r", 0)


def test_a_function_called_relu_that_is_none_is_refused():
    def relu(x):
        return ops.clip(x, 0, 6)

    image = keras.Input((16, 14, 3))
    model = keras.Model(image, layers.Conv2D(5, 3, activation=relu, name="c1")(image))
    with pytest.raises(ValueError, match="'c1' is a relu"):
        vis.deconvnet(model, IMAGES, "c1", 0)


def test_normalised_inputs_scale_the_deconvnets_signal():
    found = []
    for scale in (
        layers.Rescaling(10.0),
        layers.Normalization(mean=[0.0] * 3, variance=[0.01] * 3),
    ):
        keras.utils.set_random_seed(0)
        image = keras.Input((16, 14, 3))
        x = layers.Conv2D(5, 3, activation="relu", name="c1")(scale(image))
        found.append(vis.deconvnet(keras.Model(image, x), IMAGES, "c1", 1))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-6)


# A layer that stands in several models


NAMED = {
    "activations": lambda model: vis.activations(model, IMAGES, ["conv"])["conv"],
    "deconvnet": lambda model: vis.deconvnet(model, IMAGES, "conv", 1),
    "grad_cam": lambda model: vis.grad_cam(model, IMAGES, 1, "conv", raw=True),
    "class map": lambda model: vis.class_activation_map(model, IMAGES, 1, raw=True),
}


def shared():
    """A convolution that was part of another model before; here it sees the images times 100."""
    keras.utils.set_random_seed(0)
    conv = layers.Conv2D(6, 3, activation="relu", name="conv")
    conv(keras.Input((16, 14, 3)))
    image = keras.Input((16, 14, 3))
    x = layers.GlobalAveragePooling2D(name="mean")(conv(layers.Rescaling(100.0)(image)))
    return keras.Model(image, layers.Dense(4, name="head")(x))


@pytest.mark.parametrize("look", NAMED)
def test_a_layer_is_looked_at_where_it_stands_in_this_model(look):
    model = shared()
    conv, head = model.get_layer("conv"), model.get_layer("head")
    fresh = keras.Sequential([keras.Input((16, 14, 3)), layers.Rescaling(100.0)])
    for one in (conv, model.get_layer("mean"), head):
        fresh.add(type(one).from_config(one.get_config()))
    fresh.set_weights(model.get_weights())
    found = NAMED[look](model)
    np.testing.assert_allclose(found, NAMED[look](fresh), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("look", NAMED)
def test_a_flattened_model_can_be_asked_for_its_layers(look):
    assert np.isfinite(NAMED[look](ledger.flattened(transfer()))).all()


def relu(x):
    return ops.maximum(x, 0)


def test_a_relu_that_is_given_as_a_function_is_a_relu():
    found = []
    for function in ("relu", keras.activations.relu, ops.relu, relu):
        keras.utils.set_random_seed(0)
        image = keras.Input((16, 14, 3))
        x = layers.Conv2D(5, 3, activation=function, name="c1")(image)
        model = keras.Model(image, layers.Conv2D(5, 3, activation=function, name="c2")(x))
        found.append(vis.deconvnet(model, IMAGES, "c2", 1))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", ["relu6", "silu", ops.silu, "leaky_relu"])
def test_other_bends_are_refused_by_name(function):
    image = keras.Input((16, 14, 3))
    model = keras.Model(image, layers.Conv2D(5, 3, activation=function, name="c1")(image))
    name = getattr(function, "__name__", function)
    with pytest.raises(ValueError, match=f"'c1' is a {name}"):
        vis.deconvnet(model, IMAGES, "c1", 0)


def test_a_frozen_model_has_no_gradients_to_measure():
    model = headed()
    model.trainable = False
    with pytest.raises(ValueError, match=r"frozen. Set model.trainable = True"):
        vis.gradient_norms(model, IMAGES, np.zeros(3, int))
