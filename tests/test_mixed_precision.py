"""What a GPU trains can be looked at: mixed precision, on the processor that tests run on."""

import functools
import json
from dataclasses import replace
from types import SimpleNamespace

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import layers, ops

import ilsvrc
from ilsvrc import (
    Lab,
    augment,
    backend,
    ledger,
    page,
    paths,
    probe,
    publishing,
    records,
    training,
    vis,
    weights,
)
from ilsvrc import lab as lab_module

CHAPTER = "2012_alexnet"
MIXED = ("mixed_bfloat16", "mixed_float16")
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(5, 16, 16, 3)).astype("float32")
PHOTOGRAPHS = RNG.integers(0, 256, (5, 16, 16, 3)).astype("uint8")
LABELS = np.array([0, 1, 2, 0, 1])
KERNEL = RNG.normal(size=(3, 3, 3, 8)).astype("float32")


@keras.saving.register_keras_serializable("tests")
class LocalResponseNorm(layers.Layer):
    """A normalisation without weights, which the deconvnet passes by."""

    def call(self, x):
        return x / (1 + ops.mean(ops.square(x), axis=-1, keepdims=True))


def network(input_shape=(16, 16, 3), classes=3, logits=True, last=None):
    """A network whose parts are those of the chapters; its logits have the policy's own dtype."""
    image = keras.Input(input_shape, name="image")
    x = layers.Conv2D(8, 3, name="conv1")(image)
    x = x1 = layers.Activation("relu", name="relu1")(layers.BatchNormalization(name="bn1")(x))
    x = layers.MaxPooling2D(2, name="pool1")(LocalResponseNorm(name="norm1")(x))
    x = layers.Dropout(0.3, name="dropout1")(x)
    x = layers.Conv2D(8, 3, padding="same", name="conv2")(x)
    x = layers.Add(name="add")([x, layers.MaxPooling2D(2, name="shortcut")(x1)])
    x = layers.ReLU(name="relu2")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(image, layers.Dense(classes, name="dense", dtype=last)(x), name="net")


def under(policy, do, **options):
    """Do something under a policy, such as build a network; the policy is then what it was."""
    keras.config.set_dtype_policy(policy)
    try:
        return do(**options)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def nets():
    """Return the same network by policy."""
    keras.utils.set_random_seed(0)
    found = {policy: under(policy, network) for policy in ("float32", *MIXED)}
    found["float64 logits"] = under("float32", network, last="float64")
    found["bfloat16"] = under("bfloat16", network)
    found["float32"].get_layer("conv2").bias.assign([-50.0] + 7 * [0.0])  # a dead unit
    for model in found.values():
        model.set_weights(found["float32"].get_weights())
    return found


def top(model):
    return vis.top_patches(model, "relu2", IMAGES, k=3)


LOOKS = {  # every function of `vis` that runs a network, as arrays
    "activations": lambda m: vis.activations(m, IMAGES, ["relu1", "relu2", "dense"])["dense"],
    "class_activation_map": lambda m: vis.class_activation_map(m, IMAGES, LABELS),
    "dead_units": lambda m: np.float32(vis.dead_units(m, "relu2", IMAGES)),
    "deconvnet": lambda m: vis.deconvnet(m, IMAGES, "relu2", 1),
    "feature_ablation": lambda m: np.stack(
        list(vis.feature_ablation(m, "conv1", [0, 2], 128, 60, steps=2).values())
    ),
    "feature_visualisation": lambda m: np.concatenate(
        [one.ravel() for one in vis.feature_visualisation(m, "dense", range(3), 128, 60, steps=3)]
    ),
    "grad_cam": lambda m: vis.grad_cam(m, IMAGES, LABELS, "norm1"),
    "gradient_norms": lambda m: np.float32(list(vis.gradient_norms(m, IMAGES, LABELS).values())),
    "guided_backprop": lambda m: vis.guided_backprop(m, IMAGES, "relu2", LABELS),
    "integrated_gradients": lambda m: vis.integrated_gradients(m, IMAGES, LABELS, steps=16)[0],
    "occlusion": lambda m: vis.occlusion(m, IMAGES, LABELS, patch=6, stride=4, probability=True),
    "saliency": lambda m: vis.saliency(m, IMAGES, LABELS),
    "smoothgrad": lambda m: vis.smoothgrad(m, IMAGES, LABELS, n=3),
    "top_patches": lambda m: top(m)["activation"].to_numpy(),
}


