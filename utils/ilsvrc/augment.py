"""What the papers did to images, in training and at test time.

The layers take a batch (B, H, W, 3), uint8 or float, with values in 0..255, and return float32 in
the same range, whatever the global dtype policy: bfloat16 has too few digits for 256 grey levels.
They run on the device, inside the compiled training step, and draw anew for every image. With
training=False, Keras's default, nothing is random: the central crop, and colours as they are.
`before` puts them in front of a network; `views` and `predict_views` test it on several crops.
"""

import keras
import numpy as np
from keras import ops


def _sides(images, size: int = 1):
    """Return the height and width of images, which hold at least `size` pixels each way."""
    if len(images.shape) != 4 or images.shape[-1] != 3:
        raise ValueError(
            f"Expected a batch of colour images (B, height, width, 3), got {tuple(images.shape)}. "
            "For one image write image[None]; for a grey one np.repeat(image[..., None], 3, -1)."
        )
    if any(side is not None and side < size for side in images.shape[1:3]):
        raise ValueError(
            f"A crop of {size} px does not fit into images of {images.shape[1]} x "
            f"{images.shape[2]} px: take a smaller crop, or load larger images "
            "(data.load(..., size=...))."
        )
    return ops.shape(images)[1:3]


def _window(images, top, left, size):
    """Cut image b at row top[b] and column left[b]: (B, size, size, 3), the very pixels."""
    batch, height, width, _ = ops.shape(images)
    steps = ops.arange(size, dtype="int32")
    rows = top[:, None] + steps + height * ops.arange(batch, dtype="int32")[:, None]
    pixels = width * rows[:, :, None] + left[:, None, None] + steps
    return ops.cast(ops.take(ops.reshape(images, (-1, 3)), pixels, axis=0), "float32")


def _centre(images, size):
    """Cut the centre of each image: (B, size, size, 3), the very pixels."""
    height, width = _sides(images, size)
    top, left = (height - size) // 2, (width - size) // 2
    return ops.cast(images[:, top : top + size, left : left + size], "float32")


def _triangles(start, length, size, pixels):
    """Return weights (B, size, pixels) that resize `length` pixels from `start`, both (B,)."""
    scale = length / size
    centres = start[:, None] + (ops.arange(size, dtype="float32") + 0.5) * scale[:, None]
    distance = ops.abs(ops.arange(pixels, dtype="float32") + 0.5 - centres[:, :, None])
    weights = ops.maximum(1 - distance / ops.maximum(scale, 1)[:, None, None], 0)
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def _resize(images, top, left, height, width, size):
    """Resize a window of each image, given by (B,) edges in pixels, to (B, size, size, 3).

    Bilinear, and smoothed where it shrinks, as Pillow's `Image.resize` with `box` is: two products
    with a matrix of triangles, one for the rows and one for the columns.
    """
    h, w = _sides(images)
    rows, columns = _triangles(top, height, size, h), _triangles(left, width, size, w)
    lines = ops.matmul(rows, ops.reshape(ops.cast(images, "float32"), (-1, h, w * 3)))
    return ops.einsum("bow,bhwc->bhoc", columns, ops.reshape(lines, (-1, size, w, 3)))


def _central(images, side, size):
    """Resize the central square of `side` pixels; an image of `size` already stays as it is."""
    if images.shape[1:3] == (size, size):
        return ops.cast(images, "float32")
    height, width = (ops.cast(one, "float32") for one in _sides(images))
    box = ops.floor((height - side) / 2), ops.floor((width - side) / 2), side, side
    batch = ops.shape(images)[:1]
    return _resize(images, *(ops.broadcast_to(edge, batch) for edge in box), size)


class _Layer(keras.layers.Layer):
    """A layer that computes in float32, whatever the dtype policy, and keeps the images' shape."""

    def __init__(self, **options):
        super().__init__(**{**options, "dtype": "float32"})

    def compute_output_shape(self, input_shape):
        _sides(keras.KerasTensor(input_shape))
        return tuple(input_shape)


class _Crop(_Layer):
    """A layer that makes images of (size, size, 3), some by resizing a window."""

    resizes = False

    def __init__(self, size, **options):
        super().__init__(**options)
        self.size = size

    def compute_output_shape(self, input_shape):
        _sides(keras.KerasTensor(input_shape), 1 if self.resizes else self.size)
        return (input_shape[0], self.size, self.size, 3)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("ilsvrc")
class CentreCrop(_Crop):
    """The central `size` x `size` pixels of each image, in training too; no pixel is resized.

    Args:
        size: Side of the crop in pixels. A larger crop than the image is a ValueError at the call.
    """

    def call(self, images):
        return _centre(images, self.size)


