"""What a run would use here, and what is wrong: the report of `ilsvrc doctor`."""

import os
import platform
import re
import shutil
import sys
import tomllib

from ilsvrc import backend, data, files, install, paths, profiles

LEAST_MEMORY, LEAST_DISK = 4 * 2**30, 2 * 2**30  # bytes


def report() -> tuple[list[tuple[str, str]], list[str]]:
    """Examine this machine.

    Returns:
        What is here, as (what, value) lines, and what is wrong or in the way, a sentence each that
        says which command mends it.
    """
    lines, wrong = [], []
    for part in (_python, _packages, _device, _memory, _cache, _data, _arrays):
        part(lines, wrong)
    return lines, list(dict.fromkeys(wrong))  # a cache that cannot be is met twice


def _python(lines, wrong) -> None:
    lines.append(("python", f"{platform.python_version()} on {platform.platform()}"))
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        wrong.append("The course is tested on Python 3.11 to 3.13: make PYTHON=python3.12 setup")


def _packages(lines, wrong) -> None:
    lines.append(("versions", ", ".join(f"{k} {v}" for k, v in backend.versions().items())))
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in project["dependencies"]:
        name = re.match(r"[\w.-]+", requirement)[0]
        if not install.installed(name):
            wrong.append(f"{name} is missing: pip install '{requirement}'")
        elif old := install.too_old(requirement):
            wrong.append(f"{name} {old} is too old: pip install '{requirement}'")


def _device(lines, wrong) -> None:
    lines.append(("device", backend.device()))
    driver = backend.driver()
    if driver:
        lines.append(("driver", f"NVIDIA {driver}"))
    if driver and backend.on_cpu():
        wrong.append(
            f"There is an NVIDIA GPU, and {backend.name()} does not see it: its build has no CUDA, "
            "or the driver is too old for it. On your own machine: make setup GPU=1"
        )
    try:
        lines.append(("profile", profiles.profile().name))
        if profiles.profile().name == "gpu" and backend.on_cpu():
            wrong.append("ILSVRC_PROFILE is gpu, and there is none: unset it, or take laptop")
    except ValueError as error:
        wrong.append(str(error))


def _memory(lines, wrong) -> None:
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return
    lines.append(("memory", f"{memory / 2**30:.0f} GiB"))
    if memory < LEAST_MEMORY:
        wrong.append("A chapter takes 2 to 4 GiB of memory: run one at a time, at profile smoke")


def _cache(lines, wrong) -> None:
    try:
        cache = paths.cache()
        lines.append(("cache", str(cache)))
        files.writable(cache)
        lines.append(("own runs", str(paths.runs())))
        files.writable(paths.runs(), "ILSVRC_RUNS", "Set it to a folder that you can write to.")
        free = shutil.disk_usage(cache).free
        lines.append(("disk", f"{free / 2**30:.0f} GiB free for the cache"))
        if free < LEAST_DISK:
            wrong.append(
                "Decoded images take 0.2 to 8 GiB: make room, or set XDG_CACHE_HOME to a folder on "
                "a larger disk"
            )
    except OSError as error:
        wrong.append(str(error))


def _data(lines, wrong) -> None:
    try:
        lines.append(("data", str(paths.data_folder() or "ILSVRC_DATA is not set")))
        rows = [row for row in data.status() if row["where"]]
    except OSError as error:
        wrong.append(str(error))
        return
    for row in rows:
        lines.append(("images", f"{row['name']}, {row['images']:,} images, {row['where']}"))
        if not row["whole"]:
            wrong.append(f"{row['where']} is not whole: take it away and unpack the archive again")
    if not any(row["name"].startswith("imagenette") for row in rows):
        lines.append(("images", "no Imagenette: ilsvrc data fetch imagenette2-160 (99 MB)"))
        if paths.data_folder():
            wrong.append("ILSVRC_DATA names a folder without Imagenette: set it anew, or unset it")


def _arrays(lines, wrong) -> None:
    try:
        folder, held = paths.arrays(), data.shared()
    except OSError as error:
        wrong.append(str(error))
        return
    if not folder:
        lines.append(("arrays", "ILSVRC_ARRAYS is not set: each user decodes the images alone"))
        return
    for name, sizes in held.items():
        fit = ", ".join(f"{size}" for size in sizes if sizes[size]) or "none"
        lines.append(("arrays", f"{folder}, {name} at sides (px): {fit}"))
        if sizes and not any(sizes.values()):
            wrong.append(
                f"{folder} holds {name} as decoded from other files, or before these were copied "
                "here: set ILSVRC_DATA for all to the one folder, or decode anew, "
                "ilsvrc data decode --profile laptop"
            )
    if not any(held.values()):
        wrong.append(
            f"ILSVRC_ARRAYS names {folder}, which holds nothing of the images here, so each user "
            "decodes them alone. Whoever runs this machine fills it: "
            "ilsvrc data decode --profile laptop"
        )
