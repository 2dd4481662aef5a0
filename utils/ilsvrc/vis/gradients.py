"""How much of the loss's gradient reaches each layer."""

from itertools import pairwise

import keras
import numpy as np
from keras import ops

from ilsvrc import backend
from ilsvrc.vis import checks


def gradient_norms(model, images, labels, weights=(1.0,), training=False) -> dict[str, float]:
    """Return the norm of the loss's gradient at each layer's kernel, on one batch.

    Args:
        model: A network on prepared images, its outputs logits.
        images: (n, height, width, channels), as the model takes them.
        labels: (n,) ints.
        weights: What the cross-entropy of each output counts for in the loss; outputs beyond these
            do not count.
        training: Whether dropout drops and batch norm takes this batch's statistics.

    Returns:
        Layer name -> Euclidean norm of the gradient of the mean cross-entropy in nats, in the
        model's order; layers without a kernel are left out.

    Raises:
        ValueError: if the network ends in a softmax, or the images are of another shape.
    """
    checks.logits(model)
    images = ops.convert_to_tensor(checks.images(model, images))
    names = [layer.name for layer in model.layers if getattr(layer, "kernel", None) is not None]
    kernels = [model.get_layer(name).kernel for name in names]
    places = {id(kernel): place for place, kernel in enumerate(kernels)}
    ends = np.cumsum([0, *(np.prod(kernel.shape) for kernel in kernels)]).tolist()
    targets = ops.convert_to_tensor(np.asarray(labels, "int32"))

    def loss(flat):
        parts = [flat[start:end] for start, end in pairwise(ends)]
        values = [
            ops.reshape(parts[places[id(v)]], v.shape) if id(v) in places else v.value
            for v in model.trainable_variables
        ]
        fixed = [v.value for v in model.non_trainable_variables]
        outputs, _ = model.stateless_call(values, fixed, images, training=training)
        return sum(
            weight * ops.mean(keras.losses.sparse_categorical_crossentropy(targets, one, True))
            for weight, one in zip(weights, keras.tree.flatten(outputs), strict=False)
        )

    flat = np.concatenate([ops.convert_to_numpy(kernel).ravel() for kernel in kernels])
    gradient = ops.convert_to_numpy(backend.value_and_grad(loss)(flat)[1])
    norms = [float(np.linalg.norm(part)) for part in np.split(gradient, ends[1:-1])]
    return dict(zip(names, norms, strict=True))
