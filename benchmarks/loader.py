"""Compare an epoch of our decoded arrays with tf.data and PyTorch's DataLoader, which decode anew.

PyTorch and Pillow's own decoder on one side, TensorFlow's on the other: `pip install torch` into an
environment of your own. Needs Imagenette (`ilsvrc data fetch imagenette`).
"""

import time

import numpy as np
from PIL import Image

from ilsvrc import data, training
from ilsvrc.data.folders import scan

SIDE, BATCH, EPOCHS = 146, 64, 3


def ours(files, labels):
    """Yield epochs of our loader."""
    fed = training.feed(data.load("imagenette", size=SIDE), BATCH)
    for epoch in range(EPOCHS):
        fed.train.reorder(epoch)
        yield (fed.train[i] for i in range(len(fed.train)))


def tf_data(files, labels, keep=False):
    """Yield epochs of tf.data as its guide writes them."""
    import tensorflow as tf

    def decoded(file, label):
        image = tf.io.decode_jpeg(tf.io.read_file(file), channels=3)
        return tf.cast(tf.image.resize(image, (SIDE, SIDE)), tf.uint8), label

    images = tf.data.Dataset.from_tensor_slices((files, labels)).shuffle(len(files))
    images = images.map(decoded, num_parallel_calls=tf.data.AUTOTUNE)
    images = images.cache() if keep else images
    images = images.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    for _ in range(EPOCHS):
        yield images.as_numpy_iterator()


def tf_data_cache(files, labels):
    """Yield epochs of tf.data with its cache in memory, the fastest that it has."""
    return tf_data(files, labels, keep=True)


def data_loader(files, labels):
    """Yield epochs of PyTorch's DataLoader with two workers that stay."""
    import torch

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, index):
            with Image.open(files[index]) as image:
                image = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            return np.array(image), labels[index]

    loader = torch.utils.data.DataLoader(
        Files(), BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )
    for _ in range(EPOCHS):
        yield iter(loader)


def main():
    root = data.find("imagenette")
    train = scan(root).train
    files, labels = [str(root / path) for path, _ in train], [label for _, label in train]
    print(f"{len(files)} JPEGs to {SIDE} px, batches of {BATCH}: images a second, by epoch")
    for way in (ours, tf_data, tf_data_cache, data_loader):
        rates = []
        for epoch in way(files, labels):
            began = time.perf_counter()
            images = sum(len(batch[0]) for batch in epoch)
            rates.append(images / (time.perf_counter() - began))
        print(f"{way.__name__:16}" + "".join(f"{rate:10.0f}" for rate in rates), flush=True)


if __name__ == "__main__":
    main()
