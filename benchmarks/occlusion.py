"""Compare attribution with a plain loop and with tf-keras-vis (where installed), in one run."""

import importlib.util
import time

import keras
import numpy as np

import ilsvrc
from ilsvrc import backend, vis

PATCH, STRIDE = 34, 17  # a grid of 14 x 14 in 227 pixels
IMAGES, SAMPLES, LAYER, LABEL = 8, 24, "relu5", 7
REPEATS = 3


def squares(image):
    """Yield the copies of an image that occlusion looks at."""
    colour = image.mean((0, 1))
    for row, column in np.ndindex(14, 14):
        top, left = (place * STRIDE + (STRIDE - PATCH) // 2 for place in (row, column))
        copy = image.copy()
        copy[max(top, 0) : top + PATCH, max(left, 0) : left + PATCH] = colour
        yield copy


def loop(model, image, score):
    drops = score(model, image) - np.array([score(model, copy) for copy in squares(image)])
    return drops.reshape(14, 14)


def call(model, image):
    answer = model(keras.ops.convert_to_tensor(image[None]), training=False)
    return keras.ops.convert_to_numpy(answer)[0, LABEL]


def predict(model, image):
    return model.predict(image[None], verbose=0)[0, LABEL]


def ours(model, images):
    image = images[:1]
    return {
        "occlusion, 196 squares": lambda: vis.occlusion(model, image, LABEL, PATCH, STRIDE)[
            0, ::STRIDE, ::STRIDE
        ],
        f"saliency, {IMAGES} images": lambda: vis.saliency(model, images, LABEL),
        f"SmoothGrad of {SAMPLES}, 1 image": lambda: vis.smoothgrad(model, image, LABEL, SAMPLES),
        f"Grad-CAM, {IMAGES} images": lambda: vis.grad_cam(model, images, LABEL, LAYER, raw=True),
    }


def plain_loops(model, images):
    return {
        "occlusion, 196 squares, model(x)": lambda: loop(model, images[0], call),
        "occlusion, 196 squares, predict": lambda: loop(model, images[0], predict),
    }


def tf_keras_vis(model, images):
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.scorecam import Scorecam
    from tf_keras_vis.utils.scores import CategoricalScore

    def score(n):
        return CategoricalScore([LABEL] * n)

    image, layer = images[:1], {"penultimate_layer": LAYER, "seek_penultimate_conv_layer": False}
    raw = {"expand_cam": False, "normalize_cam": False, **layer}
    return {
        "Score-CAM, 256 masks": lambda: Scorecam(model)(score(1), image, **raw),
        f"saliency, {IMAGES} images": lambda: Saliency(model)(
            score(IMAGES), images, normalize_map=False
        ),
        f"SmoothGrad of {SAMPLES}, 1 image": lambda: Saliency(model)(
            score(1), image, smooth_samples=SAMPLES, smooth_noise=0.15, normalize_map=False
        ),
        f"Grad-CAM, {IMAGES} images": lambda: Gradcam(model)(score(IMAGES), images, **raw),
    }


def timed(jobs):
    """Return each job's result and its best time, the jobs taking turns."""
    times, results = {name: [] for name in jobs}, {}
    for _ in range(REPEATS):
        for name, job in jobs.items():
            began = time.perf_counter()
            results[name] = np.asarray(job())
            times[name].append(time.perf_counter() - began)
    return results, {name: min(each) for name, each in times.items()}


def main():
    chapter = ilsvrc.chapter("2012_alexnet")
    model = chapter.alexnet(logits=True, start=keras.initializers.HeNormal, bias=0.0)
    images = np.random.default_rng(0).normal(0, 60, (IMAGES, 227, 227, 3)).astype("float32")
    jobs = {("ours", name): job for name, job in ours(model, images).items()}
    jobs |= {("plain loop", name): job for name, job in plain_loops(model, images).items()}
    if backend.name() == "tensorflow" and importlib.util.find_spec("tf_keras_vis"):
        others = tf_keras_vis(model, images)
        jobs |= {("tf-keras-vis", name): job for name, job in others.items()}
    else:
        print("tf-keras-vis is not installed, or cannot run on this backend: left out\n")
    results, times = timed(jobs)
    print(f"{backend.name()} on {backend.device()}: AlexNet at 227 px, best of {REPEATS}, in s\n")
    for (who, name), best in times.items():
        line = f"{who:14}{name:36}{best:7.2f}"
        if who != "ours":
            own = ("ours", name if ("ours", name) in jobs else "occlusion, 196 squares")
            line += f"{best / times[own]:7.1f} times ours"
            if results[own].shape == results[who, name].shape:
                apart = np.abs(results[own] - results[who, name]).max()
                line += f", results differ by {apart / np.abs(results[own]).max():.0e}"
        print(line)


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main()
