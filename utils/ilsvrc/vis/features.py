"""Feature visualisation: pictures that a network's units answer to, made by gradient ascent.

Olah et al. 2017, "Feature Visualization", Distill. The ascent starts from faint noise. By itself it
ends in fine speckle; three things make its ends readable: coordinates in which smooth pictures are
near (frequencies, weighted by 1/f), coordinates in which natural colours are near, and a view that
is shifted, scaled and turned at each step, so that only what survives this can grow.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from ilsvrc import backend
from ilsvrc.vis import checks, precision, style

# Colours of photographs, from 0 to 1: their covariance is COLOURS @ COLOURS.T. Measured on the
# 13,394 training photographs of Imagenette by `augment.pca_colour`, eigenvectors times standard
# deviations: a column each for light against dark, red against blue, green against magenta.
COLOURS = np.array([[0.258, 0.098, 0.026], [0.267, 0.004, -0.051], [0.279, -0.094, 0.025]])
START = 0.01  # of the noise, in standard deviations of a picture's pixels before the sigmoid
LENGTH = 2.5  # of the whole way, in the same unit; a longer one saturates the colours
LEAK = 0.1  # what a place counts that does not fire
SHIFT, SCALE, TURN = 1 / 8, 0.2, 15.0  # at most: of the side; of the size; in degrees


@precision.in_float32
def feature_visualisation(
    model,
    layer,
    units,
    mean,
    std=1.0,
    steps=128,
    fourier=True,
    colours=True,
    transforms=True,
    seed=0,
):
    """Make a picture for each of some units that raises the unit's activation.

    The objective is the unit's mean over its map before the activation function, where places below
    zero count a tenth: a unit that does not fire yet has a way up. A unit without a map, such as a
    class's logit, is its own objective. All units climb together, in steps of one length along
    the gradient; each has a start of its own, so that its picture does not depend on
    the others.

    Args:
        model: a flat Keras model on square colour images. With the activations in layers of their
            own, any unit can climb; behind one that is part of its layer, units that fire.
        layer: a layer's name; an activation layer stands for the layer before it.
        units: channels of the layer, or classes.
        mean: what is taken off grey levels to make the model's input, (255 * picture - mean) / std:
            that of `augment.Normalise`, a number, (3,) or (side, side, 3).
        std: what they are then divided by, in one of these shapes.
        steps: of the ascent. More of them are shorter, and follow the gradient more closely.
        fourier: climb in frequencies; otherwise in pixels.
        colours: climb along the main directions of photographs' colours; otherwise in RGB.
        transforms: shift, scale and turn the view at random at each step.
        seed: of the start and the views.

    Returns:
        Pictures (units, side, side, 3), float32 from 0 to 1, and the objective (steps, units)
        before each step, as seen in its view.

    Raises:
        ValueError: if there is no such layer or unit, or the model takes other images.
    """
    checks.at_least(0, steps=steps)
    if not (np.asarray(std) > 0).all():
        raise ValueError(f"std divides the grey levels: it is above 0, got {std}.")
    tensor = _before_activation(*checks.outputs(model, [layer]))
    checks.differentiable(model)
    side = _side(model)
    units = checks.units(tensor, list(units))
    tapped = keras.Model(model.inputs, tensor)
    chosen = np.eye(tensor.shape[-1], dtype="float32")[units]
    basis, strength = fourier_basis(side) if fourier else (np.eye(side), np.ones((side, side)))
    strength, colour = strength[..., None], _colour_basis() if colours else np.eye(3)
    mean, basis, strength, colour, std = (
        np.asarray(array, "float32") for array in (mean, basis, strength, colour, std)
    )

    def picture(x):
        values = ops.einsum("yk,nklc,xl->nyxc", basis, x * strength, basis)
        return ops.sigmoid(ops.matmul(values, colour.T))

    def objective(x, view):
        seen = sample(picture(x), view)
        answers = ops.cast(tapped((255 * seen - mean) / std, training=False), "float32")
        if len(answers.shape) == 4:
            answers = ops.mean(ops.leaky_relu(answers, LEAK), axis=(1, 2))
        return ops.sum(answers * chosen, axis=1)

    step, rng = backend.value_and_grad(objective), np.random.default_rng(seed)
    x = START * strength * np.stack([_noise(seed, unit, side) for unit in units])
    climb = []
    for _ in range(steps):
        view = random_view(rng, side) if transforms else np.eye(2, 3, dtype="float32")
        value, gradient = (ops.convert_to_numpy(tensor) for tensor in step(x, view))
        length = np.sqrt((gradient**2).mean((1, 2, 3), keepdims=True))
        x += LENGTH / steps * gradient / np.maximum(length, 1e-30)
        climb.append(value)
    return ops.convert_to_numpy(picture(x)), np.reshape(climb, (steps, len(units)))


def fourier_basis(side) -> tuple[np.ndarray, np.ndarray]:
    """Return a basis of sines and cosines, and how strongly each of their products counts.

    Args:
        side: of the pictures, in pixels.

    Returns:
        An orthogonal matrix (side, side), a column a wave, and strengths (side, side) of the
        products of a vertical and a horizontal wave. They fall like the root of 1/f: the gradient
        passes them on its way to the coordinates, and its step again on the way to the picture,
        which so changes by 1/f, as amplitudes in photographs fall. Their mean square is 1.
    """
    column = np.arange(side)
    frequency = (column + 1) // 2  # 0, 1, 1, 2, 2, ... waves over the side
    angle = 2 * np.pi * np.outer(np.arange(side), frequency) / side
    basis = np.where(column % 2, np.cos(angle), np.sin(angle))
    basis[:, 0] = 1
    strength = np.maximum(np.hypot(frequency[:, None], frequency), 1) ** -0.5
    return basis / np.linalg.norm(basis, axis=0), strength / np.sqrt((strength**2).mean())


def sample(pictures, view):
    """Look at pictures shifted, scaled and turned: bilinear, wrapped round at the edges.

    Args:
        pictures: a float tensor (n, side, side, channels).
        view: (2, 3). The pixel (y, x) of the result, counted from the middle, is what stands at
            ``view @ (y, x, 1)``.

    Returns:
        A tensor of the same shape.
    """
    n, side, _, channels = pictures.shape
    at = np.arange(side, dtype="float32") - side // 2
    grid = np.stack([*np.meshgrid(at, at, indexing="ij"), np.ones((side, side), "float32")])
    y, x = ops.unstack(ops.matmul(view, grid.reshape(3, -1)) + side // 2, axis=0)
    top, left = ops.floor(y), ops.floor(x)
    pixels = ops.reshape(ops.transpose(pictures, (1, 2, 0, 3)), (side * side, n * channels))
    seen = 0
    for row, column in [(top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)]:
        weight = (1 - ops.abs(y - row)) * (1 - ops.abs(x - column))
        place = ops.cast(row % side * side + column % side, "int32")
        seen = seen + weight[:, None] * ops.take(pixels, place, axis=0)
    return ops.transpose(ops.reshape(seen, (side, side, n, channels)), (2, 0, 1, 3))


def random_view(rng, side) -> np.ndarray:
    """Draw a view for `sample`: (2, 3), float32."""
    angle, scale = np.deg2rad(rng.uniform(-TURN, TURN)), 1 + rng.uniform(-SCALE, SCALE)
    turned = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = side * rng.uniform(-SHIFT, SHIFT, (2, 1))
    return np.concatenate([turned, shift], axis=1).astype("float32")


def feature_ablation(model, layer, units, mean, std=1.0, steps=128, seed=0) -> dict:
    """Make the pictures of some units four times, with one more of the three helps each time.

    Args:
        model: this and all others as for `feature_visualisation`.
        layer: a layer's name.
        units: channels of the layer, or classes.
        mean: of the model's input.
        std: of the model's input.
        steps: of each ascent.
        seed: of the starts and the views.

    Returns:
        {"pixels", "+ frequencies", "+ colours", "+ transforms": pictures as
        `feature_visualisation` returns them}.
    """
    kinds = ["pixels", "+ frequencies", "+ colours", "+ transforms"]
    arguments = (model, layer, units, mean, std, steps)
    return {
        kind: feature_visualisation(*arguments, i > 0, i > 1, i > 2, seed)[0]
        for i, kind in enumerate(kinds)
    }


@plt.rc_context(style.STYLE)
def gallery(pictures, titles=None, columns=8):
    """Draw pictures side by side.

    Args:
        pictures: (n, height, width, 3), uint8 or floats from 0 to 1.
        titles: n texts to stand above them, such as units or classes; an empty one leaves the
            place free.
        columns: pictures in a row.

    Returns:
        A Matplotlib figure.

    Raises:
        ValueError: if there are more pictures than titles, or fewer.
    """
    n, columns = len(pictures), min(columns, len(pictures))
    if titles is not None and len(titles) != n:
        raise ValueError(f"There are {n} pictures, but {len(titles)} titles.")
    rows, side = -(-n // columns), style.WIDTH / columns
    height = rows * (side * pictures.shape[1] / pictures.shape[2] + 0.22 * (titles is not None))
    fig, axes = style.subplots(rows, columns, height, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, picture, title in zip(axes.flat, pictures, titles or n * [""], strict=False):
        ax.imshow(style.drawable(picture))
        ax.set_title(title, loc="center", pad=2)
    return fig


def _side(model) -> int:
    shape = tuple(model.inputs[0].shape[1:])
    if shape != (shape[0], shape[0], 3):
        raise ValueError(f"{model.name!r} takes {shape}; pictures are square and have 3 colours.")
    return shape[0]


def _before_activation(tensor):
    """Return what an activation layer is given, of another layer what it puts out."""
    layer, index, _ = tensor._keras_history
    if isinstance(layer, keras.layers.Activation | keras.layers.ReLU | keras.layers.Softmax):
        return layer._inbound_nodes[index].input_tensors[0]
    kind = checks.called(getattr(layer, "activation", None))
    if kind in checks.ENDINGS:
        raise ValueError(
            f"{layer.name!r} puts out what its {kind} leaves, which hardly changes where it is "
            "sure. Build the network with logits=True or activation=None there."
        )
    return tensor


def _colour_basis() -> np.ndarray:
    """Return COLOURS on a scale where the three colours' mean variance is 1, as in RGB."""
    return COLOURS / np.sqrt((COLOURS**2).sum(1).mean())


def _noise(seed, unit, side) -> np.ndarray:
    return np.random.default_rng([seed, unit]).normal(size=(side, side, 3)).astype("float32")
