"""AlexNet against the paper and against an independent graph; each planted mistake is caught."""

import keras
import numpy as np
import pytest

import ilsvrc
import networks
from ilsvrc import page, paths, records, vis

check_parameters = networks.parameters("alexnet", 60_965_224)
check_macs = networks.gmac(0.724)
check_grids = networks.grids(
    {"conv1": 55, "pool1": 27, "conv2": 27, "pool2": 13, "conv5": 13, "pool5": 6}
)
check_order = networks.order(
    [
        *("conv1", "relu1", "norm1", "pool1", "conv2", "relu2", "norm2", "pool2", "conv3"),
        *("relu3", "conv4", "relu4", "conv5", "relu5", "pool5", "flatten", "dense6", "relu6"),
        *("dropout6", "dense7", "relu7", "dropout7", "dense8", "softmax"),
    ]
)
check_activations = networks.relus(*(f"relu{i}" for i in range(1, 8)))


@pytest.fixture(scope="module")
def alexnet():
    return ilsvrc.chapter("2012_alexnet").alexnet


def check_overlap(model):
    for name in ("pool1", "pool2", "pool5"):
        pool = model.get_layer(name)
        assert (pool.pool_size, pool.strides) == ((3, 3), (2, 2))


def check_rates(model):
    assert [model.get_layer(f"dropout{i}").rate for i in (6, 7)] == [0.5, 0.5]


def check_start(model):
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "dense6", "dense7", "dense8"):
        layer = model.get_layer(name)
        assert np.std(keras.ops.convert_to_numpy(layer.kernel)) == pytest.approx(0.01, rel=0.05)
        raised = name in ("conv2", "conv4", "conv5", "dense6", "dense7")
        assert np.all(keras.ops.convert_to_numpy(layer.bias) == float(raised)), name


CHECKS = [
    *(check_parameters, check_macs, check_grids, check_order, check_activations, check_overlap),
    *(check_rates, check_start),
]


@pytest.mark.once
def test_it_is_the_papers_network(alexnet):
    model = alexnet()
    for check in CHECKS:
        check(model)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_the_variants_have_their_known_counts(alexnet):
    assert alexnet(groups=1).count_params() == 62_378_344
    assert alexnet(classes=10).count_params() == 56_909_194


@pytest.mark.once
def test_kernels_strides_and_groups_agree_with_the_onnx_graph(alexnet):
    graph = networks.onnx_graph("light_bvlc_alexnet")
    model = alexnet()
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    for i, node in enumerate(convolutions, 1):
        given = networks.attributes(node)
        layer = model.get_layer(f"conv{i}")
        assert list(layer.kernel_size) == list(given["kernel_shape"])
        assert list(layer.strides) == list(given.get("strides", [1, 1]))
        assert layer.groups == given.get("group", 1)
    assert len(convolutions) == 5
    assert sum(node.op_type == "LRN" for node in graph.node) == 2
    assert sum(node.op_type == "MaxPool" for node in graph.node) == 3


PLANTED = {
    "no groups": ("units=4096, groups=2", "units=4096, groups=1", check_parameters),
    "no LRN": ("alpha=1e-4, pool=3", "alpha=None, pool=3", check_order),
    "pools of 2x2": ("alpha=1e-4, pool=3", "alpha=1e-4, pool=2", check_overlap),
    "ReLU dropped": (
        'groups=2, activation="relu",',
        'groups=2, activation="linear",',
        check_order,
    ),
    "one ReLU linear": (
        'return layers.Activation(activation, name=f"{activation}{i}")(conv(x))',
        'return layers.Activation("linear" if i == 4 else activation, '
        'name=f"{activation}{i}")(conv(x))',
        check_activations,
    ),
    "one dropout": (
        'return layers.Dropout(dropout, name=f"dropout{i}")(x)',
        "return x",
        check_order,
    ),
    "same padding in conv1": (
        'padding = "same" if strides == 1 else "valid"',
        'padding = "same"',
        check_grids,
    ),
    "biases at 0": ("keras.initializers.Constant(bias)", '"zeros"', check_start),
}


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_fails_its_check(mistake, planted):
    right, wrong, check = PLANTED[mistake]
    model = planted("2012_alexnet", right, wrong).alexnet()
    with pytest.raises(AssertionError):
        check(model)


@pytest.mark.parametrize(("k", "alpha"), [(2.0, 1e-4), (1.0, 1e-4 / 5)])
def test_lrn_is_the_papers_formula_and_caffes_by_its_arguments(k, alpha):
    lrn = ilsvrc.chapter("2012_alexnet").LocalResponseNorm(k=k, alpha=alpha)
    a = np.random.default_rng(0).normal(0, 60, (2, 3, 3, 9)).astype("float32")
    b = keras.ops.convert_to_numpy(lrn(a))
    for i in range(9):
        near = a[..., max(0, i - 2) : i + 3]
        expected = a[..., i] / (k + alpha * (near**2).sum(-1)) ** 0.75
        np.testing.assert_allclose(b[..., i], expected, rtol=1e-4)


def test_the_slim_sibling_takes_small_images():
    slim = ilsvrc.chapter("2012_alexnet").slim_alexnet(logits=True)
    assert slim.input_shape == (None, 67, 67, 3)
    assert slim.output_shape == (None, 10)
    assert slim.count_params() < 1_000_000


def test_logits_leave_the_softmax_out(alexnet):
    assert alexnet(classes=10, logits=True).layers[-1].name == "dense8"