@pytest.fixture(scope="module")
def expected(nets):
    """Return a function that gives what a look finds in float32, computed once."""
    return functools.cache(lambda look: LOOKS[look](nets["float32"]))


def check_equal(found, expected):
    assert found.dtype == expected.dtype == "float32"
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


ALIKE = {
    "dead_units",
    "feature_ablation",
    "integrated_gradients",
    "smoothgrad",
}  # go through the same code as another look
PAIRS = [("mixed_bfloat16", look) for look in LOOKS]
PAIRS += [("mixed_float16", look) for look in LOOKS if look not in ALIKE]


@pytest.mark.parametrize("policy, look", PAIRS)
def test_a_look_at_a_network_is_that_of_the_same_network_in_float32(nets, expected, policy, look):
    check_equal(LOOKS[look](nets[policy]), expected(look))


@pytest.mark.skipif(backend.name() == "jax", reason="JAX computes in float32 at most")
@pytest.mark.parametrize("look", [look for look in LOOKS if look not in ALIKE])
def test_logits_in_float64_are_looked_at_in_float32(nets, expected, look):
    check_equal(LOOKS[look](nets["float64 logits"]), expected(look))


SUMS = ["activations", "class_activation_map", "deconvnet", "gradient_norms", "top_patches"]


@pytest.mark.parametrize("look", SUMS)
def test_a_network_with_half_precision_weights_is_looked_at_as_it_is(nets, look):
    found = LOOKS[look](nets["bfloat16"])
    assert found.dtype == "float32" and np.isfinite(found).all()


@pytest.mark.parametrize("policy", MIXED)
def test_small_gradients_are_not_lost(nets, policy):
    """Half precision would make them 0: training scales the loss up before it goes down."""
    faint = keras.models.clone_model(nets[policy])
    faint.set_weights(nets[policy].get_weights())
    faint.get_layer("dense").kernel.assign(1e-7 * faint.get_layer("dense").kernel)
    assert 0 < np.abs(vis.saliency(faint, IMAGES, LABELS)).max() < 1e-6
    assert 0 < vis.grad_cam(faint, IMAGES, LABELS, "norm1").max() < 1e-5
    assert 0 < vis.gradient_norms(faint, IMAGES, LABELS)["conv1"] < 1e-5


@pytest.mark.parametrize("policy", MIXED)
def test_a_look_leaves_a_network_as_it_was_even_if_it_fails(nets, policy):
    model = nets[policy]
    model = keras.Model(model.inputs, model.outputs)  # has compiled nothing yet
    before = [layer.dtype_policy.name for layer in model.layers]
    vis.occlusion(model, IMAGES, LABELS, patch=8, stride=8)
    with pytest.raises(ValueError, match="no layer"):
        vis.deconvnet(model, IMAGES, "relu9", 0)
    assert [layer.dtype_policy.name for layer in model.layers] == before
    assert policy in before
    half = policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(model(IMAGES).dtype) == half
    assert model.predict_on_batch(IMAGES).dtype.name == half
    forwarded = backend.forward(model, IMAGES, training=True)
    assert keras.backend.standardize_dtype(forwarded.dtype) == "float32"


@pytest.mark.parametrize("policy", MIXED)
def test_a_look_bears_a_policy_set_for_the_whole_notebook(nets, expected, policy):
    for look in ("deconvnet", "grad_cam", "gradient_norms"):
        check_equal(under(policy, LOOKS[look], m=nets[policy]), expected(look))


@pytest.mark.parametrize("policy", MIXED)
def test_a_twin_is_as_the_network_is(nets, policy):
    twin = vis.randomised(nets[policy], "conv2")
    assert twin.get_layer("conv2").dtype_policy.name == policy
    figure = vis.with_twin(lambda m: vis.saliency(m, IMAGES, LABELS), nets[policy], PHOTOGRAPHS)
    assert any("ρ" in axes.get_ylabel() for axes in figure.axes)


