"""What the units of a layer look for: their strongest patches; and units that look for nothing."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ilsvrc import ledger
from ilsvrc.vis import checks, precision, style

BATCH = 64  # images at a time
BOX = ["top", "left", "bottom", "right"]


@precision.in_float32
def top_patches(model, layer, images, k=9, units=None, prepare=None) -> pd.DataFrame:
    """Find the patches of a data set to which a layer's units answer most.

    The images stream through once; only the best `k` of each unit are kept. An image counts with
    its strongest place only, or the best patches would be neighbours in one image. Of equals the
    earlier image, and the upper, then left, place comes first.

    Args:
        model: a flat Keras model.
        layer: the name of a layer with maps.
        images: (n, height, width, channels), such as a memory map, of which one batch after the
            other is read; or the batches themselves, any iterable of such arrays.
        k: patches a unit.
        units: the channels to look at, ints; all of them by default.
        prepare: a function that turns a batch into what the model takes, such as
            ``partial(augment.prepare, net)``. By default the batches are passed on as they are.

    Returns:
        A table of one row a patch, unit by unit, the strongest first: ``unit``; ``image``, counted
        from 0; ``row`` and ``column`` in the layer's maps; ``activation``; and ``top``, ``left``,
        ``bottom``, ``right``, the receptive field in the model's input pixels, the last two
        excluded. It may stick out of the image. With fewer than `k` images there are fewer rows.

    Raises:
        ValueError: if there is no such layer or unit, the images do not fit, or there is none.
    """
    checks.at_least(1, k=k)
    tensor = checks.maps(model, layer)
    units = np.arange(tensor.shape[-1]) if units is None else np.atleast_1d(units)
    units = checks.units(tensor, units)
    tapped = keras.Model(model.inputs, tensor)
    best, seen = None, 0
    for batch in _batches(images, prepare):
        maps = tapped.predict_on_batch(checks.images(model, batch)).astype("float32", copy=False)
        found = _strongest(maps[..., units], first=seen)
        if best is not None:
            found = {key: np.concatenate([best[key], found[key]]) for key in found}
        order = np.argsort(-found["activation"], axis=0, kind="stable")[:k]
        best = {key: np.take_along_axis(found[key], order, axis=0) for key in found}
        seen += len(batch)
    if not seen:
        raise ValueError("There is no image to look at: `images` is empty.")
    columns = {key: best[key].T.ravel() for key in best}  # (k, units) becomes unit by unit
    boxes = ledger.boxes(model, layer, np.stack([columns["row"], columns["column"]], axis=-1))
    unit = np.repeat(units, len(best["image"]))
    return pd.DataFrame({"unit": unit, **columns, **dict(zip(BOX, boxes.T, strict=True))})


def _batches(images, prepare):
    """Yield prepared batches of an array of images, or of an iterable of batches."""
    if hasattr(images, "shape"):
        images = np.array_split(images, range(BATCH, len(images), BATCH))  # views, not copies
    for batch in images:
        if len(batch):
            yield prepare(batch) if prepare else batch


def _strongest(maps, first) -> dict[str, np.ndarray]:
    """Return each image's strongest place for each unit, arrays (images, units)."""
    n, height, width, units = maps.shape
    flat = maps.reshape(n, height * width, units)
    row, column = np.divmod(flat.argmax(1), width)
    image = np.repeat(first + np.arange(n)[:, None], units, axis=1)
    return {"image": image, "row": row, "column": column, "activation": flat.max(1)}


def strongest_units(top, n=6) -> pd.DataFrame:
    """Choose the units to show: those that answer most, each with patches of its own.

    Units are taken by the mean activation of their patches. One whose patches come from the same
    images as an earlier choice's, a third of them or more, is passed over: it shows the same again.

    Args:
        top: what `top_patches` returned.
        n: how many units; there may be fewer.

    Returns:
        The rows of `top` that belong to them, the strongest unit first.
    """
    means = top.groupby("unit")["activation"].mean().sort_values(ascending=False, kind="stable")
    chosen = {}
    for unit in means.index:
        images = set(top["image"][top["unit"] == unit])
        alike = [len(images & others) >= len(images) / 3 for others in chosen.values()]
        if not any(alike) and len(chosen) < n:
            chosen[unit] = images
    return pd.concat([top[top["unit"] == unit] for unit in chosen])


