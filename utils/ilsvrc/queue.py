"""The queue: the runs of all chapters, by worth, trained and recorded without a notebook kernel."""

import io
import tarfile
import time
from pathlib import Path
from typing import NamedTuple

import keras

from ilsvrc import chapters, files, keys, paths, records
from ilsvrc.lab import Lab, duration
from ilsvrc.profiles import profile as settings

ARCHIVE = 15 * 2**20  # bytes of records in one archive, at most
LEAST = 8  # images a batch is not made smaller than


class Job(NamedTuple):
    """One run to train, with its first so many seeds."""

    chapter: str
    run: str
    seeds: int


def stored_sizes(profile: str | None = None) -> list[int]:
    """Return at which sides, in px, the runs of all chapters keep the images of files.

    Args:
        profile: At "smoke" no file is read, and the list is empty.

    Raises:
        ValueError: There is no such profile.
        FileNotFoundError: There are no such images here.
    """
    labs = [Lab(name, profile) for name in chapters.names()]
    plans = [lab.plan(run) for lab in labs for run in lab.runs]
    return sorted({plan.stored_size for plan in plans if plan.data != "photographs"})


def jobs(profile: str | None = None) -> list[Job]:
    """Return what is to be trained at a profile, most telling first.

    One seed of the runs that the story stands on; the claims that carry it, with all seeds; the
    other headline runs; all other claims; further seeds of the headline runs.
    """
    labs = {name: Lab(name, profile) for name in chapters.names()}
    runs = {(name, run): lab.plan(run) for name, lab in labs.items() for run in lab.runs}
    headlines = [place for place, plan in runs.items() if plan.run.headline]
    claims = [place for place in runs if place not in headlines]
    story = [place for place in (*headlines, *claims) if runs[place].run.story]
    wanted = [Job(*place, 1) for place in story]
    wanted += [Job(*place, len(runs[place].seeds)) for place in story if place in claims]
    wanted += [Job(*place, 1) for place in headlines]
    wanted += [Job(*place, len(runs[place].seeds)) for place in claims]
    wanted += [Job(*place, labs[place[0]].profile.seeds) for place in headlines]
    return list(dict.fromkeys(wanted))


def shelf(profile: str | None = None) -> Path:
    """Return where the records go: to `results/` at "gpu", a trial's to `build/results/`."""
    return paths.RESULTS if settings(profile).name == "gpu" else paths.ROOT / "build" / "results"


def recorded(job: Job, profile: str | None = None) -> bool:
    """Return whether a job's record is there, made by the recipe and data that it would take now.

    Where and on which versions it was made does not count, nor a batch that memory made smaller.
    """
    try:
        record = records.read(shelf(profile) / job.chapter / f"{job.run}.json")
    except ValueError:  # damaged: to be made again
        record = None
    if record is None or record["top1"]["seeds"] < job.seeds:
        return False
    try:
        lab = Lab(job.chapter, profile, batch=record["recipe"]["batch"])
    except ValueError:  # of a batch that there cannot be
        return False
    plan = lab.plan(job.run)
    return record["recipe"].get("key") == keys.recipe(plan, lab.dataset(plan).digest)


def expected_seconds(wanted: list[Job], profile: str | None = None) -> list[float]:
    """Return what each job will take here, by its MACs; a seed trained before costs nothing."""
    alone, seeds, found = {}, {}, []
    for job in wanted:
        place = job[:2]
        if place not in alone:
            alone[place] = Lab(job.chapter, profile, seeds=1).expectation(job.run)["seconds"]
        found.append(alone[place] * (job.seeds - seeds.get(place, 0)))
        seeds[place] = job.seeds
    return found


def train(job: Job, profile: str | None = None, say=print) -> Path:
    """Train a job and write its record; where memory runs out, try again with half the batch.

    Raises:
        MemoryError: Not even a batch of eight images fits.
    """
    lab = Lab(job.chapter, profile, seeds=job.seeds)
    while True:
        batch = lab.plan(job.run).batch
        try:
            return lab.publish(job.run, shelf(profile))
        except MemoryError:
            if batch // 2 < LEAST:
                raise
        say(f"  out of memory with {batch} images a batch: trying {batch // 2}")
        keras.utils.clear_session()  # the exception, which held arrays, is gone by now
        lab = Lab(job.chapter, profile, seeds=job.seeds, batch=batch // 2)


def run_all(profile: str | None = None, folder: Path | None = None, say=print) -> list[Job]:
    """Train all chapters' runs, by worth; each record is written as soon as its run has finished.

    What has a record already, by the same recipe, is left out; what was stopped goes on. A run that
    fails is named, and the next one begins. The records go to `shelf(profile)`.

    Args:
        profile: As for `Lab`.
        folder: Where the records made are also packed, after each run, into records-0.tar and so
            on, for a machine from which files must be fetched.
        say: Takes each line of the report.

    Returns:
        The jobs that failed.
    """
    if folder:
        files.writable(Path(folder), "The folder", "Name another one.")
    every = jobs(profile)
    wanted = [job for job in every if not recorded(job, profile)]
    say(f"{len(every) - len(wanted)} of {len(every)} runs have a record, {len(wanted)} are left.")
    expected = expected_seconds(wanted, profile)
    for job, seconds in zip(wanted, expected, strict=True):
        say(f"  {job.chapter} {job.run}, seeds {job.seeds}: about {duration(seconds)}")
    made, failed, spent, done = [], [], 0.0, 0.0
    for place, job in enumerate(wanted):
        pace = spent / done if done else 1.0  # how this machine keeps to what was expected
        left = duration(pace * sum(expected[place:]))
        say(f"[{place + 1}/{len(wanted)}, about {left} left] {job.chapter} {job.run}")
        began = time.perf_counter()
        try:
            path = train(job, profile, say)
        except Exception as error:
            failed.append(job)
            say(f"  failed, {type(error).__name__}: {error}")
        else:
            made = [*(one for one in made if one != path), path]
            if folder:
                pack(made, shelf(profile), folder)
            spent, done = spent + time.perf_counter() - began, done + expected[place]
            say(f"  top-1 accuracy {records.read(path)['top1']['mean']:.1%}: {path}")
        keras.utils.clear_session()  # memory that the run held
    say(f"{len(wanted) - len(failed)} runs finished, {len(failed)} failed.")
    for job in failed:
        say(f"  failed: {job.chapter} {job.run}")
    return failed


def pack(made: list[Path], shelf: Path, folder: Path) -> list[Path]:
    """Pack records and their arrays into folder/records-0.tar, records-1.tar, ..., each whole.

    Args:
        made: The records' JSON files, in order, below `shelf`.
        shelf: The archives name their files from there on.
        folder: Made if it is not there.

    Returns:
        The archives; unpacked in a shelf they give the records back.
    """
    archives, room = [], 0
    for record in made:
        pair = [file for file in (record, record.with_suffix(".npz")) if file.exists()]
        size = sum(file.stat().st_size for file in pair)
        if size > room:
            archives.append([])
            room = ARCHIVE
        archives[-1] += pair
        room -= size
    written = []
    for number, members in enumerate(archives):
        bundle = io.BytesIO()
        with tarfile.open(fileobj=bundle, mode="w") as archive:
            for file in members:
                archive.add(file, file.relative_to(shelf))
        written.append(Path(folder) / f"records-{number}.tar")
        with files.room(Path(folder), f"{written[-1].name} is written"):
            records.write_whole(written[-1], lambda out, b=bundle: out.write(b.getvalue()))
    return written
