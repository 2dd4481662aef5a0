"""Compare ways to visualise 16 units of AlexNet's conv5: all at once, one by one, tf-keras-vis.

tf-keras-vis is none of the course's packages: `pip install tf-keras-vis` into an environment of
your own, or beside it with `pip install --no-deps --target FOLDER tf-keras-vis deprecated imageio`
and FOLDER in PYTHONPATH. It computes on TensorFlow alone.
"""

import time

import keras
import numpy as np

import ilsvrc
from ilsvrc import backend, vis

SIDE, UNITS, STEPS, LAYER = 128, range(16), 128, "conv5"
MEAN, STD = 115.0, 58.0


def at_once(model):
    return vis.feature_visualisation(model, LAYER, UNITS, MEAN, STD, steps=STEPS)[0]


def one_by_one(model):
    found = [vis.feature_visualisation(model, LAYER, [u], MEAN, STD, steps=STEPS)[0] for u in UNITS]
    return np.concatenate(found)


def tf_keras_vis(model):
    from tf_keras_vis import activation_maximization
    from tf_keras_vis.activation_maximization import input_modifiers
    from tf_keras_vis.utils.model_modifiers import ExtractIntermediateLayer
    from tf_keras_vis.utils.scores import CategoricalScore

    rng = np.random.default_rng(0)
    found = activation_maximization.ActivationMaximization(
        model, model_modifier=ExtractIntermediateLayer(LAYER), clone=False
    )(
        CategoricalScore(list(UNITS)),
        seed_input=rng.uniform(-1, 1, (len(UNITS), SIDE, SIDE, 3)).astype("float32"),
        input_range=((0 - MEAN) / STD, (255 - MEAN) / STD),
        input_modifiers=[  # as far as ours
            input_modifiers.Jitter(SIDE // 8),
            input_modifiers.Scale(0.8, 1.2),
            input_modifiers.Rotate2D(15),
        ],
        steps=STEPS,
    )
    return (np.asarray(found) * STD + MEAN) / 255


def answers(model, pictures):
    """Return the mean of each picture's own unit over its map."""
    maps = vis.activations(model, (255 * pictures - MEAN) / STD, LAYER)[LAYER]
    return maps.mean((1, 2))[np.arange(len(UNITS)), list(UNITS)]


def main():
    print(f"{backend.name()} on {backend.device()}: {len(UNITS)} units, {STEPS} steps, {SIDE} px")
    keras.utils.set_random_seed(0)
    chapter = ilsvrc.chapter("2012_alexnet")
    model = chapter.alexnet((SIDE, SIDE, 3), 10, logits=True, **chapter.trained)
    print(f"\n{'':14}{'s':>8}{'ratio':>8}{'processor s':>14}{'ratio':>8}{'mean activation':>18}")
    first = None
    for way in (at_once, one_by_one, tf_keras_vis):
        began = time.perf_counter(), time.process_time()
        try:
            if way is tf_keras_vis and backend.name() != "tensorflow":
                raise ImportError("computes on TensorFlow alone")
            pictures = way(model)
        except ImportError as error:
            print(f"{way.__name__:14}  not run: {error}")
            continue
        took = time.perf_counter() - began[0], time.process_time() - began[1]
        first = first or took
        print(
            f"{way.__name__:14}{took[0]:8.0f}{took[0] / first[0]:8.2f}{took[1]:14.0f}"
            f"{took[1] / first[1]:8.2f}{answers(model, pictures).mean():18.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
