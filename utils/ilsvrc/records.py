"""Published runs: one JSON record and one file of arrays a run, in `<folder>/<chapter>/`."""

import hashlib
import io
import json
import os
import tempfile
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Record:
    """A run: what was run, on what, how, where, what it cost and what came out.

    Attributes:
        facts: The JSON record, a dict; `record["top1"]` reads from it.
        arrays: Name -> array. Every record has `labels` (images,) and `answers` (seeds, images),
            or the `probabilities` (seeds, images, classes) that these can be told from; a headline
            run `filters` (epochs, height, width, channels, maps) with `filter_epochs` too, and
            what its page's pictures need.
    """

    facts: dict
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, name):
        return self.facts[name]

    @property
    def title(self) -> str:
        """Return one line for a caption: network, data, size, device, date."""
        f = self.facts
        return (
            f"{f['network']['name']} on {f['data']['title']} at {f['data']['size']} px, "
            f"{f['recipe']['epochs']} epochs, {f['backend']['name']} on {f['device']['name']}, "
            f"{f['date']}"
        )

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Return what `weights.kept` put in: "<layer>/<weight>" -> float32."""
        kept = {
            n.removeprefix("weights/"): a
            for n, a in self.arrays.items()
            if n.startswith("weights/")
        }
        scales = {name: self.arrays.get(f"scales/{name}", 1) for name in kept}
        return {name: kept[name].astype("float32") * scales[name] for name in kept}

    @property
    def filters(self) -> dict[int, np.ndarray]:
        """Return the first convolution's kernel by epoch, float32."""
        kernels = self.arrays["filters"].astype("float32")
        return dict(zip(map(int, self.arrays["filter_epochs"]), kernels, strict=True))

    @property
    def answers(self) -> np.ndarray:
        """Return the class that each seed gives each validation image, (seeds, images), uint8."""
        if "answers" in self.arrays:
            return self.arrays["answers"]
        return self.arrays["probabilities"].argmax(axis=-1).astype("uint8")

    def by_epoch(self, metric: str) -> np.ndarray:
        """Return a metric of the history, such as "val_accuracy", (seeds, epochs)."""
        return np.array([one["history"][metric] for one in self["seeds"]])


def scores(labels: np.ndarray, probabilities: np.ndarray) -> dict:
    """Return top-1 accuracy, its value for each class and, beyond ten classes, top-5, all in 0..1.

    Args:
        labels: (images,) of integers.
        probabilities: (images, classes).
    """
    right = probabilities.argmax(axis=1) == labels
    classes = range(probabilities.shape[1])
    found = {
        "top1": float(right.mean()),
        "per_class": [
            float(right[labels == c].mean()) if (labels == c).any() else None for c in classes
        ],
    }
    if probabilities.shape[1] > 10:
        best = np.argsort(-probabilities, axis=1)[:, :5]
        found["top5"] = float((best == labels[:, None]).any(axis=1).mean())
    return found


