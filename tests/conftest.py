"""What every test shares: a backend, a cache of its own, and real images where there are some."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from pathlib import Path

import pytest

REAL = Path(os.environ["ILSVRC_DATA"]) if os.environ.get("ILSVRC_DATA") else None


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Give each test an empty user cache and no data folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("ILSVRC_DATA", raising=False)
    monkeypatch.delenv("ILSVRC_PROFILE", raising=False)


@pytest.fixture
def real_imagenette(monkeypatch):
    """Return the folder of a real Imagenette, with ``ILSVRC_DATA`` set to its parent, or skip."""
    names = ["imagenette2-224", "imagenette2-160", "imagenette2-320", "imagenette2"]
    found = [REAL / name for name in names if REAL and (REAL / name).is_dir()]
    if not found:
        pytest.skip("no real Imagenette: set ILSVRC_DATA to a folder that holds imagenette2-224")
    monkeypatch.setenv("ILSVRC_DATA", str(REAL))
    return found[0]
