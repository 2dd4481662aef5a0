"""What in an image speaks for a class: maps, one number a pixel, by gradients or by covering up.

Every function takes a model with logits (of several outputs the first), prepared images and a class
for each, and gives (n, height, width) maps on the images' grid. None of them scales its maps: their
unit is the logit's, so that images and networks can be compared. `overlay` scales, to draw them.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, Normalize

from ilsvrc import backend, ledger
from ilsvrc.vis import checks, precision, style

BATCH = 32  # images at a time on the device
STRONGEST = 99.5  # per cent of a map's values are drawn as they are, stronger ones in full colour
AGAINST, FOR = style.COLOURS[:2]


@precision.in_float32
def saliency(model, images, classes) -> np.ndarray:
    """Return how fast the class's logit changes with each pixel (Simonyan et al. 2014, section 3).

    Args:
        model: any Keras model with logits; it may hold others, or be a subclass without a graph.
        images: (n, height, width, channels), prepared as the model expects them.
        classes: (n,) class indices, or one for all images.

    Returns:
        (n, height, width), 0 or more: the gradient's largest absolute value among the channels. All
        zeros where something in the model, such as a rounding, lets no gradient through.

    Raises:
        ValueError: if the model puts out probabilities or takes more than images, the images have
            another size, or there is no such class.
    """
    network, images, classes = _asked(model, images, classes)
    return np.abs(_gradient(_score(network))(images, classes)).max(-1)


@precision.in_float32
def smoothgrad(model, images, classes, n=25, noise=0.15, seed=0) -> np.ndarray:
    """Return the saliency of the mean gradient over noisy copies of an image (Smilkov et al. 2017).

    The gradient of a network of ReLUs jumps from pixel value to pixel value. Its mean over Gaussian
    noise is the gradient of a smoothed network, which does not.

    Args:
        model: as in `saliency`, which has the errors, too.
        images: as in `saliency`.
        classes: as in `saliency`.
        n: noisy copies of each image; all images get the same noise.
        noise: standard deviation of the noise, as a share of the image's range (greatest less least
            value); the paper finds 0.1 to 0.2 good.
        seed: draws the noise.

    Returns:
        (n, height, width), 0 or more, as `saliency`.
    """
    checks.at_least(1, n=n)
    checks.at_least(0, noise=noise)
    network, images, classes = _asked(model, images, classes)
    gradient = _gradient(_score(network))
    draws = np.random.default_rng(seed).standard_normal((n, *images.shape[1:]), "float32")
    means = [
        gradient(image + noise * np.ptp(image) * draws, np.repeat(label, n)).mean(0)
        for image, label in zip(images, classes, strict=True)
    ]
    return np.abs(means).max(-1)


@precision.in_float32
def integrated_gradients(model, images, classes, steps=128, baseline=0.0):
    """Share the logit's rise from a baseline to the image out among the pixels.

    Sundararajan et al. 2017: the gradient is averaged along the straight line from the baseline, at
    the midpoints of `steps` equal parts, and multiplied by the way each pixel has come. With exact
    integration the shares add up to the rise of the logit (completeness).

    Args:
        model: as in `saliency`, which has the errors, too.
        images: as in `saliency`.
        classes: as in `saliency`.
        steps: parts of the line; take more where the error is above 0.02, as it may be where the
            logit hardly rises.
        baseline: what counts as nothing to see: a number, a colour, or an image. Where the mean is
            subtracted from the images, 0 is the mean colour.

    Returns:
        Two arrays: (n, height, width) attributions, summed over the channels, below 0 where a pixel
        speaks against the class; and (n,) completeness errors, how far the attributions' sum is
        from the rise of the logit, as a share of this rise.
    """
    checks.at_least(1, steps=steps)
    network, images, classes = _asked(model, images, classes)
    start = np.broadcast_to(np.float32(baseline), images.shape)
    gradient = _gradient(_score(network))
    midpoints = ((np.arange(steps, dtype="float32") + 0.5) / steps)[:, None, None, None]
    means = [
        gradient(begin + midpoints * (image - begin), np.repeat(label, steps)).mean(0)
        for begin, image, label in zip(start, images, classes, strict=True)
    ]
    attributions = ((images - start) * means).sum(-1)
    rises = _outputs(network, images) - _outputs(network, start)
    rise = np.take_along_axis(rises, classes[:, None], axis=1)[:, 0]
    return attributions, np.abs(attributions.sum((1, 2)) - rise) / np.abs(rise)


@precision.in_float32
def grad_cam(model, images, classes, layer, raw=False) -> np.ndarray:
    """Return where a layer's maps speak for the class (Selvaraju et al. 2017).

    Each channel is weighted by the mean of the logit's gradient over its map, and the weighted sum
    of the channels is cut off at zero.

    Args:
        model: as in `saliency`.
        images: as in `saliency`.
        classes: as in `saliency`.
        layer: the name of a layer with maps that leads to the logits; best the last one.
        raw: leave the maps on the layer's own grid.

    Returns:
        (n, height, width), 0 or more; all zeros where nothing speaks for the class. A value of the
        layer's grid stands at the centre of its receptive field. Between the centres the map is
        interpolated bilinearly, beyond the outermost it stays as it is.

    Raises:
        ValueError: as `saliency`; or if there is no such layer, it has no maps, or the logits do
            not depend on it. The message names the layers that would do.
    """
    logits = checks.logits(model)
    _, images, classes = _asked(model, images, classes)
    trunk = keras.Model(model.inputs[0], logits, name=f"{model.name} up to its logits")
    tensor = checks.maps(trunk, layer)
    # Where a branch leads past the layer, the logits need the images beside its maps.
    head = keras.Model([model.inputs[0], tensor], logits)
    head.inputs[1]._dtype = "float32"  # or a mixed network's maps would be rounded on their way in

    def score(maps, images, classes):
        return _chosen(head([images, maps], training=False), classes)

    maps = _values(model, tensor, images)
    weights = _gradient(score)(maps, images, classes).mean((1, 2))
    cam = np.maximum(np.einsum("nhwk,nk->nhw", maps, weights), 0)
    return cam if raw else _stretched(model, layer, cam)


@precision.in_float32
def class_activation_map(model, images, classes, raw=False) -> np.ndarray:
    """Return what each place adds to the logit, if averaged maps make it (Zhou et al. 2016).

    Where the last maps are averaged and one dense layer turns the means into logits, the class's
    weights can be applied to the maps themselves.

    Args:
        model: as in `saliency`.
        images: as in `saliency`.
        classes: as in `saliency`.
        raw: leave the maps on the grid of the averaged layer.

    Returns:
        (n, height, width), below 0 where a place speaks against the class; interpolated as in
        `grad_cam`. The mean of the raw map plus the class's bias is the logit, and its positive
        part is the raw `grad_cam` times the number of places.

    Raises:
        ValueError: as `saliency`; or if the network ends in another way.
    """
    checks.logits(model)
    _, images, classes = _asked(model, images, classes)
    layer, dense = _averaged(model)
    maps = _values(model, checks.maps(model, layer), images)
    weights = ops.convert_to_numpy(ops.cast(dense.kernel, "float32"))[:, classes]
    cam = np.einsum("nhwk,kn->nhw", maps, weights)
    return cam if raw else _stretched(model, layer, cam)


@precision.in_float32
def occlusion(model, images, classes, patch, stride, fill=None, probability=False) -> np.ndarray:
    """Return how far the class's logit drops as parts of the image are covered.

    Zeiler and Fergus 2014, section 4.2. The image is divided into cells of `stride` x `stride`
    pixels, from the top left. One cell after the other is covered, and its surroundings with it, by
    a square of `patch` pixels around the cell's centre, cut off at the image's border.

    Args:
        model: as in `saliency`.
        images: as in `saliency`.
        classes: as in `saliency`.
        patch: side of the square in pixels; if it is less than `stride`, gaps are never covered.
        stride: side of a cell in pixels.
        fill: the square's value, a number or one for each channel, on the scale of the prepared
            images. By default each image's mean colour.
        probability: measure the drop of the softmax's probability.

    Returns:
        (n, height, width), above 0 where the class needs what was covered. All pixels of a cell
        have its drop: [:, ::stride, ::stride] is the grid of cells.

    Raises:
        ValueError: as `saliency`; or if these are no images, or the square or the
            cells do not fit into them.
    """
    network, images, classes = _asked(model, images, classes)
    if images.ndim != 4:
        raise ValueError(
            f"Occlusion covers squares of images (n, height, width, channels), got {images.shape}."
        )
    height, width = images.shape[1:3]
    if not (0 < patch <= min(height, width) and 0 < stride <= min(height, width)):
        raise ValueError(f"A patch of {patch} px every {stride} px: images have {height}x{width}.")
    rows, columns = _windows(height, patch, stride), _windows(width, patch, stride)
    down = np.concatenate([np.zeros((1, height), bool), np.repeat(rows, len(columns), axis=0)])
    along = np.concatenate([np.zeros((1, width), bool), np.tile(columns, (len(rows), 1))])

    def drops(image, label):
        colour = image.mean((0, 1)) if fill is None else np.float32(fill)

        def score(some):
            covered = down[some, :, None, None] & along[some, None, :, None]
            logits = network.predict_on_batch(np.where(covered, colour, image))
            return (ops.softmax(logits) if probability else logits)[:, label]

        scores = _in_batches(score, len(down))  # the first is the image's, with nothing covered
        grid = (scores[0] - scores[1:]).reshape(len(rows), len(columns))
        return np.kron(grid, np.ones((stride, stride), "float32"))[:height, :width]

    return np.stack([drops(*each) for each in zip(images, classes, strict=True)])


@plt.rc_context(style.STYLE)
def overlay(images, maps, titles=None):
    """Draw heat maps over photographs, a row for each method, a column for each image.

    Each map has a scale of its own, from its strongest values down to none. Colour lies over the
    photograph, paled to grey, the more densely the stronger the map.

    Args:
        images: (n, H, W, 3) photographs that show what the network saw, uint8, or floats from 0 to
            1; they stand in a row of their own. None draws the maps alone.
        maps: {method: (n, height, width) map}, stretched over the photographs whatever their grid.
            (n, height, width, 3) floats from 0 to 1 are drawn as they are, as pictures.
        titles: n titles of the columns.

    Returns:
        A Matplotlib figure. If there is only one image, the methods stand side by side.

    Raises:
        ValueError: if there are more or fewer maps of a method, or titles, than images.
    """
    rows = {} if images is None else {"photograph": style.drawable(images)}
    rows |= {name: style.drawable(each) for name, each in maps.items()}
    n = len(next(iter(rows.values())))
    for name, each in {**rows, "titles": titles or [""] * n}.items():
        if len(each) != n:
            raise ValueError(f"{name!r} has {len(each)}, but there are {n} images.")
    across = min(len(rows), 4) if n == 1 else n
    height = min(2.8 if n == 1 else 1.7, 0.95 * style.WIDTH / across)
    lines = -(-len(rows) * n // across)
    fig, axes = style.subplots(lines, across, lines * (height + 0.1) + 0.6, squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    places = [(name, i) for name in rows for i in range(n)]
    for ax, (name, i) in zip(axes.flat, places, strict=False):
        _draw(ax, rows[name][i], None if images is None else rows["photograph"][i])
        if n == 1:
            ax.set_title(titles[0] if titles and name == "photograph" else name)
        elif i == 0 and name != "photograph":
            ax.set_ylabel(name)
        if n > 1 and titles and ax in axes[0]:
            ax.set_title(titles[i])
    drawn = [each for each in rows.values() if each.ndim == 3]
    if drawn:
        _scale(fig, axes, signed=min(each.min() for each in drawn) < 0)
    return fig


def _draw(ax, values, photograph) -> None:
    """Draw a picture as it is, or a map over a paled photograph."""
    if values.ndim == 3:
        ax.imshow(values)
        return
    height, width = values.shape
    if photograph is not None:
        height, width = photograph.shape[:2]
        white = 255 if photograph.dtype == np.uint8 else 1
        ax.imshow(photograph.mean(-1) / white, cmap="gray", vmin=-1, vmax=1)
    strength = np.abs(values)
    limit = np.percentile(strength, STRONGEST) or strength.max() or 1
    shade = np.clip(values / limit, -1, 1)
    ax.imshow(
        shade,
        cmap=ListedColormap([AGAINST, FOR]),
        alpha=np.abs(shade),
        vmin=-1,
        vmax=1,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )


def _scale(fig, axes, signed) -> None:
    """Draw the maps' colours below the figure, with what they mean."""
    colours = ([AGAINST] if signed else []) + ["white", FOR]
    shades = ScalarMappable(
        Normalize(-1 if signed else 0, 1), LinearSegmentedColormap.from_list("", colours)
    )
    bar = fig.colorbar(shades, ax=axes, location="bottom", shrink=0.4, aspect=40, pad=0.02)
    words = ["against", "none", "for"] if signed else ["none", "strongest"]
    bar.set_ticks([-1, 0, 1] if signed else [0, 1], labels=words)
    bar.outline.set_visible(False)


