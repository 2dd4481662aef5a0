"""Images to learn from: what there is, where it lies, and how it becomes arrays.

``load`` is the one function that a chapter needs. It takes the embedded photographs, a data set of
the catalogue, or any folder of class folders, and gives uint8 arrays.
"""

import contextlib
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import paths
from ..hints import whole_number
from . import photographs
from .arrays import decoded, shared_sizes
from .arrays import share as _share
from .catalogue import CATALOGUE, Entry, variants
from .download import install
from .folders import Listing, image_files, scan, shown
from .photographs import open_photograph, probe, square

__all__ = [
    "CATALOGUE",
    "Dataset",
    "Entry",
    "fetch",
    "find",
    "load",
    "open_photograph",
    "probe",
    "share",
    "shared",
    "square",
    "status",
]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels, in the order of the classes: shuffle before training.

    Attributes:
        name: catalogue name, "photographs" or "folder".
        title: what pages call it.
        size: side of the images in pixels.
        x_train: (N, size, size, 3) uint8, memory-mapped where it comes from files.
        y_train: (N,) int32, 0 to the number of classes less one.
        x_val: validation images, as `x_train`.
        y_val: validation labels, as `y_train`.
        class_names: human-readable names, in the order of the labels.
        squashed: whether whole images were forced into squares, their proportions lost.
        standin: True for the embedded photographs, whose accuracy compares with no paper's.
        digest: SHA-256 over the names and bytes of the files that the images come from; the same on
            every machine and at every size.
        skipped: (file, what was wrong) of each file that could not be read.
        credit: whose images these are.
    """

    name: str
    title: str
    size: int
    x_train: np.ndarray = field(repr=False)
    y_train: np.ndarray = field(repr=False)
    x_val: np.ndarray = field(repr=False)
    y_val: np.ndarray = field(repr=False)
    class_names: list[str]
    squashed: bool
    standin: bool
    digest: str
    skipped: list[tuple[str, str]]
    credit: str = field(repr=False)


def load(
    name: str = "photographs",
    size: int = 64,
    *,
    images: int | None = None,
    path: str | os.PathLike | None = None,
    bad: str = "skip",
    download: bool = False,
    seed: int = 0,
) -> Dataset:
    """Return a data set as uint8 arrays.

    Files are decoded once a size, with all cores, and then read back from the user's cache, or
    from ``ILSVRC_ARRAYS``, where `share` decoded them for all users of a machine.

    Args:
        name: "photographs" (embedded, a stand-in), "imagenette" (whichever variant is there, the
            best for `size` first), a name in `CATALOGUE`, or "folder" with `path`.
        size: side of the images in pixels; the shorter side is scaled to it, the centre kept.
        images: at most so many training images, as even over the classes as can be, drawn by
            `seed`; None for all (of the photographs, which never end, 300 crops each). Validation
            images are always all there.
        path: the data set's own folder, or a folder that holds it. Without it, `ILSVRC_DATA` and
            then the user's cache are looked at.
        bad: what happens to files that are no readable image: "skip" (named in a warning and in
            `Dataset.skipped`) or "raise".
        download: fetch the data set when it is not there.
        seed: draws the crops of the photographs, and the images that `images` keeps.

    Raises:
        ValueError: unknown name or option, a data set too small, or, with bad="raise", a bad file.
        FileNotFoundError: the data set is not there; the message says how to get it.
        ConnectionError: it could not be downloaded.
        OSError: the disk has no room for it.
    """
    size = whole_number("size", size, 1, 4_096)
    images = whole_number("images", images, 1, 10**9, "all")
    seed = whole_number("seed", seed, 0, 2**63 - 1)
    if bad not in ("skip", "raise"):
        raise ValueError(f"bad={bad!r}: say 'skip' or 'raise'.")
    if download not in (True, False):
        raise ValueError(f"download={download!r}: say True or False.")
    if name == "photographs":
        return _load_photographs(size, images, seed)
    root, entry = _root(name, size, path, download)
    listing = scan(root) if name == "folder" else _whole(root, entry)
    arrays = decoded(listing, size)
    if arrays.skipped:
        message = _complaint(root, arrays.skipped, len(listing.train) + len(listing.val))
        if bad == "raise":
            raise ValueError(message)
        warnings.warn(message, stacklevel=2)
    x_train, y_train = arrays.x_train, arrays.y_train
    if images is not None and images < len(y_train):
        chosen = _balanced(y_train, images, len(listing.class_names), seed)
        x_train, y_train = x_train[chosen], y_train[chosen]
    return Dataset(
        name=entry.name,
        title=entry.title,
        size=size,
        x_train=x_train,
        y_train=y_train,
        x_val=arrays.x_val,
        y_val=arrays.y_val,
        class_names=listing.class_names,
        squashed=entry.squashed,
        standin=False,
        digest=arrays.digest,
        skipped=arrays.skipped,
        credit=entry.credit,
    )


def find(name: str, path: str | os.PathLike | None = None) -> Path | None:
    """Return the folder of a data set, or None where it is not there.

    Looked at, in this order: `path`, and nothing else when it is given; the folder that
    ``ILSVRC_DATA`` names; the user's cache. Each may be the data set's own folder or hold it.

    Args:
        name: a name in `CATALOGUE`, or "imagenette" or "flowers" for whichever variant is there.
        path: an explicit folder.

    Raises:
        ValueError: when no data set has that name.
    """
    return _find(variants(name), path)


def fetch(wanted: str | Entry) -> Path:
    """Download a data set into the user's cache unless it is there already, and return its folder.

    The download shows a bar, goes on where a broken one stopped, is checked by size and checksum,
    and appears whole or not at all.

    Args:
        wanted: a name in `CATALOGUE`, "imagenette" for any variant (the smallest where none is
            there), or an `Entry` of your own.

    Raises:
        ValueError: unknown name, nothing to download, or a wrong size, checksum or content.
        ConnectionError: the server could not be reached or kept breaking off; try again to go on.
        OSError: the disk has no room for it.
    """
    names = [wanted.name] if isinstance(wanted, Entry) else variants(wanted)
    entry = wanted if isinstance(wanted, Entry) else CATALOGUE[names[0]]
    root = _find(names, None)
    if root is None:
        return install(entry, paths.cache() / "data")
    _whole(root, entry if isinstance(wanted, Entry) else CATALOGUE[root.name])
    return root


def share(name: str, size: int, *, path: str | os.PathLike | None = None) -> Path:
    """Decode a data set at one size for all users of this machine, into ``ILSVRC_ARRAYS``.

    They find it there while they read the same files by the same ``ILSVRC_DATA``.

    Args:
        name: as for `load`; all but the photographs, which no file is decoded for.
        size: side of the images in pixels, as for `load`.
        path: the folder, as for `load`.

    Returns:
        The folder, readable by everyone. Where it is there already, nothing is done.

    Raises:
        ValueError: unknown name or size, a data set not whole, or ``ILSVRC_ARRAYS`` is not set.
        FileNotFoundError: the data set is not there, or the folder is not.
        OSError: the folder cannot be written, or its disk has no room.
    """
    size = whole_number("size", size, 1, 4_096)
    root, entry = _root(name, size, path, False)
    return _share(scan(root) if name == "folder" else _whole(root, entry), size)


def status() -> list[dict]:
    """Return what there is: a row for the embedded photographs and each data set of the catalogue.

    Each row has ``name``; ``where``, the folder, "embedded", or None where it is not there;
    ``images``; ``bytes``, of the images or, where it is not there, of the download (None where
    there is none); and ``whole``, False where images are missing, or there are more than its own.
    """
    embedded = [photographs.locate(photograph) for photograph in photographs.PHOTOGRAPHS]
    rows = [
        {
            "name": "photographs",
            "where": "embedded",
            "images": len(embedded),
            "bytes": sum(path.stat().st_size for path in embedded),
            "whole": True,
        }
    ]
    for entry in CATALOGUE.values():
        root = find(entry.name)
        known = {"images": entry.images, "bytes": entry.bytes, "whole": True}
        row = {"name": entry.name, "where": root, **known}
        if root:
            files = image_files(root)
            sizes = [os.lstat(path).st_size for path in files]
            row |= {"images": len(files), "bytes": sum(sizes), "whole": len(files) == entry.images}
        rows.append(row)
    return rows


def shared() -> dict[str, dict[int, bool]]:
    """Return what ``ILSVRC_ARRAYS`` holds of the data sets that are here.

    Returns:
        Name in the catalogue -> side in pixels -> whether it was decoded from the files that are
        here: no others are taken. Whether it is still as it was decoded is not looked at.

    Raises:
        OSError: ``ILSVRC_ARRAYS`` or ``ILSVRC_DATA`` names no folder, or one that cannot be read.
    """
    found = {}
    for name in CATALOGUE:
        if root := find(name):
            with contextlib.suppress(ValueError):  # no whole data set, as `status` says
                found[name] = shared_sizes(scan(root))
    return found


def _find(names: list[str], path: str | os.PathLike | None) -> Path | None:
    for place in _places() if path is None else [paths.expanded(path, "path=")]:
        for name in names:
            own = place.resolve().name == name  # the data set's own folder, not one that holds it
            root = place if own else place / name
            while (root / name).is_dir() and not (root / "train").is_dir():
                root = root / name  # unpacked once more than needed
            if root.is_dir():
                return root
    return None


def _places() -> list[Path]:
    own = paths.data_folder()
    return [*([own] if own else []), paths.cache() / "data"]


def _root(name: str, size: int, path, download: bool) -> tuple[Path, Entry]:
    """Return the folder of a data set and what is known about it."""
    if name == "folder":
        if path is None:
            raise ValueError('load("folder") needs path=, a folder of class folders.')
        root = paths.expanded(path, "path=")
        if not root.is_dir():
            raise FileNotFoundError(f"There is no folder {root}.")
        return root, Entry("folder", root.resolve().name, f"images in {root.resolve().name}", 0)
    names = variants(name, size)
    root = _find(names, path)
    if root is None and download and path is None:
        root = install(CATALOGUE[names[0]], paths.cache() / "data")
    if root is None:
        raise FileNotFoundError(_missing(name, names, path))
    return root, CATALOGUE[root.name]


def _whole(root: Path, entry: Entry) -> Listing:
    """List a data set that the course knows.

    Raises:
        ValueError: it is half unpacked, or holds more than its own images.
    """
    try:
        listing = scan(root)
    except ValueError as error:
        wrong = str(error)
    else:
        count = len(listing.train) + len(listing.val)
        if count == entry.images:
            return listing
        wrong = f"{root} holds {count:,} of the {entry.images:,} images of {entry.name}."
        if count > entry.images:
            wrong = f"{root} holds {count:,} images, and {entry.name} has {entry.images:,}."
    again = entry.name if entry.url else "imagenette2-160"
    raise ValueError(
        f"{wrong} So this {entry.name} is not as it was made: take the folder away and unpack the "
        f"archive again (or: ilsvrc data fetch {again}). A choice of your own, in a folder of "
        'another name, is loaded with load("folder", path=...).'
    )


def _missing(name: str, names: list[str], path) -> str:
    places = _places() if path is None else [paths.expanded(path, "path=")]
    looked = ", ".join(
        f"{place}{'' if place.is_dir() else ' (no such folder)'}" for place in places
    )
    fetchable = [CATALOGUE[n] for n in names if CATALOGUE[n].url]
    fetch = (
        f"Fetch it ({fetchable[0].bytes / 2**20:,.0f} MiB): ilsvrc data fetch {fetchable[0].name}. "
        if fetchable
        else "It cannot be downloaded. "
    )
    return (
        f"The data set {name!r} is not here. Looked for {', '.join(names)} in: {looked}. "
        f"{_beside(names, places)}{fetch}"
        "Or set ILSVRC_DATA=/your/folder to the folder that holds it. "
        'Or work with the embedded photographs: load("photographs").'
    )


def _beside(names: list[str], places: list[Path]) -> str:
    """Return a sentence on what lies there and is not it: a packed archive, another edition."""
    for place in places:
        for name in names:
            for packed in (f"{name}.tgz", f"{name}.tar", f"{name}.tar.gz", f"{name}.zip"):
                if (place / packed).is_file():
                    return f"{place / packed} is still packed: unpack it there. "
        for name in {name.replace("imagenette2", "imagenette") for name in names} - set(names):
            if (place / name).is_dir():
                return (
                    f"{place / name} is the first edition, whose validation images are others; the "
                    "course takes the second. "
                )
    return ""


def _load_photographs(size: int, images: int | None, seed: int) -> Dataset:
    classes = len(photographs.PHOTOGRAPHS)
    train = photographs.TRAIN_CROPS * classes if images is None else images
    _enough(train, classes)
    val = photographs.VAL_CROPS * classes
    x_train, y_train, x_val, y_val, digest = photographs.crops(size, train, val, seed)
    return Dataset(
        name="photographs",
        title="Embedded photographs (a stand-in)",
        size=size,
        x_train=x_train,
        y_train=y_train,
        x_val=x_val,
        y_val=y_val,
        class_names=[photograph.name for photograph in photographs.PHOTOGRAPHS],
        squashed=False,
        standin=True,
        digest=digest,
        skipped=[],
        credit=photographs.credit(),
    )


def _balanced(labels: np.ndarray, images: int, classes: int, seed: int) -> np.ndarray:
    """Return the indices, in order, of `images` labels spread evenly over the classes.

    A smaller number's choice lies within a larger number's; a class that runs out leaves its share
    to the others.
    """
    _enough(images, classes)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), int)
    for label in range(classes):
        of_class = shuffled[labels[shuffled] == label]
        rank[of_class] = np.arange(len(of_class))
    return np.sort(np.lexsort((labels, rank))[:images])


def _enough(images: int, classes: int) -> None:
    if images < classes:
        raise ValueError(
            f"images={images} is too few for {classes} classes: ask for {classes} or more."
        )


def _complaint(root: Path, skipped: list[tuple[str, str]], count: int) -> str:
    named = "; ".join(f"{shown(file)} ({error})" for file, error in skipped[:5])
    more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    return f"{root}: {len(skipped)} of {count:,} files are no readable image: {named}{more}."
