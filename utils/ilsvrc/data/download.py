"""Fetching a data set: one resumable, checked download that appears whole or not at all."""

import errno
import gzip
import hashlib
import itertools
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

from tqdm import tqdm

from .. import files
from .catalogue import Entry
from .folders import image_files

TRIES = 5  # in a row without a byte more
WAIT = 0.5  # seconds after the first of them, doubled after each
LONGEST = 120  # seconds that a server may ask to wait
BUSY = (408, 425, 429)  # answers that say "later", as those from 500 on do
BLOCK = 1 << 16  # bytes; what a break can lose
UNREADABLE = (  # what Python raises of an archive that is none, or of a kind that it cannot read
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
    *(EOFError, RuntimeError, UnicodeError, struct.error, OverflowError),
)
ARCHIVES = (b"\x1f\x8b", b"PK", b"BZh", b"\xfd7z")  # how they begin; a bare tar holds zeros
NAMES = (  # names that no file can have here, or that two have
    *(errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EINVAL, errno.EILSEQ),
)


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
        if os.path.lexists(target):
            raise OSError(f"{target} is no folder of a data set: move it away and try again.")
        files.own(archive)
        files.own(useless)
        if useless.is_file() and useless.read_bytes() == str(entry.checksum).encode():
            raise ValueError(
                f"{entry.url} was fetched before and could not be unpacked, though it is what the "
                f"catalogue says. Please open an issue; to try once more, delete {useless}."
            )
        _check_space(entry, folder, archive)
        _download(entry, archive)
        unpacked = folder / f"{entry.name}.partial"
        files.clear(unpacked)  # what a killed process left: we hold the lock
        try:
            _unpack(archive, unpacked)
            found = len(image_files(unpacked / entry.name))
            if found != entry.images:
                raise ValueError(
                    f"{entry.url} holds {found:,} images in a folder {entry.name!r}, where the "
                    f"catalogue says {entry.images:,}."
                )
            files.onto_disk(unpacked)
            os.replace(unpacked / entry.name, target)
        except ValueError:
            archive.unlink()  # it has the right checksum and is still no use
            useless.write_text(str(entry.checksum))
            raise
        finally:
            files.clear(unpacked)
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
            pause = 0.0
            try:
                _request(entry, archive, bar)
                trouble = "the server broke off"
            except requests.HTTPError as error:
                if error.response.status_code < 500 and error.response.status_code not in BUSY:
                    raise ConnectionError(f"{entry.url}: {error}.") from error
                trouble, pause = str(error), _asked(error.response.headers.get("Retry-After", ""))
            except requests.RequestException as error:
                trouble = str(error)
            if archive.stat().st_size > furthest:
                failures, furthest = 0, archive.stat().st_size
                continue
            failures += 1
            if pause > LONGEST:
                raise ConnectionError(
                    f"{entry.url}: the server asks to wait for {pause:,.0f} s ({trouble}). Go on "
                    f"after that: ilsvrc data fetch {entry.name}"
                )
            if failures == TRIES:
                raise ConnectionError(
                    f"{entry.url}: {here:,} of {entry.bytes:,} bytes are here, and no more came in "
                    f"{TRIES} tries ({trouble}). Check the connection, then go on from there: "
                    f"ilsvrc data fetch {entry.name}"
                )
            time.sleep(max(pause, WAIT * 2 ** (failures - 1)))


def _asked(header: str) -> float:
    """Return the seconds that a server asks to wait, as a number or a date; 0 where it does not."""
    if re.fullmatch(r"\d{1,9}", header.strip()):
        return float(header)
    try:
        return parsedate_to_datetime(header).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _request(entry: Entry, archive: Path, bar: tqdm, go_on: bool = True) -> None:
    """Ask once for what is missing and append it.

    Where the server sends all of it instead, that is written over what is here, of which nothing is
    thrown away before: the connection may break again.
    """
    import requests

    here = archive.stat().st_size if go_on else 0
    headers = {"Accept-Encoding": "identity"}
    if here:
        headers["Range"] = f"bytes={here}-"
    with requests.get(entry.url, headers=headers, stream=True, timeout=(15, 60)) as response:
        start = 0
        if response.status_code == 206:
            sent = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            start = int(sent[1]) if sent else -1
        if here and (response.status_code == 416 or start not in (0, here)):
            return _request(entry, archive, bar, go_on=False)  # it cannot go on from here
        response.raise_for_status()
        if start not in (0, here):
            return
        blocks = response.iter_content(BLOCK)
        first = next(blocks, b"")
        if start == 0 and first and not first.startswith(ARCHIVES) and b"\0" not in first[:512]:
            raise ValueError(
                f"{entry.url} answers with a web page, not with the archive: a login or proxy "
                "stands between. Open the address in a browser on this network, then try "
                f"again: ilsvrc data fetch {entry.name}"
            )
        length = response.headers.get("Content-Length", "").strip()
        if length.isdecimal() and start + int(length) != entry.bytes:
            raise ValueError(
                f"{entry.url} offers {start + int(length):,} bytes; the catalogue says "
                f"{entry.bytes:,}. The archive has changed: nothing was downloaded."
            )
        bar.n = start
        with archive.open("r+b") as file:
            file.seek(start)
            for block in itertools.chain([first], blocks):
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
    except UNREADABLE as error:
        raise ValueError(f"{archive} cannot be unpacked: {error}.") from error
    except OSError as error:
        if error.errno in NAMES:
            raise ValueError(f"{archive} cannot be unpacked: {error}.") from error
        raise


def _refuse_unsafe(name: str, plain: bool) -> None:
    parts = name.replace("\\", "/").split("/")
    if not plain or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        raise ValueError(
            f"The archive holds {name!r}, a link or a path that could lead out of the data folder. "
            "Nothing of it was kept."
        )


def _bar(members):
    return tqdm(members, desc="Unpacking", unit=" files", leave=False, delay=0.5)