@pytest.mark.once
def test_lenet_5_has_the_sixty_thousand_parameters_of_1998():
    module = ilsvrc.chapter("2012_alexnet")
    lenet = module.lenet5()
    counts = {layer.name: layer.count_params() for layer in lenet.layers if layer.weights}
    known = {"C1": 156, "S2": 12, "C3": 1516, "S4": 32, "C5": 48_120, "F6": 10_164, "output": 850}
    assert counts == known and sum(counts.values()) - counts["output"] == 60_000
    shapes = {name: lenet.get_layer(name).output.shape[1:] for name in known}
    assert shapes["C1"] == (28, 28, 6) and shapes["C3"] == (10, 10, 16)
    assert shapes["S4"] == (5, 5, 16) and shapes["C5"] == (1, 1, 120)


@pytest.mark.once
def test_a_map_of_c3_sees_only_the_maps_of_its_row_in_the_table():
    lenet = ilsvrc.chapter("2012_alexnet").lenet5()
    layer = lenet.get_layer("C3")
    x = np.random.default_rng(0).normal(size=(1, 14, 14, 6)).astype("float32")
    before = keras.ops.convert_to_numpy(layer(x))
    x[..., 0] += 1
    moved = np.abs(keras.ops.convert_to_numpy(layer(x)) - before).max((0, 1, 2)) > 1e-4
    assert moved.tolist() == ["0" in maps for maps in ilsvrc.chapter("2012_alexnet").S2_TO_C3]


# What the page says of published records


def test_tanh_is_down_to_a_quarter_of_training_error_sooner_than_the_relu():
    module = ilsvrc.chapter("2012_alexnet")
    first = {
        (bend, rate): module.first_below(
            records.read(paths.record("2012_alexnet", f"{bend}-{rate}"))
        )
        for bend in ("relu", "tanh")
        for rate in (0.01, 0.03, 0.1)
    }
    best = {
        bend: np.nanmin([first[bend, rate] for rate in (0.01, 0.03, 0.1)])
        for bend in ("relu", "tanh")
    }
    assert best["tanh"] < best["relu"] < 2 * best["tanh"]
    assert first["relu", 0.03] == best["relu"] and np.isnan(first["relu", 0.1])


def test_the_rows_that_go_against_the_paper_are_those_that_the_page_names():
    module = ilsvrc.chapter("2012_alexnet")
    table = page.verdicts(
        {run.name: records.read(paths.record("2012_alexnet", run.name)) for run in module.runs},
        module.tested,
    ).set_index("claim")
    assert len(table) == len(module.tested)
    against = table.index[table.verdict == "the opposite"].tolist()
    assert against == ["ReLU does better than tanh, 30 epochs", "dropout helps"]
    holds = table.index[table.verdict == "holds"].tolist()
    assert holds == ["ReLU does better than the sigmoid"]
    assert 5 < -table.loc["dropout helps", "here (points)"] < 6.5
    small = table.loc[["LRN helps", "overlapping pooling helps", "shifted colours help"]]
    assert small["smallest to be seen"].between(3, 5).all()
    assert 3 < table.loc["all images do better than 1,000", "here (points)"] < 4


def test_one_tower_is_mostly_grey_and_the_other_coloured():
    record = records.read(paths.record("2012_alexnet", "alexnet"))
    colour = vis.filter_colour(record.filters[max(record.filters)])
    one, other = np.split(colour, 2)
    gap = abs(np.nanmean(one) - np.nanmean(other))
    rng = np.random.default_rng(0)
    hands = [np.split(rng.permutation(colour), 2) for _ in range(2000)]
    chance = np.mean([abs(np.nanmean(a) - np.nanmean(b)) >= gap for a, b in hands])
    assert chance < 0.01
    assert (one < 0.12).mean() > 0.45 and (other < 0.12).mean() < 0.2 and np.median(other) > 0.5


def test_the_filters_of_the_first_layer_are_learned():
    filters = records.read(paths.record("2012_alexnet", "alexnet")).filters
    start, end = filters[0], filters[max(filters)]
    assert np.median(vis.filter_memory(start, end)) < 0.2  # of the start N(0, 0.01): 0.67
    assert vis.filter_smoothness(end).min() > 5 * abs(vis.filter_smoothness(start)).max()


def test_the_temple_is_first_taken_for_another_class_and_the_twin_looks_elsewhere():
    record = records.read(paths.record("2012_alexnet", "alexnet"))
    odds, asked = record.arrays["probe/probabilities"], int(record.arrays["probe/label"])
    assert record["data"]["class_names"][asked] == "church" and odds.argmax() != asked
    first = record["data"]["class_names"][odds.argmax()]
    assert first == "garbage truck" and round(float(odds.max()), 2) == 0.99
    own, twin = record.arrays["probe/grad_cam"].astype("float32")
    assert abs(vis.similarity(own[None], twin[None])[0]) < 0.1
    assert np.unravel_index(own.argmax(), own.shape)[0] < 20 and own[64:].max() < 0.7 * own.max()
    assert own[:32, :48].mean() > 0.5 * own.max() > 2 * own[48:].mean()
    assert twin[64:, 64:].mean() > 0.5 * twin.max() > 2 * twin[:48].mean()  # water and trees


def test_the_published_run_learns_its_images_by_heart():
    record = records.read(paths.record("2012_alexnet", "alexnet"))
    loss, right = (record.by_epoch(f"val_{metric}")[0] for metric in ("loss", "accuracy"))
    assert 15 < loss.argmin() < 30 and loss[-1] > 1.2 * loss.min()
    assert right[-1] > right[loss.argmin()] and record.by_epoch("loss")[0][-1] < 0.1