@pytest.mark.parametrize("policy", MIXED)
def test_diagrams_and_ledgers_do_not_depend_on_precision(nets, policy):
    mixed, plain = nets[policy], nets["float32"]
    assert vis.diagram(mixed).data == vis.diagram(plain).data
    assert vis.diagrams({"a": mixed}).data == vis.diagrams({"a": plain}).data
    assert ledger.ledger(mixed).equals(ledger.ledger(plain))


def drawn_patches(half):
    best = vis.strongest_units(top(half.model), 2)
    signals = half(vis.deconvnet(half.model, IMAGES[best.image], "relu2", best.unit))
    pictures = half(vis.contrast(vis.crops(signals, best, fill=0)))
    return vis.patches(pictures, best.unit, beside=vis.crops(PHOTOGRAPHS[best.image], best))


ODDS = ops.convert_to_numpy(ops.softmax(RNG.normal(size=(5, 3)).astype("float32")))
NAMES = ["cat", "dog", "owl"]
MAPS = RNG.normal(size=(5, 16, 16)).astype("float32")
DRAWN = {  # every other function, from arrays in half precision as `predict` returns them
    "activation_maps": lambda half: vis.activation_maps(half(IMAGES[0]), n=2),
    "confusion": lambda half: vis.confusion(LABELS, half(ODDS), NAMES),
    "curves": lambda half: vis.curves({"a": {"loss": list(half(ODDS[0])), "val_loss": [1, 2, 3]}}),
    "duplicate_units": lambda half: vis.duplicate_units(half(KERNEL)),
    "filter_colour": lambda half: vis.filter_colour(half(KERNEL)),
    "filter_memory": lambda half: vis.filter_memory(half(KERNEL), KERNEL),
    "filter_slider": lambda half: vis.filter_slider({0: half(KERNEL), 1: KERNEL}),
    "filter_smoothness": lambda half: vis.filter_smoothness(half(KERNEL)),
    "filters": lambda half: vis.filters(half(KERNEL), each=True),
    "filters_over_epochs": lambda half: vis.filters_over_epochs({0: half(KERNEL)}),
    "gallery": lambda half: vis.gallery(half(PHOTOGRAPHS / 255), NAMES + ["", ""]),
    "mistakes": lambda half: vis.mistakes(PHOTOGRAPHS, LABELS, half(ODDS), NAMES),
    "overlay": lambda half: vis.overlay(PHOTOGRAPHS, {"map": half(MAPS)}),
    "patches": drawn_patches,
    "similarity": lambda half: vis.similarity(half(MAPS), half(MAPS)),
}


class Half:
    """A network, and a function that turns arrays to its precision."""

    def __init__(self, model, policy):
        self.model, self.dtype = model, policy.removeprefix("mixed_")

    def __call__(self, array):
        # As it comes out of a network. TensorFlow's array has a dtype that NumPy does not know.
        return ops.convert_to_numpy(ops.cast(array, self.dtype))


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("policy", MIXED)
def test_what_is_drawn_may_be_in_half_precision(nets, policy, name):
    found = DRAWN[name](Half(nets[policy], policy))
    if isinstance(found, plt.Figure):
        found.canvas.draw()
    elif isinstance(found, np.ndarray):
        assert found.dtype.kind in "fi" and np.isfinite(found).all()


def test_every_public_function_of_vis_is_tried():
    together = {"contrast", "crops", "strongest_units"}  # in `drawn_patches`
    twins = {"randomised", "with_twin", "diagram", "diagrams"}
    assert set(vis.__all__) == {*LOOKS, *DRAWN, *together, *twins}


# A run, from the box to the record


def fit(model, data, epochs, callbacks):
    model.get_layer("conv1").kernel.assign(model.get_layer("conv1").kernel * 0.5)
    net = augment.before(
        model, augment.RandomCrop(24), augment.RandomFlip(), augment.Normalise(data.mean, 58),
        input_size=data.size,
    )  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.AdamW(1e-3), loss, metrics=["accuracy"])
    return net.fit(
        data.train, validation_data=data.val, epochs=epochs, callbacks=callbacks, verbose=0
    )


