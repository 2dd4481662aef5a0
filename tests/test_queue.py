"""The queue over all chapters' runs, and the fast paths that it trains on."""

import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest

from ilsvrc import Lab, backend, chapters, data, paths, queue, records, training

TINY = """\
---
kernelspec:
  name: python3
  display_name: Python 3
---

```{code-cell} ipython3
:tags: [model]

import os
from functools import partial

import keras

from ilsvrc import augment
from ilsvrc.profiles import Run


def tiny(input_shape=(32, 32, 3), classes=10, logits=False):
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, 4, name="conv1")(image)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(classes)(keras.layers.Dropout(0.5)(x))
    return keras.Model(image, x if logits else keras.layers.Softmax()(x))


def fit(model, data, epochs, callbacks, most=1000, wrong=None):
    if wrong and not os.environ.get("MENDED"):
        raise wrong
    if data.train.batch > most:
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
    seen = [augment.RandomCrop(32), augment.Normalise(data.mean, 58)]
    net = augment.before(model, *seen, input_size=data.size)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return net.fit(
        data.train, validation_data=data.val, epochs=epochs, callbacks=callbacks, verbose=0
    )
```

```{code-cell} ipython3
:tags: [runs]

runs = [
    Run("one", tiny, fit, size=32, claim="a"),
    Run("two", tiny, partial(fit, wrong=ValueError("a mistake")), size=32, claim="a"),
    Run("three", tiny, partial(fit, most=8), size=32, claim="a"),
]
```
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """Put one small chapter and an empty checkout in place of the course; return its folder."""
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "2099_tiny.md").write_text(TINY)
    monkeypatch.setattr(paths, "CHAPTERS", tmp_path / "chapters")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    chapters.chapter.cache_clear()
    yield tmp_path
    chapters.chapter.cache_clear()


def test_the_queue_holds_every_run_and_begins_with_the_story():
    jobs = queue.jobs("gpu")
    assert len(jobs) == len(set(jobs))
    assert jobs[0] == ("2012_alexnet", "alexnet", 1)
    place = {(job.chapter, job.run): n for n, job in reversed(list(enumerate(jobs)))}
    assert set(queue.FIRST + queue.STORY) <= set(place)
    assert max(place[one] for one in queue.FIRST) < len(queue.FIRST)
    for name in chapters.names():
        lab = Lab(name, "gpu")
        for run in lab.runs.values():
            seeds = 3 if run.headline else len(lab.plan(run.name).seeds)
            assert (name, run.name, seeds) in jobs
            assert not run.headline or place[name, run.name] < jobs.index((name, run.name, seeds))
            telling = {"baseline", "tanh"} if name == "2012_alexnet" else {"plain-34", "resnet-34"}
            if run.name in telling and name in ("2012_alexnet", "2015_resnet"):
                assert place[name, run.name] < place["2014_vgg", "vgg"]


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
        n: records.published("2099_tiny", n, shelf)["recipe"]["batch"] for n in ("one", "three")
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
    more = [job._replace(seeds=2) for job in queue.jobs("smoke")]
    assert not any(queue.recorded(job, "smoke") for job in more)
    assert all(queue.recorded(job, "smoke") for job in queue.jobs("smoke"))
    chapter = course / "chapters" / "2099_tiny.md"
    chapter.write_text(TINY.replace("Adam(1e-3)", "Adam(2e-3)"))
    chapters.chapter.cache_clear()
    assert not any(queue.recorded(job, "smoke") for job in queue.jobs("smoke"))


def test_a_queue_that_is_stopped_has_kept_what_was_finished(course):
    chapter = course / "chapters" / "2099_tiny.md"
    chapter.write_text(TINY.replace('ValueError("a mistake")', "KeyboardInterrupt()"))
    with pytest.raises(KeyboardInterrupt):
        queue.run_all("smoke", course / "out", lambda line: None)
    assert (course / "build" / "results" / "2099_tiny" / "one.json").exists()
    assert (course / "out" / "records-0.tar").exists()


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


def losses(course, monkeypatch, cache, near):
    monkeypatch.setenv("XDG_CACHE_HOME", str(course / cache))
    monkeypatch.setattr(backend, "near", near)
    return Lab("2099_tiny", "smoke", epochs=2).train("one").history["loss"]


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX takes batches on the device")
def test_images_on_the_device_train_as_images_on_the_host_do(course, monkeypatch):
    host = losses(course, monkeypatch, "host", backend.near)
    device = losses(
        course, monkeypatch, "device", lambda *a: tuple(map(keras.ops.convert_to_tensor, a))
    )
    np.testing.assert_allclose(device, host, rtol=1e-6)


def test_throughput_leaves_the_network_as_it_was(course):
    trained = Lab("2099_tiny", "smoke").train("one")
    before = trained.net.get_weights()
    rates = training.throughput(trained, batch=32, steps=12)
    assert set(rates) == {"real", "synthetic"} and min(rates.values()) > 0
    for one, other in zip(before, trained.net.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_speed_of_a_record_is_a_share_of_what_the_gpu_can_do(monkeypatch):
    record = records.Record({"network": {"macs": 4_000_000_000}})
    rates = {"real": 10_000.0, "synthetic": 11_000.0}
    assert records.speed(record, rates) == {"throughput": rates, "mfu": None}  # no GPU here
    monkeypatch.setattr(backend, "on_cpu", lambda: False)
    peaks = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H100 PCIe": 756e12, "NVIDIA H200": 989e12}
    for name, peak in peaks.items():
        monkeypatch.setattr(backend, "device", lambda name=name: name)
        assert records.speed(record, rates)["mfu"] == pytest.approx(240e12 / peak, abs=1e-3)
    monkeypatch.setattr(backend, "device", lambda: "a GPU to come")
    assert records.speed(record, rates)["mfu"] is None


def test_arrays_stay_where_they_are_without_a_gpu():
    images = data.load("photographs", 32, images=20).x_train
    assert backend.near(images)[0] is images
