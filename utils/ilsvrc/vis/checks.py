"""What every look inside asks of a model and its images, with errors that say what would do."""

import keras
import numpy as np

from ilsvrc import ledger
from ilsvrc.hints import did_you_mean


def outputs(model, layers) -> list[keras.KerasTensor]:
    """Return the outputs of some layers of a flat model, by name.

    Raises:
        ValueError: if the model is not flat (as `ledger.calls`), or has no such layer; the message
            names the layers that would do.
    """
    uses = {use.name: use for use in ledger.calls(model)}
    for name in layers:
        if name not in uses:
            maps = [use.name for use in uses.values() if len(use.shape) == 3 and use.inputs]
            raise ValueError(
                f"{model.name!r} has no layer {name!r}.{did_you_mean(name, uses)} "
                f"Layers with maps: {', '.join(maps)}."
            )
    return [uses[name].tensor for name in layers]


def maps(model, layer: str) -> keras.KerasTensor:
    """Return the output of a layer that has maps, (None, height, width, channels).

    Raises:
        ValueError: as `outputs`, or if the layer's output has no height and width.
    """
    (tensor,) = outputs(model, [layer])
    if len(tensor.shape) != 4:
        fit = [use.name for use in ledger.calls(model) if len(use.shape) == 3 and use.inputs]
        raise ValueError(
            f"{layer!r} puts out {tuple(tensor.shape[1:])}, not maps with a height and a width. "
            f"Layers with maps: {', '.join(fit)}."
        )
    return tensor


def images(model, images) -> np.ndarray:
    """Return images as a float32 array (n, height, width, channels) that the model takes.

    Raises:
        ValueError: if their shape is another; one image alone wants `image[None]`.
    """
    images = np.asarray(images, "float32")
    if not getattr(model, "inputs", None):  # a subclass: its own call knows what it takes
        if images.ndim != 4:
            raise ValueError(f"Images are (n, height, width, channels), got {images.shape}.")
        return images
    expected = tuple(model.inputs[0].shape[1:])
    fits = images.ndim == len(expected) + 1 and all(
        e in (None, s) for e, s in zip(expected, images.shape[1:], strict=True)
    )
    if not fits:
        raise ValueError(
            f"{model.name!r} takes images of shape (n, {', '.join(map(str, expected))}), "
            f"got {images.shape}. Prepare them first: augment.prepare(net, images)."
        )
    return images


def logits(model) -> keras.KerasTensor:
    """Return the logits of a flat model, (None, classes): its first output.

    Raises:
        ValueError: if the model is not flat, or as `scores` does.
    """
    ledger.calls(model)
    _refuse_probabilities(model)
    return model.outputs[0]


def scores(model, images) -> keras.Model:
    """Return any Keras model as one from images to the logits of its first output.

    It may hold other models, or be a subclass of `keras.Model` without a graph.

    Args:
        model: the model, which takes images alone.
        images: (n, height, width, channels), checked as `images` does.

    Raises:
        ValueError: if it takes something beside images, or puts out probabilities. Their gradients
            fade where the network is sure, and a class can gain by another's loss; logits have
            neither fault.
    """
    if not getattr(model, "inputs", None):
        image = keras.Input(np.shape(images)[1:])
        outputs = keras.tree.flatten(model(image))
        model = keras.Model(image, outputs, name=model.name)
    if len(model.inputs) > 1:
        raise ValueError(
            f"{model.name!r} takes {len(model.inputs)} inputs. Fix all but the image: "
            "keras.Model(image, model([image, constant]))."
        )
    _refuse_probabilities(model)
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


# What turns logits into probabilities, by the name of a function, layer or operation.
ENDINGS = ("softmax", "logsoftmax", "sigmoid", "hardsigmoid", "logsigmoid", "sparsemax")


def _refuse_probabilities(model) -> None:
    """Raise a ValueError if a model's first output is no row of logits."""
    tensor, inner = model.outputs[0], model
    while isinstance(tensor._keras_history.operation, keras.Model):
        inner = tensor._keras_history.operation
        if not getattr(inner, "outputs", None):
            break
        tensor = inner.outputs[tensor._keras_history.tensor_index]
    last = tensor._keras_history.operation
    kind = called(getattr(last, "activation", None)) or type(last).__name__
    plain = kind.lower().removesuffix("_v2").replace("_", "")
    dense = isinstance(last, keras.layers.Dense)  # of others it is tried what they put out
    if plain in ENDINGS or (not dense and _adds_to_one(model)):
        raise ValueError(
            f"{model.name!r} ends in a {plain}, {last.name!r}: it puts out probabilities. Looking "
            "inside needs logits. A network of the course: logits=True; one of "
            "keras.applications: classifier_activation=None; your own: activation=None in its last "
            "layer, or take the last layer off, keras.Model(model.input, model.layers[-2].output)."
        )
    if len(model.outputs[0].shape) != 2:
        raise ValueError(
            f"{model.name!r} puts out {tuple(model.outputs[0].shape[1:])}, not one logit a class."
        )


def _adds_to_one(model) -> bool:
    """Return whether a model's first output, or its exponential, is a share of 1 for any image."""
    shape = [1 if side is None else side for side in model.inputs[0].shape[1:]]
    if model.outputs[0].shape[-1] in (None, 1) or None in model.inputs[0].shape[1:]:
        return False
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    found = keras.tree.flatten(model(images, training=False))[0]
    found = keras.ops.convert_to_numpy(keras.ops.cast(found, "float32"))
    shares = [found] if found.min() >= 0 else [np.exp(found)] if found.max() <= 0 else []
    return any(np.allclose(share.sum(-1), 1, atol=1e-3) for share in shares)


def called(function) -> str | None:
    """Return the name of an activation that is given as a function, a layer or not at all."""
    if function is None:
        return None
    return getattr(function, "__name__", None) or type(function).__name__


def units(maps, units) -> np.ndarray:
    """Return channels of a layer's maps as an array of ints, in the given shape.

    Raises:
        ValueError: if one is no integer, or the layer has fewer channels.
    """
    units, channels = np.asarray(units), maps.shape[-1]
    if units.dtype.kind not in "iu" or ((units < 0) | (units >= channels)).any():
        raise ValueError(f"Units are integers from 0 to {channels - 1} in this layer; got {units}.")
    return units
