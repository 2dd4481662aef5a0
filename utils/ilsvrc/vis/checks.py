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
        ValueError: if their shape is another (one image alone wants `image[None]`), there is none,
            or a value is no number; or if the model takes more than images, or has its channels
            before height and width.
    """
    images = np.asarray(images, "float32")
    for layer in model._flatten_layers():
        if getattr(layer, "data_format", None) == "channels_first":
            raise ValueError(
                f"{layer.name!r} has its channels before height and width; looking inside needs "
                "them last. Build the network after "
                "keras.config.set_image_data_format('channels_last'); its weights are the same."
            )
    if not getattr(model, "inputs", None):  # a subclass: its own call knows what it takes
        if images.ndim != 4:
            raise ValueError(f"Images are (n, height, width, channels), got {images.shape}.")
        return _numbers(images)
    one_input(model)
    expected = tuple(model.inputs[0].shape[1:])
    fits = images.ndim == len(expected) + 1 and all(
        e in (None, s) for e, s in zip(expected, images.shape[1:], strict=True)
    )
    if not fits:
        raise ValueError(
            f"{model.name!r} takes images of shape (n, {', '.join(map(str, expected))}), "
            f"got {images.shape}. Prepare them first: augment.prepare(net, images)."
        )
    return _numbers(images)


def _numbers(images) -> np.ndarray:
    if not len(images):
        raise ValueError("There is no image to look at: `images` is empty.")
    wrong = np.flatnonzero(~np.isfinite(images).all(axis=tuple(range(1, images.ndim))))
    if wrong.size:
        raise ValueError(f"Image {wrong[0]} holds values that are no numbers (nan or infinite).")
    return images


def at_least(smallest, **options) -> None:
    """Raise a ValueError if an option, by its name, is no number or below the smallest."""
    for name, value in options.items():
        if not (np.ndim(value) == 0 and np.isreal(value) and value >= smallest):
            raise ValueError(f"{name} is a number of {smallest} or more, got {value!r}.")


def logits(model, heads=1) -> keras.KerasTensor:
    """Return the logits of a flat model, (None, classes): its first output.

    Args:
        model: the model.
        heads: how many of its outputs have to be logits.

    Raises:
        ValueError: if the model is not flat, or as `scores` does.
    """
    ledger.calls(model)
    differentiable(model)
    for output in range(heads):
        _refuse_probabilities(model, output)
    return model.outputs[0]


def one_input(model) -> None:
    """Raise a ValueError if a model with a graph takes more than images."""
    if len(model.inputs) > 1:
        raise ValueError(
            f"{model.name!r} takes {len(model.inputs)} inputs. Fix all but the image: "
            "keras.Model(image, model([image, constant]))."
        )


def differentiable(model) -> None:
    """Raise a ValueError if the answers of a model with a graph have no gradient by its image."""
    one_input(model)
    kind = model.inputs[0].dtype
    if not kind.startswith(("float", "bfloat")):
        raise ValueError(
            f"The input of {model.name!r} is {kind}, and whole numbers have no gradient. Build it "
            "with keras.Input(shape), which is float32; its weights are the same."
        )


def scores(model, images) -> keras.Model:
    """Return any Keras model as one from images to the logits of its first output.

    It may hold other models, or be a subclass of `keras.Model` without a graph.

    Args:
        model: the model.
        images: (n, height, width, channels), as `images` returns them.

    Raises:
        ValueError: if it takes whole numbers, has outputs that only names tell apart, or puts out
            probabilities. Their gradients fade where the network is sure, and a class can gain by
            another's loss; logits have neither fault.
    """
    if not getattr(model, "inputs", None):
        image = keras.Input(np.shape(images)[1:])
        model = keras.Model(image, model(image), name=model.name)
    named = getattr(model, "_outputs_struct", None)
    if isinstance(named, dict) and len(named) > 1:
        first = next(iter(named))
        raise ValueError(
            f"{model.name!r} puts out {', '.join(map(repr, named))}. Say which it is that you ask "
            f"about: keras.Model(model.input, model.output[{first!r}]), or of a model without a "
            f"graph keras.Model(image, model(image)[{first!r}])."
        )
    differentiable(model)
    _refuse_probabilities(model, shape=np.shape(images)[1:])
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


# What turns logits into probabilities, by the name of a function, layer or operation.
ENDINGS = ("softmax", "logsoftmax", "sigmoid", "hardsigmoid", "logsigmoid", "sparsemax")


# What hands on what it gets; an "Activation" only as "linear".
PASSED_ON = (
    keras.layers.Identity,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Reshape,
)


def _refuse_probabilities(model, output=0, shape=None) -> None:
    """Raise a ValueError if one of a model's outputs, at images of a shape, is no row of logits."""
    tensor = model.outputs[output]
    while (before := _before(tensor)) is not None:
        tensor = before
    last = tensor._keras_history.operation
    kind = called(getattr(last, "activation", None)) or type(last).__name__
    plain = kind.lower().removesuffix("_v2").replace("_", "")
    dense = isinstance(last, keras.layers.Dense)  # of others it is tried what they put out
    if plain in ENDINGS or (not dense and _adds_to_one(model, output, shape)):
        raise ValueError(
            f"{model.name!r} ends in a {plain}, {last.name!r}: it puts out probabilities. Looking "
            "inside needs logits. A network of the course: logits=True; one of "
            "keras.applications: classifier_activation=None; your own: activation=None in its last "
            "layer, or take the last layer off, keras.Model(model.input, model.layers[-2].output)."
        )
    if len(model.outputs[output].shape) != 2:
        raise ValueError(
            f"{model.name!r} puts out {tuple(model.outputs[output].shape[1:])}, not one logit a "
            "class."
        )


