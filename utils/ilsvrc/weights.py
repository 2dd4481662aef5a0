"""Weights that a record keeps, where a chapter cannot do without them."""

import keras
import numpy as np


def kept(model: keras.Model, prefix: str) -> dict[str, np.ndarray]:
    """Return the weights of the layers whose name begins with a prefix, in half precision.

    Returns:
        "weights/<layer>/<weight>" -> array, float16; float32 where half precision has no such
        large number, as with the moving variance of a batch norm on grey levels.
    """
    found = {}
    for layer in model.layers:
        for weight in layer.weights if layer.name.startswith(prefix) else []:
            value = np.asarray(keras.ops.convert_to_numpy(weight))
            fits = np.abs(value).max(initial=0) <= np.finfo("float16").max
            found[f"weights/{layer.name}/{weight.name}"] = value.astype(
                "float16" if fits else "float32"
            )
    return found


def restore(model: keras.Model, arrays: dict[str, np.ndarray]) -> None:
    """Set the weights that a record kept (see `kept`); all others stay as they are.

    Raises:
        ValueError: A kept weight has no place in the model, or another shape there.
    """
    for name, value in arrays.items():
        if not name.startswith("weights/"):
            continue
        _, layer, weight = name.split("/")
        places = [w for one in model.layers if one.name == layer for w in one.weights]
        fit = [w for w in places if w.name == weight and w.shape == value.shape]
        if not fit:
            raise ValueError(
                f"{model.name!r} has no weight {weight!r} of shape {value.shape} in a layer "
                f"{layer!r}. Build the network that the record names."
            )
        fit[0].assign(value.astype("float32"))
