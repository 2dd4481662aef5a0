"""Compare ways to compute a grouped convolution: forward and backward, side by side in one run."""

import time

import keras
import numpy as np
from keras import ops

from ilsvrc import backend, layers

CASES = {  # side, channels in, filters, kernel, groups
    "AlexNet conv2": (27, 96, 256, 5, 2),
    "AlexNet conv4": (13, 384, 384, 3, 2),
    "AlexNet conv5": (13, 384, 256, 3, 2),
    "ResNeXt conv4": (14, 512, 512, 3, 32),
}
BATCH, REPEATS = 32, 2


def keras_own(x, kernel, groups):
    return ops.conv(x, kernel, padding="same")


def block_diagonal(x, kernel, groups):
    inputs, filters = kernel.shape[2:]
    own = np.arange(inputs * groups)[:, None] // inputs == np.arange(filters) // (filters // groups)
    return ops.conv(x, ops.tile(kernel, (1, 1, groups, 1)) * own.astype("float32"), padding="same")


def ours(x, kernel, groups):
    layer = layers.GroupedConv2D(kernel.shape[-1], 3, padding="same", groups=groups)
    return layer.convolution_op(x, kernel)


def dense(x, kernel, groups):
    return ops.conv(x, ops.tile(kernel, (1, 1, groups, 1)), padding="same")


def seconds(way, groups, x, kernel):
    """Return the first call's time and the best after it, of the gradient of x and kernel."""
    size = x.size

    def loss(both):
        images = ops.reshape(both[:size], x.shape)
        return ops.sum(ops.square(way(images, ops.reshape(both[size:], kernel.shape), groups)))

    step = backend.value_and_grad(loss)
    both = np.concatenate([x.ravel(), kernel.ravel()])
    times = []
    for _ in range(1 + REPEATS):
        began = time.perf_counter()
        ops.convert_to_numpy(step(both)[1])
        times.append(time.perf_counter() - began)
    return times[0], min(times[1:])


def main():
    print(f"{backend.name()} on {backend.device()}, batches of {BATCH}, times relative to a dense")
    print("convolution of the same width; in brackets the first call with its compilation, in s\n")
    ways = (block_diagonal, ours, keras_own)
    print(f"{'':15}{'dense, ms':>12}" + "".join(f"{way.__name__:>22}" for way in ways))
    rng = np.random.default_rng(0)
    for name, (side, channels, filters, k, groups) in CASES.items():
        x = rng.normal(size=(BATCH, side, side, channels)).astype("float32")
        kernel = rng.normal(size=(k, k, channels // groups, filters)).astype("float32")
        reference = seconds(dense, groups, x, kernel)[1]
        line = f"{name:15}{1000 * reference:12.0f}"
        for way in ways:
            first, best = seconds(way, groups, x, kernel)
            cell = f"{best / reference:.2f} ({first:.1f})"
            line += f"{cell:>22}"
        print(line, flush=True)


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main()
