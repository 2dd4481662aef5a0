"""Layers that Keras has, but not at a speed a processor can train with."""

import keras

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
