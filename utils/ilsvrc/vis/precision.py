"""Looking in float32 at a network that was trained in mixed precision.

A GPU trains with weights in float32 and sums in bfloat16 or float16. That is too coarse to look at:
values that differ come out equal, small gradients become 0 (training scales the loss up against
that), and NumPy knows no bfloat16.
"""

import functools
from contextlib import contextmanager

import keras

MIXED = ("mixed_bfloat16", "mixed_float16")


@contextmanager
def single(model):
    """Let the layers of a model that has a policy of `MIXED` compute in float32 for a while.

    What was compiled before, such as the model's own `predict`, stays in half precision, and what
    is compiled now stays in float32: run the layers through a `keras.Model` that is made here.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"A Keras model is asked for, got a {type(model).__name__}.")
    policies = {
        layer: layer.dtype_policy
        for layer in model._flatten_layers()
        if layer.dtype_policy.name in MIXED
    }
    try:
        for layer in policies:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in policies.items():
            layer.dtype_policy = policy


def in_float32(look):
    """Decorate a function of a model, and of more, so that the model computes in float32 inside."""

    @functools.wraps(look)
    def looked(model, *args, **options):
        with single(model):
            return look(model, *args, **options)

    return looked
