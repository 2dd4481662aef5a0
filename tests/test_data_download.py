"""Downloads against a real server on this machine: breaks, odd answers, evil archives."""

import dataclasses
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from ilsvrc import data, paths
from ilsvrc.data import download

pytestmark = pytest.mark.once

NAME = "small-set"


def jpeg(colour):
    stream = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(stream, "JPEG")
    return stream.getvalue()


def files(root=NAME):
    """The files of a small data set, with noise enough for several blocks."""
    pictures = {
        f"{root}/{split}/{name}/0.jpg": jpeg(colour)
        for split in ("train", "val")
        for name, colour in [("red", (220, 30, 20)), ("green", (20, 200, 40))]
    }
    return pictures | {f"{root}/.noise": np.random.default_rng(0).bytes(300_000)}


def tar(contents, *extra):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return stream.getvalue()


def zipped(contents, *extra):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
        for info, content in extra:
            archive.writestr(info, content)
    return stream.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `content`; `breaks` answers stop after `most` bytes; may ignore ranges or fail."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = tar(files())
        self.breaks, self.most = 0, 100_000
        self.ranges, self.status, self.shift, self.announce = True, None, 0, True
        self.kind, self.length, self.busy, self.wait = None, None, 0, None
        self.asked = []  # the Range header of each request

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/{NAME}.tgz"

    def entry(self, **changes):
        checksum = "sha256:" + hashlib.sha256(self.content).hexdigest()
        fields = {"url": self.url, "bytes": len(self.content), "checksum": checksum} | changes
        return data.Entry(NAME, "A small set", "nobody", 4, **fields)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if server.status:
            return self.send_error(server.status)
        if server.busy:
            server.busy -= 1
            self.send_response(429)
            self.send_header("Retry-After", server.wait)
            return self.end_headers()
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        if start and start >= len(server.content):
            return self.send_error(416)
        body = server.content[max(0, start - server.shift) :] if start else server.content
        self.send_response(206 if start else 200)
        if start:
            first, whole = start - server.shift, len(server.content)
            self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
        if server.kind:
            self.send_header("Content-Type", server.kind)
        if server.announce:
            self.send_header("Content-Length", server.length or str(len(body)))
        self.end_headers()
        if server.breaks > 0:
            server.breaks -= 1
            body = body[: server.most]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "WAIT", 0.001)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def left():
    """What lies in the data folder, locks aside."""
    folder = paths.cache() / "data"
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def whole(folder):
    return {
        f"{NAME}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    } == files()


@pytest.mark.parametrize("pack", [tar, zipped])
def test_a_download_is_unpacked_whole_and_only_once(server, pack):
    server.content = pack(files())
    folder = data.fetch(server.entry())
    assert folder == paths.cache() / "data" / NAME and whole(folder) and left() == [NAME]
    assert data.fetch(server.entry()) == folder and server.asked == [None]
    assert len(data.load("folder", 8, path=folder).x_train) == 2


def test_a_catalogue_entry_is_fetched_by_name_or_by_load(server, monkeypatch):
    name = "imagenette2-160"
    server.content = tar(files(name))
    monkeypatch.setitem(data.CATALOGUE, name, dataclasses.replace(server.entry(), name=name))
    dataset = data.load("imagenette", 8, download=True)
    assert dataset.name == name and len(dataset.x_train) == 2
    assert data.fetch("imagenette") == data.fetch(name) == paths.cache() / "data" / name
    assert server.asked == [None]


def test_a_broken_download_goes_on_where_it_stopped(server):
    server.breaks = 2
    assert whole(data.fetch(server.entry()))
    starts = [int(asked[6:-1]) for asked in server.asked[1:]]
    assert len(starts) == 2 and 0 < starts[0] < starts[1]  # nothing is asked for twice


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server):
    server.breaks, server.most = 10**6, 0
    with pytest.raises(ConnectionError, match=f"ilsvrc data fetch {NAME}"):
        data.fetch(server.entry())
    assert len(server.asked) == download.TRIES
    part = paths.cache() / "data" / f"{NAME}.part"
    part.write_bytes(server.content[:150_000])
    server.breaks, server.asked = 0, []
    assert whole(data.fetch(server.entry()))
    assert server.asked == ["bytes=150000-"]


def test_a_server_that_ignores_ranges_is_read_from_the_start(server):
    server.ranges, server.breaks = False, 2
    assert whole(data.fetch(server.entry()))
    assert len(server.asked) == 3


def test_a_server_that_sends_another_range_is_asked_for_all(server):
    server.breaks, server.shift = 1, 7
    assert whole(data.fetch(server.entry()))
    assert server.asked[-1] is None


def test_an_older_part_of_other_bytes_is_thrown_away(server):
    folder = paths.cache() / "data"
    folder.mkdir(parents=True)
    (folder / f"{NAME}.part").write_bytes(b"x" * 1000)
    assert whole(data.fetch(server.entry()))
    assert server.asked == ["bytes=1000-", None]


