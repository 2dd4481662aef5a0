"""Fetching a data set: one resumable, checked download that appears whole or not at all."""

import gzip
import hashlib
import os
import re
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from functools import partial
from pathlib import Path

from tqdm import tqdm

from .. import files
from .catalogue import Entry

TRIES = 5  # in a row without a byte more
WAIT = 0.5  # seconds after the first of them, doubled after each
BLOCK = 1 << 16  # bytes; what a break can lose


def install(entry: Entry, folder: Path) -> Path:
    """Download, check and unpack a data set into ``folder / entry.name``, and return that path.

    What a broken download left is kept and gone on with the next time. Of two processes that ask at
    once one downloads and the other waits for it.

    Raises:
        ConnectionError: the server could not be reached or kept breaking off.
        ValueError: there is nothing to download, or what the server sent has a wrong size, checksum
            or content.
        OSError: the disk is too full.
    """
    if entry.url is None:
        raise ValueError(
            f"{entry.name} cannot be downloaded. Set ILSVRC_DATA=/your/folder to a folder that "
            "holds it, or take another: ilsvrc data fetch imagenette2-160"
        )
    target = folder / entry.name
    files.writable(folder)
    with (
        files.alone(folder / f"{entry.name}.lock", f"fetches {entry.name}"),
        files.room(folder, f"{entry.name} is unpacked"),
    ):
        if target.is_dir():
            return target
        archive, useless = folder / f"{entry.name}.part", folder / f"{entry.name}.useless"
        if useless.is_file() and useless.read_text() == str(entry.checksum):
            raise ValueError(
                f"{entry.url} was fetched before and could not be unpacked, though it is what the "
                f"catalogue says. Please open an issue; to try once more, delete {useless}."
            )
        _check_space(entry, folder, archive)
        _download(entry, archive)
        unpacked = folder / f"{entry.name}.partial"
        shutil.rmtree(unpacked, ignore_errors=True)  # what a killed process left: we hold the lock
        try:
            _unpack(archive, unpacked)
            if not (unpacked / entry.name).is_dir():
                raise ValueError(f"{entry.url} holds no folder {entry.name!r}.")
            files.onto_disk(unpacked)
            os.replace(unpacked / entry.name, target)
        except ValueError:
            archive.unlink()  # it has the right checksum and is still no use
            useless.write_text(str(entry.checksum))
            raise
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
        archive.unlink()
    return target


def _check_space(entry: Entry, folder: Path, archive: Path) -> None:
    here = archive.stat().st_size if archive.exists() else 0
    needed, free = 2.2 * entry.bytes - here, shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{entry.name} needs about {needed / 2**20:,.0f} MiB in {folder}, where "
            f"{free / 2**20:,.0f} MiB are free. Make room, or set XDG_CACHE_HOME to a larger disk."
        )


def _download(entry: Entry, archive: Path) -> None:
    """Bring the archive here, whole and checked, going on with what is there of it."""
    resumed = archive.exists()
    _receive(entry, archive)
    wrong = _wrong(entry, archive)
    if wrong and resumed:  # an older part may be at fault: once more from the start
        archive.unlink()
        _receive(entry, archive)
        wrong = _wrong(entry, archive)
    if wrong:
        archive.unlink()
        raise ValueError(
            f"{entry.url} {wrong}. The file was deleted. Try again later: "
            f"ilsvrc data fetch {entry.name}"
        )


