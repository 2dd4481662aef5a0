"""First-layer filters: their pictures, and two numbers that tell learned ones from noise."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.transforms import ScaledTranslation

from ilsvrc.vis import style


@plt.rc_context(style.STYLE)
def filters(kernel, columns=16, each=False, groups=1):
    """Draw a first layer's filters as small pictures.

    One symmetric scale serves all of them: zero is mid-grey, and the largest weight of the layer,
    whatever its sign, is full intensity. Weak filters therefore look grey, as they should.

    Args:
        kernel: (height, width, 3 or 1, n) weights.
        columns: filters in a row.
        each: scale each filter by its own largest weight, which brings out the shape of weak
            filters and makes noise look strong.
        groups: draw the halves (or more parts) of the layer apart: with 2, AlexNet's towers.

    Returns:
        A Matplotlib figure.

    Raises:
        ValueError: if the kernel is not a first layer's, or `groups` does not divide its filters.
    """
    kernel = _checked(kernel)
    n = kernel.shape[-1]
    if n % groups:
        raise ValueError(f"{n} filters cannot be parted into {groups} groups of the same size.")
    drawn = pictures(kernel, each=each)
    parts = [
        (style.mosaic(part, columns), tower)
        for part, tower in zip(np.split(drawn, groups), _towers(groups), strict=True)
    ]
    tall, wide = max(m.shape[0] for m, _ in parts), max(m.shape[1] for m, _ in parts)
    titled = any(title for _, title in parts)
    height = len(parts) * (style.WIDTH * tall / wide + 0.3 * titled)
    fig, axes = style.subplots(len(parts), 1, height, squeeze=False)
    for i, (ax, (mosaic, title)) in enumerate(zip(axes.flat, parts, strict=True)):
        ax.imshow(mosaic)
        ax.set_axis_off()
        ax.set_title(title)
        if i % groups:  # the rule between the towers
            above = ax.transAxes + ScaledTranslation(0, 20 / 72, fig.dpi_scale_trans)
            ax.plot([0, 1], [1, 1], color="black", lw=1, transform=above, clip_on=False)
    return fig


@plt.rc_context(style.STYLE)
def filters_over_epochs(kernels, indices=None):
    """Draw some filters at several epochs, a row each, all on one symmetric scale.

    Args:
        kernels: {epoch: (height, width, 3 or 1, n) weights}.
        indices: the filters to draw. By default the eight that hold most of what was learned at
            the last epoch: weight that is both strong and smooth (norm times smoothness).

    Returns:
        A Matplotlib figure; the scale is the largest weight of the layer at any of the epochs.

    Raises:
        ValueError: if a kernel is not a first layer's, or there is none.
    """
    kernels = by_epoch(kernels)
    if indices is None:
        last = kernels[max(kernels)]
        norm = np.sqrt((last**2).sum((0, 1, 2)))
        indices = np.argsort(-norm * np.nan_to_num(filter_smoothness(last)), kind="stable")[:8]
    limit = max(np.abs(kernel).max() for kernel in kernels.values())
    rows, columns = len(indices), len(kernels)
    side = min(0.7, (style.WIDTH - 0.5) / columns)
    fig, axes = style.subplots(rows, columns, rows * (side + 0.04) + 0.35, squeeze=False)
    for j, (epoch, kernel) in enumerate(kernels.items()):
        drawn = pictures(kernel, limit=limit)
        for i, index in enumerate(indices):
            ax = axes[i, j]
            ax.imshow(drawn[index], vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if i == 0:
                ax.set_title(f"epoch {epoch}" if j == 0 else f"{epoch}", loc="center")
            if j == 0:
                ax.set_ylabel(f"{index}", rotation=0, ha="right", va="center")
    return fig


def filter_colour(kernel) -> np.ndarray:
    """Return how coloured each filter is: the share of its energy off the grey axis.

    A weight triple (r, g, b) is split into its mean, which answers to brightness, and the rest,
    which answers to colour. A grey filter has 0, a purely coloured one 1, noise about 2/3.

    Args:
        kernel: (height, width, 3, n) weights.

    Returns:
        (n,) floats from 0 to 1; nan for a filter of zeros.
    """
    kernel = _checked(kernel)
    energy = (kernel**2).sum((0, 1, 2))
    grey = kernel.shape[2] * (kernel.mean(2) ** 2).sum((0, 1))
    with np.errstate(invalid="ignore"):
        return np.clip(1 - grey / np.where(energy > 0, energy, np.nan), 0, 1)


def filter_smoothness(kernel) -> np.ndarray:
    """Return how smooth each filter is: the correlation of neighbouring weights.

    Noise has about 0, learned edges and blobs well above; a constant filter has 1.

    Args:
        kernel: (height, width, 3 or 1, n) weights, at least two high and wide.

    Returns:
        (n,) floats from -1 to 1; nan for a filter of zeros.
    """
    kernel = _checked(kernel)

    def correlation(a, b):
        energy = np.sqrt((a**2).sum((0, 1, 2)) * (b**2).sum((0, 1, 2)))
        return (a * b).sum((0, 1, 2)) / np.where(energy > 0, energy, np.nan)

    down = correlation(kernel[1:], kernel[:-1])
    along = correlation(kernel[:, 1:], kernel[:, :-1])
    return (down + along) / 2


def filter_memory(start, kernel) -> np.ndarray:
    """Return how much each filter still looks like its own start.

    Args:
        start: (height, width, channels, n) weights before training.
        kernel: the same layer's after it.

    Returns:
        (n,) correlation coefficients of a filter's weights with its start's: 1 where training only
        scaled them, about 0 where nothing of the start is left.
    """
    one, other = (np.asarray(k, "float64").reshape(-1, k.shape[-1]) for k in (start, kernel))
    one, other = one - one.mean(0), other - other.mean(0)
    norms = np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0)
    return (one * other).sum(0) / np.maximum(norms, 1e-30)


def by_epoch(kernels) -> dict[int, np.ndarray]:
    """Return {epoch: a first layer's kernel}, the epochs in order, or raise a ValueError."""
    if not kernels:
        raise ValueError("There is no epoch to draw: `kernels` is empty.")
    return {epoch: _checked(kernels[epoch]) for epoch in sorted(kernels)}


def _checked(kernel) -> np.ndarray:
    kernel = np.asarray(kernel, "float64")
    if kernel.ndim != 4 or kernel.shape[2] not in (1, 3):
        raise ValueError(
            "These are the weights of a first layer, (height, width, 3 or 1, filters); "
            f"got {kernel.shape}. Deeper filters have no colours of their own to draw."
        )
    return kernel


def pictures(kernel, each=False, limit=None) -> np.ndarray:
    """Turn weights into (n, height, width, 3) colours from 0 to 1, zero being 0.5."""
    limit = np.abs(kernel).max((0, 1, 2)) if each else limit or np.abs(kernel).max()
    scaled = 0.5 + 0.5 * kernel / np.where(limit > 0, limit, 1)
    return np.repeat(np.moveaxis(scaled, -1, 0), 3 // kernel.shape[2], axis=-1)


def _towers(groups) -> list[str]:
    return [f"tower {i + 1}" for i in range(groups)] if groups > 1 else [""]