def test_an_older_part_that_is_too_long_is_thrown_away(server):
    folder = paths.cache() / "data"
    folder.mkdir(parents=True)
    (folder / f"{NAME}.part").write_bytes(b"x" * (len(server.content) + 1))
    assert whole(data.fetch(server.entry()))


def test_a_wrong_checksum_leaves_nothing(server):
    with pytest.raises(ValueError, match=r"sha256.*where the catalogue says 00"):
        data.fetch(server.entry(checksum="sha256:00"))
    assert left() == []


def test_an_md5_is_checked_too(server):
    digest = hashlib.md5(server.content).hexdigest()
    assert whole(data.fetch(server.entry(checksum=f"md5:{digest}")))


@pytest.mark.parametrize("announce", [True, False])
@pytest.mark.parametrize("change", [-1000, 1000])
def test_a_wrong_size_is_refused(server, announce, change):
    server.announce = announce
    entry = server.entry(bytes=len(server.content) + change)
    with pytest.raises((ValueError, ConnectionError), match="bytes"):
        data.fetch(entry)
    assert not (paths.cache() / "data" / NAME).exists()


def test_a_missing_page_is_said_at_once_and_a_busy_server_is_tried_again(server):
    server.status = 404
    with pytest.raises(ConnectionError, match="404"):
        data.fetch(server.entry())
    assert len(server.asked) == 1
    for tries, status in enumerate((503, 429, 408, 425), 1):
        server.status = status
        with pytest.raises(ConnectionError, match=str(status)):
            data.fetch(server.entry())
        assert len(server.asked) == 1 + tries * download.TRIES


@pytest.mark.parametrize("announce", [True, False])
@pytest.mark.parametrize(
    ("kind", "page"),
    [
        ("text/html; charset=utf-8", b"<html>Sign in</html>"),
        ("text/plain", b"Please sign in to the network."),
        ("application/json", b'{"error": "login required"}'),
        ("application/octet-stream", b"\r\n<?xml version='1.0'?><login/>"),
        (None, b"<html>" + b"Sign in " * 5_000),
    ],
)
def test_a_login_page_is_told_from_the_archive(server, kind, page, announce):
    archive, part = server.content, paths.cache() / "data" / f"{NAME}.part"
    entry = server.entry()
    part.parent.mkdir(parents=True)
    part.write_bytes(archive[:150_000])
    server.kind, server.content, server.announce, server.ranges = kind, page, announce, False
    with pytest.raises(ValueError, match="answers with a web page, not with the archive"):
        data.fetch(entry)
    assert part.read_bytes() == archive[:150_000]
    server.kind, server.content, server.ranges, server.asked = "text/plain", archive, True, []
    assert whole(data.fetch(entry)) and server.asked == ["bytes=150000-"]


@pytest.mark.parametrize("most", [0, 1_000])
def test_what_is_kept_outlives_a_server_that_cannot_go_on_from_there(server, most):
    archive, part = server.content, paths.cache() / "data" / f"{NAME}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(archive[:150_000])
    server.breaks, server.most, server.ranges = 10**6, most, False
    with pytest.raises(ConnectionError, match="150,000 of "):
        data.fetch(server.entry())
    assert part.read_bytes() == archive[:150_000]
    server.status = 416
    with pytest.raises(ConnectionError, match="416"):
        data.fetch(server.entry())
    assert part.read_bytes() == archive[:150_000]
    server.status, server.breaks = None, 0
    assert whole(data.fetch(server.entry()))


def test_a_server_is_waited_for_as_long_as_it_asks(server, monkeypatch):
    waits = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    server.busy, server.wait = 1, "7"
    assert whole(data.fetch(server.entry())) and waits == [7]


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_a_server_that_asks_for_an_hour_is_not_waited_for(server, kind):
    hour = {"seconds": "3600", "date": formatdate(time.time() + 3990, usegmt=True)}
    server.busy, server.wait = 9, hour[kind]
    with pytest.raises(ConnectionError, match=r"asks to wait for 3,\d{3} s .*ilsvrc data fetch"):
        data.fetch(server.entry())
    assert server.asked == [None]


@pytest.mark.parametrize("wait", ["soon", "", "-5", "9" * 30])
def test_a_wait_that_means_nothing_is_passed_over(server, wait):
    server.busy, server.wait = 1, wait
    assert whole(data.fetch(server.entry()))


@pytest.mark.parametrize("length", ["many", "-1", "12 bytes"])
def test_a_length_that_means_nothing_is_passed_over(server, length):
    server.length = length
    assert whole(data.fetch(server.entry()))


def test_lengths_that_contradict_each_other_are_trouble(server):
    server.length = "5, 6"
    with pytest.raises(ConnectionError, match="no more came in 5 tries"):
        data.fetch(server.entry())


