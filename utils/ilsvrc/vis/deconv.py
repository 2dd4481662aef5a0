"""What set a unit off, drawn in pixels: the deconvnet, and guided backpropagation beside it.

Both are the gradient of the unit's strongest activation with another rule at each ReLU: the
gradient of a convolution is its transposed filter, that of a max-pooling is its switch.
"""

import keras
import numpy as np
from keras import ops

from ilsvrc import backend, ledger
from ilsvrc.vis import checks, precision

BATCH = 16  # images at a time on the device


@precision.in_float32
def deconvnet(model, images, layer, units) -> np.ndarray:
    """Project a unit's strongest activation back to pixels (Zeiler and Fergus 2014, section 2.1).

    In each image the place where the unit answers most keeps its activation, and all others of the
    layer are set to zero. This signal then goes down: through a max-pooling to the place that held
    the maximum (where windows overlap, their signals add), through a ReLU only where the signal is
    positive, through a convolution by its transposed filters. As in the paper, a normalisation
    without weights (a layer class with "Norm" in its name, such as local response normalisation)
    lets the signal through as it is. All other layers are linear at test time: theirs is the
    transpose.

    Args:
        model: a flat Keras model whose nonlinearities below `layer` are ReLUs and poolings. It is
            left as it was: a copy of its lower part is made for each call.
        images: (n, height, width, 3), prepared as the model expects them.
        layer: the name of a layer with maps. Before or after its ReLU makes no difference.
        units: one channel of that layer for all images, or n, one for each.

    Returns:
        (n, height, width, 3) float32, the pattern with its sign; the signal that came down began as
        the activation. It is zero outside the unit's receptive field, and everywhere if the unit
        is silent.

    Raises:
        ValueError: if there is no such layer or unit, the images do not fit, or the network bends
            its signal by anything but ReLUs.
    """
    return project(model, images, layer, units, lambda x, signal: ops.relu(signal))


@precision.in_float32
def guided_backprop(model, images, layer, units) -> np.ndarray:
    """Project a unit's strongest activation back by guided backpropagation (Springenberg 2015).

    As `deconvnet`, but a ReLU lets the signal through only where it is positive *and* the ReLU's
    own input was: the deconvnet's rule and the gradient's, both at once. Arguments, returned array
    and errors are those of `deconvnet`.
    """

    def rule(x, signal):
        return ops.where(x > 0, ops.relu(signal), 0)

    return project(model, images, layer, units, rule)


def contrast(projections, percentile=99.5) -> np.ndarray:
    """Turn projections into colours, each on a scale of its own: zero is mid-grey.

    Args:
        projections: (n, height, width, 3), best cropped to the receptive fields by `crops`, so
            that the share below counts pixels that the unit sees.
        percentile: the share of values that keep their size; stronger ones are cut off. One bright
            pixel would else leave the rest grey.

    Returns:
        (n, height, width, 3) floats from 0 to 1.
    """
    projections = np.asarray(projections, float)
    limit = np.percentile(np.abs(projections), percentile, axis=(1, 2, 3), keepdims=True)
    return np.clip(0.5 + 0.5 * projections / np.where(limit > 0, limit, 1), 0, 1)


def project(model, images, layer, units, rule) -> np.ndarray:
    """Send each unit's strongest activation down to the pixels, with `rule` at each ReLU."""
    checks.maps(model, layer)
    checks.differentiable(model)
    lower = _lower_part(model, layer, rule)
    images = checks.images(model, images)
    units = checks.units(lower.outputs[0], units)
    if units.shape not in ((), (len(images),)):
        raise ValueError(f"Give one unit, or one for each of {len(images)} images; got {units}.")
    units = np.broadcast_to(units, len(images))

    def energy(x, units):
        maps = ops.cast(lower(x, training=False), "float32")
        mine = ops.sum(maps * ops.one_hot(units, maps.shape[-1])[:, None, None], axis=-1)
        mine = ops.reshape(mine, (-1, maps.shape[1] * maps.shape[2]))
        strongest = ops.sum(mine * ops.one_hot(ops.argmax(mine, axis=1), mine.shape[1]), axis=1)
        return ops.square(ops.relu(strongest)) / 2  # its gradient by the activation: the activation

    down = backend.value_and_grad(energy)
    parts = [slice(i, i + BATCH) for i in range(0, len(images), BATCH)]
    signals = [ops.convert_to_numpy(down(images[p], units[p])[1]) for p in parts]
    return np.concatenate(signals)