def signature(trained):
    """Measure as the chapters do, and leave an array in the network's own precision."""
    images, labels = trained.dataset.x_val[:20], trained.dataset.y_val[:20]
    seen = trained.prepare(images)
    best = vis.strongest_units(
        vis.top_patches(trained.model, "relu2", images, 4, prepare=trained.prepare), 2
    )
    norms = vis.gradient_norms(trained.model, seen, labels, training=True)
    return {
        "units": best.unit.to_numpy(),
        "signals": vis.deconvnet(trained.model, seen[best.image], "relu2", best.unit),
        "norms": np.array(list(norms.values())),
        "raw": trained.model.predict(seen, verbose=0),
    }


@pytest.fixture(params=MIXED)
def lab(request, monkeypatch):
    """Return the lab of a small headline run on a machine with this policy."""
    monkeypatch.setattr(probe, "UNITS", 2)
    monkeypatch.setattr(probe, "CLASSES", 2)
    monkeypatch.setattr(backend, "precision", lambda: request.param)
    lab_module.macs_per_second.cache_clear()
    module = ilsvrc.chapter(CHAPTER)
    changes = {
        "build": network,
        "small": network,
        "fit": fit,
        "small_size": 24,
        "measure": signature,
        "keep": "conv",
    }
    monkeypatch.setattr(module, "runs", [replace(module.runs[0], **changes)])
    yield Lab(CHAPTER, "smoke")
    lab_module.macs_per_second.cache_clear()


