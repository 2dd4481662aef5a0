"""The lab on the slim AlexNet and the embedded photographs."""

import json
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import ilsvrc
from ilsvrc import (
    Lab,
    augment,
    data,
    keys,
    page,
    paths,
    probe,
    profiles,
    recipes,
    training,
    vis,
    weights,
)

CHAPTER = "2012_alexnet"


@pytest.fixture
def lab():
    return Lab(CHAPTER, "smoke")


def with_run(lab, monkeypatch, **changes):
    """Put a changed headline run in place of the chapter's runs."""
    module = ilsvrc.chapter(CHAPTER)
    run = replace(module.runs[0], **changes)
    monkeypatch.setattr(module, "runs", [run])
    return lab


def test_the_box_says_what_will_happen(lab, displayed):
    page.before_you_run(lab)
    (box,) = displayed
    for said in ("smoke", "slim_alexnet", "67 x 67", "320 training images", "1 epoch", "GiB"):
        assert said in box
    slim = ilsvrc.chapter(CHAPTER).slim_alexnet(logits=True)
    assert lab.expectation("alexnet")["parameters"] == slim.count_params()  # it has no statistics


def test_a_picture_without_its_runs_is_missed_aloud(lab, displayed):
    record = lab.published("alexnet")
    assert page.complete([record]) and not displayed
    assert not page.complete([record, None, None])
    assert "3 runs" in displayed[0] and "2 have no record" in displayed[0]


def check_looks(record, trained):
    """The arrays of a headline run are what its network makes of the probe, and of noise."""
    arrays, names = record.arrays, record["data"]["class_names"]
    seen = trained.prepare(data.probe(trained.net.input_shape[1])[None])
    odds = keras.ops.convert_to_numpy(keras.ops.softmax(trained.model.predict(seen, verbose=0)[0]))
    np.testing.assert_allclose(arrays["probe/probabilities"], odds, atol=2e-3)
    assert "church" not in names and arrays["probe/label"] == odds.argmax()
    maps = vis.activations(trained.model, seen, "relu1")["relu1"][0]
    np.testing.assert_allclose(
        arrays["probe/maps"], maps[..., arrays["probe/channels"]], rtol=1e-2, atol=1e-2
    )
    own, twin = arrays["probe/grad_cam"]
    np.testing.assert_allclose(
        own, vis.grad_cam(trained.model, seen, odds.argmax(), "relu5")[0], rtol=1e-2, atol=1e-2
    )
    assert np.abs(own - twin).max() > 0
    pictures = arrays["features/classes"]
    assert pictures.shape == (10, 67, 67, 3) and pictures.dtype == np.uint8
    mean, spread = trained.pixels
    logits = trained.model.predict((pictures.astype("float32") - mean) / spread, verbose=0)
    others = trained.model.predict(seen, verbose=0)[0]
    assert (np.diag(logits) > others).mean() > 0.8  # each class likes its picture