@pytest.mark.parametrize("name", [f"{NAME}.part", f"{NAME}.useless", f"{NAME}.lock", NAME])
@pytest.mark.parametrize("kind", ["a link", "a link that leads nowhere", "a folder"])
def test_what_lies_where_a_file_is_to_be_written_is_named_and_stays(server, tmp_path, name, kind):
    place, mine = paths.cache() / "data" / name, tmp_path / "mine"
    place.parent.mkdir(parents=True)
    if kind == "a link":
        mine.write_text("mine")
    if kind == "a folder":
        place.mkdir()
        if name == NAME:
            place.rmdir()
            place.write_text("no folder")
    else:
        place.symlink_to(mine)
    with pytest.raises(OSError, match=rf"{name} is .*: move it away and try again"):
        data.fetch(server.entry())
    assert server.asked == [] and mine.exists() == (kind == "a link")
    assert kind != "a link" or mine.read_text() == "mine"


def test_no_server_at_all(server):
    entry = server.entry(url="http://127.0.0.1:1/nothing.tgz")
    with pytest.raises(ConnectionError, match="Check the connection"):
        data.fetch(entry)


def test_what_has_no_address_cannot_be_fetched():
    with pytest.raises(ValueError, match=r"cannot be downloaded\. Set ILSVRC_DATA"):
        data.fetch("imagenette2-224")


def link(name, target, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_link(name, target):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info, target


def patched(content, local, central, value):
    """Return a zip in which a field of two bytes is another, in both kinds of header."""
    for magic, place in ((b"PK\3\4", local), (b"PK\1\2", central)):
        pieces = content.split(magic)
        pieces[1:] = [p[: place - 4] + value + p[place - 2 :] for p in pieces[1:]]
        content = magic.join(pieces)
    return content


EVIL = {
    "tar, parent": lambda: tar(files() | {f"{NAME}/../../escaped": b"!"}),
    "tar, absolute": lambda: tar(files() | {"/escaped-from-a-test": b"!"}),
    "tar, symbolic link": lambda: tar(files(), link(f"{NAME}/out", "../..", tarfile.SYMTYPE)),
    "tar, hard link": lambda: tar(files(), link(f"{NAME}/out", "/etc/passwd", tarfile.LNKTYPE)),
    "tar, device": lambda: tar(files(), link(f"{NAME}/out", "", tarfile.CHRTYPE)),
    "zip, parent": lambda: zipped(files() | {f"{NAME}/../../escaped": b"!"}),
    "zip, absolute": lambda: zipped(files() | {"/escaped-from-a-test": b"!"}),
    "zip, backslashes": lambda: zipped(files() | {f"{NAME}\\..\\..\\escaped": b"!"}),
    "zip, symbolic link": lambda: zipped(files(), zip_link(f"{NAME}/out", "../..")),
    "no archive": lambda: b"PK\x03\x04, and nothing more",
    "half a tar": lambda: tar(files())[:200_000],
    "another folder": lambda: tar(files("other")),
    "an image less": lambda: tar(dict(list(files().items())[1:])),
    "a file and a folder of one name": lambda: tar(files() | {f"{NAME}/train": b"!"}),
    "a name too long": lambda: tar(files() | {f"{NAME}/{'x' * 300}": b"!"}),
    "an xz that is none": lambda: b"\xfd7zXZ\0" + bytes(200),
    "a zip with a password": lambda: patched(zipped(files()), 6, 8, b"\1\0"),
    "a zip of another kind": lambda: patched(zipped(files()), 8, 10, b"\x63\0"),
}


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL.keys())
def test_an_archive_that_leads_out_or_is_none_leaves_nothing(server, evil):
    server.content = evil()
    with pytest.raises(ValueError):
        data.fetch(server.entry())
    assert left() == [f"{NAME}.useless"]
    assert not list(paths.cache().rglob("escaped*"))
    asked = len(server.asked)
    with pytest.raises(ValueError, match=r"fetched before .*delete .*useless"):
        data.fetch(server.entry())
    assert len(server.asked) == asked  # a right archive that is no use is not fetched again


def test_a_full_disk_is_said_before_the_download(server, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 100))
    with pytest.raises(OSError, match="MiB are free"):
        data.fetch(server.entry())
    assert server.asked == []


def test_what_a_killed_process_unpacked_is_cleared_away(server):
    stale = paths.cache() / "data" / f"{NAME}.partial" / NAME / "stale"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"half")
    assert whole(data.fetch(server.entry())) and left() == [NAME]


def test_two_processes_get_one_download(server):
    code = f"from ilsvrc import data; print(data.fetch(data.{server.entry()!r}))"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=-1, text=True) for _ in range(2)]
    folders = {process.communicate(timeout=60)[0].strip() for process in both}
    assert folders == {str(paths.cache() / "data" / NAME)}
    assert server.asked == [None]