def _with_rule(function, rule):
    """Return `function` with another gradient: `rule`, of its input and the signal from above."""

    @ops.custom_gradient
    def ruled(x):
        def gradient(*args, upstream=None):
            return rule(x, args[0] if upstream is None else upstream)  # torch names it

        return function(x), gradient

    return ruled


def _lower_part(model, layer, rule) -> keras.Model:
    """Copy the part of a model that leads to `layer`, with `rule` as the gradient of every ReLU.

    A ReLU may be a layer of its own or a convolution's `activation`, and be used several times.
    """
    part = keras.Model(model.inputs, checks.maps(model, layer))
    for use in ledger.calls(part):
        _check_bends(use.layer)
    relu = _with_rule(ops.relu, rule)

    def activation(function, original):
        policy = original.dtype_policy
        return keras.layers.Activation(function, name=original.name, dtype=policy)

    def copied(original):
        if isinstance(original, keras.layers.ReLU):
            return activation(relu, original)
        if type(original).__name__ in ledger.NORMALISED:
            same = _with_rule(original, lambda x, signal: signal)
            return activation(same, original)
        config = original.get_config()
        bends = checks.called(getattr(original, "activation", None)) == "relu"
        copy = type(original).from_config(config | ({"activation": "relu"} if bends else {}))
        if bends:  # Keras' own, or the framework's of the same name
            copy.activation = relu
        return copy

    copy = keras.models.clone_model(part, clone_function=copied)
    for original in part.layers:
        if original.weights:
            copy.get_layer(original.name).set_weights(original.get_weights())
    return copy


BENT = (  # neither linear nor a ReLU nor a choice
    *(keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU, keras.layers.Softmax),
    *(keras.layers.LayerNormalization, keras.layers.GroupNormalization, keras.layers.Multiply),
    *(keras.layers.UnitNormalization, keras.layers.Minimum, keras.layers.Maximum),
)


def _is_relu(function) -> bool:
    """Return whether a function called "relu" is one: a user's may cut off above, too."""
    x = np.array([-100.0, -1.0, -0.1, 0.1, 1.0, 7.0, 100.0], "float32")
    found = ops.convert_to_numpy(function(ops.convert_to_tensor(x)))
    return bool((found == np.maximum(x, 0)).all())


def _check_bends(layer) -> None:
    """Raise a ValueError if a layer bends its signal in a way other than the plain ReLU's."""
    known = (None, "linear", "relu")
    if not ledger.understood(layer):
        raise ValueError(
            f"{layer.name!r} is a {type(layer).__name__}, and the deconvnet does not know what it "
            "does. Saliency, integrated gradients and occlusion take any model."
        )
    plain = isinstance(layer, keras.layers.Layer) and not isinstance(layer, BENT)
    plain = plain and checks.called(getattr(layer, "activation", None)) in known
    if plain and checks.called(getattr(layer, "activation", None)) == "relu":
        plain = _is_relu(layer.activation)
    if isinstance(layer, keras.layers.ReLU):
        plain = layer.max_value is None and not layer.negative_slope and not layer.threshold
    if not plain:
        kind = getattr(getattr(layer, "activation", None), "__name__", type(layer).__name__)
        raise ValueError(
            f"{layer.name!r} is a {kind}. The deconvnet and guided backpropagation are made for "
            "networks of plain ReLUs, written as layers.ReLU() or activation='relu'; saliency, "
            "integrated gradients and occlusion take any network."
        )
