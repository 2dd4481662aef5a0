"""The queue over all chapters' runs, and the fast paths that it trains on."""

import json
import tarfile
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from ilsvrc import (
    Lab,
    backend,
    chapters,
    cli,
    data,
    files,
    paths,
    probe,
    publishing,
    queue,
    records,
)
from networks import TINY


@pytest.fixture
def course(tiny_course):
    return tiny_course


def test_the_queue_holds_every_run_and_begins_with_the_story():
    jobs = queue.jobs("gpu")
    assert len(jobs) == len(set(jobs))
    assert jobs[0] == ("2012_alexnet", "alexnet", 1)
    place = {(job.chapter, job.run): n for n, job in reversed(list(enumerate(jobs)))}
    story = [(c, r.name) for c in chapters.names() for r in chapters.chapter(c).runs if r.story]
    assert len(story) > 5 and max(place[one] for one in story) < len(story)
    for name in chapters.names():
        lab = Lab(name, "gpu")
        for run in lab.runs.values():
            seeds = 3 if run.headline else len(lab.plan(run.name).seeds)
            assert (name, run.name, seeds) in jobs
            assert not run.headline or place[name, run.name] < jobs.index((name, run.name, seeds))
    claims = [one for one in story if not Lab(one[0], "gpu").runs[one[1]].headline]
    for one in claims:  # with all its seeds before the other chapters' networks
        whole = max(n for n, job in enumerate(jobs) if job[:2] == one)
        assert jobs[whole].seeds == 3 and whole < place["2014_vgg", "vgg"]


@pytest.mark.once
def test_a_failed_run_does_not_stop_the_rest_and_what_is_done_is_not_done_again(
    course, monkeypatch
):
    said = []
    failed = queue.run_all("smoke", course / "out", said.append)
    assert [job.run for job in failed] == ["two"]
    assert any("a mistake" in line for line in said) and "failed: 2099_tiny two" in said[-1]
    assert any("out of memory with 32 images a batch: trying 16" in line for line in said)
    shelf = course / "build" / "results"
    assert sorted(p.name for p in shelf.rglob("*.json")) == ["one.json", "three.json"]
    assert not (course / "results").exists()  # a trial publishes nothing
    batches = {
        n: records.read(shelf / "2099_tiny" / f"{n}.json")["recipe"]["batch"]
        for n in ("one", "three")
    }
    assert batches == {"one": 32, "three": 8}
    with tarfile.open(course / "out" / "records-0.tar") as archive:
        packed = {name: archive.extractfile(name).read() for name in archive.getnames()}
    files = (file for file in shelf.rglob("*.*") if file.is_file())
    assert packed == {str(file.relative_to(shelf)): file.read_bytes() for file in files}

    monkeypatch.setenv("MENDED", "1")
    said.clear()
    assert queue.run_all("smoke", None, said.append) == []
    assert said[0] == "2 of 3 runs have a record, 1 are left."
    assert (shelf / "2099_tiny" / "two.json").exists()
    path = shelf / "2099_tiny" / "one.json"
    whole = records.read(path)
    for batch in (0, 10**9, 31.5):  # no reader's, so it is made again
        recipe = whole["recipe"] | {"batch": batch}
        records.write(records.Record(whole.facts | {"recipe": recipe}, whole.arrays), shelf)
        assert not queue.recorded(queue.Job("2099_tiny", "one", 1), "smoke")
    records.write(whole, shelf)
    more = [job._replace(seeds=2) for job in queue.jobs("smoke")]
    assert not any(queue.recorded(job, "smoke") for job in more)
    assert all(queue.recorded(job, "smoke") for job in queue.jobs("smoke"))
    chapter = course / "chapters" / "2099_tiny.md"
    chapter.write_text(TINY.replace("Adam(1e-3)", "Adam(2e-3)"))
    chapters.chapter.cache_clear()
    assert not any(queue.recorded(job, "smoke") for job in queue.jobs("smoke"))


