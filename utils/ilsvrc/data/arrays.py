"""The decode-once cache: every image of a data set as one uint8 array on disk, memory-mapped."""

import hashlib
import io
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image, ImageOps
from tqdm import tqdm

from .. import paths
from .folders import Listing, refuse_empty

VERSION = 1  # of the way from file to array; a new one makes old arrays useless


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
        source: the file's bytes (any format that Pillow reads; grey-scale, palette, CMYK and
            16-bit images become 8-bit RGB).
        size: side of the result in pixels. The shorter side is scaled to it, antialiased.

    Returns:
        (size, size, 3) uint8.
    """
    with Image.open(io.BytesIO(source)) as image:
        image.draft(None, (size, size))  # lets JPEG decode at 1/2, 1/4 or 1/8 of its size
        if image.mode.startswith("I"):  # 16 bits a pixel
            image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
        image = ImageOps.exif_transpose(image).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def decoded(listing: Listing, size: int) -> Arrays:
    """Return a data set's images at one size, decoded now or read back from the user's cache.

    The cache's key is made of the files' names, labels, sizes and times of change, and of `size`.
    The arrays appear whole or not at all; of two processes that ask at once one decodes.

    Raises:
        ValueError: when a class has no readable image.
        OSError: when the disk is too full for the arrays.
    """
    folder = paths.cache() / "arrays" / _key(listing, size)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _build(listing, size, folder)
    meta = json.loads((folder / "meta.json").read_text())
    arrays = [
        np.load(folder / f"{part}_{split}.npy", mmap_mode="r" if part == "x" else None)
        for split in ("train", "val")
        for part in ("x", "y")
    ]
    return Arrays(*arrays, [tuple(item) for item in meta["skipped"]], meta["digest"])


def _key(listing: Listing, size: int) -> str:
    digest = hashlib.sha256(json.dumps([VERSION, size, listing.class_ids]).encode())
    for split, files in [("train", listing.train), ("val", listing.val)]:
        for path, label in files:
            stat = os.stat(f"{listing.root}/{path}")
            line = f"{split} {label} {stat.st_size} {stat.st_mtime_ns} {path}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return f"{listing.root.name}-{size}-{digest.hexdigest()[:20]}"


def _build(listing: Listing, size: int, folder: Path) -> None:
    count = len(listing.train) + len(listing.val)
    needed, free = count * size * size * 3, shutil.disk_usage(folder.parent).free
    if needed > free:
        raise OSError(
            f"{count:,} images at {size} pixels need {needed / 2**20:,.0f} MiB in {folder.parent}, "
            f"where {free / 2**20:,.0f} MiB are free. Delete old folders there, take a smaller "
            "size, or set XDG_CACHE_HOME to a larger disk."
        )
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed process left: we hold the lock
    partial.mkdir()
    skipped, digest = [], hashlib.sha256()
    try:
        title = f"Decoding {listing.root.name} at {size} pixels"
        with tqdm(total=count, desc=title, unit=" images", leave=False, delay=0.5) as bar:
            for split, files in [("train", listing.train), ("val", listing.val)]:
                results = _fill(listing.root, files, size, partial / f"x_{split}.npy", bar)
                kept = []
                for (path, label), (error, content) in zip(files, results, strict=True):
                    if error:
                        skipped.append((path, error))
                        continue
                    kept.append(label)
                    line = f"{split} {listing.class_ids[label]} {Path(path).name} {content}\n"
                    digest.update(line.encode(errors="surrogateescape"))
                np.save(partial / f"y_{split}.npy", np.array(kept, np.int32))
                counts = {name: kept.count(label) for label, name in enumerate(listing.class_ids)}
                refuse_empty(listing.root, f"readable {split}", counts)
        meta = {"digest": digest.hexdigest(), "skipped": skipped}
        (partial / "meta.json").write_text(json.dumps(meta))
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(
    root: Path, files: list[tuple[str, int]], size: int, target: Path, bar: tqdm
) -> list[tuple[str, str]]:
    """Decode files into one array on disk with all cores; return each (error, SHA-256) in order.

    The array has a row for each file without an error.
    """
    array = np.lib.format.open_memmap(target, "w+", np.uint8, (len(files), size, size, 3))

    def work(index: int) -> tuple[str, str]:
        try:
            source = (root / files[index][0]).read_bytes()
            array[index] = decode(source, size)
        except Exception as error:  # a broken file can make a decoder raise anything
            return f"{type(error).__name__}: {error}", ""
        return "", hashlib.sha256(source).hexdigest()

    results = []
    pool = ThreadPoolExecutor(cores())  # Pillow and hashlib let other threads run meanwhile
    try:
        for result in pool.map(work, range(len(files))):
            results.append(result)
            bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
    good = [index for index, (error, _) in enumerate(results) if not error]
    if 0 < len(good) < len(files):
        kept = np.lib.format.open_memmap(
            target.with_suffix(".kept"), "w+", np.uint8, (len(good), size, size, 3)
        )
        for row, index in enumerate(good):
            kept[row] = array[index]
        os.replace(target.with_suffix(".kept"), target)
    return results


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
