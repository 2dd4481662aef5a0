"""Making the record of a finished run: what was run and what came of it, then its pictures."""

import datetime
import functools
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from ilsvrc import (
    augment,
    backend,
    chapters,
    keys,
    ledger,
    paths,
    probe,
    profiles,
    records,
    training,
    weights,
)
from ilsvrc.records import Record


def account(plan, dataset, chapter: str, trained: list) -> Record:
    """Return the record of a finished run without its pictures.

    Args:
        plan: The run's `profiles.Plan`.
        dataset: The `data.Dataset` it was trained on.
        chapter: The chapter's name.
        trained: One `training.Trained` a seed.
    """
    outcomes = [records.scores(dataset.y_val, one.probabilities) for one in trained]
    top1 = [outcome["top1"] for outcome in outcomes]
    views = {"1": top1}
    if plan.run.headline:  # tested on ten views too, as AlexNet's paper did
        views["10"] = [top1_of_views(one, "ten") for one in trained]
    facts = {
        "chapter": chapter,
        "run": plan.run.name,
        "claim": plan.run.claim,
        "headline": plan.run.headline,
        "network": _network(plan, dataset, trained[0].model),
        "data": _data(plan, dataset, trained[0]),
        "recipe": {
            "profile": plan.profile,
            "fit": getattr(plan.run.fit, "func", plan.run.fit).__name__,
            "epochs": plan.epochs,
            "batch": plan.batch,
            "precision": trained[0].precision,
            "key": keys.recipe(plan, dataset.digest),
        },
        "backend": {"name": backend.name(), "versions": backend.versions()},
        "device": {"name": backend.device(), "driver": backend.driver()},
        "commit": trained[0].commit,
        "date": datetime.date.today().isoformat(),
        "cost": _cost(plan, dataset, trained),
        "seeds": [
            {"seed": one.seed, "seconds": round(one.seconds, 1), **outcome, "history": one.history}
            for one, outcome in zip(trained, outcomes, strict=True)
        ],
        "top1": {"mean": float(np.mean(top1)), "spread": records.spread(top1), "seeds": len(top1)},
        "views": {name: float(np.mean(values)) for name, values in views.items()},
    }
    return Record(facts, _outcome(plan, dataset, trained))


def with_pictures(record: Record, plan, trained) -> Record:
    """Return a record with what its page's pictures need.

    A headline run leaves its view of the probe and what its units answer to, so that its page is
    drawn where there is no GPU, no photograph and no weight, and on a GPU its speed.

    Args:
        record: As `account` makes it.
        plan: The run's `profiles.Plan`.
        trained: The `training.Trained` of its first seed.
    """
    facts, arrays = dict(record.facts), dict(record.arrays)
    if plan.run.headline:
        arrays |= probe.look(trained)
    if plan.run.measure:
        arrays |= plan.run.measure(trained)
    if plan.run.keep is not None:
        arrays |= weights.kept(trained.model, plan.run.keep)
    if plan.run.headline and not backend.on_cpu():
        rates = throughput(trained, plan.batch)
        facts["cost"] = facts["cost"] | speed(facts["network"]["macs"], rates)
    return Record(facts, arrays)


def top1_of_views(trained, kind: str) -> float:
    """Return top-1 accuracy on the validation images, averaged over test views of a kind.

    Args:
        trained: A `training.Trained`.
        kind: "centre", "five" or "ten".
    """
    images, labels = trained.dataset.x_val, trained.dataset.y_val
    return records.scores(labels, augment.predict_views(trained.net, images, kind))["top1"]


def options(build) -> dict:
    """Return what a builder is given as a record tells it, functions by their names and options."""
    return {name: _told(value) for name, value in getattr(build, "keywords", {}).items()}


def _told(value):
    if isinstance(value, functools.partial):
        given = (f"{name}={_told(each)!r}" for name, each in value.keywords.items())
        return f"{value.func.__name__}({', '.join(given)})"
    return getattr(value, "__name__", value)


def _network(plan, dataset, model: keras.Model) -> dict:
    with ledger.counting():
        papers = ledger.totals(plan.run.build())
    ours = ledger.totals(model)
    return {
        "name": plan.network,
        "options": options(plan.build),
        "input": [plan.size, plan.size, 3],
        "classes": len(dataset.class_names),
        "parameters": ours["parameters"],
        "statistics": ours["statistics"],
        "macs": ours["macs"],
        "paper_parameters": papers["parameters"],
        "paper_macs": papers["macs"],
    }