@pytest.mark.once
def test_a_queue_that_is_stopped_has_kept_what_was_finished(course):
    chapter = course / "chapters" / "2099_tiny.md"
    chapter.write_text(TINY.replace("ValueError", "KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        queue.run_all("smoke", course / "out", lambda line: None)
    assert (course / "build" / "results" / "2099_tiny" / "one.json").exists()
    assert (course / "out" / "records-0.tar").exists()


@pytest.mark.once
def test_the_command_says_what_is_missing_and_fails_if_a_run_does(course, monkeypatch):
    def command(*words):
        return CliRunner().invoke(cli.cli, ["run", *words])

    for words in ([], ["2099_tiny", "--all"], ["--all", "-p", "epochs", "3"]):
        refused = command(*words)
        assert refused.exit_code == 2 and "Name a chapter" in refused.output, words
    failed = command("--all", "--profile", "smoke", "-o", str(course / "out"))
    assert failed.exit_code == 1 and "failed: 2099_tiny two" in failed.output
    monkeypatch.setenv("MENDED", "1")
    assert command("--all", "--profile", "smoke").exit_code == 0


def test_archives_stay_below_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "ARCHIVE", 5000)
    shelf, made = tmp_path / "shelf", []
    for number in range(7):
        facts = {"chapter": "2099_tiny", "run": f"run-{number}", "text": "x" * 1500}
        made.append(records.write(records.Record(facts, {"a": np.zeros(3)}), shelf))
    archives = queue.pack(made, shelf, tmp_path / "out")
    found = []
    for archive in archives:
        with tarfile.open(archive) as opened:
            assert sum(member.size for member in opened) <= 5000
            found += opened.getnames()
    assert sorted(found) == sorted(
        str(file.relative_to(shelf)) for path in made for file in path.parent.glob(f"{path.stem}.*")
    )
    assert {path.name for path in Path(tmp_path / "out").iterdir()} == {a.name for a in archives}


@pytest.fixture
def pretended_gpu(monkeypatch):
    """Let the course take this processor for an H100 with a hundred megabytes of memory."""
    monkeypatch.setattr(backend, "on_cpu", lambda: False)
    monkeypatch.setattr(backend, "device", lambda: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(backend, "precision", lambda: "float32")
    monkeypatch.setattr(backend, "peak_memory", lambda: 7 * 2**30)
    if backend.name() != "jax":
        yield
        return
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    kind = type(jax.devices()[0])
    monkeypatch.setattr(kind, "memory_stats", lambda device: {"bytes_limit": 100_000_000})
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    for name, default in zip(names, (None, 1.0), strict=True):  # the environment may say otherwise
        jax.config.update(name, default)
    reset_cache()
    jax.clear_caches()  # what earlier tests compiled would be kept nowhere again
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


def test_images_on_the_device_train_as_images_on_the_host_do(course, monkeypatch, request):
    def losses(cache):
        monkeypatch.setenv("XDG_CACHE_HOME", str(course / cache))
        return Lab("2099_tiny", "smoke", epochs=2).train("one").history["loss"]

    host = losses("host")
    request.getfixturevalue("pretended_gpu")
    np.testing.assert_allclose(losses("device"), host, rtol=1e-6)


def test_a_step_compiled_for_a_gpu_serves_later_seeds(course, pretended_gpu):
    def kept(pattern):
        return {path.name for path in paths.cache().glob(f"compiled/{pattern}")}

    Lab("2099_tiny", "smoke").train("one")
    first, jax = kept("*train_step*-cache"), backend.name() == "jax"
    Lab("2099_tiny", "smoke", seed=1).train("one")
    assert kept("*train_step*-cache") == first and len(first) == jax
    assert bool(kept("jit__uniform-*-cache")) == jax  # small ones, too: this draws weights


@pytest.mark.skipif(backend.name() != "jax", reason="only JAX has such a folder")
def test_a_folder_that_was_named_for_what_is_compiled_is_kept(pretended_gpu, tmp_path):
    import jax

    jax.config.update("jax_compilation_cache_dir", "elsewhere")
    backend.keep_compiled(tmp_path)
    assert jax.config.jax_compilation_cache_dir == "elsewhere"


def test_images_lie_on_the_device_if_a_quarter_of_its_memory_holds_them(pretended_gpu):
    images, more = np.arange(8_000_000, dtype="uint8"), np.zeros(17_000_001, "uint8")
    here, _ = backend.near(images, more[1:])
    assert (here is images) == (backend.name() != "jax")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(here), images)
    assert backend.near(images, more)[0] is images


def test_a_headline_run_on_a_gpu_records_how_fast_it_was(course, monkeypatch, pretended_gpu):
    chapter = course / "chapters" / "2099_tiny.md"
    chapter.write_text(TINY.replace('claim="a"', "headline=True"))
    monkeypatch.setattr(probe, "look", lambda trained: {})
    record = Lab("2099_tiny", "smoke").record("one")
    cost = record["cost"]
    assert record["device"]["name"].startswith("NVIDIA H100") and record["headline"]
    assert cost["throughput"]["real"] > 0 and cost["throughput"]["synthetic"] > 0
    assert cost["mfu"] == 0.0  # so small a network uses no thousandth of an H100


@pytest.mark.once
def test_a_slow_disk_keeps_only_the_first_epoch_and_the_last_of_a_short_training(
    course, monkeypatch
):
    epochs, keep = [], files.keep

    def slowly(part, whole):
        if whole.name.startswith("epoch-"):
            epochs.append(json.loads((part / "state.json").read_text())["epochs"])
            time.sleep(2)  # so the next may be kept after 20 s of training
        keep(part, whole)

    monkeypatch.setattr(files, "keep", slowly)
    Lab("2099_tiny", "smoke", epochs=6).train("one")
    assert epochs == [1, 6]


def test_throughput_leaves_the_network_as_it_was(course):
    trained = Lab("2099_tiny", "smoke").train("one")
    before = trained.net.get_weights()
    rates = publishing.throughput(trained, batch=32, steps=12)
    assert set(rates) == {"real", "synthetic"} and min(rates.values()) > 0
    for one, other in zip(before, trained.net.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_speed_of_a_record_is_a_share_of_what_the_gpu_can_do(monkeypatch):
    rates = {"real": 10_000.0, "synthetic": 11_000.0}
    assert publishing.speed(4_000_000_000, rates) == {
        "throughput": rates,
        "mfu": None,
    }  # no GPU here
    monkeypatch.setattr(backend, "on_cpu", lambda: False)
    peaks = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H100 PCIe": 756e12, "NVIDIA H200": 989e12}
    for name, peak in peaks.items():
        monkeypatch.setattr(backend, "device", lambda name=name: name)
        assert publishing.speed(4_000_000_000, rates)["mfu"] == pytest.approx(
            240e12 / peak, abs=1e-3
        )
    monkeypatch.setattr(backend, "device", lambda: "a GPU to come")
    assert publishing.speed(4_000_000_000, rates)["mfu"] is None


def test_arrays_stay_where_they_are_without_a_gpu():
    images = data.load("photographs", 32, images=20).x_train
    assert backend.near(images)[0] is images
