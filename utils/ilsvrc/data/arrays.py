"""The decode-once cache: every image of a data set as one uint8 array on disk, memory-mapped."""

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from .. import files, paths
from .folders import Listing, shown

VERSION = 4  # of the way from file to array; a new one makes old arrays useless
# By name, since Pillow would start another program for some others (EPS: Ghostscript).
FORMATS = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "PPM", "JPEG2000"]
LARGEST = 64_000_000  # pixels that a picture may unpack to
NEEDED = [*(f"{a}_{split}.npy" for a in "xy" for split in ("train", "val")), "meta.json"]
LARGEST_FILE = 6 * LARGEST  # bytes: so many pixels of three colours in 16 bits, not packed
LARGE = 8_000_000  # pixels from which on one at a time is unpacked
_one_large = threading.Lock()


@dataclass(frozen=True)
class Arrays:
    """A decoded data set: both splits, the files left out, the digest of the content."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    skipped: list[tuple[str, str]]
    digest: str


def decode(source: bytes, size: int) -> np.ndarray:
    """Decode an image file: turned upright by its EXIF tag, in RGB, the largest centred square.

    Args:
        source: the file's bytes, in one of `FORMATS`; grey-scale, palette, CMYK and images of 9 to
            16 bits a pixel become 8-bit RGB, what is transparent lies on white.
        size: side of the result in pixels. The shorter side is scaled to it, antialiased.

    Returns:
        (size, size, 3) uint8.

    Raises:
        ValueError: it is no picture of these formats, more than one, too large, or its pixels have
            no known range.
    """
    try:
        image = Image.open(io.BytesIO(source), formats=_formats())
    except UnidentifiedImageError:
        raise ValueError(f"no picture of a known format ({', '.join(FORMATS)})") from None
    with image:
        image.draft(None, (size, size))  # lets JPEG decode at 1/2, 1/4 or 1/8 of its size
        pixels = image.width * image.height
        if pixels > LARGEST:
            raise ValueError(f"{pixels:,} pixels, where {LARGEST:,} is the most")
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # a phone's has its preview
            raise ValueError(f"{image.n_frames} pictures in one file: save the one that is meant")
        with _one_large if pixels > LARGE else contextlib.nullcontext():
            image = ImageOps.exif_transpose(_opaque(_eight_bits(image))).convert("RGB")
            side = min(image.size)
            left, top = (image.width - side) / 2, (image.height - side) / 2
            box = (left, top, left + side, top + side)
            return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


@functools.cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]  # an older Pillow has no AVIF


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return an image with at most 8 bits a channel; its EXIF data stay."""
    tags = image.tag_v2 if image.format == "TIFF" else {}
    if set(tags.get(339, (1,))) != {1}:  # signed numbers, or fractions
        raise ValueError("signed pixels or fractions, of no known range: save it in 8 bits")
    if not image.mode.startswith(("I", "F")):
        return image
    bits = tags.get(258, (0,))[0] if tags else 16
    values = np.asarray(image)
    if image.mode == "F" or not 8 < bits <= 16 or values.min() < 0 or values.max() >> bits:
        raise ValueError(f"pixels of mode {image.mode!r}, of no known range: save it in 8 bits")
    if tags and tags.get(262) == 0:  # 0 is white, which Pillow minds up to 8 bits alone
        values = (1 << bits) - 1 - values
    eight = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    eight.info = image.info
    eight.getexif().update(image.getexif())
    return eight


def _opaque(image: Image.Image) -> Image.Image:
    """Return an image without transparency, laid on white as viewers show it; its EXIF stays."""
    clear = image.info.get("transparency")
    if clear is None and not image.mode.endswith(("A", "a")):
        return image
    if not isinstance(clear, bytes | None) and np.max(clear) > 255:
        raise ValueError("a transparent colour of more than 8 bits: save it in 8 bits")
    drawn, white = image.convert("RGBA"), Image.new("RGB", image.size, "white")
    white.paste(drawn, mask=drawn)
    white.getexif().update(image.getexif())
    return white


