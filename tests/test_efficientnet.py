"""EfficientNet and NASNet against keras.applications and the papers; the searches, the students."""

import math
import re
from functools import cache
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

import ilsvrc
import networks
from ilsvrc import facts, ledger, training

NAME = "2019_efficientnet"
COUNTS = {  # parameters that learn, billion MACs
    **{"B0": (5_288_548, 0.386), "B1": (7_794_184, 0.687), "B2": (9_109_994, 0.994)},
    **{"B3": (12_233_232, 1.827), "B4": (19_341_616, 4.394), "B5": (30_389_784, 10.266)},
    **{"B6": (43_040_704, 19.068), "B7": (66_347_960, 37.746), "L2": (480_309_308, 475.704)},
    **{"mobile": (5_289_978, 0.564), "large": (88_753_150, 23.783)},
}


@pytest.fixture(scope="module")
def module():
    return ilsvrc.chapter(NAME)


def kinds(model, kind):
    return [one for one in model.layers if isinstance(one, kind)]


def shapes_only(build, *arguments, **options):
    """Return a network whose weights have shapes and no values: to be counted, not to be run."""
    with keras.StatelessScope(initialize_variables=False):
        return build(*arguments, **options)


def network(module, size, *arguments, **options):
    build = module.nasnet if size in module.NASNETS else module.efficientnet
    return shapes_only(build, size, *arguments, **options)


def conv_kernel(model, name):
    return tuple(model.get_layer(name).kernel.shape)


def check_counts(model, size="B0"):
    sums = ledger.totals(model)
    assert (sums["parameters"], round(sums["macs"] / 1e9, 3)) == COUNTS[size]


def check_halvings(model):
    """An image of 224 ends on a grid of 7, by five strides of two."""
    strided = [one for one in convolutions(model) if one.strides[0] == 2]
    assert len(strided) == 5 and model.get_layer("average").input.shape[1:3] == (7, 7)


def check_blocks(model):
    """B0's sixteen blocks, by kernel and maps: the paper's table 1."""
    found = [
        (*conv_kernel(model, f"block{b}_dw")[:1], conv_kernel(model, f"block{b}_project")[-1])
        for b in range(16)
    ]
    table = ((3, 16, 1), (3, 24, 2), (5, 40, 2), (3, 80, 3), (5, 112, 3), (5, 192, 4), (3, 320, 1))
    assert found == [(k, maps) for k, maps, n in table for _ in range(n)]


def check_gates(model):
    """As many gates as filters; the narrow layer is a quarter of the block's *input*."""
    for one in kinds(model, layers.DepthwiseConv2D):
        block, wide = one.name.removesuffix("_dw"), one.input.shape[-1]
        first = f"{block}_expand" if block != "block0" else one.name
        narrow = int(model.get_layer(first).input.shape[-1] / 4)
        assert conv_kernel(model, f"{block}_se_reduce") == (wide, narrow), block
        assert conv_kernel(model, f"{block}_se_expand") == (narrow, wide), block
        scaled = model.get_layer(f"{block}_project").input
        assert scaled is model.get_layer(f"{block}_se_scale").output, block


def check_bends(model):
    """Swish behind each batch norm but those of the projections, and within the gates."""
    bends = {one.name: one.activation for one in kinds(model, layers.Activation)}
    assert set(bends.values()) <= {keras.activations.silu, keras.activations.softmax}
    for norm in kinds(model, layers.BatchNormalization):
        assert ("_project" in norm.name) == (norm.name.replace("_bn", "_act") not in bends)
        assert norm.epsilon == 1e-3
    for one in kinds(model, layers.Dense):
        if one.name.endswith("_se_reduce"):
            assert one.activation is keras.activations.silu


def check_shortcuts(model):
    """Nine of B0's blocks have one: those that keep the grid and the number of maps."""
    adds = kinds(model, layers.Add)
    assert len(adds) == 9
    for add in adds:
        assert add.input[0].shape == add.input[1].shape
        assert add.input[0].shape[-1] in (24, 40, 80, 112, 192)