def _data(plan, dataset, trained) -> dict:
    return {
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
        "mean": np.ravel(trained.pixels[0]).round(2).tolist(),
    }


def _cost(plan, dataset, trained: list) -> dict:
    seconds = sum(one.seconds for one in trained)
    steps = sum(len(one.history["loss"]) for one in trained) * (len(dataset.x_train) // plan.batch)
    return {
        "seconds": round(seconds, 1),
        "images_per_second": round(steps * plan.batch / seconds, 1),
        "peak_memory": backend.peak_memory(),
    }


def _outcome(plan, dataset, trained: list) -> dict[str, np.ndarray]:
    """Return what a record keeps of the outcome: a claim's the answers, a headline run's all."""
    probabilities = np.stack([one.probabilities for one in trained])
    arrays = {"labels": np.asarray(dataset.y_val, "int16")}
    if plan.run.headline or plan.run.probabilities:
        arrays["probabilities"] = probabilities.astype("float16")
    else:
        kind = "uint8" if probabilities.shape[-1] <= 256 else "uint16"
        arrays["answers"] = probabilities.argmax(axis=-1).astype(kind)
    if plan.run.headline:
        kernels = trained[0].filters
        arrays["filter_epochs"] = np.array(sorted(kernels), "int32")
        arrays["filters"] = np.stack([kernels[e] for e in sorted(kernels)]).astype("float16")
    return arrays


# Keys


def present_key(record: Record) -> str:
    """Return the key that a record's run has today, at the record's size, length and batch.

    Raises:
        KeyError: Its chapter has no such run any more.
    """
    run = {run.name: run for run in chapters.chapter(record["chapter"]).runs}[record["run"]]
    recipe, built = record["recipe"], getattr(run.build, "func", run.build).__name__
    size = record["data"]["size"] if record["network"]["name"] == built else None
    profile = profiles.PROFILES[recipe["profile"]]
    plan = profiles.settle(run, profile, size=size, batch=recipe["batch"])
    return keys.recipe(replace(plan, epochs=recipe["epochs"]), record["data"]["digest"])


def migrate(chapter: str, runs: list[str], folder: Path = paths.RESULTS) -> None:
    """Give a chapter's records today's keys, after its code was rewritten and trains the same.

    Only for runs of which a test has shown that equal weights give equal outputs, and whose `fit`
    does the same; else train them again.
    """
    for run in runs:
        record = records.read(folder / chapter / f"{run}.json")
        recipe = record["recipe"] | {"key": present_key(record)}
        records.write(Record(record.facts | {"recipe": recipe}, record.arrays), folder)


# Speed


def speed(macs: int, images_per_second: dict[str, float]) -> dict:
    """Return a network's speed in training, for its record.

    Args:
        macs: Of one image.
        images_per_second: As `throughput` measures them.

    Returns:
        The rates, and "mfu", the share of the GPU's half-precision operations that went into the
        network's own multiplications with real images: six operations a MAC, two forward and four
        backward; None where the GPU's peak is not known.
    """
    peak = backend.peak_flops()
    used = 6 * macs * images_per_second["real"]
    return {
        "throughput": {name: round(rate, 1) for name, rate in images_per_second.items()},
        "mfu": round(used / peak, 3) if peak else None,
    }


class Same(keras.utils.PyDataset):
    """One batch, over and over."""

    def __init__(self, batch, steps):
        super().__init__()
        self.batch, self.steps = batch, steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return self.batch


def throughput(trained, batch: int, steps: int = 60) -> dict[str, float]:
    """Measure how fast a trained network goes on training; its weights are put back afterwards.

    Args:
        trained: Its `net` is compiled.
        batch: Images a step, as it was trained with.
        steps: How many are timed.

    Returns:
        "real": images a second with batches of the data set; "synthetic": with one batch over and
        over, which has to be fetched from nowhere. Measured in turn, the better of two rounds.
    """
    net, weights = trained.net, trained.net.get_weights()
    real = training.feed(trained.dataset, batch, len(trained.model.outputs)).train
    images, labels = real[0]
    sources = {"real": real, "synthetic": Same((*backend.near(images), labels), steps)}
    best = dict.fromkeys(sources, 0.0)
    for _ in range(2):
        for name, source in sources.items():
            epochs = -(-steps // len(source))
            began = time.perf_counter()
            net.fit(source, epochs=epochs, verbose=0)
            seen = epochs * len(source) * batch
            best[name] = max(best[name], seen / (time.perf_counter() - began))
    net.set_weights(weights)
    return best
