"""Compare a training step of slim networks with oneDNN's kernels in TensorFlow and without them.

Which kernels TensorFlow takes is settled when it is imported: each side is a process of its own,
and they take turns, a step each.
"""

import argparse
import os
import subprocess
import sys
import time

import numpy as np

RUNS = {
    "2012_alexnet": "baseline",
    "2014_googlenet": "googlenet",
    "2015_resnet": "resnet",
    "2016_densenet": "densenet",
    "2016_squeezenet": "squeezenet",
    "2017_mobilenet": "mobilenet",
    "2019_efficientnet": "efficientnet",
}


def side():
    """Build each network that is asked for on the input; train on one batch for each empty line."""
    import keras

    from ilsvrc import Lab

    for line in sys.stdin:
        if line.strip():
            chapter, run = line.split()
            keras.utils.clear_session()
            plan = Lab(chapter, "laptop", seeds=1).plan(run)
            shape = (plan.size, plan.size, 3)
            model = plan.build(input_shape=shape, classes=10, logits=False)
            model.compile(keras.optimizers.SGD(0.01, 0.9), "sparse_categorical_crossentropy")
            images = np.random.default_rng(0).random((plan.batch, *shape), "float32")
            labels = [np.arange(plan.batch) % 10] * len(model.outputs)
        began = time.perf_counter()
        model.train_on_batch(images, labels if len(labels) > 1 else labels[0])
        print("took", time.perf_counter() - began, flush=True)


def asks(process, line=""):
    """Send a line, return the seconds that the step took."""
    print(line, file=process.stdin, flush=True)
    return next(float(said.split()[1]) for said in process.stdout if said.startswith("took"))


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--steps", type=int, default=15)
    steps = asked.parse_args().steps
    quiet = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    sides = [
        subprocess.Popen(
            [sys.executable, __file__, "side"],
            env={**quiet, "TF_ENABLE_ONEDNN_OPTS": kernels},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kernels in "01"
    ]
    for chapter, run in RUNS.items():
        for process in sides:
            asks(process, f"{chapter} {run}")  # builds and traces
        took = np.array([[asks(process) for process in sides] for _ in range(steps)])
        ratio = np.median(took[:, 0] / took[:, 1])
        without, used = 1000 * np.median(took, axis=0)
        print(f"{chapter:18}{without:6.0f} ms{used:6.0f} ms{ratio:6.2f}", flush=True)
    for process in sides:
        process.communicate()


if __name__ == "__main__":
    side() if sys.argv[1:] == ["side"] else main()
