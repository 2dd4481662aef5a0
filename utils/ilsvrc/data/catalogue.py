"""What data sets the course knows: where they come from, how large they are, how to check them."""

import os
from dataclasses import dataclass

from ilsvrc.hints import did_you_mean

IMAGENETTE_CLASSES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


@dataclass(frozen=True)
class Entry:
    """A data set that the course knows.

    Attributes:
        name: what `load`, `find` and `fetch` call it; also the name of its folder.
        title: what pages call it.
        credit: whose images these are.
        images: how many images it holds, training and validation together.
        url: the archive to download, or None where there is none.
        bytes: the archive's size.
        checksum: the archive's hash as "algorithm:hexadecimal digits".
        squashed: whether each whole image was forced into a square, its proportions lost.
    """

    name: str
    title: str
    credit: str
    images: int
    url: str | None = None
    bytes: int | None = None
    checksum: str | None = None
    squashed: bool = False


_IMAGENETTE = (
    "Imagenette (Jeremy Howard, fast.ai): ten classes of ImageNet (Deng et al. 2009); "
    "the photographs belong to their authors"
)
_FLOWERS = (
    "The TensorFlow Team's tutorial set of flowers; the photographs belong to their authors (CC BY)"
)
_FASTAI = "https://s3.amazonaws.com/fast-ai-imageclas"

_ENTRIES = [
    Entry(
        "imagenette2-160",
        "Imagenette, shorter side 160 pixels",
        _IMAGENETTE,
        13394,
        f"{_FASTAI}/imagenette2-160.tgz",
        99_003_388,
        "sha256:64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5",
    ),
    Entry(
        "imagenette2-320",
        "Imagenette, shorter side 320 pixels",
        _IMAGENETTE,
        13394,
        f"{_FASTAI}/imagenette2-320.tgz",
        341_663_724,
        "sha256:569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c",
    ),
    Entry(
        "imagenette2",
        "Imagenette, full size",
        _IMAGENETTE,
        13394,
        f"{_FASTAI}/imagenette2.tgz",
        1_557_161_267,
        "sha256:6cbfac238434d89fe99e651496f0812ebc7a10fa62bd42d6874042bf01de4efd",
    ),
    Entry(
        "imagenette2-224",
        "Imagenette, squashed to 224 x 224 pixels",
        _IMAGENETTE,
        13394,
        squashed=True,
    ),
    Entry(
        "tiny-imagenet-200",
        "Tiny ImageNet-200, 64 x 64 pixels",
        "Tiny ImageNet (Stanford CS231n): 200 classes of ImageNet (Deng et al. 2009); "
        "the photographs belong to their authors",
        110_000,
        "https://cs231n.stanford.edu/tiny-imagenet-200.zip",
        248_100_043,
        "md5:90528d7ca1a48142e341f4ef8d21d0de",
    ),
    Entry(
        "flower_photos",
        "Five kinds of flowers, full size",
        _FLOWERS,
        3670,
        "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
        228_813_984,
        "sha256:4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
    ),
    Entry(
        "flowers-144",
        "Five kinds of flowers, shorter side 144 pixels",
        _FLOWERS,
        3670,
    ),
]

CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def variants(name: str, size: int | None = None) -> list[str]:
    """Return the catalogue names that `name` may stand for, the preferred one first.

    Args:
        name: a catalogue name, or "imagenette" or "flowers" for whichever variant suits and is
            there.
        size: the image size wanted, in pixels; None counts as small.

    Raises:
        ValueError: when no data set has that name.
    """
    if name == "imagenette":
        if size is None or size <= 160:
            return ["imagenette2-160", "imagenette2-320", "imagenette2", "imagenette2-224"]
        if size <= 320:
            return ["imagenette2-320", "imagenette2", "imagenette2-224", "imagenette2-160"]
        return ["imagenette2", "imagenette2-320", "imagenette2-224", "imagenette2-160"]
    if name == "flowers":
        return ["flower_photos", "flowers-144"]
    if isinstance(name, str) and name in CATALOGUE:
        return [name]
    if name in ("photographs", "folder"):
        raise ValueError(f"{name!r} is not in the catalogue: there is nothing to find or to fetch.")
    if name and isinstance(name, str | os.PathLike) and os.path.isdir(name):
        raise ValueError(f'{os.fspath(name)!r} is a folder: load("folder", path=...) loads it.')
    known = ["photographs", "imagenette", "flowers", *CATALOGUE, "folder"]
    raise ValueError(
        f"No data set is called {name!r}.{did_you_mean(name, known)} "
        f"Known names: {', '.join(known)}."
    )
