"""Weights that a record keeps, where a chapter cannot do without them."""

import keras
import numpy as np

LEVELS = 127  # of an int8, on either side of 0


def kept(model: keras.Model, prefix: str) -> dict[str, np.ndarray]:
    """Return the weights of the layers whose name begins with a prefix, rounded to take less room.

    Kernels are rounded to whole numbers times the scale of their filter, 1/127 of its largest
    weight, so that no weight moves by more than 1/254 of that (Krishnamoorthi, "Quantizing deep
    convolutional networks for efficient inference", 2018: one scale a channel).

    Returns:
        "weights/<layer>/<weight>" -> int8 with "scales/<layer>/<weight>" -> float32 (filters,) for
        weights of two axes and more; else float16, or float32 where half precision has no such
        large number, as with the moving variance of a batch norm on grey levels.
    """
    found = {}
    for layer in model.layers:
        for weight in layer.weights if layer.name.startswith(prefix) else []:
            value = np.asarray(keras.ops.convert_to_numpy(weight))
            name = f"{layer.name}/{weight.name}"
            if value.ndim > 1:
                value, found[f"scales/{name}"] = rounded(value)
            elif np.abs(value).max(initial=0) <= np.finfo("float16").max:
                value = value.astype("float16")
            found[f"weights/{name}"] = value
    return found


def rounded(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a kernel (..., filters) as int8, and the scale of each filter, float32 (filters,).

    A filter is a place on the last axis. A depthwise kernel (height, width, maps, 1) has one there,
    so it gets one scale for all its maps.
    """
    scales = np.abs(kernel).max(tuple(range(kernel.ndim - 1))).astype("float32") / LEVELS
    return np.rint(kernel / np.where(scales > 0, scales, 1)).astype("int8"), scales


def restore(model: keras.Model, weights: dict[str, np.ndarray]) -> None:
    """Set a model's weights to those that a record kept; all others stay as they are.

    Args:
        model: The network that the record names.
        weights: "<layer>/<weight>" -> float32, as `Record.weights` gives them.

    Raises:
        ValueError: A kept weight has no place in the model, or another shape there.
    """
    for name, value in weights.items():
        layer, weight = name.split("/")
        places = [w for one in model.layers if one.name == layer for w in one.weights]
        fit = [w for w in places if w.name == weight and w.shape == value.shape]
        if not fit:
            raise ValueError(
                f"{model.name!r} has no weight {weight!r} of shape {value.shape} in a layer "
                f"{layer!r}. Build the network that the record names."
            )
        fit[0].assign(value)