@pytest.mark.slow
def test_training_records_and_reads_back(lab, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    record = lab.record("alexnet")
    trained = lab.train("alexnet")  # the same training, not another
    assert record["seeds"][0]["history"] == trained.history
    assert record["network"]["name"] == "slim_alexnet"
    assert record["network"]["paper_parameters"] == 60_965_224
    assert record["data"]["standin"] and record["data"]["digest"] == lab.data.digest
    views = {"1": lab.test(trained, "centre"), "10": lab.test(trained, "ten")}
    assert record["views"] == pytest.approx(views, abs=1e-9)
    assert trained.probabilities.shape == (len(lab.data.y_val), 10)
    np.testing.assert_allclose(trained.probabilities.sum(1), 1, atol=1e-4)
    assert sorted(trained.filters) == [0, 1]
    assert np.abs(trained.filters[1] - trained.filters[0]).max() > 0
    assert trained.prepare(lab.data.x_val[:2]).shape == (2, 67, 67, 3)
    images, labels = trained.sample(5)
    rows = [np.abs(trained.prepare(lab.data.x_val) - one).sum((1, 2, 3)).argmin() for one in images]
    assert rows == sorted(set(rows)) and (lab.data.y_val[rows] == labels).all()
    assert rows != [0, 1, 2, 3, 4]  # which are of one class
    np.testing.assert_array_equal(trained.sample(5)[0], images)
    assert len(trained.sample(10**6)[1]) == len(lab.data.y_val)
    images, labels = trained.few(20)
    assert images.shape == (20, 67, 67, 3) and set(labels) == set(range(10))
    assert record.arrays["weights/conv1/kernel"].dtype == np.int8
    check_looks(record, trained)
    fresh = ilsvrc.chapter(CHAPTER).slim_alexnet(logits=True)
    weights.restore(fresh, record.weights)
    for name in ("conv1", "conv5"):
        kernels = [np.asarray(one.get_layer(name).kernel) for one in (fresh, trained.model)]
        off = np.abs(kernels[0] - kernels[1]).max((0, 1, 2)) / np.abs(kernels[1]).max((0, 1, 2))
        assert 0 < off.max() < 1 / 253  # of the largest weight of the filter
    with pytest.raises(ValueError, match=r"no weight 'kernel'.*'conv1'"):
        weights.restore(ilsvrc.chapter(CHAPTER).alexnet(), record.weights)

    other = Lab(CHAPTER, "smoke").train("alexnet")  # a new sitting picks the finished run up
    assert other.history == trained.history and other.seconds == trained.seconds
    np.testing.assert_array_equal(other.probabilities, trained.probabilities)


# The slim AlexNet, slimmer yet, and epochs long enough to be stopped in; started by hand in a
# process of its own.
COMMAND = """
import time
from dataclasses import replace
from functools import partial
import keras
import ilsvrc
from ilsvrc import Lab
module = ilsvrc.chapter("2012_alexnet")
class Pause(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        time.sleep(1)
def fit(model, data, epochs, callbacks):
    return module.fit(model, data, epochs, [*callbacks, Pause()])
small = partial(module.slim_alexnet, width=0.1, units=32)
module.runs[:] = [replace(run, small=small, fit=fit) for run in module.runs]
Lab("2012_alexnet", "smoke", epochs=3).train("baseline")
"""


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_numbers(tmp_path, monkeypatch):
    def history(cache):
        (state,) = (tmp_path / cache).rglob("epoch-0003/state.json")
        return json.loads(state.read_text())["history"]

    script = tmp_path / "training.py"
    script.write_text(COMMAND)
    monkeypatch.setenv("ILSVRC_RUNS", str(tmp_path / "broken"))  # a lost session's Drive
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list((tmp_path / "broken").rglob("epoch-0001/state.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "broken").rglob("epoch-0003"))
    module = ilsvrc.chapter(CHAPTER)
    monkeypatch.setattr(module, "runs", list(module.runs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    for folder in ("broken", "whole"):  # the first goes on: another process, which trained nothing
        monkeypatch.setenv("ILSVRC_RUNS", str(tmp_path / folder))
        runpy.run_path(str(script), run_name="__main__")
    assert len(list((tmp_path / "broken").rglob("lock"))) == 1  # of one run, in both processes
    broken, whole = history("broken"), history("whole")
    assert len(whole["loss"]) == 3
    for metric in whole:
        np.testing.assert_allclose(broken[metric], whole[metric], rtol=1e-4, err_msg=metric)


def test_a_changed_recipe_is_another_run(lab):
    plan = lab.plan("alexnet")
    module = ilsvrc.chapter(CHAPTER)
    changed = [
        replace(plan, epochs=2),
        replace(plan, build=partial(module.slim_alexnet, alpha=None)),
        replace(plan, run=replace(plan.run, fit=partial(module.fit, rate=0.5))),
    ]
    found = {keys.recipe(one, "digest") for one in [plan, *changed]}
    assert len(found) == 4
    assert keys.recipe(plan, "digest") != keys.recipe(plan, "other")
    assert keys.recipe(plan, "digest") == keys.recipe(
        Lab(CHAPTER, "smoke").plan("alexnet"), "digest"
    )


def test_wrong_names_are_answered_with_the_right_ones(lab):
    with pytest.raises(ValueError, match="Did you mean 'alexnet'"):
        lab.plan("alexnt")
    with pytest.raises(ValueError, match="Did you mean 'laptop'"):
        Lab(CHAPTER, "laptp")
    with pytest.raises(ValueError, match="Did you mean '2012_alexnet'"):
        Lab("2012_alexnett", "smoke")


def test_an_image_too_small_for_the_network_is_refused(lab, monkeypatch):
    with_run(lab, monkeypatch, small_size=32)
    with pytest.raises(ValueError, match=r"32 px: they are too small"):
        lab.train("alexnet")


def test_too_few_images_are_refused(lab, monkeypatch):
    with_run(lab, monkeypatch, images=20)
    with pytest.raises(ValueError, match="fewer than one batch of 32"):
        lab.train("alexnet")


def test_a_softmax_model_is_refused(lab, monkeypatch):
    module = ilsvrc.chapter(CHAPTER)

    def soft(logits=False, **options):
        return module.slim_alexnet(**options)

    with_run(lab, monkeypatch, small=soft)
    with pytest.raises(ValueError, match="is a softmax"):
        lab.train("alexnet")


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        keras.losses.sparse_categorical_crossentropy,  # which takes probabilities unless told
        keras.losses.SparseCategoricalCrossentropy(from_logits=False),
    ],
)
def test_a_loss_on_probabilities_is_refused(lab, monkeypatch, loss):
    def fit(model, data, epochs, callbacks):
        net = augment.before(model, augment.CentreCrop(67), input_size=data.size)
        net.compile("sgd", loss)
        return net.fit(data.train, epochs=epochs, callbacks=callbacks, verbose=0)

    with_run(lab, monkeypatch, fit=fit)
    with pytest.raises(ValueError, match="from_logits=True"):
        lab.train("alexnet")


def test_memory_that_runs_out_is_told_plainly(lab, monkeypatch):
    def fit(model, data, epochs, callbacks):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    with_run(lab, monkeypatch, fit=fit)
    with pytest.raises(MemoryError, match="batches of 32 images of 67 px"):
        lab.train("alexnet")
    assert keras.config.dtype_policy().name == "float32"


def test_an_epoch_is_a_shuffle_by_seed_and_epoch():
    photographs = data.load("photographs", 32, images=100)
    photographs = replace(photographs, y_train=np.sort(photographs.y_train))
    batches = training.feed(photographs, 20).train
    classes = [len(np.unique(batches[i][1])) for i in range(len(batches))]
    assert min(classes) > 3  # mixed from the start
    orders = []
    for entropy in [(0, 0), (0, 1), (1, 0), (0, 0)]:
        batches.reorder(*entropy)
        orders.append(np.concatenate([batches[i][1] for i in range(len(batches))]))
        assert sorted(orders[-1]) == sorted(photographs.y_train)
    assert np.array_equal(orders[0], orders[3])
    assert not np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[0], orders[2])


def two_heads(input_shape, classes, logits):
    """Return a tiny network of two outputs, its main logits first, branches side by side."""
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, 2, "same", name="conv1")(image)
    x = keras.layers.Activation("relu", name="relu1")(x)
    side = keras.layers.Conv2D(3, 3, name="side_conv")(x)
    side = keras.layers.Activation("relu", name="side_relu")(side)
    x = keras.layers.Concatenate(name="module")([x, x])
    ends = [keras.layers.GlobalAveragePooling2D()(maps) for maps in (x, side)]
    names = ("main", "side")
    return keras.Model(
        image,
        [keras.layers.Dense(classes, name=n)(end) for n, end in zip(names, ends, strict=True)],
    )


def test_of_several_outputs_the_first_counts(lab, monkeypatch):
    def fit(model, data, epochs, callbacks):
        net = augment.before(
            model, augment.CentreCrop(32), augment.Normalise(data.mean), input_size=data.size
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        metrics = [["accuracy"], ["accuracy"]]
        net.compile("sgd", [loss, loss], loss_weights=[1, 0.3], metrics=metrics)
        return net.fit(
            data.train, validation_data=data.val, epochs=epochs, callbacks=callbacks, verbose=0
        )

    with_run(lab, monkeypatch, small=two_heads, small_size=32, fit=fit, keep=None)
    trained = lab.train("alexnet")
    history = {name: values[-1] for name, values in trained.history.items()}
    names = {"loss", "accuracy", "total_loss", "side_loss", "side_accuracy"}
    assert set(history) == names | {f"val_{name}" for name in names}
    total = history["loss"] + 0.3 * history["side_loss"]
    assert history["total_loss"] == pytest.approx(total, rel=1e-3)
    found = (trained.probabilities.argmax(-1) == lab.data.y_val).mean()
    assert history["val_accuracy"] == pytest.approx(found, abs=1e-6)
    assert probe.with_maps(trained.model) == ["relu1", "module"]


def test_the_profile_settles_what_is_trained(lab):
    run = lab.runs["images-1000"]
    laptop = profiles.settle(run, profiles.PROFILES["laptop"])
    gpu = profiles.settle(run, profiles.PROFILES["gpu"])
    assert (laptop.network, laptop.size, laptop.seeds) == ("slim_alexnet", 67, (0,))
    assert (gpu.network, gpu.size, gpu.seeds) == ("alexnet", 128, (0, 1, 2))
    assert laptop.epochs == 9 * profiles.PROFILES["laptop"].epochs and laptop.images == 1000
    headline = profiles.settle(lab.runs["alexnet"], profiles.PROFILES["gpu"])
    assert (headline.size, headline.stored_size) == (227, 259)
    small = profiles.settle(lab.runs["alexnet"], profiles.PROFILES["laptop"], size=128)
    assert (small.network, small.size) == ("alexnet", 128)


def test_the_profile_comes_from_the_environment(monkeypatch):
    assert profiles.profile().name == "laptop"  # no GPU here
    monkeypatch.setenv("ILSVRC_PROFILE", "smoke")
    assert profiles.profile().name == "smoke"
    assert profiles.profile("gpu").name == "gpu"


@pytest.mark.parametrize("steps", [3, 10, 47])
def test_the_learning_rate_is_that_of_keras_warmed_up_cosine(steps):
    ours, warm = recipes.WarmCosine(0.02, steps), steps // 10
    theirs = keras.optimizers.schedules.CosineDecay(
        0.002, steps - warm, warmup_target=0.02, warmup_steps=warm
    )
    for step in range(steps + 3):
        assert float(ours(step)) == pytest.approx(float(theirs(step)), rel=1e-4, abs=1e-8)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(ours))
    assert float(again(steps // 2)) == float(ours(steps // 2))


def test_no_step_of_training_creates_variables(lab, monkeypatch):  # it would be traced twice
    counts = []

    def fit(model, data, epochs, callbacks):
        seen = [augment.CentreCrop(32), augment.Normalise(data.mean)]
        net = augment.before(model, *seen, input_size=data.size)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        net.compile("adam", [loss, loss], metrics=[["accuracy"], ["accuracy"]])

        def count(*_):
            counts.append(len(net.variables) + len(net.optimizer.variables + net.metrics_variables))

        after = keras.callbacks.LambdaCallback(on_train_begin=count, on_train_end=count)
        return net.fit(data.train, epochs=epochs, callbacks=[*callbacks, after], verbose=0)

    with_run(lab, monkeypatch, small=two_heads, small_size=32, fit=fit, keep=None)
    assert lab.train("alexnet").history["total_loss"][0] > 0
    assert counts[0] == counts[1]


@pytest.mark.real
@pytest.mark.slow
def test_the_slim_sibling_learns_imagenette(real_imagenette, monkeypatch):
    lab = with_run(Lab(CHAPTER, "laptop", epochs=2), monkeypatch, images=3000)
    assert lab.train("alexnet").history["val_accuracy"][-1] > 0.2  # chance: 0.1


def test_the_mean_of_many_pixels_is_not_rounded_away():
    images = np.full((300, 256, 256, 3), (118, 116, 109), "uint8")  # sums beyond single precision
    many = SimpleNamespace(
        x_train=images, y_train=np.zeros(300, int), x_val=images[:1], y_val=[0], size=256
    )
    np.testing.assert_allclose(training.feed(many, 10).mean, [118, 116, 109], rtol=1e-6)