def _before(tensor):
    """Return what a model within, or a layer that hands on what it gets, made a tensor of."""
    last, index, which = tensor._keras_history
    if isinstance(last, keras.Model):
        return last.outputs[which] if getattr(last, "outputs", None) else None
    linear = isinstance(last, keras.layers.Activation) and called(last.activation) == "linear"
    if linear or isinstance(last, PASSED_ON) or type(last).__name__ == "Cast":
        return last._inbound_nodes[index].input_tensors[0]
    return None


def _adds_to_one(model, output, shape) -> bool:
    """Return whether one of a model's outputs, or its exponential, is a share of 1 at any image."""
    shape = model.inputs[0].shape[1:] if shape is None else shape
    if model.outputs[output].shape[-1] in (None, 1) or None in shape:
        return False
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    found = keras.tree.flatten(model(images, training=False))[output]
    found = keras.ops.convert_to_numpy(keras.ops.cast(found, "float32"))
    shares = [found] if found.min() >= 0 else [np.exp(found)] if found.max() <= 0 else []
    return any(np.allclose(share.sum(-1), 1, atol=1e-3) for share in shares)


def called(function) -> str | None:
    """Return the name of an activation that is given as a function, a layer or not at all."""
    if function is None:
        return None
    return getattr(function, "__name__", None) or type(function).__name__


def labels(labels, images, count) -> np.ndarray:
    """Return one class for each image as (n,) int32.

    Raises:
        ValueError: if one is no integer, there is no such class, or they are more or fewer.
    """
    labels = np.asarray(labels)
    fits = labels.dtype.kind in "iu" and labels.shape == images.shape[:1]
    if not fits or ((labels < 0) | (labels >= count)).any():
        raise ValueError(
            f"Classes are integers from 0 to {count - 1}, one for each of {len(images)} images or "
            f"one for all; got {labels.tolist()}."
        )
    return labels.astype("int32")


def units(maps, units) -> np.ndarray:
    """Return channels of a layer's maps as an array of ints, in the given shape.

    Raises:
        ValueError: if one is no integer, or the layer has fewer channels.
    """
    units, channels = np.asarray(units), maps.shape[-1]
    if units.dtype.kind not in "iu" or ((units < 0) | (units >= channels)).any():
        raise ValueError(f"Units are integers from 0 to {channels - 1} in this layer; got {units}.")
    return units