def spread(values) -> float | None:
    """Return the sample standard deviation over seeds, or None for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


# Comparing


def compare(one: Record, other: Record) -> dict:
    """Compare two runs image by image, as a claim of a paper asks.

    Each image gives one difference, averaged over seeds; each seed one, averaged over images. The
    error of the mean difference adds, in squares, what images and seeds each leave uncertain.

    Returns:
        A row for a table, as `verdict` gives it: by how many points of top-1 accuracy on the
        validation images `one` is better.

    Raises:
        ValueError: The runs were tested on different images, or with different numbers of seeds.
    """
    labels = [run.arrays["labels"] for run in (one, other)]
    if not np.array_equal(*labels) or len(one.answers) != len(other.answers):
        raise ValueError(
            f"The runs {one['run']!r} and {other['run']!r} cannot be compared image by image: "
            "they were tested on other images, or with another number of seeds. Train both with "
            "the same profile."
        )
    right = [(run.answers == labels[0]).astype(float) for run in (one, other)]
    gain = right[0] - right[1]  # (seeds, images)
    return verdict(gain.mean(), [gain.mean(axis=1), gain.mean(axis=0)])


def compare_training(one: Record, other: Record) -> dict:
    """Compare two runs by their training accuracy in the last epoch, for claims about training.

    Returns:
        A row for a table, as `verdict` gives it: by how many points `one` has the lower training
        error. A seed of one run has nothing to do with the same seed of the other.
    """
    ends = [run.by_epoch("accuracy")[:, -1] for run in (one, other)]
    return verdict(ends[0].mean() - ends[1].mean(), ends)


def verdict(gain: float, samples: list[np.ndarray]) -> dict:
    """Say whether a difference can be told from chance, by Student's t (Welch's for two samples).

    Args:
        gain: The mean difference, in 0..1.
        samples: Independent samples whose means' errors add, in squares, to that of the gain; the
            first has a value a seed.

    Returns:
        A row for a table: "here (points)"; "spread", the standard deviation over the seeds of
        what the first sample holds, in points; "smallest to be seen", the error of the gain times
        Student's t for 95 %; "seeds"; and the "verdict": "holds", "the opposite", or "too small to
        see here" for a difference below that or a single seed.
    """
    seeds, smallest = len(samples[0]), np.nan
    if seeds > 1:
        from scipy import stats

        parts = np.array([np.var(sample, ddof=1) / len(sample) for sample in samples])
        each = parts**2 / [len(sample) - 1 for sample in samples]
        freedom = parts.sum() ** 2 / max(each.sum(), 1e-30)  # Welch and Satterthwaite
        smallest = stats.t.ppf(0.975, max(freedom, 1)) * parts.sum() ** 0.5
    word = "holds" if gain > 0 else "the opposite"
    return {
        "here (points)": 100 * gain,
        "spread": 100 * np.std(samples[0], ddof=1) if seeds > 1 else np.nan,
        "smallest to be seen": 100 * smallest,
        "seeds": seeds,
        "verdict": word if abs(gain) >= smallest else "too small to see here",
    }


# Reading and writing


def write_whole(path: Path, write) -> None:
    """Write a file whole or not at all: under another name, onto the disk, then under its own.

    Args:
        path: Its folder is made if it is not there.
        write: A function of the file, opened for bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def write(record: Record, folder: Path) -> Path:
    """Write a record to `<folder>/<chapter>/<run>.json`, its arrays beside it; return the path."""
    path = folder / record["chapter"] / f"{record['run']}.json"
    content = io.BytesIO()
    np.savez_compressed(content, **{name: plain(a) for name, a in record.arrays.items()})
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    text = json.dumps(record.facts | {"arrays": digest}, indent=1, ensure_ascii=False) + "\n"
    write_whole(path.with_suffix(".npz"), lambda file: file.write(content.getvalue()))
    write_whole(path, lambda file: file.write(text.encode()))
    return path


def plain(array: np.ndarray) -> np.ndarray:
    """Return an array as NumPy's files can hold it: of bfloat16 they would keep bare bytes."""
    return array.astype("float32") if array.dtype.kind == "V" else array


def read(path: Path) -> Record | None:
    """Read a record and its arrays; None where there is no such record.

    Raises:
        ValueError: The record is damaged or none of the course's; the message names the file and
            says what to do.
    """
    if not path.exists():
        return None
    try:
        facts = _checked(json.loads(path.read_text(encoding="utf-8")))
        if (facts["chapter"], facts["run"]) != (path.parent.name, path.stem):
            raise ValueError(f"it is that of {facts['chapter']}/{facts['run']}")
        content = path.with_suffix(".npz").read_bytes()
        if hashlib.sha256(content).hexdigest() != facts.pop("arrays"):
            raise ValueError("its arrays are not those it was written with")
        with np.load(io.BytesIO(content)) as kept:
            arrays = {name: kept[name] for name in kept.files}
    except (
        *(ValueError, TypeError, AttributeError, OSError, zipfile.BadZipFile),
        *(RecursionError, MemoryError),  # nested without end, arrays that claim terabytes
    ) as error:
        raise ValueError(
            f"The record {path} cannot be used: {error}. If it is the course's own, bring it back "
            f"with `git checkout -- {path.parent}`; else delete it and train the run again."
        ) from error
    return Record(facts, arrays)


