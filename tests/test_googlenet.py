"""GoogLeNet against the paper and an independent graph; each planted mistake is caught."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

import ilsvrc
import networks
from ilsvrc import facts, ledger, page, paths, records

MODULES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
BRANCHES = ("1x1", "3x3", "5x5", "pool_proj")
REDUCED = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")
PATH = ["conv1", "conv2_reduce", "conv2"] + [f"inception_{m}_{b}" for m in MODULES for b in REDUCED]

check_parameters = networks.parameters("googlenet_auxiliary", 13_378_280)
check_macs = networks.gmac(1.591)
check_grids = networks.grids(
    {"conv1": 112, "pool1": 56, "conv2": 56, "pool2": 28, "inception_3b": 28, "pool3": 14}
    | {"inception_4e": 14, "pool4": 7, "inception_5b": 7, "head_4a_pool": 4, "head_4d_pool": 4}
)
check_activations = networks.relus(*(f"{name}_relu" for name in [*PATH, "head_4a", "head_4d"]))


@pytest.fixture(scope="module")
def module():
    return ilsvrc.chapter("2014_googlenet")


def check_kernels(model):
    for name in PATH[3:]:
        layer, size = model.get_layer(name), int(name[-1]) if name[-3:] in ("3x3", "5x5") else 1
        assert layer.kernel_size == (size, size), name
        assert not name.endswith("reduce") or layer.filters < layer.input.shape[-1], name


def check_layers(model):
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Conv2D") == 57 + 2 and kinds.count("LocalResponseNorm") == 2
    assert kinds.count("Concatenate") == 9 and "BatchNormalization" not in kinds
    assert kinds.count("Dense") == 1 + 2 * 2


def check_branches(model):
    for name in MODULES:
        joined = model.get_layer(f"inception_{name}").input
        ends = [tensor._keras_history.operation.name for tensor in joined]
        assert ends == [f"inception_{name}_{branch}_relu" for branch in BRANCHES]


def check_heads(model):
    assert [output.shape for output in model.outputs] == [(None, 1000)] * 3
    for name in ("4a", "4d"):
        assert (
            model.get_layer(f"head_{name}_pool").input
            is model.get_layer(f"inception_{name}").output
        )


def check_rates(model):
    names = ("dropout", "head_4a_dropout", "head_4d_dropout")
    assert [model.get_layer(name).rate for name in names] == [0.4, 0.7, 0.7]


def check_end(model):
    assert isinstance(model.get_layer("average"), keras.layers.GlobalAveragePooling2D)


CHECKS = [
    *(check_parameters, check_macs, check_grids, check_activations, check_kernels, check_layers),
    *(check_branches, check_heads, check_rates, check_end),
]


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_it_is_the_papers_network(module):
    model = module.googlenet()
    for check in CHECKS:
        check(model)
    alone = module.googlenet(auxiliary=False)
    assert alone.count_params() == facts.value("googlenet.parameters") == 6_998_552
    assert round(ledger.totals(alone)["macs"] / 1e9, 3) == 1.583
    assert alone.output_shape == (None, 1000)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_kernels_strides_and_filters_agree_with_the_onnx_graph(module):
    onnx = pytest.importorskip("onnx")
    graph = networks.onnx_graph("light_inception_v1")
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    for one in graph.initializer:
        if one.name.endswith("__SHAPE"):
            shape = tuple(onnx.numpy_helper.to_array(one).tolist())
            shapes[one.name.removesuffix("__SHAPE")] = shape
    model = module.googlenet(auxiliary=False)
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    stem = {"conv1/7x7_s2": "conv1", "conv2/3x3": "conv2", "conv2/3x3_reduce": "conv2_reduce"}
    for node in convolutions:
        given = networks.attributes(node)
        theirs = node.input[1].removesuffix("_w_0")
        layer = model.get_layer(stem.get(theirs, theirs.replace("/", "_")))
        filters, channels, height, width = shapes[node.input[1]]
        assert tuple(layer.kernel.shape) == (height, width, channels, filters), theirs
        assert list(layer.strides) == list(given["strides"]), theirs
        assert shapes[node.input[2]] == layer.bias.shape
    assert len(convolutions) == len(PATH) == 57
    assert sum(node.op_type == "LRN" for node in graph.node) == 2
    assert sum(node.op_type == "MaxPool" for node in graph.node) == 4 + 9
    assert sum(node.op_type == "AveragePool" for node in graph.node) == 1
    (dropout,) = [node for node in graph.node if node.op_type == "Dropout"]
    assert networks.attributes(dropout)["ratio"] == pytest.approx(0.4)
    weights, biases = model.get_layer("dense").weights
    assert (tuple(weights.shape), tuple(biases.shape)) == ((1024, 1000), (1000,))


PLANTED = {
    "3 x 3 in place of 5 x 5": (
        'c = conv(c, five, 5, f"{name}_5x5")',
        'c = conv(c, five, 3, f"{name}_5x5")',
        check_kernels,
    ),
    "a missing reduction": (
        'c = conv(c, five, 5, f"{name}_5x5")',
        'c = conv(x, five, 5, f"{name}_5x5")',
        check_layers,
    ),
    "wide reductions": ("16, 32, 32),  # (28", "192, 32, 32),  # (28", check_kernels),
    "batch norm": ("norm=False, logits", "norm=True, logits", check_layers),
    "no LRN": ("    alpha=1e-4,  # of LRN", "    alpha=None,  # of LRN", check_layers),
    "max for average pooling": (
        "layers.GlobalAveragePooling2D(",
        "layers.GlobalMaxPooling2D(",
        check_end,
    ),
    "heads at the wrong place": ('name in ("4a", "4d")', 'name in ("4b", "4e")', check_heads),
    "one head": ('name in ("4a", "4d")', 'name in ("4a",)', check_heads),
    "one dropout for all": ("layers.Dropout(0.7,", "layers.Dropout(0.4,", check_rates),
    "valid first pool": (
        '3, 2, "same", name="pool1"',
        '3, 2, "valid", name="pool1"',
        check_grids,
    ),
    "branches in another order": ("([a, b, c, d])", "([d, a, b, c])", check_branches),
    "no ReLU": ('layers.Activation("relu", name=f"{name}_relu")(x)', "x", check_activations),
}


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_fails_its_check(mistake, planted):
    right, wrong, check = PLANTED[mistake]
    model = planted("2014_googlenet", right, wrong).googlenet()
    with pytest.raises((AssertionError, ValueError)):  # ValueError: no layer of that name
        check(model)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_valid_padding_breaks_the_concatenation(planted):
    right = 'maps, size, strides, "same", use_bias'
    wrong = planted("2014_googlenet", right, right.replace("same", "valid"))
    with pytest.raises(ValueError, match="Concatenate"):
        wrong.inception(keras.Input((28, 28, 192)), "inception_3a", wrong.modules["3a"])


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_a_module_of_one_size_costs_what_the_module_does(module):
    full = {kind: {} for kind in ("inception", "one_size")}
    for kind, found in full.items():
        model = module.googlenet(module=getattr(module, kind), auxiliary=False)
        found |= ledger.totals(model)
        assert model.get_layer("average").output.shape == (None, 1024)
    assert full["one_size"]["macs"] == pytest.approx(full["inception"]["macs"], rel=1e-3)


@pytest.mark.once
def test_the_slim_sibling_and_its_variants(module):
    slim = module.slim_googlenet(logits=True)
    assert [output.shape for output in slim.outputs] == [(None, 10)] * 3
    assert slim.count_params() < 500_000
    assert slim.get_layer("inception_5b").output.shape == (None, 4, 4, 256)
    for run in module.runs:
        model = run.small(logits=True)
        assert len(model.outputs) == (1 if run.name == "no-heads-long" else 3), run.name


def test_there_are_144_views_and_48_of_a_square(module):
    rng = np.random.default_rng(0)
    for shape, different in [((2, 40, 60, 3), 144), ((2, 60, 40, 3), 144), ((2, 40, 40, 3), 48)]:
        images = rng.integers(0, 256, shape).astype("uint8")
        views = list(module.views_144(images, 28))
        assert {view.shape for view in views} == {(2, 28, 28, 3)} and len(views) == 144
        assert len({view.tobytes() for view in views}) == different
    once = list(module.views_144(images, 28, squares=(0.5,)))
    assert len(once) == 48 and {v.tobytes() for v in once} == {v.tobytes() for v in views}
    middle = np.mean(views, axis=(0, 1, 2, 3))  # views are in the images' range
    np.testing.assert_allclose(middle, images.mean((0, 1, 2)), atol=8)


@pytest.fixture(scope="module")
def untrained(module):
    """A slim network with random weights, as if it were trained."""
    keras.utils.set_random_seed(0)
    model = module.slim_googlenet(logits=True)
    return SimpleNamespace(model=model, prepare=lambda images: images[:, :64, :64] / 58.0 - 2)


@pytest.mark.slow
def test_a_branch_that_nobody_reads_contributes_nothing(module, untrained):
    images = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3)).astype("float32")
    dense = untrained.model.get_layer("dense")
    kernel = keras.ops.convert_to_numpy(dense.kernel).copy()
    widths = [t.shape[-1] for t in untrained.model.get_layer("inception_5b").input]
    kernel[sum(widths[:3]) :] = 0  # the pooling's maps of 5b
    kernel[: sum(widths[:3])] *= 30
    dense.kernel.assign(kernel)
    logits = keras.ops.convert_to_numpy(untrained.model(images / 58.0 - 2)[0])
    dense.bias.assign(dense.bias - logits.mean(0))  # so that its answers differ
    labels = (logits - logits.mean(0)).argmax(-1)
    lost = module.contributions(untrained, images, labels)
    assert lost.shape == (9, 4) and lost[8, 3] == 0
    assert (lost >= 0).all() and lost.max() > 0  # the labels are its own answers


@pytest.mark.once
def test_shifts_begin_at_none_and_odds_are_of_the_true_class(module, untrained):
    images = np.random.default_rng(1).integers(0, 256, (6, 64, 64, 3)).astype("float32")
    views = module.shifted(untrained, images)
    np.testing.assert_allclose(views[0], untrained.prepare(images))
    moved = round(module.shifts[1] * 64)
    np.testing.assert_allclose(views[1][:, :, moved:], views[0][:, :, :-moved])
    labels = np.arange(6)
    found = module.endurance(untrained, images, labels)
    assert found.shape == (3, len(module.shifts)) and np.all(found[:2, 0] < 1e-5)
    logits = keras.ops.softmax(untrained.model(views[0])[0])
    odds = keras.ops.convert_to_numpy(logits)[labels, labels].mean()
    assert found[2, 0] == pytest.approx(odds, rel=1e-3)


# What the page says of published records


def published(name):
    return records.read(paths.record("2014_googlenet", name))


def test_the_rows_of_the_claims_are_as_the_page_says(module):
    evidence = {run.name: published(run.name) for run in module.runs}
    table = page.verdicts(evidence, module.tested).set_index("claim")
    assert table.verdict.tolist() == [
        *("holds", "the opposite", "holds", "too small to see here", "too small to see here"),
    ]
    assert 6 < table.loc["several sizes beat one size", "here (points)"] < 8
    assert 6 < -table.loc["reductions cost no accuracy", "here (points)"] < 7.5
    ends = {name: evidence[name].by_epoch("accuracy")[:, -1].mean() for name in evidence}
    assert ends["dense"] < ends["baseline"] - 0.05
    with_them, without = (
        evidence[name].by_epoch("accuracy").mean(0) for name in ("heads-long", "no-heads-long")
    )
    lead = 100 * (with_them - without)
    assert lead.argmax() == 3 and 2.5 < lead[3] < 3.5 and (lead[1:10] > 1).all()
    assert abs(lead[-1]) < 0.5 and len(lead) == 30


def test_leaving_the_reductions_out_costs_three_times_the_macs_and_four_times_the_parameters():
    with_them, without = (published(name)["network"] for name in ("baseline", "no-reductions"))
    assert 2.5 < without["macs"] / with_them["macs"] < 3.5
    assert 3.5 < without["parameters"] / with_them["parameters"] < 4


def test_seven_together_beat_the_best_of_them():
    seven = published("seven")
    odds, labels = seven.arrays["probabilities"].astype(float), seven.arrays["labels"]
    alone = (odds.argmax(-1) == labels).mean(1)
    assert (odds.mean(0).argmax(-1) == labels).mean() > alone.max() + 0.03


def test_the_average_loses_more_under_shifts_than_a_dense_end_from_a_higher_start():
    ends = {n: published(n).arrays["shifts"].astype(float)[2] for n in ("baseline", "dense")}
    lost = {name: chances[0] - chances[-1] for name, chances in ends.items()}
    assert lost["baseline"] > lost["dense"] > 0 and ends["baseline"][0] > ends["dense"][0]


def test_which_silenced_branch_is_missed_most_is_as_the_caption_says(module):
    lost = published("googlenet").arrays["branches"].astype(float)  # 1 x 1, 3 x 3, 5 x 5, pooling
    rows = dict(zip(module.modules, lost, strict=True))
    assert lost.max() == rows["3b"][1]
    assert all(row.argmax() == 0 for name, row in rows.items() if name != "3b")
    assert max(rows["5a"].max(), rows["5b"].max()) < 5


def test_the_temple_is_first_taken_for_a_garbage_truck():
    record = published("googlenet")
    odds, asked = record.arrays["probe/probabilities"], int(record.arrays["probe/label"])
    names = record["data"]["class_names"]
    assert names[odds.argmax()] == "garbage truck" and names[asked] == "church"


def test_the_first_head_of_the_published_run_knows_nearly_all():
    history = published("googlenet")["seeds"][0]["history"]
    assert history["val_accuracy"][-1] - history["val_head_4a_accuracy"][-1] < 0.02