def decoded(listing: Listing, size: int) -> Arrays:
    """Return a data set's images at one size: shared ones, else the user's own, decoded once.

    Shared ones lie below ``ILSVRC_ARRAYS``, put there by `share`, and are only read. The key is
    made of the files' names, labels, sizes and times of change, and of `size`. The arrays appear
    whole or not at all; of two processes that ask at once one decodes.

    Raises:
        ValueError: when a class has no readable image.
        OSError: when the disk is too full for the arrays, or ``ILSVRC_ARRAYS`` names no folder.
    """
    key, shared = _key(listing, size), paths.arrays()
    folder = shared / key if shared else None
    if not shared or not _usable(listing.root, folder):
        folder = _made(listing, size, paths.cache() / "arrays" / key)
        if shared:
            print(
                f"{listing.root.name} at {size} pixels is not among the shared images in {shared}, "
                "so it was decoded for you alone. Whoever runs this machine adds it for all: "
                f"ilsvrc data decode --size {size}",
                file=sys.stderr,
            )
    meta = json.loads((folder / "meta.json").read_text())
    arrays = []
    for split in ("train", "val"):
        labels = np.load(folder / f"y_{split}.npy")
        images = np.load(folder / f"x_{split}.npy", mmap_mode="r")
        arrays += [images[: len(labels)], labels]  # rows beyond were kept for bad files
    return Arrays(*arrays, [tuple(item) for item in meta["skipped"]], meta["digest"])


def share(listing: Listing, size: int) -> Path:
    """Decode a data set's images for all users of this machine, below ``ILSVRC_ARRAYS``.

    Returns:
        The folder, readable by everyone.

    Raises:
        ValueError: ``ILSVRC_ARRAYS`` is not set, or a class has no readable image.
        OSError: There is no such folder, it cannot be written, or its disk is too full.
    """
    shared = paths.arrays()
    if not shared:
        raise ValueError(
            "ILSVRC_ARRAYS is not set. Set it, here and for everyone who is to share them, to the "
            "folder for decoded images: export ILSVRC_ARRAYS=/srv/ilsvrc/arrays"
        )
    mend = "Run this as the user whose folder it is, or name another one in ILSVRC_ARRAYS."
    files.writable(shared, "ILSVRC_ARRAYS", mend)
    folder = _made(listing, size, shared / _key(listing, size))
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def shared_sizes(listing: Listing) -> dict[int, bool]:
    """Return the sides, in pixels, at which ``ILSVRC_ARRAYS`` holds a data set of this name.

    Returns:
        Side -> whether it was decoded from the files that are listed: the same names, sizes and
        times of change. Others are not taken. Their content is not read.

    Raises:
        OSError: ``ILSVRC_ARRAYS`` names no folder, or one that cannot be read.
    """
    shared = paths.arrays()
    named = re.compile(rf"{re.escape(listing.root.name[:40])}-(\d+)-[0-9a-f]{{20}}")
    names = set(os.listdir(shared)) if shared else set()
    sizes = sorted({int(found[1]) for found in map(named.fullmatch, names) if found})
    return {size: _key(listing, size) in names for size in sizes}


def _made(listing: Listing, size: int, folder: Path) -> Path:
    """Decode a data set into a folder, unless it is there; of two processes one does."""
    if not _usable(listing.root, folder):
        files.writable(folder.parent)
        with files.alone(Path(f"{folder}.lock"), "decodes these images"):
            if not _usable(listing.root, folder):
                files.clear(folder)
                with files.room(folder.parent, "Decoded images are kept"):
                    _build(listing, size, folder)
    return folder


def _usable(root: Path, folder: Path) -> bool:
    """Return whether decoded arrays are there, sound, and of all files that can be read now."""
    if not files.sound(folder, NEEDED):
        return False
    for path in json.loads((folder / "meta.json").read_text())["unread"]:
        with contextlib.suppress(OSError, ValueError):
            _bytes(root / path)
            return False
    return True


def _bytes(path: Path) -> bytes:
    """Return a file's content; of regular files alone, since a pipe would be waited for."""
    if not path.exists() and path.is_symlink():
        raise OSError(f"a link that leads nowhere, to {os.readlink(path)!r}")
    if not path.is_file():
        raise ValueError("no regular file")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ValueError(f"a file of {size:,} bytes, where {LARGEST_FILE:,} is the most")
    return path.read_bytes()


