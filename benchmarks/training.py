"""Compare a training step of ResNet-18 with plain PyTorch's, and with what surrounds it here.

PyTorch is none of the course's packages: `pip install torch` into an environment of your own. All
candidates take turns, and each round's seconds a step are compared within the round.
"""

import argparse
import sys
import time

import keras
import numpy as np

import ilsvrc
from ilsvrc import backend, data, publishing, training

KINDS = {"whole": (1, 128, 32), "slim": (0.25, 64, 64)}  # width, side (px), batch
CLASSES = 10


class Clock(keras.callbacks.Callback):
    """Notes when each step ends."""

    def on_train_begin(self, logs=None):
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(time.perf_counter())


def ours(width, side, batch, policy):
    """Return a function of a number of steps: train on one float batch, return seconds a step."""
    keras.config.set_dtype_policy(policy)
    model = ilsvrc.chapter("2015_resnet").resnet(
        18, (side, side, 3), CLASSES, width=width, logits=True
    )
    keras.config.set_dtype_policy("float32")
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    images, labels = synthetic(side, batch)

    def run(steps):
        clock = Clock()
        model.fit(publishing.Same((images, labels), steps), verbose=0, callbacks=[clock])
        return a_step(clock.ends)

    return run


def chapters(width, side, batch, policy):
    """Return such a function for the chapter's own `fit`: uint8 images, crops, mirror images."""
    real = data.load("imagenette", size=round(side * 8 / 7))
    chapter = ilsvrc.chapter("2015_resnet")
    keras.config.set_dtype_policy(policy)
    model = chapter.resnet(18, (side, side, 3), CLASSES, width=width, logits=True)

    def run(steps):
        fed, clock = training.feed(real, batch), Clock()
        fed.train.steps, fed.val = steps, None
        keras.config.set_dtype_policy(policy)
        chapter.fit(model, fed, 1, [clock])
        keras.config.set_dtype_policy("float32")
        return a_step(clock.ends)

    return run


def torchs(width, side, batch, policy, compiled=False, channels_last=True):
    """Return such a function for the same network in PyTorch."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, before, maps, stride):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(before, maps, 3, stride, 1, bias=False),
                nn.BatchNorm2d(maps),
                nn.ReLU(inplace=True),
                nn.Conv2d(maps, maps, 3, 1, 1, bias=False),
                nn.BatchNorm2d(maps),
            )
            self.shortcut = nn.Identity()
            if stride > 1 or before != maps:
                projection = nn.Conv2d(before, maps, 1, stride, bias=False)
                self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(maps))

        def forward(self, x):
            return torch.relu(self.body(x) + self.shortcut(x))

    first, *others = (round(maps * width) for maps in (64, 128, 256, 512))
    parts = [nn.Conv2d(3, first, 7, 2, 3, bias=False), nn.BatchNorm2d(first), nn.ReLU(inplace=True)]
    parts += [nn.MaxPool2d(3, 2, 1), Block(first, first, 1), Block(first, first, 1)]
    before = first
    for maps in others:
        parts += [Block(before, maps, 2), Block(maps, maps, 1)]
        before = maps
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CLASSES)]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = nn.Sequential(*parts).to(memory_format=layout).train()
    called = torch.compile(net) if compiled else net
    optimiser = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    images, labels = synthetic(side, batch)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    y = torch.from_numpy(labels).long()

    def run(steps):
        ends = []
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=policy != "float32"):
                loss = nn.functional.cross_entropy(called(x).float(), y)
            loss.backward()
            optimiser.step()
            loss.item()
            ends.append(time.perf_counter())
        return a_step(ends)

    return run


def synthetic(side, batch):
    """Return a batch of noise: images (batch, side, side, 3) float32 and labels (batch,) int32."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, side, side, 3)).astype("float32")
    return images, rng.integers(CLASSES, size=batch, dtype="int32")


def a_step(ends):
    """Return the median time between the ends of steps, in seconds."""
    return float(np.median(np.diff(ends)))


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--steps", type=int, default=12)
    asked = asked.parse_args()
    import torch

    versions = f"Keras {keras.__version__}, PyTorch {torch.__version__}"
    print(f"{backend.name()} on {backend.device()}, {versions}: images a second (ratio to PyTorch)")
    for kind, shape in KINDS.items():
        for policy in training.POLICIES:
            ways = {
                "eager": torchs(*shape, policy),
                "channels first": torchs(*shape, policy, channels_last=False),
                "compiled": torchs(*shape, policy, compiled=True),
                "ours": ours(*shape, policy),
                "ours, real": chapters(*shape, policy),
            }
            took = {name: [] for name in ways}
            for turn in range(asked.rounds + 1):
                for name, run in ways.items():
                    seconds = run(asked.steps)
                    if turn:  # the first one compiles
                        took[name].append(seconds)
                    print(".", end="", file=sys.stderr, flush=True)
            print(f"\n{kind}, {policy}, {shape[1]} px, batch {shape[2]}")
            for name, seconds in took.items():
                ratio = np.median(np.divide(took["eager"], seconds))
                print(f"  {name:16}{shape[2] / np.median(seconds):8.0f}{ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()
