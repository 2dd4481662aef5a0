"""AlexNet against the paper and against an independent graph; each planted mistake is caught."""

import keras
import numpy as np
import pytest

import ilsvrc
import networks

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


def test_it_is_the_papers_network(alexnet):
    model = alexnet()
    for check in CHECKS:
        check(model)


@pytest.mark.graph
def test_the_variants_have_their_known_counts(alexnet):
    assert alexnet(groups=1).count_params() == 62_378_344
    assert alexnet(classes=10).count_params() == 56_909_194


@pytest.mark.graph
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
    "no groups": ("groups=2,  # the towers", "groups=1,", check_parameters),
    "no LRN": ("    alpha=1e-4,  # of LRN", "    alpha=None,  # of LRN", check_order),
    "pools of 2x2": ("    pool=3,  # windows", "    pool=2,  # windows", check_overlap),
    "ReLU dropped": ('    activation="relu",\n', '    activation="linear",\n', check_order),
    "one ReLU linear": (
        "        return layers.Activation(activation, name=",
        '        return layers.Activation("linear" if i == 4 else activation, name=',
        check_activations,
    ),
    "one dropout": (
        'return layers.Dropout(dropout, name=f"dropout{i}")(x)',
        "return x",
        check_order,
    ),
    "same padding in conv1": ("11, strides=4)", '11, strides=4, padding="same")', check_grids),
    "biases at 0": ("    bias=1.0,", "    bias=0.0,", check_start),
}


@pytest.mark.graph
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
