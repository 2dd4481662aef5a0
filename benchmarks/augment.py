"""Compare a crop and a flip for each image with Keras's own layers, side by side in one run."""

import time

import keras
import numpy as np
from keras import layers, ops

from ilsvrc import augment, backend

SIZES = ((73, 64), (256, 224))
BATCH, REPEATS = 64, 5


def milliseconds(steps, stored):
    """Return the best time of a compiled training pass of `steps` over one batch."""
    inputs = x = keras.Input((stored, stored, 3), dtype="uint8")
    for step in steps:
        x = step(x)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=backend.name() == "jax")
    images = np.random.default_rng(0).integers(0, 256, (BATCH, stored, stored, 3), "uint8")
    images, target = ops.convert_to_tensor(images), ops.zeros((BATCH, 3))
    times = []
    for _ in range(1 + REPEATS):
        began = time.perf_counter()
        model.train_on_batch(images, target)
        times.append(time.perf_counter() - began)
    return 1000 * min(times[1:])


def main():
    print(f"{backend.name()} on {backend.device()}, batches of {BATCH}, ms a compiled step\n")
    for stored, size in SIZES:
        ways = {
            "nothing (centre crop)": [augment.CentreCrop(size)],
            "ours: RandomCrop, RandomFlip": [augment.RandomCrop(size), augment.RandomFlip()],
            "Keras: one crop a batch": [
                layers.RandomCrop(size, size),
                layers.RandomFlip("horizontal"),
            ],
            "ours: RandomResizedCrop": [augment.RandomResizedCrop(size)],
        }
        for name, steps in ways.items():
            print(f"{stored} -> {size}  {name:30}{milliseconds(steps, stored):8.1f}", flush=True)


if __name__ == "__main__":
    main()