@keras.saving.register_keras_serializable("ilsvrc")
class RandomCrop(_Crop):
    """A window of `size` x `size` pixels, at a place of its own in each image; none is resized.

    Krizhevsky et al. 2012, section 4.1: 224 of 256. At test time the centre.

    Args:
        size: Side of the crop in pixels. A larger crop than the image is a ValueError at the call.
    """

    def __init__(self, size, **options):
        super().__init__(size, **options)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, images, training=False):
        if not training:
            return _centre(images, self.size)
        batch = ops.shape(images)[:1]
        top, left = (
            keras.random.randint(batch, 0, side - self.size + 1, seed=self.seed_generator)
            for side in _sides(images, self.size)
        )
        return _window(images, top, left, self.size)


@keras.saving.register_keras_serializable("ilsvrc")
class RandomResizedCrop(_Crop):
    """A window of any area and aspect in each image, resized to `size` x `size`.

    Szegedy et al. 2014, section 6: areas evenly between 8 % and 100 % of the image, aspect ratios
    from 3/4 to 4/3. The area is drawn first, then the ratio (evenly in its logarithm) among those
    whose window fits. At test time the central square of 224/256 of the shorter side; an image
    that is `size` x `size` already stays as it is.

    Args:
        size: Side of the result in pixels.
        scale: Smallest and largest area, as a fraction of the image's, in 0..1.
        ratio: Smallest and largest width / height, above 0.
    """

    resizes = True

    def __init__(self, size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), **options):
        super().__init__(size, **options)
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(
                f"scale holds two fractions of the area, 0 < a <= b <= 1: got {scale}."
            )
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio holds two ratios of width to height, 0 < a <= b: got {ratio}.")
        self.scale, self.ratio = tuple(scale), tuple(ratio)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, images, training=False):
        height, width = (ops.cast(side, "float32") for side in _sides(images))
        if not training:
            side = ops.round(ops.minimum(height, width) * (224 / 256))
            return _central(images, side, self.size)
        batch = ops.shape(images)[:1]
        part = keras.random.uniform(batch, *self.scale, seed=self.seed_generator)
        place = keras.random.uniform((3, *batch), seed=self.seed_generator)
        low, high = (
            ops.log(ops.clip(bound, *self.ratio))
            for bound in (part * width / height, width / (part * height))
        )
        ratio = ops.exp(low + place[0] * (high - low))
        h = ops.minimum(ops.sqrt(part * height * width / ratio), height)
        w = ops.minimum(ops.sqrt(part * height * width * ratio), width)
        return _resize(images, place[1] * (height - h), place[2] * (width - w), h, w, self.size)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale, "ratio": self.ratio}


@keras.saving.register_keras_serializable("ilsvrc")
class ScaleJitter(_Crop):
    """Each image resized so that its shorter side is a number from `low` to `high`, then cropped.

    Simonyan and Zisserman 2014, section 3.1: sides from 256 to 512, crops of 224. At test time the
    side is midway (section 3.2) and the crop central; an image that is `size` x `size` already
    stays as it is. Images smaller than `low` are enlarged.

    Args:
        size: Side of the crop in pixels.
        low: Least shorter side in pixels, `size` or more.
        high: Greatest shorter side in pixels.
    """

    resizes = True

    def __init__(self, size, low, high, **options):
        super().__init__(size, **options)
        if not size <= low <= high:
            raise ValueError(f"Expected size <= low <= high, got {size}, {low}, {high}.")
        self.low, self.high = low, high
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, images, training=False):
        height, width = (ops.cast(side, "float32") for side in _sides(images))
        shorter = ops.minimum(height, width)
        if not training:
            return _central(images, shorter * (2 * self.size / (self.low + self.high)), self.size)
        batch = ops.shape(images)[:1]
        sides = keras.random.randint(batch, self.low, self.high + 1, seed=self.seed_generator)
        window = shorter * self.size / ops.cast(sides, "float32")
        down, along = keras.random.uniform((2, *batch), seed=self.seed_generator)
        top, left = down * (height - window), along * (width - window)
        return _resize(images, top, left, window, window, self.size)

    def get_config(self):
        return {**super().get_config(), "low": self.low, "high": self.high}