def _key(listing: Listing, size: int) -> str:
    digest = hashlib.sha256(json.dumps([VERSION, size, listing.class_ids]).encode())
    for split, listed in [("train", listing.train), ("val", listing.val)]:
        for path, label in listed:
            place = f"{listing.root}/{path}"
            stat = os.stat(place) if os.path.exists(place) else os.lstat(place)  # a dangling link
            line = f"{split} {label} {stat.st_size} {stat.st_mtime_ns} {path}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return f"{listing.root.name[:40]}-{size}-{digest.hexdigest()[:20]}"


def _build(listing: Listing, size: int, folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    files.clear(partial)  # what a killed process left: we hold the lock
    count = len(listing.train) + len(listing.val)
    needed, free = count * size * size * 3, shutil.disk_usage(folder.parent).free
    if needed > free:
        raise OSError(
            f"{count:,} images at {size} pixels need {needed / 2**20:,.0f} MiB in {folder.parent}, "
            f"where {free / 2**20:,.0f} MiB are free. Delete old folders there, take a smaller "
            "size, or set XDG_CACHE_HOME to a larger disk."
        )
    partial.mkdir()
    skipped, unread, digest = [], [], hashlib.sha256()
    try:
        title = f"Decoding {listing.root.name} at {size} pixels"
        with tqdm(total=count, desc=title, unit=" images", leave=False, delay=0.5) as bar:
            for split, listed in [("train", listing.train), ("val", listing.val)]:
                results = _fill(listing.root, listed, size, partial / f"x_{split}.npy", bar)
                kept = []
                for (path, label), (error, lasting, content) in zip(listed, results, strict=True):
                    if error:
                        skipped.append((path, error))
                        unread += [] if lasting else [path]
                        continue
                    kept.append(label)
                    line = f"{split} {listing.class_ids[label]} {Path(path).name} {content}\n"
                    digest.update(line.encode(errors="surrogateescape"))
                np.save(partial / f"y_{split}.npy", np.array(kept, np.int32))
                _refuse_unreadable(listing, split, listed, kept, skipped)
        meta = {"digest": digest.hexdigest(), "skipped": skipped, "unread": unread}
        (partial / "meta.json").write_text(json.dumps(meta))
        files.keep(partial, folder)
    finally:
        files.clear(partial)


def _refuse_unreadable(listing: Listing, split: str, listed, kept: list[int], skipped) -> None:
    """Raise a ValueError where all files of a class could not be read."""
    for label in sorted({label for _, label in listed} - set(kept)):
        mine = [path for path, one in listed if one == label]
        error = dict(skipped)[mine[0]]
        raise ValueError(
            f"{listing.root}: none of the {len(mine)} {split} files of "
            f"{listing.class_ids[label]!r} is a readable image; {shown(mine[0])}: {error}. Let "
            "them be read, replace them, or take the class away."
        )


def _fill(
    root: Path, listed: list[tuple[str, int]], size: int, target: Path, bar: tqdm
) -> list[tuple[str, bool, str]]:
    """Decode files into one array on disk with all cores; return each's outcome in order.

    An outcome is (error, whether the error lasts, SHA-256): what could not be read may be read the
    next time, what the decoder refuses will not be. The array's first rows are the files without
    one.
    """
    array = np.lib.format.open_memmap(target, "w+", np.uint8, (len(listed), size, size, 3))
    if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and a dead process later
        with target.open("r+b") as file, files.if_known():
            os.posix_fallocate(file.fileno(), 0, target.stat().st_size)

    def work(index: int) -> tuple[str, bool, str]:
        source = None
        try:
            source = _bytes(root / listed[index][0])
            array[index] = decode(source, size)
        except ValueError as error:
            return str(error), True, ""
        except Exception as error:  # a broken file can make a decoder raise anything
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return reason, source is not None and not isinstance(error, MemoryError), ""
        return "", True, hashlib.sha256(source).hexdigest()

    results = []
    pool = ThreadPoolExecutor(cores())  # Pillow and hashlib let other threads run meanwhile
    try:
        for result in pool.map(work, range(len(listed))):
            results.append(result)
            bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
    good = [index for index, (error, *_) in enumerate(results) if not error]
    for row, index in enumerate(good):
        if row != index:
            array[row] = array[index]  # closing the gaps that bad files leave
    array.flush()
    return results


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
