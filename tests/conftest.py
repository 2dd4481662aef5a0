"""What tests share: a backend, a cache of their own, images where there are some, a browser."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # one arithmetic in all processes
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import gc
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REAL = Path(os.environ["ILSVRC_DATA"]) if os.environ.get("ILSVRC_DATA") else None
CHROMIUM = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Give each test an empty user cache and no data folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    for name in ("ILSVRC_ARRAYS", "ILSVRC_DATA", "ILSVRC_PROFILE", "ILSVRC_RUNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def counted():
    """Give the weights that a test builds shapes and no values: it counts and runs no network."""
    from networks import counting

    with counting():
        yield


@pytest.fixture
def drawn_once(monkeypatch):
    """Start a test's networks from numbers drawn once: it gives them others, or any will do."""
    import keras

    from networks import drawn

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", drawn)


def pytest_collection_finish():
    """Let Python look for garbage among what tests make, not in the frameworks each time anew."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def freed():
    """Free the networks of a test that took its time; Python would look for them much later."""
    began = time.monotonic()
    yield
    if time.monotonic() - began > 0.1:
        gc.collect()


@pytest.fixture
def tiny_course(tmp_path, monkeypatch):
    """Put one small chapter and an empty checkout in place of the course; return its folder."""
    from ilsvrc import chapters, paths
    from networks import TINY

    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "2099_tiny.md").write_text(TINY)
    monkeypatch.setattr(paths, "CHAPTERS", tmp_path / "chapters")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    chapters.chapter.cache_clear()
    yield tmp_path
    chapters.chapter.cache_clear()


@pytest.fixture
def small_disk(tmp_path):
    """Return the folder of a real disk of half a megabyte, or skip where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted: that takes Linux and its administrator")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def real_imagenette(monkeypatch):
    """Return the folder of a real Imagenette, with ``ILSVRC_DATA`` set to its parent, or skip."""
    names = ["imagenette2-224", "imagenette2-160", "imagenette2-320", "imagenette2"]
    found = [REAL / name for name in names if REAL and (REAL / name).is_dir()]
    if not found:
        pytest.skip("no real Imagenette: set ILSVRC_DATA to a folder that holds imagenette2-224")
    monkeypatch.setenv("ILSVRC_DATA", str(REAL))
    return found[0]


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Return a function that gives a chapter's definitions with one piece of its source changed."""
    from ilsvrc import chapters, paths

    course = paths.CHAPTERS

    def plant(name, right, wrong):
        for file in course.glob("*.md"):
            shutil.copy(file, tmp_path)
        source = (course / f"{name}.md").read_text(encoding="utf-8")
        assert right in source
        changed = source.replace(right, wrong)
        (tmp_path / "planted.md").write_text(changed, encoding="utf-8")
        monkeypatch.setattr(paths, "CHAPTERS", tmp_path)
        chapters.chapter.cache_clear()
        return chapters.chapter("planted")

    yield plant
    chapters.chapter.cache_clear()


@pytest.fixture
def displayed(monkeypatch):
    """Return a list that gathers the HTML or Markdown of what a page displays."""
    from ilsvrc import page

    shown = []
    monkeypatch.setattr(page, "display", lambda thing: shown.append(getattr(thing, "data", thing)))
    return shown


@contextmanager
def chromium(folder):
    """Start a headless Chromium that can reach nothing but this machine; it lives in `folder`."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        if os.environ.get("CI"):
            pytest.fail("CI has no Chromium: install chromium and chromium-driver")
        pytest.skip("no Chromium here: install chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in [*CHROMIUM, f"--user-data-dir={folder}"]:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.set_script_timeout(60)
    browser.get("about:blank")  # Chromium's own first page is gone, and its requests with it
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Return a browser for the tests of a module."""
    with chromium(tmp_path_factory.mktemp("chromium")) as one:
        yield one


@pytest.fixture
def own_browser(tmp_path):
    """Return a browser for one test, as each student has one."""
    with chromium(tmp_path / "chromium") as one:
        yield one


@pytest.fixture(scope="module")
def serve():
    """Return a function that serves a folder on this machine and gives its address."""
    servers = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    def start(folder):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
