"""Which framework Keras runs on: the one that is asked for, where it is here, or what is here."""

import importlib.util
import json
import os
import sys
from pathlib import Path

from ilsvrc.hints import did_you_mean

FRAMEWORKS = ("tensorflow", "jax", "torch")
# oneDNN's kernels: TensorFlow takes them unasked on newer processors alone; on an older one, too,
# most of the course's networks train faster by them, up to 1.5 times (`benchmarks/onednn.py`).
KERNELS = "TF_ENABLE_ONEDNN_OPTS"


def choose() -> None:
    """Refuse a backend of Keras that is not here, and take JAX where TensorFlow is missing.

    Where nothing is said of oneDNN and it is not too late, TensorFlow is to compute with it. No
    framework is imported.

    Raises:
        ValueError: ``KERAS_BACKEND``, or Keras' own file, names a backend that is not here, or
            Keras runs on another one already; the message says what to set.
    """
    asked, named = os.environ.get("KERAS_BACKEND"), "KERAS_BACKEND"
    if "keras" in sys.modules:
        _refuse_another(asked)
        return
    os.environ.setdefault(KERNELS, "1")
    here = [name for name in FRAMEWORKS if importlib.util.find_spec(name)]
    if not asked:
        file = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"
        asked, named = _written(file), f"The backend in {file}"
        if asked in (None, "tensorflow"):  # which Keras writes there unasked
            if "tensorflow" not in here and "jax" in here:
                os.environ["KERAS_BACKEND"] = "jax"
            return
    if asked not in here:
        raise ValueError(
            f"{named} is {asked!r}, and no such backend is installed."
            f"{did_you_mean(str(asked).lower(), here)} "
            f"Here are: {', '.join(here) or 'none'}. Set KERAS_BACKEND to one of these, before "
            "anything imports Keras."
        )


def _refuse_another(asked: str | None) -> None:
    """Raise a ValueError where Keras was imported before it was told what to run on."""
    running = sys.modules["keras"].backend.backend()
    if asked and asked != running:
        raise ValueError(
            f"KERAS_BACKEND is {asked!r}, and Keras runs on {running!r} already: restart the "
            "kernel, and set it before anything imports Keras."
        )


def _written(file: Path) -> str | None:
    """Return the backend that Keras' own file names, or None."""
    try:
        return json.loads(file.read_text(encoding="utf-8")).get("backend")
    except (OSError, ValueError, AttributeError):  # Keras passes over it, too
        return None