def check_precision(trained, policy):
    """The network computes in the policy; loss, statistics, augmentation stay in float32."""
    assert trained.model.get_layer("conv2").compute_dtype == policy.removeprefix("mixed_")
    assert {v.dtype for v in trained.model.trainable_variables} == {"float32"}
    assert trained.model.get_layer("bn1").moving_variance.dtype == "float32"
    assert np.isfinite(trained.history["loss"] + trained.history["val_loss"]).all()
    scales = isinstance(trained.net.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scales == (policy == "mixed_float16")
    outputs = trained.net(trained.dataset.x_val[:2])
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    assert trained.probabilities.dtype == trained.filters[1].dtype == "float32"
    np.testing.assert_allclose(trained.probabilities.sum(1), 1, atol=1e-5)


def test_a_run_is_told_trained_recorded_and_read_back(lab, displayed, tmp_path):
    policy = backend.precision()
    page.before_you_run(lab)
    assert "smoke" in displayed[0]
    trained = lab.train("alexnet")
    check_precision(trained, policy)
    record = records.read(lab.publish("alexnet", tmp_path))
    assert record["recipe"]["precision"] == policy
    kinds = {name: array.dtype.kind for name, array in record.arrays.items()}
    assert {name for name, kind in kinds.items() if kind not in "fiu"} == set()
    floats = [array for array in record.arrays.values() if array.dtype.kind == "f"]
    assert all(np.isfinite(array.astype("float32")).all() for array in floats)
    assert record.arrays["features/classes"].std() > 1
    fresh = network((24, 24, 3), 10)
    weights.restore(fresh, record.weights)
    kernels = [
        ops.convert_to_numpy(one.get_layer("conv2").kernel) for one in (fresh, trained.model)
    ]
    np.testing.assert_allclose(*kernels, atol=np.abs(kernels[1]).max() / 253)
    again = Lab(CHAPTER, "smoke").train("alexnet")  # from the cache
    assert again.history == trained.history
    np.testing.assert_allclose(again.probabilities, trained.probabilities, atol=1e-6)
    rates = publishing.throughput(trained, 32, steps=2)
    assert min(rates.values()) > 0
    page.photograph(SimpleNamespace(published=lambda name: record, headline="alexnet"), trained)


class Stops(keras.callbacks.Callback):
    """A Ctrl-C at the start of an epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_a_stopped_training_goes_on_to_the_same_numbers(tiny_course, tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "precision", lambda: "mixed_float16")  # whose loss has a scale
    whole = Lab("2099_tiny", "smoke", epochs=2).train("one")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    with monkeypatch.context() as patch:
        patch.setattr(training, "Stop", lambda pressed: Stops())
        with pytest.raises(KeyboardInterrupt):
            Lab("2099_tiny", "smoke", epochs=2).train("one")
    assert list((tmp_path / "other").rglob("epoch-*"))
    keras.config.set_dtype_policy("float64")  # a reader's own, which stays
    try:
        broken = Lab("2099_tiny", "smoke", epochs=2).train("one")
        assert keras.config.dtype_policy().name == "float64"
    finally:
        keras.config.set_dtype_policy("float32")
    assert broken.history == whole.history
    np.testing.assert_array_equal(broken.probabilities, whole.probabilities)
    assert isinstance(broken.net.optimizer, keras.optimizers.LossScaleOptimizer)


def test_pixels_are_prepared_to_the_last_grey_level(nets):
    for policy in MIXED:
        net = under(
            policy,
            lambda: augment.before(
                network(), augment.CentreCrop(16), augment.Normalise(100.0, 58), input_size=16
            ),
        )
        exact = (PHOTOGRAPHS - np.float32(100)) / np.float32(58)
        np.testing.assert_allclose(augment.prepare(net, PHOTOGRAPHS), exact, rtol=1e-6)
        odds = augment.predict_views(net, PHOTOGRAPHS, "centre")
        assert odds.dtype == "float32"
        np.testing.assert_allclose(odds.sum(1), 1, atol=1e-5)


# A processor that has bfloat16: which policy a training takes


@pytest.fixture
def processor(tiny_course, monkeypatch):
    """Return the file of what a step takes, on such a machine, where each training is long."""
    monkeypatch.setattr(backend, "bfloat16_on_cpu", lambda: True)
    monkeypatch.setattr(training, "LONG", 0)
    return lambda: next((paths.cache() / "runs" / "2099_tiny" / "one").glob("*-seconds.json"))


def computes_in(seed):
    trained = Lab("2099_tiny", "smoke", seed=seed).train("one")
    return trained.precision, trained.model.get_layer("conv1").compute_dtype


def test_a_long_training_takes_the_policy_whose_steps_were_quicker(processor, capsys):
    policy, dtype = computes_in(seed=0)
    seconds = json.loads(processor().read_text())
    assert policy == min(seconds, key=seconds.get) and dtype == policy.removeprefix("mixed_")
    assert set(seconds) == {"float32", "mixed_bfloat16"} and min(seconds.values()) > 0
    assert capsys.readouterr().err.count("Timing") == 1
    for seed, quicker in enumerate(("mixed_bfloat16", "float32"), 1):
        processor().write_text(json.dumps({name: 1 + (name != quicker) for name in seconds}))
        assert computes_in(seed) == (quicker, quicker.removeprefix("mixed_"))
    assert "Timing" not in capsys.readouterr().err
    record = Lab("2099_tiny", "smoke", seed=1).record("one")
    assert record["recipe"]["precision"] == "mixed_bfloat16"


@pytest.mark.once
@pytest.mark.parametrize("text", ["", '{"float32": 1}'])
def test_a_timing_that_is_lost_is_made_again(processor, capsys, text):
    computes_in(seed=0)
    processor().write_text(text)
    computes_in(seed=1)
    assert set(json.loads(processor().read_text())) == {"float32", "mixed_bfloat16"}
    assert capsys.readouterr().err.count("Timing") == 2


@pytest.mark.once
def test_a_training_goes_on_in_the_policy_it_began_in(processor, capsys):
    computes_in(seed=0)
    for seed, policy in enumerate(("mixed_bfloat16", "float32"), 1):
        processor().write_text(
            json.dumps({name: 1 + (name != policy) for name in training.POLICIES})
        )
        computes_in(seed)
    processor().unlink()
    assert computes_in(seed=1)[0] == "mixed_bfloat16" and computes_in(seed=2)[0] == "float32"
    assert capsys.readouterr().err.count("Timing") == 1  # the first


@pytest.mark.once
def test_timing_changes_nothing_of_what_is_trained(processor, tmp_path, monkeypatch):
    computes_in(seed=0)
    processor().write_text('{"float32": 1, "mixed_bfloat16": 2}')
    timed = Lab("2099_tiny", "smoke", seed=5).train("one")
    monkeypatch.setattr(training, "LONG", 1e14)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    untimed = Lab("2099_tiny", "smoke", seed=5).train("one")
    assert not list((tmp_path / "other").rglob("*-seconds.json"))
    assert timed.history == untimed.history
