"""Inception v3 and BN-Inception against independent builds; each planted mistake is caught."""

import re
from functools import cache
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import ilsvrc
import networks
from ilsvrc import facts, ledger, page, paths, records

NAME, SMALL = "2015_inception_v3", {"input_shape": (139, 139, 3), "classes": 10, "logits": True}
SHORT = {"grids": ((64,), (), 1), "logits": True}
BY_KIND = {  # the convolutions of a module, in keras.applications' order
    "a": ["1x1_1", "5x5_1", "5x5_2", "3x3_1", "3x3_2", "3x3_3", "pool_1"],
    "b": ["3x3_1", "double_1", "double_2", "double_3"],
    "c": [
        "1x1_1",
        *(f"7x7_{i}" for i in (1, 2, 3)),
        *(f"double_{i}" for i in range(1, 6)),
        "pool_1",
    ],
    "d": ["3x3_1", "3x3_2", "7x7_1", "7x7_2", "7x7_3", "7x7_4"],
    "e": ["1x1_1", "3x3_1", "3x3_1x3_1", "3x3_3x1_1"]
    + ["double_1", "double_2", "double_1x3_1", "double_3x1_1", "pool_1"],
}
PATH = [f"conv{i}" for i in range(1, 6)]
PATH += [f"mixed{i}_{end}" for i, kind in enumerate("aaabccccdee") for end in BY_KIND[kind]]
MODULES = [f"mixed{i}" for i in range(11)]
V2 = ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")


@pytest.fixture(scope="module")
def module():
    return ilsvrc.chapter(NAME)


