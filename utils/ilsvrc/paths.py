"""Where things are: the course's own folder and the user's cache."""

import os
from pathlib import Path

import platformdirs

ROOT = (
    Path(__file__).resolve().parents[2]
)  # the repository: the course is installed in place (pip install -e)
CHAPTERS = ROOT / "chapters"
CONTENTS = ROOT / "_toc.yml"  # the order of the course
SETTINGS = ROOT / "_config.yml"  # the book's; a fork sets its own address there alone
RESULTS = ROOT / "results"


def record(chapter: str, run: str) -> Path:
    """Return the place of a published record, whether it is there or not."""
    return RESULTS / chapter / f"{run}.json"


def cache() -> Path:
    """Return the user's cache folder for decoded images, downloads and own runs (not created)."""
    return platformdirs.user_cache_path("ilsvrc")


def data_folder() -> Path | None:
    """Return the folder that the environment variable ``ILSVRC_DATA`` names, or None.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    named = os.environ.get("ILSVRC_DATA")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"ILSVRC_DATA names {named!r}, and there is no such folder. Set it to the folder that "
            "holds your data sets, or unset it."
        )
    return folder
