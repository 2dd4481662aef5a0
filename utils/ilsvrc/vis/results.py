"""How training went and what came of it: curves, confusion matrix, mistakes."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np

from ilsvrc.vis import style


@plt.rc_context(style.STYLE)
def curves(histories):
    """Draw loss and accuracy by epoch: validation in full lines, training dashed.

    Keras averages the training figures over an epoch while the network still changes, and measures
    validation at the epoch's end; dropout and augmentation act in training only. Both put training
    lower than it would score at that moment.

    Args:
        histories: {name: history}, a history being a dict of lists ``loss``, ``accuracy``,
            ``val_loss``, ``val_accuracy`` as ``fit(...).history`` holds it. A list of such dicts
            are runs with several seeds: drawn as their mean, in a band from the least to the
            greatest.

    Returns:
        A Matplotlib figure.

    Raises:
        ValueError: if no history holds a loss or an accuracy.
    """
    runs = {name: [h] if isinstance(h, dict) else list(h) for name, h in histories.items()}
    panels = [
        (metric, title, factor)
        for metric, title, factor in [("loss", "loss", 1), ("accuracy", "accuracy (%)", 100)]
        if any(key in h for hs in runs.values() for h in hs for key in (metric, f"val_{metric}"))
    ]
    if not panels:
        raise ValueError("No history holds 'loss' or 'accuracy': pass {name: fit(...).history}.")
    fig, axes = style.subplots(1, len(panels), 2.8, squeeze=False)
    for ax, (metric, title, factor) in zip(axes[0], panels, strict=True):
        ends = []
        for i, (name, hs) in enumerate(runs.items()):
            colour = style.COLOURS[i % len(style.COLOURS)]
            for key, line, width in [(metric, (0, (3, 2)), 1.0), (f"val_{metric}", "-", 1.8)]:
                lines = [np.asarray(h[key], float) * factor for h in hs if len(h.get(key, []))]
                if not lines:
                    continue
                low, mean, high = _band(lines)
                epochs = np.arange(1, len(mean) + 1)
                ax.plot(epochs, mean, ls=line, lw=width, color=colour, marker=_dot(mean), ms=3)
                if len(lines) > 1:
                    ax.fill_between(epochs, low, high, color=colour, alpha=0.2, lw=0)
                part = "val." if key.startswith("val") else "train"
                label = f"{name}, {part}" if len(runs) < 3 else name
                if len(runs) < 3 or key.startswith("val") or f"val_{metric}" not in hs[0]:
                    ends.append((epochs[-1], mean[-1], label, colour))
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        if ends and max(x for x, *_ in ends) == 1:
            ax.set_xticks([1])
        if metric == "accuracy":
            ax.set_ylim(0, 100)
        _label_ends(fig, ax, ends)
    if len(runs) > 2:
        fig.supxlabel("full line: validation, dashed: training", fontsize=8, color="#444444")
    return fig


@plt.rc_context(style.STYLE)
def confusion(y_true, y_pred, class_names):
    """Draw a confusion matrix: rows are the true classes, columns what the network answers.

    Args:
        y_true: (n,) class indices.
        y_pred: (n,) class indices, or (n, classes) probabilities or logits.
        class_names: the classes' names, in the order of the indices.

    Returns:
        A Matplotlib figure; colours and numbers are per cent of the true class. With more than 20
        classes the numbers and names are left out.

    Raises:
        ValueError: if lengths or indices do not fit each other.
    """
    y_true, y_pred = _labels(y_true, y_pred, class_names)
    n = len(class_names)
    counts = np.zeros((n, n), int)
    np.add.at(counts, (y_true, y_pred), 1)
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    fig, ax = style.subplots(1, 1, 5.2 if n <= 20 else 6)
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
    ax.set(xlabel="answer", ylabel="true class")
    ax.spines[:].set_visible(False)
    if n <= 20:
        ax.set_xticks(range(n), class_names, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(n), class_names)
        ax.tick_params(length=0)
        for i, j in np.argwhere(counts):
            ax.text(
                j, i, _percent(share[i, j] / 100).removesuffix(" %"),
                ha="center", va="center", fontsize=8, weight="bold" if i == j else "normal",
                color="white" if share[i, j] > 55 else "black",
            )  # fmt: skip
    bar = fig.colorbar(image, ax=ax, shrink=0.6, label="% of the true class")
    bar.outline.set_visible(False)
    return fig


@plt.rc_context(style.STYLE)
def mistakes(images, y_true, probabilities, class_names, n=8):
    """Draw the network's most confident mistakes, each with both probabilities.

    Args:
        images: (N, height, width, 3) uint8, or floats from 0 to 255.
        y_true: (N,) class indices.
        probabilities: (N, classes), rows that add up to 1.
        class_names: the classes' names, in the order of the indices.
        n: how many, the most confident first.

    Returns:
        A Matplotlib figure; where there is no mistake it says so.

    Raises:
        ValueError: if lengths or indices do not fit each other, or rows are no probabilities.
    """
    probabilities = np.asarray(probabilities, float)
    if probabilities.ndim != 2 or not np.allclose(probabilities.sum(1), 1, atol=1e-2):
        raise ValueError(
            "mistakes() compares probabilities, rows that add up to 1. "
            "These do not: pass logits through keras.ops.softmax first."
        )
    y_true, y_pred = _labels(y_true, probabilities, class_names)
    if len(images) != len(y_true):
        raise ValueError(f"{len(images)} images, but {len(y_true)} true classes.")
    wrong = np.flatnonzero(y_pred != y_true)
    shown = wrong[np.argsort(-probabilities[wrong, y_pred[wrong]], kind="stable")][:n]
    columns = 4
    rows = max(1, -(-len(shown) // columns))
    fig, axes = style.subplots(rows, columns, rows * 2.25, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    if not len(shown):
        fig.text(0.5, 0.5, f"No mistake among {len(y_true):,} images.", ha="center")
    for ax, i in zip(axes.flat, shown, strict=False):
        ax.imshow(np.clip(np.asarray(images[i]), 0, 255).astype("uint8"))
        answer, truth = (
            textwrap.shorten(class_names[c], 22, placeholder=" …") for c in (y_pred[i], y_true[i])
        )
        sure, left = (_percent(probabilities[i, c]) for c in (y_pred[i], y_true[i]))
        ax.set_title(f"says {answer}, {sure}\nis {truth}, {left}", fontsize=8)
    return fig


def _labels(y_true, y_pred, class_names) -> tuple[np.ndarray, np.ndarray]:
    """Return both as class indices, checked."""
    y_true, y_pred = np.asarray(y_true).reshape(-1), np.asarray(y_pred)
    if y_pred.ndim == 2 and y_pred.shape[1] == len(class_names):
        y_pred = y_pred.argmax(1)
    if y_pred.shape != y_true.shape:
        raise ValueError(
            f"{len(y_true)} true classes, but predictions of shape {y_pred.shape}, "
            f"with {len(class_names)} class names."
        )
    for which in (y_true, y_pred):
        if which.size and not 0 <= which.min() <= which.max() < len(class_names):
            raise ValueError(
                f"Class indices run from {which.min()} to {which.max()}, "
                f"but there are {len(class_names)} class names."
            )
    return y_true.astype(int), y_pred.astype(int)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 else "<1 %"


def _band(lines: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    length = min(map(len, lines))
    stack = np.stack([line[:length] for line in lines])
    return stack.min(0), stack.mean(0), stack.max(0)


def _dot(line) -> str | None:
    return "o" if len(line) == 1 else None


def _label_ends(fig, ax, ends):
    """Write each curve's name at its end, moved apart where they would touch."""
    if not ends:
        return
    low, high = ax.get_ylim()
    step = 0.075 * (high - low)
    heights = []
    for _, y, _, _ in sorted(ends, key=lambda end: end[1]):
        heights.append(max(y, heights[-1] + step) if heights else y)
    excess = max(0, heights[-1] - high)
    for i in reversed(range(len(heights))):  # push down what stands out at the top
        limit = high if i == len(heights) - 1 else heights[i + 1] - step
        heights[i] = min(heights[i], limit) if excess else heights[i]
    for (x, y, label, colour), height in zip(
        sorted(ends, key=lambda end: end[1]), heights, strict=True
    ):
        ax.annotate(
            label, (x, y), (ax.get_xlim()[1], height), va="center", fontsize=8, color=colour,
            annotation_clip=False,
        )  # fmt: skip
