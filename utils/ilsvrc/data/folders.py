"""What images lie in a folder, and of which class: folders of class folders, and Tiny ImageNet."""

import hashlib
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from .catalogue import IMAGENETTE_CLASSES

ANNOTATIONS = "val_annotations.txt"  # of Tiny ImageNet: a line a validation image
VAL_SHARE = 0.2  # where a folder brings no split of its own
SPLITS = {  # what people call train/ and val/
    **dict.fromkeys(["train", "training", "trainset", "train_set"], "train"),
    **dict.fromkeys(["val", "valid", "validation", "validate", "dev", "eval"], "val"),
}
NO_PICTURES = {  # what lies beside pictures and is none: no word is lost on it
    *(".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".db", ".ini"),
    *(".py", ".ipynb", ".log", ".npy", ".mat", ".lock", ".pdf", ".sha256", ".md5"),
    *(".zip", ".tar", ".gz", ".tgz", ".part", ".crdownload", ".mp4", ".mov"),
}


@dataclass(frozen=True)
class Listing:
    """The image files of a data set.

    Attributes:
        root: the folder that all paths start from.
        class_ids: the class folders' names, in the order of the labels.
        class_names: the classes' human-readable names, in the same order.
        train: (path relative to root, label) of the training images.
        val: the same for the validation images.
    """

    root: Path
    class_ids: list[str]
    class_names: list[str]
    train: list[tuple[str, int]]
    val: list[tuple[str, int]]


def scan(root: Path) -> Listing:
    """List a data set: Tiny ImageNet's layout, ``train/`` and ``val/``, or class folders alone.

    Class folders without a split are split here: a fifth of each class, chosen by the files' names
    alone, is for validation.

    Raises:
        ValueError: when there is no usable data set; the message says what is missing.
    """
    if (root / "val" / ANNOTATIONS).is_file() and _folders(root / "val") == ["images"]:
        listing = _scan_tiny(root)
    elif (root / "train").is_dir() or (root / "val").is_dir():
        listing = _scan_split(root)
    else:
        _refuse_other_splits(root)
        _refuse_deeper(root)
        listing = _scan_classes(root)
    _refuse_twice(root, listing)
    for split, files in [("training", listing.train), ("validation", listing.val)]:
        counts = dict.fromkeys(range(len(listing.class_ids)), 0)
        for _, label in files:
            counts[label] += 1
        _refuse_empty(root, split, {listing.class_ids[label]: n for label, n in counts.items()})
    return listing


def image_files(root: Path) -> list[Path]:
    """Return the labelled image files of a data set; none where its layout is broken."""
    try:
        listing = scan(root)
    except ValueError:
        return []
    return [root / path for path, _ in listing.train + listing.val]


def _refuse_empty(root: Path, split: str, counts: dict[str, int]) -> None:
    """Raise a ValueError that names the classes without an image in a split."""
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise ValueError(
            f"{root}: no {split} image in {_few(empty)}. Each class needs at least one image to "
            "train on and one to validate on: add images, or take the class folder away."
        )


def _refuse_twice(root: Path, listing: Listing) -> None:
    """Raise a ValueError where two folders of images are one, by a link."""
    folders = sorted({path.rpartition("/")[0] for path, _ in listing.train + listing.val})
    seen = {}
    for folder in folders:
        other = seen.setdefault(os.path.realpath(root / folder), folder)
        if other != folder:
            raise ValueError(
                f"{root}: {shown(other)} and {shown(folder)} are one folder, by a link, so its "
                "images would count twice. Take the link away, and give each its own images."
            )


def _refuse_other_splits(root: Path) -> None:
    """Raise a ValueError where class folders are splits under other names."""
    meant = {name: SPLITS[name.lower()] for name in _folders(root) if name.lower() in SPLITS}
    wrong = any(name != split for name, split in meant.items())
    if wrong and (len(set(meant.values())) == 2 or len(meant) == len(_folders(root))):
        renamed = ", ".join(f"{n} to {split}" for n, split in sorted(meant.items()) if n != split)
        raise ValueError(
            f"{root}: folders with these names are no classes. A split is called train and val, in "
            f"small letters: rename {renamed}."
        )
    tops = _folders(root)
    inside = {tuple(_folders(root / name)) for name in tops}
    if len(tops) > 1 and len(inside) == 1 and inside != {()}:
        raise ValueError(
            f"{root}: {_few(tops)} hold the same folders, {_few(list(*inside))}, so they are "
            "splits. Rename the one to train on to train, and the one to test on to val."
        )


def _refuse_deeper(root: Path) -> None:
    """Raise a ValueError where all lies within a lone folder, as archives are unpacked."""
    deeper = root
    while len(inner := _folders(deeper)) == 1:
        deeper = deeper / inner[0]
    if inner and deeper != root:
        raise ValueError(
            f"{root} holds one folder alone, and the folders {_few(inner)} are deeper: give "
            f"path={str(deeper)!r}."
        )


def _scan_split(root: Path) -> Listing:
    for split in ("train", "val"):
        if not (root / split).is_dir():
            _refuse_other_splits(root)
            _refuse_half(root, split)
    class_ids = _class_ids(root / "train")
    strangers = sorted(set(_folders(root / "val")) - set(class_ids))
    if strangers:
        twins = {_plain(name): name for name in class_ids}
        twin = twins.get(_plain(strangers[0]))
        other = "" if twin is None else f" Rename {strangers[0]!a} to {twin!a}."
        raise ValueError(
            f"{root / 'val'}: {_few(strangers)} has no folder of its name in train/.{other}"
        )
    train, val = (
        [
            (path, label)
            for label, name in enumerate(class_ids)
            for path in _files(root, f"{split}/{name}")
        ]
        for split in ("train", "val")
    )
    return Listing(root, class_ids, _names(class_ids, IMAGENETTE_CLASSES), train, val)


def _refuse_half(root: Path, split: str) -> None:
    raise ValueError(
        f"{root} has no folder {split!r}. A data set is either train/ and val/ with one "
        "folder a class in each, or class folders alone, which are then split here."
    )


def _scan_classes(root: Path) -> Listing:
    class_ids = _class_ids(root)
    train, val = [], []
    for label, name in enumerate(class_ids):
        files = _files(root, name)
        drawn = sorted(files, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())
        held_out = set(drawn[: max(1, round(VAL_SHARE * len(files)))])
        train += [(path, label) for path in files if path not in held_out]
        val += [(path, label) for path in files if path in held_out]
    return Listing(root, class_ids, _names(class_ids, IMAGENETTE_CLASSES), train, val)


def _scan_tiny(root: Path) -> Listing:
    if not (root / "train").is_dir():
        _refuse_half(root, "train")
    class_ids = _class_ids(root / "train")
    labels = {name: label for label, name in enumerate(class_ids)}
    train = [(path, labels[name]) for name in class_ids for path in _files(root, f"train/{name}")]
    annotated = _annotations(root / "val" / ANNOTATIONS)
    val = []
    for path in _files(root, "val/images"):
        name = annotated.get(path.removeprefix("val/images/"))
        if name not in labels:
            said = f"says {name!r}, which train/ has not" if name else "does not say"
            raise ValueError(
                f"{root / 'val' / ANNOTATIONS}: of which class {path} is, it {said}. Unpack the "
                "archive again, or take the image away."
            )
        val.append((path, labels[name]))
    val.sort(key=lambda item: (item[1], item[0]))
    names = {}
    if (root / "words.txt").is_file():
        for line in (root / "words.txt").read_text("utf-8", "replace").splitlines():
            name, _, words = line.partition("\t")
            names[name] = words.split(",")[0]
    return Listing(root, class_ids, _names(class_ids, names), train, val)


def _annotations(file: Path) -> dict[str, str]:
    """Return the class of each validation image of Tiny ImageNet by its name.

    Raises:
        ValueError: A line is none of the format's, or names another class than one before.
    """
    found = {}
    for number, line in enumerate(file.read_text("utf-8-sig", "replace").splitlines(), 1):
        name, *rest = line.rstrip().split("\t")
        if name and (not rest or found.setdefault(name, rest[0]) != rest[0]):
            raise ValueError(
                f"{file}, line {number}: {line[:60]!r} is no image, a tab and its one class. "
                "Unpack the archive again."
            )
    return found


def _class_ids(folder: Path) -> list[str]:
    class_ids = _folders(folder)
    if len(class_ids) < 2:
        found = f"only {class_ids[0]!r}" if class_ids else "none"
        raise ValueError(
            f"{folder} needs at least two class folders, and has {found}. Put the images of each "
            "class into a folder of their own."
        )
    return class_ids


def _names(class_ids: list[str], known: dict[str, str]) -> list[str]:
    """Return the classes' names for people; where two have one, with the folders'."""
    names = [known.get(one, one) for one in class_ids]
    return [
        f"{name} ({one})" if names.count(name) > 1 and name != one else name
        for name, one in zip(names, class_ids, strict=True)
    ]


def _closed(error: OSError) -> None:
    if isinstance(error, PermissionError):
        raise ValueError(
            f"{error.filename} cannot be opened ({error.strerror}): let it be read, or take it "
            "away."
        ) from error


def _folders(folder: Path) -> list[str]:
    """Return the names of a folder's folders, sorted; a link may be one.

    Raises:
        ValueError: it cannot be opened, or a link leads nowhere.
    """
    _, inner, names = next(os.walk(folder, onerror=_closed), (folder, [], []))
    found = sorted(name for name in inner + names if not _hidden(name))
    lost = [name for name in found if not ((folder / name).exists() or Path(name).suffix)]
    if lost:  # and no picture's name, which would be left out here
        raise ValueError(f"{folder / lost[0]} is a link that leads nowhere: mend it or delete it.")
    return [name for name in found if (folder / name).is_dir()]


def _files(root: Path, below: str) -> list[str]:
    """Return every file below a folder of `root` that may be a picture: sorted, relative.

    Hidden files, and all that lies in a hidden folder (as Jupyter's checkpoints do), are left out.
    """
    found = []
    for folder, inner, names in os.walk(root / below, onerror=_closed):
        inner[:] = [name for name in inner if not _hidden(name)]
        for name in inner:
            if os.path.islink(os.path.join(folder, name)):
                raise ValueError(
                    f"{os.path.join(folder, name)} is a link to a folder within a class, which is "
                    "not followed: put the images there, or make the class folder itself a link."
                )
        relative = Path(folder).relative_to(root).as_posix()
        found += [
            f"{relative}/{name}"
            for name in names
            if not _hidden(name) and os.path.splitext(name)[1].lower() not in NO_PICTURES
        ]
    return sorted(found)


# What systems put beside pictures: archives of a Mac, a Synology's previews, Windows, ext4.
SYSTEMS = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"}
SYSTEMS |= {"lost+found"}


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in SYSTEMS


def _plain(name: str) -> str:
    """Return a name without what the eye passes over: capitals, ways to write an accent, spaces."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def shown(name: str) -> str:
    """Return a name that can be printed: line breaks and colours of a terminal are spelled out."""
    return name if name.isprintable() else ascii(name)


def _few(names: list[str], most: int = 5) -> str:
    return ", ".join(map(shown, names[:most])) + (
        f" and {len(names) - most} more" if len(names) > most else ""
    )