def _receive(entry: Entry, archive: Path) -> None:
    """Append to `archive`, over as many connections as it takes, until its size is right."""
    import requests

    if archive.exists() and archive.stat().st_size > entry.bytes:
        archive.unlink()
    archive.touch()
    failures, furthest = 0, archive.stat().st_size
    with tqdm(
        total=entry.bytes, desc=entry.name, unit="B", unit_scale=True, unit_divisor=1024
    ) as bar:
        while (here := archive.stat().st_size) < entry.bytes:
            bar.n = here
            bar.refresh()
            try:
                _request(entry, archive, bar)
                trouble = "the server broke off"
            except requests.HTTPError as error:
                if error.response.status_code < 500 and error.response.status_code != 429:
                    raise ConnectionError(f"{entry.url}: {error}.") from error
                trouble = str(error)
            except requests.RequestException as error:
                trouble = str(error)
            if archive.stat().st_size > furthest:
                failures, furthest = 0, archive.stat().st_size
                continue
            failures += 1
            if failures == TRIES:
                raise ConnectionError(
                    f"{entry.url}: {here:,} of {entry.bytes:,} bytes are here, and no more came in "
                    f"{TRIES} tries ({trouble}). Check the connection, then go on from there: "
                    f"ilsvrc data fetch {entry.name}"
                )
            time.sleep(WAIT * 2 ** (failures - 1))


def _request(entry: Entry, archive: Path, bar: tqdm) -> None:
    """Ask once for what is missing and append it; start over where the server ignores the range."""
    import requests

    here = archive.stat().st_size
    headers = {"Accept-Encoding": "identity"}
    if here:
        headers["Range"] = f"bytes={here}-"
    with requests.get(entry.url, headers=headers, stream=True, timeout=(15, 60)) as response:
        start = 0
        if response.status_code == 206:
            sent = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            start = int(sent[1]) if sent else -1
        if response.status_code == 416 or start not in (0, here):
            archive.write_bytes(b"")  # the server cannot go on from here: ask for all of it
            return
        response.raise_for_status()
        kind = response.headers.get("Content-Type", "")
        if kind.startswith("text/html"):
            raise ValueError(
                f"{entry.url} answers with a web page, not with the archive: a login or proxy "
                "stands between. Open the address in a browser on this network, then try "
                f"again: ilsvrc data fetch {entry.name}"
            )
        length = response.headers.get("Content-Length")
        if length and start + int(length) != entry.bytes:
            raise ValueError(
                f"{entry.url} offers {start + int(length):,} bytes; the catalogue says "
                f"{entry.bytes:,}. The archive has changed: nothing was downloaded."
            )
        bar.n = start
        with archive.open("r+b") as file:
            file.truncate(start)
            file.seek(start)
            for block in response.iter_content(BLOCK):
                file.write(block)
                bar.update(len(block))
                if file.tell() > entry.bytes:
                    return


def _wrong(entry: Entry, archive: Path) -> str:
    """Return what is wrong with a received archive, or an empty string."""
    size = archive.stat().st_size
    if size != entry.bytes:
        return f"sent {size:,} bytes where the catalogue says {entry.bytes:,}"
    algorithm, _, expected = entry.checksum.partition(":")
    with archive.open("rb") as file:
        new = partial(hashlib.new, algorithm, usedforsecurity=False)
        found = hashlib.file_digest(file, new).hexdigest()
    if found != expected:
        return f"sent a file with {algorithm} {found} where the catalogue says {expected}"
    return ""


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip archive of plain files and folders; refuse links and paths that lead out.

    Raises:
        ValueError: when the archive holds anything else, or cannot be read.
    """
    folder.mkdir()
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as source:
                for member in _bar(source.infolist()):
                    kind = stat.S_IFMT(member.external_attr >> 16)
                    _refuse_unsafe(member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
                    source.extract(member, folder)
        else:
            with tarfile.open(archive) as source:
                source.extraction_filter = getattr(tarfile, "data_filter", None)  # not in 3.11.2
                for member in _bar(source):
                    _refuse_unsafe(member.name, member.isfile() or member.isdir())
                    source.extract(member, folder)
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{archive} cannot be unpacked: {error}.") from error


def _refuse_unsafe(name: str, plain: bool) -> None:
    parts = name.replace("\\", "/").split("/")
    if not plain or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        raise ValueError(
            f"The archive holds {name!r}, a link or a path that could lead out of the data folder. "
            "Nothing of it was kept."
        )


def _bar(members):
    return tqdm(members, desc="Unpacking", unit=" files", leave=False, delay=0.5)
