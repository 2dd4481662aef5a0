"""Published runs: one JSON record and one file of arrays a run, under `results/<chapter>/`."""

import datetime
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ilsvrc import paths


@dataclass(frozen=True)
class Record:
    """A published run: what was run, on what, how, where, what it cost and what came out.

    Attributes:
        facts: The JSON record, a dict; `record["top1"]` reads from it.
        arrays: Name -> array: `filters` (epochs, height, width, channels, maps), `filter_epochs`,
            `probabilities` (images, classes) with `labels`, and what the chapter added.
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
    def filters(self) -> dict[int, np.ndarray]:
        """Return the first convolution's kernel by epoch, float32."""
        kernels = self.arrays["filters"].astype("float32")
        return dict(zip(map(int, self.arrays["filter_epochs"]), kernels, strict=True))


def commit() -> str | None:
    """Return the course's commit, with "+" where files were changed since, or None outside git."""
    git = ["git", "-C", str(paths.ROOT)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True
        )
        status = [*git, "status", "--porcelain", "--", "utils", "chapters"]
        changed = subprocess.run(status, capture_output=True, text=True)
    except OSError:
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "") or None


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


def make(plan, dataset, chapter: str, trained: list, views: dict[str, list[float]]) -> Record:
    """Make the record of a finished run.

    Args:
        plan: The run's `profiles.Plan`.
        dataset: The `data.Dataset` it was trained on.
        chapter: The chapter's name.
        trained: One `training.Trained` a seed.
        views: Test views ("1", "10") -> top-1 accuracy of each seed.
    """
    from ilsvrc import backend, ledger, training

    outcomes = [scores(dataset.y_val, one.probabilities) for one in trained]
    top1 = [outcome["top1"] for outcome in outcomes]
    seconds = sum(one.seconds for one in trained)
    seen = sum(len(one.history["loss"]) for one in trained) * (len(dataset.x_train) // plan.batch)
    ours, papers = ledger.totals(trained[0].model), ledger.totals(plan.run.build())
    facts = {
        "chapter": chapter,
        "run": plan.run.name,
        "claim": plan.run.claim,
        "headline": plan.run.headline,
        "network": {
            "name": plan.network,
            "options": {
                k: getattr(v, "__name__", v) for k, v in getattr(plan.build, "keywords", {}).items()
            },
            "input": [plan.size, plan.size, 3],
            "classes": len(dataset.class_names),
            "parameters": int(ours["parameters"]),
            "macs": int(ours["macs"]),
            "paper_parameters": int(papers["parameters"]),
            "paper_macs": int(papers["macs"]),
        },
        "data": {
            "name": dataset.name,
            "title": dataset.title,
            "digest": dataset.digest,
            "class_names": list(dataset.class_names),
            "train": len(dataset.x_train),
            "val": len(dataset.x_val),
            "size": plan.size,
            "stored_size": plan.stored_size,
            "squashed": bool(dataset.squashed),
            "standin": bool(dataset.standin),
            "mean": np.ravel(trained[0].pixels[0]).round(2).tolist(),
        },
        "recipe": {
            "profile": plan.profile,
            "fit": getattr(plan.run.fit, "func", plan.run.fit).__name__,
            "epochs": plan.epochs,
            "batch": plan.batch,
            "precision": backend.precision(),
            "key": training.recipe_key(plan, dataset.digest),
        },
        "backend": {"name": backend.name(), "versions": backend.versions()},
        "device": {"name": backend.device(), "driver": backend.driver()},
        "commit": trained[0].commit,
        "date": datetime.date.today().isoformat(),
        "cost": {
            "seconds": round(seconds, 1),
            "images_per_second": round(seen * plan.batch / seconds, 1),
            "peak_memory": backend.peak_memory(),
        },
        "seeds": [
            {"seed": one.seed, "seconds": round(one.seconds, 1), **outcome, "history": one.history}
            for one, outcome in zip(trained, outcomes, strict=True)
        ],
        "top1": {"mean": float(np.mean(top1)), "spread": spread(top1), "seeds": len(top1)},
        "views": {name: float(np.mean(values)) for name, values in views.items()},
    }
    first = trained[0]
    arrays = {
        "filter_epochs": np.array(sorted(first.filters), "int32"),
        "filters": np.stack([first.filters[e] for e in sorted(first.filters)]).astype("float16"),
        "probabilities": np.stack([one.probabilities for one in trained]).astype("float16"),
        "labels": np.asarray(dataset.y_val, "int16"),
    }
    return Record(facts, arrays)


def speed(record: Record, images_per_second: dict[str, float]) -> dict:
    """Return a network's speed in training, for its record.

    Args:
        record: Of the run.
        images_per_second: As `training.throughput` measures them.

    Returns:
        The rates, and "mfu", the share of the GPU's half-precision operations that went into the
        network's own multiplications with real images: six operations a MAC, two forward and four
        backward; None where the GPU's peak is not known.
    """
    from ilsvrc import backend

    peak = backend.peak_flops()
    used = 6 * record["network"]["macs"] * images_per_second["real"]
    return {
        "throughput": {name: round(rate, 1) for name, rate in images_per_second.items()},
        "mfu": round(used / peak, 3) if peak else None,
    }


def spread(values) -> float | None:
    """Return the sample standard deviation over seeds, or None for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def compare(one: Record, other: Record) -> dict:
    """Compare two runs image by image, as a claim of a paper asks.

    Each image gives one difference, averaged over seeds; each seed one, averaged over images. The
    error of the mean difference adds, in squares, what images and seeds each leave uncertain.

    Returns:
        A row for a table: "here (points)", by how many points of top-1 accuracy `one` is better;
        "smallest to be seen", twice the error; "seeds"; and the "verdict": "holds" or "not seen;
        the opposite is", or "too small to see here" for a difference below that or a single seed.

    Raises:
        ValueError: The runs were tested on different images, or with different numbers of seeds.
    """
    labels = [run.arrays["labels"] for run in (one, other)]
    answers = [run.arrays["probabilities"].argmax(axis=-1) for run in (one, other)]
    if not np.array_equal(*labels) or len(answers[0]) != len(answers[1]):
        raise ValueError(
            f"The runs {one['run']!r} and {other['run']!r} cannot be compared image by image: "
            "they were tested on other images, or with another number of seeds. Train both with "
            "the same profile."
        )
    gain = (answers[0] == labels[0]).astype(float) - (answers[1] == labels[1])  # (seeds, images)
    images, seeds = gain.mean(axis=0), gain.mean(axis=1)
    error = np.nan
    if len(seeds) > 1:
        error = np.hypot(images.std(ddof=1) / len(images) ** 0.5, spread(seeds) / len(seeds) ** 0.5)
    points = gain.mean()
    verdict = "holds" if points > 0 else "not seen; the opposite is"
    return {
        "here (points)": 100 * points,
        "smallest to be seen": 200 * error,
        "seeds": len(seeds),
        "verdict": verdict if abs(points) >= 2 * error else "too small to see here",
    }


def write_whole(path: Path, write) -> None:
    """Write a file whole or not at all: under another name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def write(record: Record, folder: Path) -> Path:
    """Write a record to `<folder>/<chapter>/<run>.json`, its arrays beside it; return the path."""
    path = folder / record["chapter"] / f"{record['run']}.json"
    text = json.dumps(record.facts, indent=1, ensure_ascii=False) + "\n"
    write_whole(path.with_suffix(".npz"), lambda file: np.savez_compressed(file, **record.arrays))
    write_whole(path, lambda file: file.write(text.encode()))
    return path


def read(path: Path) -> Record:
    """Read a record and, where they are there, its arrays."""
    arrays = {}
    if path.with_suffix(".npz").exists():
        with np.load(path.with_suffix(".npz")) as kept:
            arrays = {name: kept[name] for name in kept.files}
    return Record(json.loads(path.read_text(encoding="utf-8")), arrays)


def published(chapter: str, run: str, folder: Path = paths.RESULTS) -> Record | None:
    """Return the published record of a run, or None where there is none yet."""
    path = folder / chapter / f"{run}.json"
    return read(path) if path.exists() else None


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


def scoreboard(folder: Path = paths.RESULTS):
    """Return all published headline runs as a pandas DataFrame, one row a run, best first.

    Its columns are `COLUMNS`: size in px, top1 as accuracy in 0..1 (mean over seeds), seconds. A
    network that two rows have is followed by the run's name in brackets.
    """
    import pandas as pd

    found = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/*.json"))
    ]
    table = pd.json_normalize([facts for facts in found if facts["headline"]])
    table = table.reindex(columns=list(COLUMNS.values())).set_axis(list(COLUMNS), axis=1)
    named = table.network.astype(str) + " (" + table.run.astype(str) + ")"
    table.network = table.network.where(~table.network.duplicated(keep=False), named)
    return table.sort_values("top1", ascending=False, ignore_index=True)
