"""The lab of a chapter: says what will happen, gives data, trains, records and reads records."""

import functools
import sys
import time
from pathlib import Path

import keras
import numpy as np

from ilsvrc import backend, chapters, files, ledger, paths, profiles, publishing, records, training
from ilsvrc.data import Dataset, load
from ilsvrc.hints import did_you_mean
from ilsvrc.profiles import Plan, Run, settle


class Lab:
    """A chapter at a profile.

    Attributes:
        chapter: The chapter's name.
        profile: The `profiles.Profile` in force.
        claims: Whether the reader trains the ablations too.
    """

    def __init__(
        self,
        chapter,
        profile=None,
        *,
        epochs=None,
        seed=None,
        claims=False,
        size=None,
        seeds=None,
        batch=None,
    ):
        """Open the lab.

        Args:
            chapter: Such as "2012_alexnet".
            profile: "smoke", "laptop" or "gpu"; None: `ILSVRC_PROFILE`, else what fits here.
            epochs: Overrides the profile's epochs.
            seed: The first seed; None: 0.
            claims: Whether the reader trains the ablations too.
            size: Overrides the input's side in px; the paper's network is then trained.
            seeds: Overrides the number of seeds a run.
            batch: Overrides the images a training step.

        Raises:
            ValueError: There is no such chapter or profile, and the message lists those that exist;
                or a number means nothing.
        """
        backend.check_settings()
        chapters.path(chapter)
        self._settings = {"epochs": epochs, "seed": seed, "size": size}
        self._settings |= {"seeds": seeds, "batch": batch}
        profiles.check(profile=profile, claims=claims, **self._settings)
        self.chapter, self.claims = chapter, claims
        self.profile = profiles.profile(profile)
        self._datasets, self._finished = {}, {}

    @property
    def runs(self) -> dict[str, Run]:
        """Return the chapter's runs by name: this notebook's own `runs` where it defines them."""
        own = getattr(sys.modules["__main__"], "runs", None)
        mine = isinstance(own, list) and own and all(isinstance(run, Run) for run in own)
        return {run.name: run for run in (own if mine else chapters.chapter(self.chapter).runs)}

    def plan(self, name: str) -> Plan:
        """Return what a run will do here.

        Raises:
            ValueError: The chapter has no such run; the message lists those it has.
        """
        if name not in self.runs:
            raise ValueError(
                f"{self.chapter} has no run {name!r}.{did_you_mean(name, self.runs)} "
                f"It has: {', '.join(self.runs)}."
            )
        return settle(self.runs[name], self.profile, **self._settings)

    @property
    def headline(self) -> str:
        """Return the name of the run that leads the page."""
        return next(name for name, run in self.runs.items() if run.headline)

    @property
    def data(self) -> Dataset:
        """Return the data set of the headline run, at the size its images are stored in."""
        return self.dataset(self.plan(self.headline))

    def dataset(self, plan: Plan) -> Dataset:
        """Return the data set of a plan (loaded once).

        Raises:
            ValueError: The profile is gpu, there is none, and nobody said how many epochs to bear.
        """
        untold = self._settings["epochs"] is None
        if self.profile.name == "gpu" and untold and backend.on_cpu():
            raise ValueError(
                f"Profile gpu trains the paper's networks for {plan.epochs} epochs, and "
                f"{backend.name()} sees no GPU here; `ilsvrc doctor` says why. Take profile "
                "laptop, or say how many epochs it shall be: epochs = 1 among the notebook's "
                "parameters, --epochs 1 on the command line."
            )
        wanted = (plan.data, plan.stored_size, plan.images)
        if wanted not in self._datasets:
            name, size, images = wanted
            download = self.profile.name == "gpu"
            self._datasets[wanted] = load(name, size, images=images, download=download)
        return self._datasets[wanted]

    def train(self, name: str) -> training.Trained:
        """Train a run, or pick up its own finished or stopped training from the user's cache.

        Args:
            name: One of the chapter's runs.

        Returns:
            What the training left, of the first seed. `record(name)` holds all seeds.

        Raises:
            ValueError: There is no such run, or it cannot be trained; the message says why.
            MemoryError: The device's memory ran out; the message says what to change.
        """
        return self._all_seeds(name)[0]

    def _all_seeds(self, name: str) -> list[training.Trained]:
        if name not in self._finished:
            plan = self.plan(name)
            dataset = self.dataset(plan)
            self._finished[name] = [
                training.train(plan, dataset, self.chapter, seed) for seed in plan.seeds
            ]
        return self._finished[name]

    def record(self, name: str) -> records.Record:
        """Return the record of a run, trained first where it is not yet."""
        trained, plan = self._all_seeds(name), self.plan(name)
        record = publishing.account(plan, self.dataset(plan), self.chapter, trained)
        return publishing.with_pictures(record, plan, trained[0])

    def publish(self, name: str, folder: Path) -> Path:
        """Write the record of a run, trained first where it is not yet, and return its file.

        Before its pictures are made it is written to `folder/unfinished`, so that a picture that
        fails does not cost the training.
        """
        files.writable(folder, "The folder of the records", "Let it be written, or make room.")
        trained, plan = self._all_seeds(name), self.plan(name)
        record = publishing.account(plan, self.dataset(plan), self.chapter, trained)
        with files.room(folder, "The record is written"):
            unfinished = records.write(record, folder / "unfinished")
            path = records.write(publishing.with_pictures(record, plan, trained[0]), folder)
        for file in (unfinished, unfinished.with_suffix(".npz")):
            file.unlink()
        return path

    def test(self, trained: training.Trained, kind: str) -> float:
        """Return top-1 accuracy on the validation images, averaged over test views of a kind.

        Args:
            trained: A trained network.
            kind: "centre", "five" or "ten".
        """
        return publishing.top1_of_views(trained, kind)

    def published(self, name: str) -> records.Record | None:
        """Return the published record of a run, whatever the profile, or None."""
        return records.read(paths.record(self.chapter, name))

    @property
    def evidence(self) -> dict[str, records.Record | None]:
        """Return the records of the runs that test a claim, by name.

        They are the reader's own with `claims`, trained first where they are not yet; else the
        published ones, or None.
        """
        find = self.record if self.claims else self.published
        return {name: find(name) for name, run in self.runs.items() if run.claim}

    def expectation(self, name: str) -> dict:
        """Return what a run will cost here: parameters, MACs, seconds and bytes, before it is run.

        Seconds come from MACs and a convolution timed now, bytes from the ledger: estimates, right
        to a factor of two.
        """
        plan = self.plan(name)
        dataset = self.dataset(plan)
        with ledger.counting():
            sums = ledger.totals(training.build(plan, len(dataset.class_names)))
        images = plan.epochs * (3 * len(dataset.x_train) + len(dataset.x_val)) * len(plan.seeds)
        return {
            "parameters": sums["parameters"],
            "macs": sums["macs"],
            "seconds": images * sums["macs"] / macs_per_second(),
            "bytes": 16 * sums["parameters"] + 3 * plan.batch * sums["activation_bytes"],
        }


@functools.cache
def macs_per_second() -> float:
    """Return how many MACs a second a 3x3 convolution does on this device, forward (timed once)."""
    x = keras.ops.convert_to_tensor(np.ones((16, 28, 28, 64), "float32"))
    layer = keras.layers.Conv2D(64, 3, padding="same", dtype=backend.precision())
    float(keras.ops.cast(keras.ops.sum(layer(x)), "float32"))  # NumPy takes no bfloat16 scalar
    began, times = time.perf_counter(), 10
    for _ in range(times):
        y = layer(x)
    float(keras.ops.cast(keras.ops.sum(y), "float32"))
    return times * 16 * 28 * 28 * 9 * 64 * 64 / (time.perf_counter() - began)


def duration(seconds: float) -> str:
    """Return a duration for people."""
    if seconds != seconds:  # of a network with layers whose cost nobody knows
        return "an unknown time"
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
