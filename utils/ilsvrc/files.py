"""Folders that appear whole: on the disk before they have their name, checked when read."""

import contextlib
import errno
import json
import os
import shutil
import sys
import zlib
from pathlib import Path

from filelock import FileLock, Timeout

from . import paths

BLOCK = 1 << 24  # bytes
FULL = (errno.ENOSPC, errno.EDQUOT)  # what a full disk, or one's share of it, is called
UNKNOWN = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS)  # to a kind of disk
SUMS = "sums.json"  # of a kept folder: each file's size and checksum


def keep(part: Path, whole: Path) -> None:
    """Give a finished folder its name, once all of it is on the disk.

    Args:
        part: The folder as it was written, of plain files, on the same disk as `whole`.
        whole: Its name, which no folder has.
    """
    sums = {file.name: (file.stat().st_size, checksum(file)) for file in part.iterdir()}
    (part / SUMS).write_text(json.dumps(sums))
    for file in part.iterdir():
        _sync(file)
    _sync(part)
    os.replace(part, whole)
    _sync(whole.parent)


def onto_disk(folder: Path) -> None:
    """Put all that lies below a folder onto the disk, before the folder is given its name."""
    if hasattr(os, "sync"):
        os.sync()  # one call for thousands of files
        return
    for place, _, names in os.walk(folder):
        for name in names:
            _sync(Path(place) / name)


def sound(folder: Path, needed) -> bool:
    """Return whether a folder that `keep` named still holds what it held then.

    Args:
        folder: Whether it is there or not.
        needed: Names of files that it must hold.
    """
    try:
        sums = json.loads((folder / SUMS).read_text())
        return set(needed) <= set(sums) and all(
            (folder / name).stat().st_size == size and checksum(folder / name) == found
            for name, (size, found) in sums.items()
        )
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def checksum(file: Path) -> int:
    """Return a file's CRC-32."""
    found = 0
    with file.open("rb") as content:
        while block := content.read(BLOCK):
            found = zlib.crc32(block, found)
    return found


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        with if_known():  # not every file system syncs folders
            os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def if_known():
    """Pass over that this file system does not know how to do something."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise


def clear(path: Path) -> None:
    """Take away what lies at a name of the course's own: a folder, a file, a link (it alone)."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def own(path: Path) -> None:
    """Refuse a link or a folder where a file of the course's own is to be written.

    Raises:
        OSError: There is one; the message names it.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        kind = "a link" if path.is_symlink() else "no file"
        raise OSError(
            f"{path} is {kind}, where a file is to be written: move it away and try again."
        )


@contextlib.contextmanager
def alone(lock: Path, doing: str):
    """Hold a lock while something is done; say so where another process has it, and wait.

    Args:
        lock: The lock's file.
        doing: What the other process does, such as "trains this run".
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    own(lock)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0.5)
    except Timeout:  # an OSError, too
        print(f"Another process {doing}; waiting until it has finished.", file=sys.stderr)
        held.acquire()
    except (OSError, NotImplementedError) as error:  # the second: older filelocks, of ENOSYS
        reason = getattr(error, "strerror", None) or error
        raise OSError(
            f"{lock} cannot be locked ({str(reason).lower()}), so that two processes would hurt "
            "each other. Set XDG_CACHE_HOME to a folder of your own on a disk of this machine."
        ) from error
    try:
        yield
    finally:
        held.release()


@contextlib.contextmanager
def room(folder: Path, doing: str):
    """Say in which folder the disk is full, where something cannot be written for want of room.

    Args:
        folder: Where it is written.
        doing: What is kept there, such as "The training is kept".
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        free = shutil.disk_usage(there).free
        other = "take a folder"
        for place, name in ((paths.cache(), "XDG_CACHE_HOME"), (paths.runs(), "ILSVRC_RUNS")):
            if folder.absolute().is_relative_to(place):
                other = f"set {name} to a folder"
        raise OSError(
            f"{doing} in {folder}, and the disk is full ({free / 2**20:,.1f} MiB free). Make room, "
            f"or {other} on a larger disk; what was finished is kept."
        ) from error


OWN = "Set XDG_CACHE_HOME to a folder of your own, or ask whoever runs this machine for a home "
OWN += "that you can write to."


def writable(folder: Path, what: str = "The cache", mend: str = OWN) -> None:
    """Try to write in a folder, before long work counts on it.

    Args:
        folder: Made if it is not there.
        what: What the user calls it.
        mend: What to do where it cannot be written.

    Raises:
        OSError: It cannot be written; the message says what to set, and what to ask for.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        if error.errno in FULL:
            reason = "its disk is full"
        else:
            reason = (error.strerror or str(error)).lower()
        raise OSError(f"{what} {folder} cannot be written: {reason}. {mend}") from error
