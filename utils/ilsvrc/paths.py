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
    """Return the user's cache folder for decoded images, downloads and own runs (not created).

    Raises:
        FileNotFoundError: ``XDG_CACHE_HOME`` is no absolute path, or this account has no home.
    """
    named = _named("XDG_CACHE_HOME", "/data/cache")
    found = named / "ilsvrc" if named else platformdirs.user_cache_path("ilsvrc")
    if not found.is_absolute():  # it would be another folder wherever a notebook lies
        raise FileNotFoundError(
            f"The cache would be {str(found)!r}, no path from the root: set XDG_CACHE_HOME to a "
            "whole one, such as /data/cache"
        )
    return found


def runs() -> Path:
    """Return the folder for one's own trainings (not created): ``ILSVRC_RUNS``, else the cache's.

    Raises:
        FileNotFoundError: ``ILSVRC_RUNS`` is no absolute path, or there is no such home.
    """
    return _named("ILSVRC_RUNS", "/content/drive/MyDrive/ilsvrc") or cache() / "runs"


def arrays() -> Path | None:
    """Return the folder of decoded images that ``ILSVRC_ARRAYS`` names, for all users, or None.

    Raises:
        FileNotFoundError: It is no absolute path, or there is no such folder.
    """
    folder = _named("ILSVRC_ARRAYS", "/srv/ilsvrc/arrays")
    if folder and not folder.is_dir():
        raise FileNotFoundError(
            f"ILSVRC_ARRAYS names {str(folder)!r}, and there is no such folder. Whoever runs this "
            f"machine makes it (mkdir -p {folder}) and fills it (ilsvrc data decode). Unset it to "
            "decode the images for yourself."
        )
    return folder


def _named(variable: str, such_as: str) -> Path | None:
    """Return the folder that an environment variable names, or None where it is empty."""
    named = os.environ.get(variable, "").strip()
    if not named:
        return None
    found = expanded(named, variable)
    if not found.is_absolute():
        raise FileNotFoundError(
            f"{variable} is {named!r}, no path from the root: set it to a whole one, such as "
            f"{such_as}"
        )
    return found


def expanded(path: str | os.PathLike, named: str) -> Path:
    """Return a path that a user gave, "~" resolved.

    Args:
        path: It, whether it is there or not.
        named: What the user calls it, such as "path=".

    Raises:
        FileNotFoundError: There is no such home.
        ValueError: It is no path, or an empty one.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise ValueError(f"{named} is {path!r}: give the path of a folder.")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(
            f"{named} is {os.fspath(path)!r}, and there is no such home. Give the whole path."
        ) from error


def data_folder() -> Path | None:
    """Return the folder that the environment variable ``ILSVRC_DATA`` names, or None.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    named = os.environ.get("ILSVRC_DATA")
    if not named:
        return None
    folder = expanded(named, "ILSVRC_DATA")
    if not folder.is_dir():
        raise FileNotFoundError(
            f"ILSVRC_DATA names {named!r}, and there is no such folder. Set it to the folder that "
            "holds your data sets, or unset it."
        )
    return folder