def kinds(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


# Inception v3


def check_parameters(model):
    assert networks.learnable(model) == facts.value("inception_v3.parameters") == 23_817_352
    assert model.count_params() == 23_851_784


check_macs = networks.gmac(5.713)
check_grids = networks.grids(
    {"conv1": 149, "conv2": 147, "conv3": 147, "pool1": 73, "conv4": 73, "conv5": 71, "pool2": 35}
    | {"mixed2": 35, "mixed3": 17, "mixed7": 17, "mixed8": 8, "mixed10": 8}
)
check_relus = networks.relus(*(f"{name}_relu" for name in PATH))


def check_norms(model):
    """Each convolution is without bias and goes into a batch norm without gamma, then a ReLU."""
    norms = kinds(model, keras.layers.BatchNormalization)
    assert len(norms) == len(kinds(model, keras.layers.Conv2D)) == len(PATH) == 94
    assert {(norm.epsilon, norm.scale, norm.center) for norm in norms} == {(1e-3, False, True)}
    assert not any(layer.use_bias for layer in kinds(model, keras.layers.Conv2D))


def check_kernels(model):
    found = {name: model.get_layer(name).kernel_size for name in PATH}
    for i in (4, 5, 6, 7):
        assert [found[f"mixed{i}_7x7_{j}"] for j in (1, 2, 3)] == [(1, 1), (1, 7), (7, 1)]
        sizes = [found[f"mixed{i}_double_{j}"] for j in range(1, 6)]
        assert sizes == [(1, 1), (7, 1), (1, 7), (7, 1), (1, 7)]
    for i in (0, 1, 2):
        assert [found[f"mixed{i}_5x5_2"], found[f"mixed{i}_3x3_3"]] == [(5, 5), (3, 3)]


def check_fans(model):
    for i in (9, 10):
        for branch in ("3x3", "double"):
            row, column = (model.get_layer(f"mixed{i}_{branch}_{n}_1") for n in ("1x3", "3x1"))
            assert row.input is column.input
            assert (row.kernel_size, column.kernel_size) == ((1, 3), (3, 1))


def check_reductions(model):
    """Both grids are halved by strides and a max pooling side by side."""
    for name in ("mixed3", "mixed8"):
        joined = [one._keras_history.operation for one in model.get_layer(name).input]
        assert isinstance(joined[-1], keras.layers.MaxPooling2D) and len(joined) == 3
        assert joined[-1].strides == (2, 2)
    strided = [name for name in PATH if model.get_layer(name).strides == (2, 2)]
    assert strided == ["conv1", "mixed3_3x3_1", "mixed3_double_3", "mixed8_3x3_2", "mixed8_7x7_4"]
    assert len(kinds(model, keras.layers.AveragePooling2D)) == 3 + 4 + 2


CHECKS = [check_parameters, check_macs, check_grids, check_relus, check_norms, check_kernels]
CHECKS += [check_fans, check_reductions]


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_it_is_the_released_network(module):
    model = module.inception_v3()
    for check in CHECKS:
        check(model)
    assert model.output_shape == (None, 1000) and model.get_layer("average").output.shape[1] == 2048


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_with_gammas_and_the_head_it_counts_as_torchvisions_does(module):
    model = module.inception_v3(auxiliary=True, scale=True)
    assert (
        networks.learnable(model)
        == facts.value("inception_v3.torchvision_parameters")
        == 27_161_264
    )
    assert [output.shape for output in model.outputs] == [(None, 1000)] * 2
    head = model.get_layer("head_average")
    assert head.input is model.get_layer("mixed7").output and head.output.shape[1:] == (5, 5, 768)
    assert model.get_layer("head_2").kernel.shape == (5, 5, 128, 768)
    head = [
        weight for one in model.layers if "head" in one.name for weight in one.trainable_weights
    ]
    without = networks.learnable(model) - sum(int(np.prod(weight.shape)) for weight in head)
    assert without == 23_834_568 and len(kinds(model, keras.layers.BatchNormalization)) == 96


PLANTED = {  # right, wrong, the check that catches it
    "wrong epsilon": ('{"epsilon": 1e-3, "momentum"', '{"epsilon": 1e-5, "momentum"', check_norms),
    "bias beside batch norm": ("use_bias=not norm", "use_bias=True", check_norms),
    "no ReLU": ('layers.Activation("relu", name=f"{name}_relu")(x)', "x", check_relus),
    "same for valid": ('"same" if small else "valid", {', '"same", {', check_grids),
    "conv3 not padded": (
        'unit(x, 64, 3, "conv3")',
        'unit(x, 64, 3, "conv3", 1, pad)',
        check_grids,
    ),
    "average pooling in a reduction": (
        'layers.MaxPooling2D(3, 2, padding, name=f"{name}_max")',
        'layers.AveragePooling2D(3, 2, padding, name=f"{name}_max")',
        check_reductions,
    ),
    "max pooling in a branch": (
        'layers.AveragePooling2D(3, 1, "same", name=f"{name}_average")',
        'layers.MaxPooling2D(3, 1, "same", name=f"{name}_average")',
        check_reductions,
    ),
    "7 x 1 before 1 x 7": (
        "[(n, 1), (n, (1, 7)), (192, (7, 1))]",
        "[(n, 1), (n, (7, 1)), (192, (1, 7))]",
        check_kernels,
    ),
    "3 x 3 in place of 5 x 5": ("[(48, 1), (64, 5)]", "[(48, 1), (64, 3)]", check_kernels),
    "a fan in a row": (
        'return [row(x, f"{name}_{h}x{w}", [(384, (h, w))]) for h, w in [(1, 3), (3, 1)]]',
        'y = row(x, f"{name}_1x3", [(384, (1, 3))])\n'
        '        return [y, row(y, f"{name}_3x1", [(384, (3, 1))])]',
        check_fans,
    ),
    "one width for all of 17 x 17": (
        "(128, 160, 160, 192), 2)",
        "(192, 192, 192, 192), 2)",
        check_macs,
    ),
    "a module too few": ("((32, 64, 64), (128", "((32, 64), (128", check_parameters),
}


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_fails_its_check(mistake, planted):
    right, wrong, check = PLANTED[mistake]
    whole = {} if check in (check_parameters, check_macs) else {"width": 0.125}
    model = planted(NAME, right, wrong).inception_v3(**whole)
    with pytest.raises((AssertionError, ValueError)):  # ValueError: no layer of that name
        check(model)


# Parity: all weights random, batch norm's statistics included; logits and one tap a module


def in_order(model, kind):
    """Return a model's layers of a kind in the order in which Keras numbered them."""

    def number(layer):
        found = re.search(r"_(\d+)$", layer.name)
        return int(found[1]) if found else 0

    return sorted(kinds(model, kind), key=number)


@cache
def theirs():
    """Return keras.applications' network with random weights, its images and its outputs."""
    options = {"weights": None, "classes": 10, "classifier_activation": None}
    model = keras.applications.InceptionV3(input_shape=(139, 139, 3), **options)
    rng = np.random.default_rng(0)
    for norm in kinds(model, keras.layers.BatchNormalization):
        n = norm.beta.shape[0]
        norm.set_weights([*rng.normal(0, 0.3, (2, n)), rng.uniform(0.3, 1.5, n)])
    for conv in kinds(model, keras.layers.Conv2D):
        shape = conv.kernel.shape
        conv.set_weights([rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape)])
    dense = model.get_layer("predictions")
    dense.set_weights([rng.normal(0, 0.05, dense.kernel.shape), rng.normal(0, 0.3, 10)])
    images = rng.normal(size=(1, 139, 139, 3)).astype("float32")
    stem = in_order(model, keras.layers.MaxPooling2D)[1].name
    return model, images, networks.outputs(model, [stem, *MODULES, "predictions"], images)