NEEDED = {  # what every record holds, and of which kind
    **{"chapter": str, "run": str, "headline": bool, "date": str, "seeds": list, "arrays": str},
    **{"network.name": str, "network.parameters": int, "network.macs": (int, float)},
    **{"data.title": str, "data.size": int, "data.class_names": list, "data.digest": str},
    **{"data.squashed": bool, "data.standin": bool, "views.1": (int, float)},
    **{"recipe.epochs": int, "recipe.batch": int, "recipe.key": str, "recipe.profile": str},
    **{"backend.name": str, "device.name": str, "top1.mean": (int, float), "top1.seeds": int},
    **{"cost.seconds": (int, float)},
}


def _checked(facts) -> dict:
    """Return the facts of a record if they are of the right kinds and hold no markup.

    Pages show them as Markdown, in which braces are substituted and brackets link and include.

    Raises:
        ValueError: One is missing, of another kind, out of range, or could be read as markup.
    """
    if not isinstance(facts, dict):
        raise ValueError("it is no record")
    for place, kind in NEEDED.items():
        value = facts
        for name in place.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{place!r} is {value!r}")
        if kind in (int, (int, float)) and not 0 <= value < float("inf"):
            raise ValueError(f"{place!r} is {value!r}")
    for name, share in {"top1.mean": facts["top1"]["mean"], **facts["views"]}.items():
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(f"{name!r} is {share!r}")
    classes = facts["data"]["class_names"]
    if len(classes) < 2 or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"'data.class_names' is {classes!r}")
    for text in _texts(facts):
        if any(mark in text for mark in "<>`{}[]\\") or not text.isprintable():
            raise ValueError(f"{text!r} could be read as markup")
    return facts


def _texts(value):
    """Yield every text within a JSON value, the names of its members too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)


def all_of(folder: Path) -> list[Record]:
    """Return the records of a folder, by chapter and run; bad ones are named and left out."""
    found = []
    for path in sorted(folder.glob("*/*.json")):
        if path.name.startswith("."):
            continue
        try:
            record = read(path)
        except ValueError as error:
            warnings.warn(str(error), stacklevel=2)
        else:
            found += [record] if record else []  # none at the end of a link that leads nowhere
    return found


COLUMNS = {  # of the scoreboard: where a record holds them
    "chapter": "chapter",
    "run": "run",
    "network": "network.name",
    "parameters": "network.parameters",
    "MACs": "network.macs",
    "data": "data.title",
    "size": "data.size",
    "epochs": "recipe.epochs",
    "device": "device.name",
    "backend": "backend.name",
    "top1": "top1.mean",
    "spread": "top1.spread",
    "seeds": "top1.seeds",
    "seconds": "cost.seconds",
    "date": "date",
}


def scoreboard(folder: Path):
    """Return a folder's headline runs as a pandas DataFrame, one row a run, best first.

    Its columns are `COLUMNS`: size in px, top1 as accuracy in 0..1 (mean over seeds), seconds. A
    network that two rows have is followed by the run's name in brackets.
    """
    import pandas as pd

    table = pd.json_normalize([r.facts for r in all_of(folder) if r["headline"]])
    table = table.reindex(columns=list(COLUMNS.values())).set_axis(list(COLUMNS), axis=1)
    named = table.network.astype(str) + " (" + table.run.astype(str) + ")"
    table.network = table.network.where(~table.network.duplicated(keep=False), named)
    return table.sort_values("top1", ascending=False, ignore_index=True)