def check_drops(model):
    """Stochastic depth grows from block to block, a whole block an image, to nearly 0.2."""
    drops = [one for one in kinds(model, layers.Dropout) if one.name != "dropout"]
    assert all(tuple(one.noise_shape) == (None, 1, 1, 1) for one in drops)
    numbers = [int(re.search(r"\d+", one.name)[0]) for one in drops]
    assert [one.rate for one in drops] == pytest.approx([0.2 * b / 16 for b in numbers])


def convolutions(model):
    return kinds(model, (layers.Conv2D, layers.DepthwiseConv2D))


CHECKS = [check_counts, check_halvings, check_blocks, check_gates, check_bends, check_shortcuts]


@pytest.mark.once
def test_b0_is_the_papers_network(module):
    model = network(module, "B0")
    for check in (*CHECKS, check_drops):
        check(model)


@pytest.mark.once
@pytest.mark.slow
def test_every_size_has_its_count(module):
    for size, (parameters, gmac) in COUNTS.items():
        model = network(module, size)
        check_counts(model, size)
        key = f"nasnet_{size}" if size in module.NASNETS else f"efficientnet_{size.lower()}"
        assert facts.value(f"{key}.parameters") == parameters
        assert facts.value(f"{key}.macs") == pytest.approx(gmac * 1e9, rel=2e-3)
        if size in module.SIZES:
            assert module.by_hand(*module.SIZES[size][:2]) == parameters
    keras.utils.clear_session()  # L2's weights are never to be made


@pytest.mark.once
@pytest.mark.slow
def test_counts_are_those_of_keras_applications(module):
    for size in [name for name in COUNTS if name != "L2"]:
        build = f"NASNet{size.title()}" if size in module.NASNETS else f"EfficientNet{size}"
        there = shapes_only(getattr(keras.applications, build), weights=None)
        assert networks.learnable(there) == COUNTS[size][0], size


@pytest.mark.once
def test_a_depth_of_one_point_one_and_of_one_point_two_make_the_same_blocks(module):
    blocks = {
        size: sum(math.ceil(depth * row[-1]) for row in module.B0)
        for size, (_, depth, *_) in module.SIZES.items()
    }
    assert (blocks["B0"], blocks["B1"], blocks["B2"], blocks["B7"]) == (16, 23, 23, 55)


# Parity: random weights, batch norm's statistics included; logits and one layer a stage.
# On these sides some strided filters meet odd grids.


SIDES = {"B0": 75, "B3": 64, "mobile": 75, "large": 64}


def random_weights(layer, rng):
    """Return random weights for a layer, in its order."""
    if isinstance(layer, layers.BatchNormalization):
        n = layer.gamma.shape[0]
        start = [rng.uniform(0.5, 1.5, n), *rng.normal(0, 0.3, (2, n)), rng.uniform(0.5, 1.5, n)]
        start[0] *= 0.5 if "project" in layer.name or "sep" in layer.name else 1
        return start
    found = []
    for weight in layer.weights:
        shape, name = tuple(weight.shape), weight.name
        inputs = math.prod(shape[:2]) if "depthwise" in layer.name + name else math.prod(shape[:-1])
        inputs = math.prod(shape[:2]) if "dwconv" in layer.name else inputs
        scale = (2 / inputs) ** 0.5 if len(shape) > 1 else 0.3
        found.append(rng.normal(0, scale, shape))
    return found


@cache
def theirs(size):
    """Return keras.applications' network with random weights, and images."""
    build = f"NASNet{size.title()}" if size in ("mobile", "large") else f"EfficientNet{size}"
    side = SIDES[size]
    options = {"weights": None, "classes": 10, "classifier_activation": None}
    model = getattr(keras.applications, build)(input_shape=(side, side, 3), **options)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if layer.weights and not isinstance(layer, layers.Normalization):
            layer.set_weights(random_weights(layer, rng))
    return model, rng.normal(size=(2, side, side, 3)).astype("float32")


def efficientnet_name(name, letters):
    """Return keras.applications' name of a layer of ours; `letters` names the blocks there."""
    ends = {"conv1": "stem_conv", "conv2": "top_conv", "dense": "predictions"}
    ends |= {"conv1_bn": "stem_bn", "conv2_bn": "top_bn"}
    if name in ends:
        return ends[name]
    number, part = re.fullmatch(r"block(\d+)_(\w+)", name).groups()
    parts = {"dw": "dwconv", "dw_bn": "bn", "expand": "expand_conv", "project": "project_conv"}
    return f"{letters[int(number)]}{parts.get(part, part)}"