def distance(module):
    """Return the largest difference in logits and taps, as a share of the largest value."""
    there, images, expected = theirs()
    model = module.inception_v3(**SMALL)
    for name, conv, norm in zip(
        PATH,
        in_order(there, keras.layers.Conv2D),
        in_order(there, keras.layers.BatchNormalization),
        strict=True,
    ):
        model.get_layer(name).set_weights(conv.get_weights())
        model.get_layer(f"{name}_bn").set_weights(norm.get_weights())
    model.get_layer("dense").set_weights(there.get_layer("predictions").get_weights())
    return networks.apart(networks.outputs(model, ["pool2", *MODULES, "dense"], images), expected)


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.once
@pytest.mark.slow
def test_outputs_agree_with_keras_applications(module):
    assert distance(module) <= 1e-4


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize(
    "mistake", ["wrong epsilon", "average pooling in a reduction", "max pooling in a branch"]
)
def test_parity_catches_a_planted_mistake(mistake, planted):
    right, wrong, _ = PLANTED[mistake]
    assert distance(planted(NAME, right, wrong)) > 1e-3


# BN-Inception


def check_v2_parameters(model):
    assert networks.learnable(model) == facts.value("inception_v2.parameters") == 11_194_984


check_v2_grids = networks.grids(
    {"conv1": 112, "pool1": 56, "conv2": 56, "pool2": 28, "inception_3b": 28, "inception_3c": 14}
    | {"inception_4d": 14, "inception_4e": 7, "inception_5b": 7}
)


def check_v2_pools(model):
    found = {name: type(model.get_layer(f"inception_{name}_pool")) for name in V2}
    most = {name for name, kind in found.items() if kind is keras.layers.MaxPooling2D}
    assert most == {"3c", "4e", "5b"}


def check_v2_norms(model):
    norms = kinds(model, keras.layers.BatchNormalization)
    assert len(norms) == len(kinds(model, keras.layers.Conv2D)) == 69
    assert {(norm.epsilon, norm.scale) for norm in norms} == {(1e-5, True)}


V2_CHECKS = [check_v2_parameters, check_v2_grids, check_v2_pools, check_v2_norms]


