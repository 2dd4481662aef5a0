"""What the chapters' `fit` functions share: the learning rate's course, the first layer's start."""

import keras
import numpy as np


@keras.saving.register_keras_serializable("ilsvrc")
class WarmCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that climbs from a tenth in a tenth of the steps, then falls along a cosine.

    Equal to Keras' `CosineDecay` with such a warm-up, without its branch: decay of the weights asks
    for the rate once a weight, and on TensorFlow to trace a branch for each takes five seconds of
    GoogLeNet's first step.

    Args:
        rate: The highest learning rate.
        steps: Of the whole training; the rate ends at 0.
    """

    def __init__(self, rate, steps):
        self.rate, self.steps = rate, steps

    def __call__(self, step):
        """Return the learning rate at a step, from 0: a float32 scalar of the backend."""
        step, warm = keras.ops.cast(step, "float32"), self.steps // 10
        climbing = 0.1 + 0.9 * step / max(warm, 1)
        done = keras.ops.clip((step - warm) / (self.steps - warm), 0, 1)
        falling = (1 + keras.ops.cos(np.pi * done)) / 2
        return self.rate * keras.ops.where(step < warm, climbing, falling)

    def get_config(self):
        return {"rate": self.rate, "steps": self.steps}


def faint_start(model: keras.Model, deviation: float = 0.002) -> None:
    """Scale the first convolution's random start down, so that what it learns can be seen.

    At the usual size the start stays in the filters as grain for thousands of steps; at a deviation
    of 0.002 (for pixels of unit spread) it vanishes under what is learned, at the same accuracy.

    Args:
        model: A network with its fresh random weights.
        deviation: What the weights' standard deviation becomes.
    """
    kernel = next(layer.kernel for layer in model.layers if hasattr(layer, "kernel"))
    kernel.assign(kernel * (deviation / keras.ops.std(kernel)))