def letters_of(module, size):
    """Return Keras' names of an EfficientNet's blocks, first to last: "block1a_" and so on."""
    depth = module.SIZES[size][1]
    return [
        f"block{stage}{chr(97 + i)}_"
        for stage, row in enumerate(module.B0, 1)
        for i in range(math.ceil(depth * row[-1]))
    ]


def nasnet_name(name, N):
    """Return keras.applications' name of a layer of ours."""
    ends = {"conv1": "stem_conv1", "conv1_bn": "stem_bn1", "dense": "predictions"}
    if name in ends:
        return ends[name]
    kind, stage, rest = re.fullmatch(r"(reduction|normal)(\d)(\w*)", name).groups()
    place = re.match(r"_(\d+)(?=_|$)", rest) if kind == "normal" else None
    rest = rest[place.end() :] if place else rest
    stage = int(stage)
    block = f"stem_{stage}" if stage < 3 else f"reduce_{N * (stage - 2)}"
    if kind == "normal":
        block = N * (stage - 2) + int(place[1]) - (stage == 2)
    part = rest.removeprefix("_").removesuffix("_bn")
    norm = rest.endswith("_bn")
    if part in ("h", ""):
        return f"{kind}_{'bn' if norm else 'conv'}_1_{block}"
    if part.startswith("p"):
        which = {"p": "projection", "p_1": "1", "p_2": "2"}[part]
        return f"adjust_bn_{block}" if norm else f"adjust_conv_{which}_{block}"
    number, side, time = re.fullmatch(r"(\d)([ab])_([12])", part).groups()
    where = {"a": "left", "b": "right"}[side] + str(int(number) + 1)
    where = "left4" if kind == "reduction" and where == "left5" else where
    return f"separable_conv_{time}_{'bn_' * norm}{kind}_{where}_{block}"


def distance(module, size):
    """Return the largest difference in logits and taps, as a share of the largest value."""
    there, images = theirs(size)
    if size in module.NASNETS:
        model = module.nasnet(size, images.shape[1:], 10, logits=True)
        N = module.NASNETS[size][0]
        name = {one.name: nasnet_name(one.name, N) for one in model.layers if one.weights}
        taps = {f"reduction{i}": f"reduction_concat_stem_{i}" for i in (1, 2)}
        taps |= {f"reduction{i}": f"reduction_concat_reduce_{N * (i - 2)}" for i in (3, 4)}
        for stage in (2, 3, 4):
            last = name[f"normal{stage}_{N}_h"].rsplit("_", 1)[1]
            taps[f"normal{stage}_{N}"] = f"normal_concat_{last}"
    else:
        model = module.efficientnet(size, images.shape[1:], 10, logits=True)
        letters = letters_of(module, size)
        name = {one.name: efficientnet_name(one.name, letters) for one in model.layers if one.weights}
        adds = [b for b in range(len(letters)) if any(n.name == f"block{b}_add" for n in model.layers)]
        taps = {f"block{b}_add": f"{letters[b]}add" for b in adds[::3]}
        images = images * 255  # Keras' version divides by it
    for layer in [one for one in model.layers if one.weights]:
        weights = there.get_layer(name[layer.name]).get_weights()
        wanted = [tuple(weight.shape) for weight in layer.weights]
        layer.set_weights([w.reshape(s) for w, s in zip(weights, wanted, strict=True)])
    expected = networks.outputs(there, [*taps.values(), "predictions"], images)
    ours = networks.outputs(model, [*taps, "dense"], images / (1 if size in module.NASNETS else 255))
    assert networks.learnable(model) == networks.learnable(there)
    return networks.apart(ours, expected)


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("size", SIDES)
def test_outputs_agree_with_keras_applications(module, size):
    assert distance(module, size) <= 1e-4


PARITY = {  # what is right, what is wrong, in which network
    "ReLU6 for swish": ('drop=0.2, logits=False', 'drop=0.2, logits=False', "B0"),
}
