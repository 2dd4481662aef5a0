"""What every look inside asks of a model and its images, with errors that say what would do."""

import difflib

import keras
import numpy as np

from ilsvrc import ledger


def outputs(model, layers) -> list[keras.KerasTensor]:
    """Return the outputs of some layers of a flat model, by name.

    Raises:
        ValueError: if the model is not flat (as `ledger.calls`), or has no such layer; the message
            names the layers that would do.
    """
    uses = ledger.calls(model)
    names = [use.name for use in uses if use.first]
    for name in layers:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=3)
            hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
            maps = [use.name for use in uses if len(use.shape) == 3 and use.inputs]
            raise ValueError(
                f"{model.name!r} has no layer {name!r}.{hint} Layers with maps: {', '.join(maps)}."
            )
    return [model.get_layer(name).output for name in layers]


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
    """Return the model's logits, (None, classes): its first output.

    Raises:
        ValueError: if that output is a softmax. Its gradients fade where the network is sure, and a
            class can gain by another's loss; logits have neither fault.
    """
    ledger.calls(model)
    tensor = model.outputs[0]
    last = tensor._keras_history.operation
    activation = getattr(last, "activation", None)
    if isinstance(last, keras.layers.Softmax) or activation is keras.activations.softmax:
        raise ValueError(
            f"{model.name!r} ends in a softmax, {last.name!r}. Looking inside needs logits: build "
            "the network with logits=True."
        )
    if len(tensor.shape) != 2:
        raise ValueError(
            f"{model.name!r} puts out {tuple(tensor.shape[1:])}, not one logit a class."
        )
    return tensor


def units(maps, units) -> np.ndarray:
    """Return channels of a layer's maps as an array of ints, in the given shape.

    Raises:
        ValueError: if one is no integer, or the layer has fewer channels.
    """
    units, channels = np.asarray(units), maps.shape[-1]
    if units.dtype.kind not in "iu" or ((units < 0) | (units >= channels)).any():
        raise ValueError(f"Units are integers from 0 to {channels - 1} in this layer; got {units}.")
    return units
