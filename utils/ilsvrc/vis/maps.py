"""What a network makes of an image: its activations, layer by layer."""

import keras
import matplotlib.pyplot as plt
import numpy as np

from ilsvrc.vis import checks, precision, style


@precision.in_float32
def activations(model, images, layers) -> dict[str, np.ndarray]:
    """Compute what chosen layers put out, as at test time (no dropout).

    Args:
        model: a flat Keras model.
        images: (n, height, width, channels), prepared as the model expects them (mean subtracted,
            resized, ...: what ``augment.prepare`` returns).
        layers: layers' names, or one name.

    Returns:
        {name: (n, ...) float32 array}.

    Raises:
        ValueError: if there is no such layer, or the images have another size; it says which
            layers would do.
    """
    layers = [layers] if isinstance(layers, str) else list(layers)
    tensors = checks.outputs(model, layers)
    images = checks.images(model, images)
    tapped = keras.Model(model.inputs, tensors)
    values = tapped.predict(images, batch_size=32, verbose=0)
    values = values if isinstance(values, list) else [values]
    return {
        name: value.astype("float32", copy=False)
        for name, value in zip(layers, values, strict=True)
    }


@plt.rc_context(style.STYLE)
def activation_maps(maps, n=16, columns=8, channels=None):
    """Draw feature maps of one image, all on one scale from zero, or the least value, upwards.

    Args:
        maps: (height, width, channels), or (1, height, width, channels), as `activations` gives.
        n: how many maps: those with the largest values.
        columns: maps in a row.
        channels: the channels to draw, in this order, in place of the strongest `n`.

    Returns:
        A Matplotlib figure; above each map stands its channel.

    Raises:
        ValueError: if `maps` is not one image's.
    """
    maps = np.asarray(maps, float)
    if maps.ndim == 4 and len(maps) == 1:
        maps = maps[0]
    if maps.ndim != 3:
        raise ValueError(
            "Pass one image's maps, (height, width, channels), such as "
            f"activations(...)['conv1'][0]; got {maps.shape}."
        )
    if channels is None:
        channels = np.argsort(-maps.max((0, 1)), kind="stable")[:n]
    chosen = maps[..., channels]
    low, high = min(0, chosen.min()), chosen.max()
    columns = min(columns, len(channels))
    rows = -(-len(channels) // columns)
    side = style.WIDTH / max(columns, 4)
    fig, axes = style.subplots(rows, columns, rows * (side + 0.12), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, channel in zip(axes.flat, channels, strict=False):
        image = ax.imshow(maps[..., channel], cmap="viridis", vmin=low, vmax=high or 1)
        ax.set_title(f"{channel}", fontsize=8, loc="center", pad=2)
    bar = fig.colorbar(image, ax=axes, shrink=0.8, aspect=30, pad=0.01)
    bar.outline.set_visible(False)
    return fig