@keras.saving.register_keras_serializable("ilsvrc")
class RandomFlip(_Layer):
    """Half of the images mirrored, left to right (Krizhevsky et al. 2012, section 4.1).

    At test time none is.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, images, training=False):
        _sides(images)
        images = ops.cast(images, "float32")
        if not training:
            return images
        draw = keras.random.uniform((ops.shape(images)[0], 1, 1, 1), seed=self.seed_generator)
        return ops.where(draw < 0.5, ops.flip(images, axis=2), images)


@keras.saving.register_keras_serializable("ilsvrc")
class PCAColour(_Layer):
    """One random colour added to each image, along the main directions of the images' colours.

    Krizhevsky et al. 2012, section 4.1: every pixel gets the sum of p_i * alpha_i * lambda_i, with
    alpha_i from N(0, std), drawn once an image. At test time nothing is added. The sum can leave
    0..255 and is not clipped, as in the paper.

    Args:
        eigenvalues: lambda, (3,), of the covariance of colours on a scale of 0..1. On 0..255 they
            would be 65,025 times as large and the formula would drown the picture.
        eigenvectors: p, (3, 3), one a column, as `pca_colour` and `numpy.linalg.eigh` give them.
        std: Standard deviation of alpha; 0.1 in the paper.
    """

    def __init__(self, eigenvalues, eigenvectors, std=0.1, **options):
        super().__init__(**options)
        self.eigenvalues = np.asarray(eigenvalues, "float32")
        self.eigenvectors = np.asarray(eigenvectors, "float32")
        if self.eigenvalues.shape != (3,) or self.eigenvectors.shape != (3, 3):
            raise ValueError(
                "Expected eigenvalues (3,) and eigenvectors (3, 3), as pca_colour(images) gives "
                f"them: got {self.eigenvalues.shape} and {self.eigenvectors.shape}."
            )
        self.std = std
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, images, training=False):
        _sides(images)
        images = ops.cast(images, "float32")
        if not training:
            return images
        shape = (ops.shape(images)[0], 1, 1, 1, 3)
        alpha = keras.random.normal(shape, stddev=self.std, seed=self.seed_generator)
        return images + 255 * ops.sum(alpha * self.eigenvectors * self.eigenvalues, axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "eigenvalues": self.eigenvalues.tolist(),
            "eigenvectors": self.eigenvectors.tolist(),
            "std": self.std,
        }


@keras.saving.register_keras_serializable("ilsvrc")
class Normalise(_Layer):
    """(images - mean) / std, in training and at test time alike.

    Args:
        mean: In 0..255: a number, one a colour, (3,), or the mean image, (height, width, 3).
        std: Above 0, in one of these shapes; 1 leaves the scale at 255 grey levels.
    """

    def __init__(self, mean, std=1.0, **options):
        super().__init__(**options)
        self.mean, self.std = np.asarray(mean, "float32"), np.asarray(std, "float32")
        if not (self.std > 0).all():
            raise ValueError(f"std divides the pixels and is above 0: got {std}.")

    def call(self, images):
        _sides(images)
        return (ops.cast(images, "float32") - self.mean) / self.std

    def get_config(self):
        return {**super().get_config(), "mean": self.mean.tolist(), "std": self.std.tolist()}


def pca_colour(images) -> tuple[np.ndarray, np.ndarray]:
    """Return the main directions of the colours of training images, for `PCAColour`.

    Args:
        images: (N, H, W, 3) with values in 0..255. Of many, about a thousand are looked at.

    Returns:
        Eigenvalues (3,) of the 3 x 3 covariance of all pixels on a scale of 0..1, largest first,
        and unit eigenvectors (3, 3), one a column; float32.
    """
    _sides(images)
    some = np.asarray(images[:: max(len(images) // 1000, 1), ::2, ::2], "float64")
    eigenvalues, eigenvectors = np.linalg.eigh(np.cov(some.reshape(-1, 3).T / 255))
    return eigenvalues[::-1].astype("float32"), eigenvectors[:, ::-1].astype("float32")


def before(model: keras.Model, *layers: keras.Layer, input_size: int | None = None) -> keras.Model:
    """Put layers in front of a network: what is trained then takes uint8 images.

    Args:
        model: A network on (size, size, 3). It shares its weights with the result, and can be
            looked into as before.
        layers: What happens to the images, in this order.
        input_size: Side of the images in pixels; None for any, also of unequal sides.

    Returns:
        A model on uint8 images (B, input_size, input_size, 3), with the network's outputs, their
        structure and their names, in float32.

    Raises:
        ValueError: The layers do not make what the network takes.
    """
    images = x = keras.Input((input_size, input_size, 3), dtype="uint8", name="images")
    for layer in layers:
        x = layer(x)
    if any(made != taken for made, taken in zip(x.shape, model.input_shape, strict=True) if taken):
        raise ValueError(
            f"{model.name!r} takes images of {model.input_shape[1:]}, the layers before it make "
            f"{x.shape[1:]} of {images.shape[1:]}: put RandomCrop(size) or CentreCrop(size) "
            "among them."
        )
    outputs = model(x)
    named = [
        keras.layers.Identity(dtype="float32", name=name)(output)
        for name, output in zip(model.output_names, keras.tree.flatten(outputs), strict=True)
    ]
    return keras.Model(images, keras.tree.pack_sequence_as(outputs, named), name=model.name)


def _parts(net):
    """Return the layers that `before` put in front of a network, and the network."""
    for place, layer in enumerate(net.layers):
        if isinstance(layer, keras.Model):
            return net.layers[1:place], layer
    raise ValueError(
        f"{net.name!r} is a network alone: make it ready for images by "
        "augment.before(model, augment.CentreCrop(size), augment.Normalise(mean, std))."
    )


def prepare(net: keras.Model, images, batch: int = 64) -> np.ndarray:
    """Return what the network inside `net` sees of images at test time.

    Args:
        net: A model that `before` made.
        images: (N, H, W, 3), values in 0..255; of any size that the layers can crop.
        batch: Images at a time on the device.

    Returns:
        (N, size, size, 3), float32.
    """
    layers, _ = _parts(net)
    prepared = []
    for start in range(0, len(images), batch):
        x = ops.convert_to_tensor(images[start : start + batch])
        for layer in layers:
            x = layer(x, training=False)
        prepared.append(ops.convert_to_numpy(ops.cast(x, "float32")))
    return np.concatenate(prepared)


def views(images, size: int, kind: str) -> np.ndarray:
    """Cut the crops that a network is tested on.

    Args:
        images: (B, H, W, 3), at least `size` px each way.
        size: Side of a crop in pixels.
        kind: "centre"; "five": top left, top right, bottom left, bottom right, centre; or "ten":
            these five, then their mirror images in the same order (Krizhevsky et al. 2012, 4.1).

    Returns:
        (V, B, size, size, 3) with 1, 5 or 10 views, in the images' dtype.

    Raises:
        ValueError: An unknown kind, or crops larger than the images.
    """
    if kind not in ("centre", "five", "ten"):
        raise ValueError(f"There are no views {kind!r}: take 'centre', 'five' or 'ten'.")
    images = np.asarray(images)
    _sides(images, size)
    bottom, right = images.shape[1] - size, images.shape[2] - size
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right)] if kind != "centre" else []
    places.append((bottom // 2, right // 2))
    crops = np.stack([images[:, y : y + size, x : x + size] for y, x in places])
    return np.concatenate([crops, crops[:, :, :, ::-1]]) if kind == "ten" else crops


class _Crops(keras.utils.PyDataset):
    """All views of an image, then all of the next, as the network inside `net` sees them.

    `predict` on this cuts the next views while it works on these.
    """

    def __init__(self, net, images, kind, batch):
        super().__init__()
        self.net, self.images, self.kind = net, images, kind
        self.size = _parts(net)[1].input_shape[1]
        self.step = max(batch // len(views(images[:1], self.size, kind)), 1)  # images a batch

    def __len__(self):
        return -(-len(self.images) // self.step)

    def __getitem__(self, index):
        some = self.images[index * self.step : (index + 1) * self.step]
        cut = np.swapaxes(views(some, self.size, self.kind), 0, 1)
        return prepare(self.net, cut.reshape(-1, self.size, self.size, 3))


def _probabilities(model, batches):
    """Return softmax probabilities (N, classes), float32, of a network's first output."""
    outputs = keras.tree.flatten(model.predict(batches, verbose=0))[0]
    outputs = outputs.astype("float32")
    last = model.get_layer(model.output_names[0])
    if isinstance(last, keras.layers.Softmax) or (
        getattr(last, "activation", None) is keras.activations.softmax
    ):
        return outputs
    return ops.convert_to_numpy(ops.softmax(outputs))


def predict_views(net: keras.Model, images, kind: str = "ten", batch: int = 128) -> np.ndarray:
    """Return class probabilities, averaged over views (Krizhevsky et al. 2012, section 4.1).

    Args:
        net: A model that `before` made. Of several outputs the first counts.
        images: (N, H, W, 3), values in 0..255, larger than the network's input.
        kind: "centre", "five" or "ten"; see `views`.
        batch: Views at a time on the device, at least those of one image.

    Returns:
        (N, classes), float32: the mean of the views' softmax outputs.

    Raises:
        ValueError: An unknown kind, or images smaller than the network's input.
    """
    crops = _Crops(net, images, kind, batch)
    each = _probabilities(_parts(net)[1], crops)
    return each.reshape(len(images), -1, each.shape[-1]).mean(axis=1)