def _asked(model, images, classes) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """Return the model up to its logits, the images and (n,) int32 classes, checked against it."""
    images = checks.images(model, images)
    network = checks.scores(model, images)
    if np.ndim(classes) == 0:
        classes = np.repeat(classes, len(images))
    return network, images, checks.labels(classes, images, network.outputs[0].shape[-1])


def _score(network):
    """Return a function of images and classes: each image's logit of its class, (n,)."""
    return lambda images, classes: _chosen(network(images, training=False), classes)


def _chosen(logits, classes):
    logits = ops.cast(logits, "float32")
    return ops.take_along_axis(logits, classes[:, None], axis=1)[:, 0]


def _gradient(score):
    """Return a function of arrays that gives the gradient of `score` by the first, in batches."""
    step = backend.value_and_grad(score)

    def gradient(*arrays):
        return _in_batches(lambda some: step(*(a[some] for a in arrays))[1], len(arrays[0]))

    return gradient


def _in_batches(f, n) -> np.ndarray:
    """Put together f(places) for batches of the places 0 to n - 1.

    All batches have one size, so that nothing is compiled twice: the last is filled up with the
    first places again.
    """
    size = -(-n // -(-n // BATCH))
    batches = [np.arange(start, start + size) % n for start in range(0, n, size)]
    values = [ops.convert_to_numpy(f(some)) for some in batches]
    return np.concatenate(values)[:n].astype("float32")


def _values(model, tensor, images) -> np.ndarray:
    """Return what a tensor inside a model holds for each image, as at test time."""
    return _outputs(keras.Model(model.inputs[0], tensor), images)


def _outputs(network, images) -> np.ndarray:
    """Return what a network puts out for each image, as at test time."""
    return _in_batches(lambda some: network(images[some], training=False), len(images))


def _averaged(model) -> tuple[str, keras.layers.Dense]:
    """Return the name of the layer whose maps are averaged, and the dense layer on the averages."""
    uses = ledger.calls(model)
    dense = next(use for use in uses if 0 in use.outputs)
    pool = uses[dense.inputs[0]]
    while isinstance(pool.layer, (keras.layers.Dropout, keras.layers.Flatten)):
        pool = uses[pool.inputs[0]]
    plain = getattr(dense.layer, "activation", None) is keras.activations.linear
    if not (
        isinstance(dense.layer, keras.layers.Dense)
        and plain
        and isinstance(pool.layer, keras.layers.GlobalAveragePooling2D)
    ):
        maps = [use.name for use in uses if len(use.shape) == 3 and use.inputs]
        raise ValueError(
            f"{model.name!r} ends in {pool.name!r} and {dense.name!r}. A class activation map "
            "needs GlobalAveragePooling2D and one Dense layer there; grad_cam takes any layer "
            f"with maps: {', '.join(maps)}."
        )
    return uses[pool.inputs[0]].name, dense.layer


def _windows(side, patch, stride) -> np.ndarray:
    """Return which pixels of a side lie under a patch around each cell: (cells, side) booleans."""
    first = np.arange(0, side, stride)[:, None] + (stride - patch) // 2
    return (first <= np.arange(side)) & (np.arange(side) < first + patch)


def _stretched(model, layer, maps) -> np.ndarray:
    """Interpolate maps bilinearly between the centres of the layer's receptive fields."""
    weights = []
    for axis in (0, 1):
        cells, side = maps.shape[1 + axis], model.inputs[0].shape[1 + axis]
        places = np.arange(cells)[:, None] * np.eye(2, dtype=int)[axis]
        boxes = ledger.boxes(model, layer, places)
        centres = (boxes[:, axis] + boxes[:, axis + 2] - 1) / 2
        if (np.diff(centres) <= 0).any():  # the layer sees the whole image, as through a gate
            centres = (np.arange(cells) + 0.5) * side / cells - 0.5
        weights.append([np.interp(np.arange(side), centres, cell) for cell in np.eye(cells)])
    return np.einsum("nij,iy,jx->nyx", maps, *weights).astype("float32")
