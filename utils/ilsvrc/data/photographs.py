"""The embedded photographs: ten openly licensed pictures that ship inside installed packages.

A stand-in to learn on where there is no ImageNet: a sample is a random crop, its class is the
photograph it was cut from. No download, and real image statistics.
"""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

TRAIN_CROPS = 300  # a class
VAL_CROPS = 50
SHORTEST, LONGEST = 0.14, 0.28  # a crop's side, as a share of the photograph's shorter side
LEAST_CONTRAST = (
    10.0  # standard deviation of grey levels, of 255, below which a crop is drawn again
)


@dataclass(frozen=True)
class Photograph:
    """One embedded photograph: its class name, where it lies, and whom to credit."""

    name: str
    package: str
    file: str
    credit: str


PHOTOGRAPHS = [
    Photograph(
        "astronaut",
        "skimage",
        "data/astronaut.png",
        "Eileen Collins, NASA Great Images; public domain",
    ),
    Photograph("cat", "skimage", "data/chelsea.png", "Chelsea, by Stéfan van der Walt; CC0"),
    Photograph(
        "coffee",
        "skimage",
        "data/coffee.png",
        "by Rachel Michetti, courtesy of Pikolo Espresso Bar; CC0",
    ),
    Photograph(
        "rocket",
        "skimage",
        "data/rocket.jpg",
        "launch of DSCOVR on Falcon 9, SpaceX; public domain",
    ),
    Photograph(
        "galaxies",
        "skimage",
        "data/hubble_deep_field.jpg",
        "Hubble eXtreme Deep Field, NASA; public domain",
    ),
    Photograph(
        "tissue",
        "skimage",
        "data/ihc.png",
        "stained colonic glands, Center for Microscopy and Molecular Imaging; "
        "no known copyright restrictions",
    ),
    Photograph("retina", "skimage", "data/retina.jpg", "by Mikael Häggström (2014); CC0"),
    Photograph(
        "temple",
        "sklearn",
        "datasets/images/china.jpg",
        "by danielbuechele on Flickr; CC BY 2.0",
    ),
    Photograph(
        "flower",
        "sklearn",
        "datasets/images/flower.jpg",
        "by vultilion on Flickr; CC BY 2.0",
    ),
    Photograph(
        "portrait",
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
        "Commodore Grace Hopper, U.S. Navy (1984); public domain",
    ),
]


def open_photograph(name: str) -> Image.Image:
    """Return the whole embedded photograph of that class name, in RGB.

    Raises:
        ValueError: when no embedded photograph has that name.
        FileNotFoundError: when the package that brings it is not installed or lacks it.
    """
    for photograph in PHOTOGRAPHS:
        if photograph.name == name:
            return Image.open(locate(photograph)).convert("RGB")
    names = ", ".join(photograph.name for photograph in PHOTOGRAPHS)
    raise ValueError(f"No embedded photograph is called {name!r}. There are: {names}.")


def square(image: Image.Image, size: int) -> np.ndarray:
    """Return the middle square of an image, resized.

    Args:
        image: Any image; it is turned upright as its EXIF data say, and converted to RGB.
        size: The side in px.

    Returns:
        (size, size, 3) uint8.
    """
    upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.asarray(ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR))


def probe(size: int) -> np.ndarray:
    """Return the photograph that every chapter shows, a temple, as `square` does."""
    return square(open_photograph("temple"), size)


def crops(size: int, train: int, val: int, seed: int):
    """Cut training and validation crops from the embedded photographs.

    Each photograph is divided into a left band for training and a right band for validation with a
    gap between them as wide as the largest crop. A crop is a square of random place and side,
    resized to `size`; the same seed gives the same places whatever the size, and the crops of a
    smaller number are the first ones of a larger number.

    Args:
        size: side of the samples in pixels.
        train: training crops in all, spread evenly over the classes.
        val: validation crops in all.
        seed: where the crops lie depends on it and on nothing else.

    Returns:
        ``(x_train, y_train, x_val, y_val, digest)``: uint8 images (N, size, size, 3), int32 labels,
        and the SHA-256 of the photographs' files.
    """
    digest = hashlib.sha256()
    x_train, y_train, x_val, y_val = [], [], [], []
    for label, photograph in enumerate(PHOTOGRAPHS):
        path = locate(photograph)
        digest.update(path.read_bytes())
        image = Image.open(path).convert("RGB")
        left, right = bands(image)
        for band, total, split, xs, ys in [
            (left, train, 0, x_train, y_train),
            (right, val, 1, x_val, y_val),
        ]:
            count = len(range(label, total, len(PHOTOGRAPHS)))  # the first classes get the rest
            rng = np.random.default_rng([seed, label, split])
            xs += [_crop(image, band, size, rng) for _ in range(count)]
            ys += [label] * count
    return (
        np.stack(x_train),
        np.array(y_train, np.int32),
        np.stack(x_val),
        np.array(y_val, np.int32),
        digest.hexdigest(),
    )


def credit() -> str:
    """Return whose photographs these are, in one line."""
    return "; ".join(f"{p.name}: {p.credit.replace('; ', ', ')}" for p in PHOTOGRAPHS)


def bands(image: Image.Image) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the columns (from, to) for training and for validation, a largest crop apart."""
    gap = round(LONGEST * min(image.size))
    right = image.width - round(0.4 * (image.width - gap))
    return (0, right - gap), (right, image.width)


def _crop(image: Image.Image, band: tuple[int, int], size: int, rng) -> np.ndarray:
    """Return a random square of the band, (size, size, 3) uint8, with some contrast in it."""
    shorter = min(image.size)
    for _ in range(100):
        side = round(rng.uniform(SHORTEST, LONGEST) * shorter)
        left = int(rng.integers(band[0], band[1] - side + 1))
        top = int(rng.integers(0, image.height - side + 1))
        box = (left, top, left + side, top + side)
        if np.asarray(image.crop(box).convert("L")).std() >= LEAST_CONTRAST:
            break
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def locate(photograph: Photograph) -> Path:
    """Return a photograph's file inside the installed package that brings it.

    Raises:
        FileNotFoundError: when the package is not installed or lacks it.
    """
    spec = find_spec(photograph.package)
    path = Path(spec.origin).parent / photograph.file if spec else None
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f"The embedded photograph {photograph.name!r} ships inside the package "
            f"{photograph.package!r} ({photograph.file}), which is not installed or lacks it. "
            "Install the course's own packages again: make setup."
        )
    return path