@pytest.mark.once
def test_bn_inception_agrees_with_the_onnx_graph(module):
    onnx = pytest.importorskip("onnx")
    graph = networks.onnx_graph("light_inception_v2")
    shapes = {
        one.name.removesuffix("__SHAPE"): tuple(onnx.numpy_helper.to_array(one).tolist())
        for one in graph.initializer
        if one.name.endswith("__SHAPE")
    }
    model = module.inception_v2()
    for check in V2_CHECKS:
        check(model)
    stem = {"conv1/7x7_s2": "conv1", "conv2/3x3": "conv2", "conv2/3x3_reduce": "conv2_reduce"}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    for node in convolutions:
        theirs = node.input[1].removesuffix("_w_0")
        ours = theirs.replace("/double3x3", "_double_").replace("double__", "double_")
        layer = model.get_layer(stem.get(theirs, ours.replace("/", "_")))
        filters, channels, height, width = shapes[node.input[1]]
        assert tuple(layer.kernel.shape) == (height, width, channels, filters), theirs
        assert list(layer.strides) == list(networks.attributes(node)["strides"]), theirs
        assert len(node.input) == 2 and not layer.use_bias, theirs
    assert len(convolutions) == 69
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            assert networks.attributes(node)["epsilon"] == pytest.approx(1e-5)
    pools = [node.op_type for node in graph.node if node.op_type.endswith("Pool")]
    kind = {keras.layers.MaxPooling2D: "MaxPool", keras.layers.AveragePooling2D: "AveragePool"}
    ours = [kind[type(model.get_layer(f"inception_{name}_pool"))] for name in V2]
    assert pools == ["MaxPool", "MaxPool", *ours, "AveragePool"]


V2_PLANTED = {
    "Keras' epsilon": ('norm={"epsilon": 1e-5, ', "norm={", check_v2_norms),
    "averages in 5b": ('("3c", "4e", "5b")', '("3c", "4e")', check_v2_pools),
    "no strides": ("strides = 1 if one else 2", "strides = 1", check_v2_grids),
    "5 x 5 for 3 x 3 twice": (
        'c = conv(c, double, 3, f"{name}_double_a")',
        'c = conv(c, double, 5, f"{name}_double_a")',
        check_v2_parameters,
    ),
}


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("mistake", V2_PLANTED)
def test_a_mistake_in_bn_inception_fails_its_check(mistake, planted):
    right, wrong, check = V2_PLANTED[mistake]
    with pytest.raises(AssertionError):
        check(planted(NAME, right, wrong).inception_v2())


# What the page is made of


def test_batch_norm_is_keras_own_in_training_and_at_test_time(module):
    x = np.random.default_rng(0).normal(3, 5, (16, 8, 8, 4)).astype("float32")
    theirs = keras.layers.BatchNormalization(epsilon=1e-3)
    np.testing.assert_allclose(module.batch_norm(x), theirs(x, training=True), atol=1e-4)
    kept = [keras.ops.convert_to_numpy(one) for one in (theirs.moving_mean, theirs.moving_variance)]
    own = module.batch_norm(x, 1, 0, *kept)
    np.testing.assert_allclose(own, theirs(x, training=False), atol=1e-3)


def test_soft_labels_are_keras_own(module):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (8, 5)).astype("float32"), rng.integers(0, 5, 8)
    for epsilon in (0.0, 0.1):
        loss = keras.losses.CategoricalCrossentropy(True, label_smoothing=epsilon, reduction=None)
        own = module.smoothed(labels[:, None], logits, epsilon)
        np.testing.assert_allclose(own, loss(np.eye(5)[labels], logits), rtol=1e-5)


@pytest.mark.once
def test_a_merged_row_sees_as_far_in_one_filter(module):
    double = [(64, 1), (96, 3), (96, 3)]
    assert module.merge(double, "3x3") == [(64, 1), (96, 5)]
    rows = [(8, 1), (8, (7, 1)), (8, (1, 7)), (8, (7, 1)), (9, (1, 7))]
    assert module.merge(rows, "7x7") == [(8, 1), (8, 7), (9, 7)]
    for kind in (None, "7x7"):
        assert module.merge(double, kind) == double
    seen = {
        kind: ledger.ledger(module.slim_inception_v3(merged=kind)).receptive_field["mixed3"]
        for kind in (None, "3x3", "7x7")
    }
    assert len(set(seen.values())) == 1


def slim(module, seed=0, **options):
    """Return a short slim network with random weights, statistics included."""
    model, rng = module.slim_inception_v3(**SHORT, **options), np.random.default_rng(seed)
    for norm in kinds(model, keras.layers.BatchNormalization):
        n = norm.beta.shape[0]
        gamma = [rng.uniform(0.5, 1.5, n)] if norm.scale else []
        norm.set_weights([*gamma, *rng.normal(0, 0.3, (2, n)), rng.uniform(0.3, 1.5, n)])
    return model


