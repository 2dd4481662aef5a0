"""Networks that people bring: nested, subclassed, with unknown layers, heads and functions."""

import re

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
        return self.head(self.mean(self.body(x))), self.body(x)


class Named(Subclass):
    def call(self, x):
        answer, maps = super().call(x)
        return {"logits": answer, "body": maps}


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_at_a_nested_or_subclassed_model_is_that_at_the_flat_one(look):
    flat = ledger.flattened(transfer())
    expected = LOOKS[look](flat)
    np.testing.assert_allclose(LOOKS[look](transfer()), expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(LOOKS[look](Subclass()), expected, rtol=1e-3, atol=1e-5)
    assert np.abs(expected).max() > 0


def test_of_outputs_with_names_the_one_that_is_meant_is_asked_for():
    flat = ledger.flattened(transfer())
    image = keras.Input((16, 14, 3))
    for model in (Named(), keras.Model(image, Named()(image))):
        with pytest.raises(ValueError, match=r"'logits'.*Say which.*model\(image\)\['"):
            LOOKS["saliency"](model)
    meant = keras.Model(image, Named()(image)["logits"])
    expected = LOOKS["saliency"](flat)
    np.testing.assert_allclose(LOOKS["saliency"](meant), expected, rtol=1e-3, atol=1e-5)


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
    holds_a_subclass = keras.Model(image, Subclass()(image)[0])
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
    "a sigmoid, handed on": lambda x: layers.Identity()(layers.Activation("sigmoid")(x)),
    "a softmax, dropped out and flat": lambda x: layers.Flatten()(
        layers.Dropout(0.1)(layers.Softmax()(x))
    ),
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


def test_probabilities_are_refused_wherever_they_count():
    logits, labels = headed(), np.zeros(3, int)
    shares = layers.Softmax()(layers.Dense(4)(logits.output))
    both = keras.Model(logits.input, [logits.output, shares], name="both")
    assert vis.saliency(both, IMAGES, 1).max() > 0  # asks about the first alone
    assert vis.gradient_norms(both, IMAGES, labels)["d"] > 0
    with pytest.raises(ValueError, match="puts out probabilities"):
        vis.gradient_norms(both, IMAGES, labels, weights=(1, 0.3))
    square = keras.Input((16, 16, 3))
    dense = layers.Dense(4, activation="softmax", name="shares")
    model = keras.Model(square, dense(layers.Flatten()(square)))
    with pytest.raises(ValueError, match=r"'shares' .*its softmax.*logits=True or activation=None"):
        vis.feature_visualisation(model, "shares", [0], mean=0)


SQUARE = RNG.normal(size=(3, 16, 16, 3)).astype("float32")
ASKED = {
    "activations": lambda model: vis.activations(model, SQUARE, ["conv"]),
    "deconvnet": lambda model: vis.deconvnet(model, SQUARE, "conv", 0),
    "grad_cam": lambda model: vis.grad_cam(model, SQUARE, 0, "conv"),
    "class map": lambda model: vis.class_activation_map(model, SQUARE, 0),
    "gradient norms": lambda model: vis.gradient_norms(model, SQUARE, np.zeros(3, int)),
    "a picture": lambda model: vis.feature_visualisation(model, "conv", [0], 0, steps=1),
    "patches": lambda model: vis.top_patches(model, "conv", SQUARE),
    "saliency": lambda model: vis.saliency(model, SQUARE, 0),
    "a twin": vis.randomised,
    "a drawing": vis.diagram,
    "a ledger": ledger.ledger,
    "flattened": ledger.flattened,
}


def two_inputs():
    image, other = keras.Input((16, 16, 3)), keras.Input((2,))
    maps = layers.Conv2D(4, 3, name="conv")(image)
    both = layers.Concatenate()([layers.GlobalAveragePooling2D()(maps), other])
    return keras.Model([image, other], layers.Dense(4)(both))


class Plain(keras.Model):
    def __init__(self):
        super().__init__(name="plain")
        self.conv = layers.Conv2D(4, 3, name="conv")

    def call(self, x):
        return ops.mean(self.conv(x), (1, 2))


def not_built():
    return keras.Sequential([layers.Conv2D(4, 3, name="conv"), layers.GlobalMaxPooling2D()])


NO_GRAPH = r"graph yet|without a graph|A Keras model is asked for|no defined"
REFUSED = {
    "a subclass": (Plain, NO_GRAPH, {"saliency"}),
    "not built": (not_built, NO_GRAPH, {"saliency"}),
    "a file": (lambda: "network.keras", NO_GRAPH, set()),
    "two inputs": (two_inputs, "takes 2 inputs", {"a twin", "a drawing", "a ledger", "flattened"}),
}


@pytest.mark.once
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_looked_into_is_refused_in_our_words(kind):
    make, words, fine = REFUSED[kind]
    for name in set(ASKED) - fine:
        with pytest.raises(ValueError) as refused:
            ASKED[name](make())
        assert re.search(words, str(refused.value)), (name, str(refused.value))
        assert "in user code" not in str(refused.value), name
    for name in fine:
        ASKED[name](make())


def test_a_network_with_a_function_in_it_has_a_twin():
    image = keras.Input((16, 14, 3))
    x = layers.Lambda(lambda x: 2 * x)(layers.Conv2D(4, 3, name="conv")(image))
    model = keras.Model(image, layers.Dense(4)(layers.Flatten()(x)))
    twin = vis.randomised(model)
    assert not np.allclose(twin.get_weights()[0], model.get_weights()[0])
    assert not np.allclose(answers(twin), answers(model))


def test_a_loss_of_ones_own_does_not_follow_to_a_twin():
    model = headed()
    model.compile(loss=lambda labels, logits: ops.mean(logits))
    twin = vis.randomised(model)
    assert not twin.compiled and not np.allclose(answers(twin), answers(model))


@pytest.mark.once
def test_models_with_layers_of_one_name_cannot_be_one_graph():
    image = keras.Input((16, 14, 3))
    x = layers.Conv2D(3, 3, name="conv")(image)
    first = keras.Model(image, x, name="first")
    again = keras.Input(first.output_shape[1:])
    second = keras.Model(again, layers.Conv2D(3, 3, name="conv")(again), name="second")
    both = keras.Model(image, second(first(image)), name="both")
    with pytest.raises(ValueError, match=r"'both' cannot be one graph: .*same name.*'?conv"):
        ledger.flattened(both)


@pytest.mark.once
def test_squares_are_covered_in_images_alone():
    for shape, layer in [((4, 16, 14, 3), layers.Conv3D(4, 3)), ((32, 3), layers.Conv1D(4, 3))]:
        more = keras.Input(shape)
        model = keras.Model(more, layers.Dense(3)(layers.Flatten()(layer(more))))
        with pytest.raises(ValueError, match=r"squares of images \(n, height, width, channels\)"):
            vis.occlusion(model, np.ones((2, *shape)), 1, 4, 4)


def test_probabilities_of_a_network_of_any_size_are_refused():
    image = keras.Input((None, None, 3))
    x = layers.Dense(4)(layers.GlobalAveragePooling2D()(image))
    assert LOOKS["saliency"](keras.Model(image, x)).shape == (3, 16, 14)
    with pytest.raises(ValueError, match="puts out probabilities"):
        LOOKS["saliency"](keras.Model(image, layers.Lambda(probability)(x)))


def test_what_lets_no_gradient_through_gives_a_map_of_zeros():
    image = keras.Input((16, 14, 3))
    x = layers.Dense(4)(layers.Flatten()(ops.stop_gradient(image)))
    assert not LOOKS["saliency"](keras.Model(image, x)).any()


def answers(model):
    return ops.convert_to_numpy(model(IMAGES, training=False))


@pytest.mark.parametrize("look", LOOKS)
def test_images_without_a_gradient_an_order_or_a_number_are_refused(look):
    with pytest.raises(ValueError, match="`images` is empty"):
        vis.saliency(headed(), IMAGES[:0], 1)
    broken = IMAGES.copy()
    broken[1, 3, 3, 0] = np.nan
    with pytest.raises(ValueError, match="Image 1 holds values that are no numbers"):
        vis.saliency(headed(), broken, 1)
    whole = keras.Input((16, 14, 3), dtype="uint8")
    model = keras.Model(whole, layers.Dense(4)(layers.Flatten()(layers.Rescaling(0.1)(whole))))
    with pytest.raises(ValueError, match="is uint8, and whole numbers have no gradient"):
        LOOKS[look](model)
    first = keras.Input((16, 14, 3))
    x = layers.GlobalAveragePooling2D(data_format="channels_first", name="mean")(first)
    with pytest.raises(ValueError, match=r"'mean' has its channels before .*channels_last"):
        LOOKS[look](keras.Model(first, layers.Dense(4)(x)))


def test_options_that_ask_for_nothing_are_refused():
    model = headed()
    with pytest.raises(ValueError, match="n is a number of 1 or more, got 0"):
        vis.smoothgrad(model, IMAGES, 1, n=0)
    with pytest.raises(ValueError, match="noise is a number of 0 or more"):
        vis.smoothgrad(model, IMAGES, 1, noise=-1)
    with pytest.raises(ValueError, match="steps is a number of 1 or more"):
        vis.integrated_gradients(model, IMAGES, 1, steps=0)
    with pytest.raises(ValueError, match="k is a number of 1 or more"):
        vis.top_patches(body(), "conv", IMAGES, k=0)
    with pytest.raises(ValueError, match="std divides the grey levels"):
        vis.feature_visualisation(model, "d", [0], mean=0, std=0)
    for labels in ([0, 1], [0, 1, 4], [0.5, 1, 2]):
        with pytest.raises(ValueError, match="integers from 0 to 3, one for each of 3 images"):
            vis.gradient_norms(model, IMAGES, np.array(labels))
    with pytest.raises(ValueError, match=r"Weights .* give a number for each output"):
        vis.gradient_norms(model, IMAGES, np.zeros(3, int), weights=(np.nan,))


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


def lora():
    layer = layers.Dense(4, name="unknown")
    layer.build((None, 16, 14, 4))
    layer.enable_lora(2)
    return layer


def quantised():
    layer = layers.Dense(4, name="unknown")
    layer.build((None, 16, 14, 4))
    layer.quantize("int8")
    return layer


@pytest.mark.once
@pytest.mark.parametrize("make", [lora, quantised])
def test_a_kernel_that_is_kept_as_something_else_is_not_counted(make):
    image = keras.Input((16, 14, 3))
    x = make()(layers.Conv2D(4, 3, padding="same")(image))
    assert np.isnan(ledger.totals(keras.Model(image, x))["macs"])


# What moves or mixes places costs no MAC, but nobody can tell any more what an output sees.
MOVED = {
    "a pooling": lambda x: ops.average_pool(x, 3, 1, "same"),
    "a shift": lambda x: ops.roll(x, 2, axis=1),
    "a mirror": lambda x: x[:, ::-1],
    "a transpose": layers.Permute((2, 1, 3)),
    "a softmax over a column": layers.Softmax(axis=1),
    "another": lambda x: ops.softmax(x, axis=2),
    "a norm over space": layers.LayerNormalization(axis=[1, 2]),
    "an axis that is gone": lambda x: ops.mean(x, axis=1),
}


@pytest.mark.once
@pytest.mark.parametrize("kind", MOVED)
def test_what_moves_places_has_no_field_that_can_be_told(kind):
    image = keras.Input((16, 16, 3))
    model = keras.Model(image, MOVED[kind](layers.Conv2D(4, 3, padding="same")(image)))
    row = ledger.ledger(model).iloc[-1]
    assert np.isnan(row.receptive_field) and np.isnan(row.stride)
    assert row.macs == 0


@pytest.mark.once
def test_what_leaves_places_where_they_are_keeps_its_field():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, padding="same")(image)
    for move in (lambda x: ops.softmax(x, axis=-1), layers.LayerNormalization(), lambda x: 2 * x):
        assert ledger.ledger(keras.Model(image, move(x))).iloc[-1].receptive_field == 3
    row = ledger.ledger(keras.Model(image, layers.GroupNormalization(2)(x))).iloc[-1]
    assert row.receptive_field is None and row.stride == 1  # its mean is over the whole image


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
