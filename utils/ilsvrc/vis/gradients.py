"""How much of the loss's gradient reaches each layer."""

from functools import lru_cache

import keras
import numpy as np
from keras import ops

from ilsvrc import backend
from ilsvrc.vis import checks, precision


@precision.in_float32
def gradient_norms(model, images, labels, weights=(1.0,), training=False) -> dict[str, float]:
    """Return the norm of the loss's gradient at each layer's kernel, on one batch.

    Args:
        model: A network on prepared images, its outputs logits.
        images: (n, height, width, channels), as the model takes them.
        labels: (n,) ints.
        weights: What the cross-entropy of each output counts for in the loss, the first output
            first; outputs beyond these do not count.
        training: Whether dropout drops and batch norm takes this batch's statistics.

    Returns:
        Layer name -> Euclidean norm of the gradient of the mean cross-entropy in nats, in the
        model's order; layers without a kernel that learns are left out.

    Raises:
        ValueError: if an output that counts ends in a softmax, the images are of another shape, a
            label is no class, or there are more weights than outputs.
    """
    checks.logits(model)
    weights = np.asarray(weights, "float32")
    unweighted = len(model.outputs) - len(weights) if weights.ndim == 1 else -1
    if unweighted < 0 or not np.isfinite(weights).all():
        raise ValueError(
            f"Weights {[round(float(w), 6) for w in weights.ravel()]} for the "
            f"{len(model.outputs)} output(s) of {model.name!r}: give a number for each output at "
            "most, the first output first."
        )
    checks.logits(model, len(weights))
    images = checks.images(model, images)
    labels = checks.labels(labels, images, model.outputs[0].shape[-1])
    learning = model.trainable_variables
    if not learning:
        raise ValueError(
            f"Nothing in {model.name!r} learns: its layers are frozen. Set model.trainable = True."
        )
    learned = [ops.convert_to_numpy(ops.cast(v, "float32")).ravel() for v in learning]
    fixed = [v.value for v in model.non_trainable_variables]
    weights = np.pad(weights, (0, unweighted))
    _, gradient = _derivative(model, training, tuple(map(id, learning)))(
        np.concatenate(learned), images, labels, weights, *fixed
    )
    parts = np.split(ops.convert_to_numpy(gradient), np.cumsum([len(v) for v in learned])[:-1])
    parts = {id(v): part for v, part in zip(learning, parts, strict=True)}
    kernels = {layer.name: getattr(layer, "kernel", None) for layer in model.layers}
    return {
        name: float(np.linalg.norm(parts[id(kernel)]))
        for name, kernel in kernels.items()
        if id(kernel) in parts
    }


@lru_cache(maxsize=1)
def _derivative(model, training, learning):
    """Return the loss's derivative by all that learns; other losses and weights use its trace."""
    shapes = [v.shape for v in model.trainable_variables]
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1].tolist()

    def loss(flat, images, labels, weights, *fixed):
        values = [
            ops.reshape(part, s) for part, s in zip(ops.split(flat, ends), shapes, strict=True)
        ]
        outputs, _ = model.stateless_call(values, fixed, images, training=training)
        losses = [
            ops.mean(keras.losses.sparse_categorical_crossentropy(labels, one, True))
            for one in (ops.cast(out, "float32") for out in keras.tree.flatten(outputs))
        ]
        return ops.sum(weights * ops.stack(losses))

    return backend.value_and_grad(loss)