@pytest.mark.parametrize("scale", [False, True])
def test_a_folded_network_gives_the_same_logits(module, scale):
    model, bare = slim(module, scale=scale), module.slim_inception_v3(**SHORT, norm=False)
    assert not kinds(bare, keras.layers.BatchNormalization)
    module.fold(model, bare)
    images = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype("float32")
    before, after = (net.predict(images, verbose=0) for net in (model, bare))
    np.testing.assert_allclose(after, before, atol=1e-4 * abs(before).max())


@pytest.mark.once
@pytest.mark.slow
def test_batch_statistics_depend_on_the_batch_and_leave_no_trace(module):
    keras.utils.set_random_seed(0)
    model, rng = slim(module), np.random.default_rng(2)
    images = rng.normal(size=(32, 64, 64, 3)).astype("float32")
    images[16:] = 3 * images[16:] + 2  # another lot: alone, its statistics are others
    before = model.get_weights()
    labels = keras.ops.convert_to_numpy(model(images, training=True)).argmax(-1)
    model.set_weights(before)
    assert module.with_batch_statistics(model, images, labels, 32) == 1
    assert module.with_batch_statistics(model, images, labels, 16) < 1
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.once
@pytest.mark.slow
def test_short_trainings_give_a_loss_a_step_and_percentiles_in_order(module):
    rng = np.random.default_rng(0)
    data = SimpleNamespace(
        x_train=rng.integers(0, 256, (80, 73, 73, 3)).astype("uint8"),
        y_train=rng.integers(0, 2, 80),
        class_names=["a", "b"],
    )
    trained = SimpleNamespace(dataset=data, prepare=lambda x: x[:, :64, :64] / np.float32(58) - 2)
    losses, drift = module.short_training(trained, False, 0.01, steps=5, watch=True)
    assert losses.shape == (5,) and np.isfinite(losses).all() and drift.shape == (2, 3)
    assert (np.diff(drift, axis=1) >= 0).all() and np.ptp(drift[:, 1]) > 0


@pytest.mark.once
def test_the_slim_sibling_and_its_variants(module):
    sizes = {}
    for run in module.runs:
        model = run.small(logits=True)
        assert model.input_shape == (None, 64, 64, 3)
        assert len(model.outputs) == (2 if run.name in ("inception_v3", "auxiliary") else 1)
        assert bool(kinds(model, keras.layers.BatchNormalization)) != run.name.startswith("no-norm")
        sizes[run.name] = ledger.totals(model)["macs"]
    assert sizes["five"] > sizes["baseline"] < sizes["seven"] and sizes["seven"] < 2e7
    grids = {"mixed0": 16, "mixed1": 8, "mixed3": 8, "mixed4": 4, "mixed5": 4}
    networks.grids(grids)(model)
    for name, layer in module.ends.items():
        assert any(one.name.endswith(layer) for one in model.layers), name


# What the page says of its published runs


def published(run):
    return records.read(paths.record(NAME, run))


def by_epoch(run, metric="val_accuracy"):
    return published(run).by_epoch(metric).mean(0)


def top1(run):
    return published(run)["top1"]["mean"]


def test_the_first_figure_with_batch_norm_it_learns_at_every_rate_without_at_none():
    arrays = published("inception_v3").arrays
    assert arrays["short/losses"].shape[-1] == 80
    ends, chance = arrays["short/losses"].astype(float)[..., -10:].mean(-1), np.log(10)
    assert (ends[0] < 0.96 * chance).all()
    assert arrays["short/rates"][ends[0].argmin()] == np.float32(0.045)
    assert (abs(ends[1] / chance - 1) < 0.02).all()


def test_the_published_curves_jump_at_first_and_end_below_training():
    run = published("inception_v3")
    (steps,) = np.diff(run.by_epoch("val_accuracy"))
    assert steps[:8].min() < -0.03 and steps[16:].min() > -0.015
    assert run.by_epoch("val_accuracy")[0, -1] < run.by_epoch("accuracy")[0, -1]
    assert run["network"]["options"] == {"auxiliary": True}


