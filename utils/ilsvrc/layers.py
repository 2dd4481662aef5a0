"""Layers that Keras has, but not at a speed a processor can train with."""

import keras
import numpy as np

from ilsvrc import backend


@keras.saving.register_keras_serializable("ilsvrc")
class GroupedConv2D(keras.layers.Conv2D):
    """A `keras.layers.Conv2D` whose `groups` cost on a processor what their MACs promise.

    Output i of group g sees the inputs of group g alone, as in AlexNet's two towers (Krizhevsky et
    al. 2012, section 3.5) or ResNeXt's 32 paths (Xie et al. 2017). On a processor each group is a
    dense convolution of its own and the outputs are put side by side; elsewhere the framework's
    grouped convolution runs. Output, weights and arguments are those of `keras.layers.Conv2D`: the
    kernel is (height, width, inputs / groups, filters), and either layer loads the other's weights.

    For one group a channel take `keras.layers.DepthwiseConv2D`.
    """

    def convolution_op(self, inputs, kernel):
        """Convolve (B, H, W, inputs) with `kernel`; returns (B, H', W', filters)."""
        if self.groups == 1 or not backend.on_cpu():
            return super().convolution_op(inputs, kernel)
        channels = -1 if self.data_format == "channels_last" else 1
        towers = zip(
            keras.ops.split(inputs, self.groups, axis=channels),
            keras.ops.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        convolve = super().convolution_op
        return keras.ops.concatenate([convolve(x, k) for x, k in towers], axis=channels)


BUNDLE = 32  # inputs: below it a convolution costs a processor hardly less


@keras.saving.register_keras_serializable("ilsvrc")
class BundledConv2D(GroupedConv2D):
    """A `GroupedConv2D` for many small groups, such as the paths of a slim ResNeXt.

    On a processor a convolution of one map costs nearly what one of thirty-two does. So groups are
    tied into bundles of at most `BUNDLE` inputs, where they are smaller. Each bundle is a dense
    convolution, whose kernel is zero wherever a group would see another's inputs. Output, weights
    and arguments are those of `keras.layers.Conv2D`.
    """

    def convolution_op(self, inputs, kernel):
        """Convolve (B, H, W, inputs) with `kernel`; returns (B, H', W', filters)."""
        seen, filters = kernel.shape[2:]  # inputs a group
        tied = [n for n in range(1, self.groups + 1) if not self.groups % n and n * seen <= BUNDLE]
        if self.groups == 1 or not tied or not backend.on_cpu():
            return super().convolution_op(inputs, kernel)
        tied = max(tied)
        group = np.arange(filters) // (filters // self.groups)
        own = np.arange(tied * seen)[:, None] // seen == group % tied
        kernel = keras.ops.tile(kernel, (1, 1, tied, 1)) * keras.ops.cast(own, kernel.dtype)
        channels = -1 if self.data_format == "channels_last" else 1
        bundles = zip(
            keras.ops.split(inputs, self.groups // tied, axis=channels),
            keras.ops.split(kernel, self.groups // tied, axis=-1),
            strict=True,
        )
        convolve = keras.layers.Conv2D.convolution_op
        return keras.ops.concatenate([convolve(self, x, k) for x, k in bundles], axis=channels)