def crops(images, boxes, fill=128) -> np.ndarray:
    """Cut a box out of each image.

    Args:
        images: n images (height, width, channels), in the size that the model takes.
        boxes: a table of n rows with the columns ``top``, ``left``, ``bottom`` and ``right``, all
            of one size, as `top_patches` returns.
        fill: what stands where a box sticks out of its image: mid-grey for photographs; 0 for
            projections.

    Returns:
        (n, bottom - top, right - left, channels), in the images' dtype.

    Raises:
        ValueError: if there are more images than boxes, or fewer, or the boxes' sizes differ.
    """
    boxes = boxes[BOX].to_numpy()
    sizes = np.unique(boxes[:, 2:] - boxes[:, :2], axis=0)
    if len(images) != len(boxes) or len(sizes) != 1:
        raise ValueError(
            f"Pass one image for each box, all boxes of one size: got {len(images)} images, "
            f"{len(boxes)} boxes of {len(sizes)} sizes. `images[top.image]` has one for each row."
        )
    (height, width), channels = sizes[0], np.shape(images[0])[-1]
    cut = np.full((len(boxes), height, width, channels), fill, np.asarray(images[0]).dtype)
    for patch, image, (top, left, bottom, right) in zip(cut, images, boxes, strict=True):
        inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        y, x = max(-top, 0), max(-left, 0)
        patch[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return cut


@plt.rc_context(style.STYLE)
def patches(pictures, units, beside=None, columns=3):
    """Draw the strongest patches of several units, a block each, as Zeiler and Fergus' figure 2.

    Args:
        pictures: (n, height, width, 3), uint8 or floats from 0 to 1, such as projections after
            `contrast`, cropped by `crops`.
        units: n, the unit of each picture; it stands above the unit's block.
        beside: other pictures of the same n patches, such as the photographs, drawn to the right
            of each block.
        columns: blocks in a row.

    Returns:
        A Matplotlib figure.
    """
    units = np.asarray(units)
    shown = list(dict.fromkeys(units.tolist()))
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    blocks = [_block(pictures, beside, units == unit) for unit in shown]
    height, width = blocks[0].shape[:2]
    side = style.WIDTH / columns * height / width
    fig, axes = style.subplots(rows, columns, rows * (side + 0.2), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, block, unit in zip(axes.flat, blocks, shown, strict=False):
        ax.imshow(block, interpolation="antialiased")
        ax.set_title(f"{unit}", fontsize=8, pad=2)
    return fig


def _block(pictures, beside, chosen) -> np.ndarray:
    """Lay out one unit's pictures as a square, and those beside them as another to its right."""
    squares = []
    for array in [pictures] if beside is None else [pictures, beside]:
        mine = np.asarray(array)[chosen]
        mine = mine / 255 if mine.dtype == np.uint8 else mine
        squares += [style.mosaic(mine, columns=int(np.ceil(len(mine) ** 0.5)))]
    if beside is None:
        return squares[0]
    gap = np.ones((len(squares[0]), 4, 3))
    return np.concatenate([squares[0], gap, squares[1]], axis=1)


def dead_units(model, layer, images, prepare=None, faint=0.01) -> tuple[np.ndarray, np.ndarray]:
    """Find the units of a layer that never answer, and those that all but never do.

    Args:
        model: a flat Keras model.
        layer: the name of a layer with maps.
        images: an array, or batches, as for `top_patches`.
        prepare: what turns a batch into what the model takes, as for `top_patches`.
        faint: the share of the layer's median below which a unit is next to silent.

    Returns:
        Two masks over the layer's units: *dead*, whose largest activation over all images and
        places is zero or negative, so that its ReLU never opens; and *next to silent*, not dead,
        but with a largest activation below `faint` times the median of the layer's units.

    Raises:
        ValueError: as `top_patches` does.
    """
    strongest = top_patches(model, layer, images, k=1, prepare=prepare)["activation"].to_numpy()
    dead = strongest <= 0
    return dead, ~dead & (strongest < faint * np.median(strongest))


def duplicate_units(values, above=0.95) -> np.ndarray:
    """Find pairs of units that do the same: their filters, or their maps, correlate.

    Correlation is blind to a factor and to a constant; units with constant values have none.

    Args:
        values: (..., units): a layer's weights, (height, width, channels, units), or its
            activations on some images, (n, height, width, units).
        above: the correlation from which on two units count as duplicates.

    Returns:
        (pairs, 2) ints, the most alike first, the lower unit of each pair first.
        ``np.unique(pairs).size`` units have at least one twin.
    """
    values = np.asarray(values, float)
    values = values.reshape(-1, values.shape[-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        alike = np.triu(np.nan_to_num(np.corrcoef(values.T)), k=1)
    pairs = np.argwhere(alike > above)
    return pairs[np.argsort(-alike[tuple(pairs.T)], kind="stable")]