def test_three_epochs_with_batch_norm_bring_more_than_five_without():
    with_norm, without = by_epoch("baseline"), [by_epoch("no-norm"), by_epoch("no-norm-fast")]
    assert len(with_norm) == 5 and with_norm[2] > max(line.max() for line in without)
    for line in without:
        assert (with_norm > line).all()
    for line in (with_norm, *without):
        assert line[-1] > line[-2]  # still rising
    run = published("baseline")
    assert round(run["data"]["train"] / run["recipe"]["batch"]) == 148  # steps an epoch


def test_the_claims_come_out_as_the_page_says(module):
    evidence = {run.name: published(run.name) for run in module.runs}
    table = page.verdicts(evidence, module.tested)
    same = "too small to see here"
    assert list(table.verdict) == ["holds", "holds", same, same, "the opposite", same, "holds"]
    assert set(table.seeds) == {3} and (table["here (points)"][2:6] < 0).all()
    assert [claim.paper for claim in module.tested[5:]] == [
        pytest.approx(
            facts.value("inception_v3.rmsprop_top1_error")
            - facts.value("inception_v3.smoothing_top1_error")
        ),
        None,
    ]


def test_the_figure_of_costs_seven_is_better_and_dearer():
    assert top1("baseline") < top1("five") < top1("seven")
    seven, own = (published(name)["network"]["macs"] for name in ("seven", "baseline"))
    assert 1.6 < seven / own < 1.8
    assert by_epoch("seven", "accuracy")[-1] - by_epoch("baseline", "accuracy")[-1] > 0.03


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_between_row_and_column_there_are_as_many_maps_as_the_page_says(module):
    for build, few, many in ((module.slim_inception_v3, 16, 24), (module.inception_v3, 128, 192)):
        between = {
            layer.kernel.shape[2]
            for layer in kinds(build(), keras.layers.Conv2D)
            if layer.name.endswith("_7x7_3") and layer.kernel_size == (7, 1)
        }
        assert (min(between), max(between)) == (few, many)


def test_the_head_speeds_training_up():
    assert by_epoch("auxiliary", "accuracy")[-1] - by_epoch("baseline", "accuracy")[-1] > 0.01


def test_the_input_of_a_relu_stays_with_batch_norm_and_dies_without():
    low, _, high = published("inception_v3").arrays["short/percentiles"].astype(float).T
    with_norm, without = (high - low).T  # every fourth step
    assert (abs(with_norm / with_norm[0] - 1) < 0.1).all()
    assert without[5] < without[0] / 30 and (without[5:] < without[0] / 20).all()


def test_batch_statistics_suffer_from_small_batches_and_from_batches_of_one_class():
    arrays = published("inception_v3").arrays
    mixed, alike = arrays["batch/accuracy"]
    assert list(arrays["batch/sizes"]) == [1, 2, 4, 8, 16, 32]
    assert (np.diff(mixed) > 0).all() and 0 < arrays["batch/averages"] - mixed[-1] < 0.05
    assert (alike < arrays["batch/averages"] / 2).all()
    truth = np.asarray(published("baseline").arrays["labels"])  # as `batch_accuracies` draws them
    order = np.sort(truth[np.random.default_rng(0).permutation(len(truth))[:512]])
    shared = [(order[::size] != order[size - 1 :: size]).mean() for size in (1, 2, 4, 8, 16, 32)]
    assert (np.diff(shared) > 0).all() and shared[-2] <= 0.25 and 0.5 < shared[-1] < 0.6


def test_neither_hard_nor_soft_labels_are_too_sure_after_five_epochs():
    sure = {}
    for name in ("baseline", "smoothing"):
        arrays = published(name).arrays
        odds = arrays["probabilities"].astype(float)
        sure[name] = odds.max(-1).mean() - (odds.argmax(-1) == arrays["labels"]).mean()
    assert -0.02 < sure["baseline"] < 0.02 and sure["smoothing"] < -0.05
