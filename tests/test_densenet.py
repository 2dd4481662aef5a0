"""DenseNet against the paper and keras.applications; mistakes are caught; memory is counted."""

import re
from functools import cache
from itertools import pairwise
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

import ilsvrc
import networks
from ilsvrc import facts, ledger, paths, records

NAME = "2016_densenet"
COUNTS = {121: (7_978_856, 2.834), 169: (14_149_480, 3.360), 201: (20_013_928, 4.291)}


@pytest.fixture(scope="module")
def module():
    return ilsvrc.chapter(NAME)


def tiny(module, counts, side=32):
    """Return a narrow network of a few layers; its name tells its depth as a real one's does."""
    depth = 5 + 2 * sum(counts)
    module.blocks[depth] = counts
    try:
        return module.densenet(depth, (side, side, 3), 10, 4, logits=True)
    finally:
        del module.blocks[depth]


def answers(model, images):
    """Return a network's answers to images as an array."""
    return keras.ops.convert_to_numpy(model(images, training=False))


def depth_of(model):
    return int(model.name.removeprefix("densenet"))


def sizes(model):
    """Return a network's growth rate and its layers by block."""
    joins = [one.name for one in model.layers if isinstance(one, layers.Concatenate)]
    counts = [sum(name.startswith(f"dense{b}_") for name in joins) for b in range(1, 5)]
    return model.get_layer("conv1").filters // 2, counts


def check_parameters(model):
    assert networks.learnable(model) == COUNTS[depth_of(model)][0]


def check_macs(model):
    assert round(ledger.totals(model)["macs"] / 1e9, 3) == COUNTS[depth_of(model)][1]


def check_depth(model):
    """The name counts convolutions and the dense layer."""
    assert sum(hasattr(one, "kernel") for one in model.layers) == depth_of(model)


def check_connections(model):
    """Each layer reads the block's input and all layers before it, in order, and nothing else."""
    uses = ledger.calls(model)
    place = {use.name: i for i, use in enumerate(uses)}
    passed = (layers.BatchNormalization, layers.Activation, layers.Concatenate)

    def made(i):
        return [
            source
            for j in uses[i].inputs
            for source in (made(j) if isinstance(uses[j].layer, passed) else [j])
        ]

    k, counts = sizes(model)
    for number, count in enumerate(counts, 1):
        before = "pool1" if number == 1 else f"transition{number - 1}_pool"
        made_here = [f"dense{number}_{i}_2" for i in range(1, count + 1)]
        for i in range(1, count + 1):
            found = [uses[j] for j in made(place[f"dense{number}_{i}_1"])]
            assert [use.name for use in found] == [before, *made_here[: i - 1]]
            assert {use.shape[-1] for use in found[1:]} <= {k}
        after = place[f"transition{number}"] if number < 4 else place["average"]
        assert [uses[j].name for j in made(after)] == [before, *made_here]


def check_layers(model):
    """A layer: 1 x 1 to 4k maps, then 3 x 3 to k, padded alike, without biases."""
    k, counts = sizes(model)
    for number, count in enumerate(counts, 1):
        for i in range(1, count + 1):
            one, three = (model.get_layer(f"dense{number}_{i}_{j}") for j in (1, 2))
            assert (one.kernel_size, one.filters) == ((1, 1), 4 * k)
            assert (three.kernel_size, three.filters, three.strides) == ((3, 3), k, (1, 1))
            assert not one.use_bias and not three.use_bias


def check_order(model):
    """Batch norm, then ReLU, then the convolution; before the average both once more."""
    uses = ledger.calls(model)
    convs = [i for i, use in enumerate(uses) if isinstance(use.layer, layers.Conv2D)]
    ends = [i for i, use in enumerate(uses) if isinstance(use.layer, layers.GlobalAveragePooling2D)]
    for i in convs[1:] + ends:
        (j,) = uses[i].inputs
        assert getattr(uses[j].layer, "activation", None) is keras.activations.relu, uses[i].name
        (norm,) = uses[j].inputs
        assert isinstance(uses[norm].layer, layers.BatchNormalization), uses[i].name
        assert uses[norm].layer.epsilon == 1e-5


def check_transitions(model):
    """Half of the maps, then means over squares of 2 x 2; the stem is ResNet's."""
    k, counts = sizes(model)
    m = 2 * k
    for number, count in enumerate(counts[:3], 1):
        m = (m + count * k) // 2
        conv, pool = (model.get_layer(f"transition{number}{end}") for end in ("", "_pool"))
        assert (conv.filters, conv.kernel_size) == (m, (1, 1))
        assert isinstance(pool, layers.AveragePooling2D), number
        assert pool.pool_size == pool.strides == (2, 2)
    side = model.input_shape[1]
    grids = [model.get_layer(f"dense{b}_1_join").output.shape[1] for b in range(1, 5)]
    assert grids == [side // 2**i for i in (2, 3, 4, 5)]
    assert isinstance(model.get_layer("pool1"), layers.MaxPooling2D)
    for name in ("conv1", "pool1"):  # padded alike: the first place looks at the first pixel
        [(top, left, bottom, right)] = ledger.boxes(model, name, [(0, 0)])
        assert top == left == (-3 if name == "conv1" else -5)
        assert bottom == right == (4 if name == "conv1" else 6)


CHECKS = [check_depth, check_connections, check_layers, check_order, check_transitions]


def by_formula(counts, k=32, theta=0.5, m=64, classes=1000):
    """Return what DenseNet-BC learns, layer by layer; nothing is built."""
    total = 147 * m + 2 * m
    for number, count in enumerate(counts, 1):
        for _ in range(count):
            total += 2 * m + 4 * k * m + 2 * 4 * k + 9 * 4 * k * k
            m += k
        if number < len(counts):
            half = int(theta * m)
            total, m = total + 2 * m + m * half, half
    return total + 2 * m + m * classes + classes


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_it_is_the_papers_network(module):
    model = module.densenet()
    for check in (check_parameters, check_macs, *CHECKS):
        check(model)
    assert model.get_layer("last_relu").output.shape[1:3] == (7, 7)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("depth", COUNTS)
def test_the_facts_are_these_counts(module, depth):
    assert by_formula(module.blocks[depth]) == COUNTS[depth][0]
    assert facts.value(f"densenet{depth}.parameters") == COUNTS[depth][0]
    assert facts.value(f"densenet{depth}.macs") == pytest.approx(COUNTS[depth][1] * 1e9, rel=2e-3)


@pytest.mark.once
def test_the_network_of_264_layers_is_counted_without_being_built(module):
    assert by_formula(module.blocks[264]) == facts.value("densenet264.parameters")


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_the_slim_sibling_passes_the_checks_too(module):
    slim = module.slim_densenet(logits=True)
    for check in CHECKS:
        check(slim)
        check(tiny(module, (2, 2, 1, 1), side=64))
    assert (slim.input_shape, slim.output_shape) == ((None, 64, 64, 3), (None, 10))
    assert sizes(slim) == (8, [count // 2 for count in module.blocks[121]])


NEW = """new = H(x, k, f"{name}_{i}", bottleneck)
        x = layers.Concatenate(name=f"{name}_{i}_join")([x, new])"""
PLANTED = {
    "max pooling in the transitions": (
        "layers.AveragePooling2D(2, name",
        "layers.MaxPooling2D(2, name",
        check_transitions,
    ),
    "no batch norm and ReLU at the end": ('x = v2.bn_relu(x, "last")', "x = x", check_order),
    "no ReLU at the end": (
        'x = v2.bn_relu(x, "last")',
        'x = layers.BatchNormalization(epsilon=1e-5, name="last_bn")(x)',
        check_order,
    ),
    "no ReLU in the transitions": (
        "v2.conv(v2.bn_relu(x, name), int(theta",
        'v2.conv(layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x), int(theta',
        check_order,
    ),
    "no compression": ("theta=0.5", "theta=1", check_transitions),
    "ReLU before batch norm": (
        'v2.bn_relu(x, f"{name}_{i}")',
        'layers.BatchNormalization(epsilon=1e-5, name=f"{name}_{i}_bn")('
        'layers.Activation("relu", name=f"{name}_{i}_relu")(x))',
        check_order,
    ),
    "the convolution first": (
        'v2.conv(v2.bn_relu(x, f"{name}_{i}"), maps, size, 1, f"{name}_{i}")',
        'v2.bn_relu(v2.conv(x, maps, size, 1, f"{name}_{i}"), f"{name}_{i}")',
        check_order,
    ),
    "addition for concatenation": (
        NEW,
        """new = H(x, x.shape[-1], f"{name}_{i}", bottleneck)
        x = layers.Add(name=f"{name}_{i}_join")([x, new])""",
        check_connections,
    ),
    "the last two alone are joined": (
        NEW,
        """x, old = H(x, k, f"{name}_{i}", bottleneck), x
        x = layers.Concatenate(name=f"{name}_{i}_join")([old[..., -k:], x])""",
        check_connections,
    ),
    "new maps before the old": ("([x, new])", "([new, x])", check_connections),
    "no bottleneck of 4k": ("theta=0.5, bottleneck=4", "theta=0.5, bottleneck=0", check_depth),
    "a bottleneck of k": ("theta=0.5, bottleneck=4", "theta=0.5, bottleneck=1", check_layers),
    "k maps from the stem": ('v2.conv(image, 2 * k,', 'v2.conv(image, k,', check_layers),
    "3 x 3 in the stem": ('2 * k, 7, 2, "conv1"', '2 * k, 3, 2, "conv1"', check_transitions),
    "a fourth transition": (
        'x = v2.bn_relu(x, "last")',
        'x = v2.bn_relu(transition(x, theta, "transition4"), "last")',
        check_depth,
    ),
    "a layer too few": ("63: (3, 6, 12, 8)", "63: (3, 6, 12, 7)", check_depth),
    "padding on one side": (
        "layers.ZeroPadding2D(1,",
        "layers.ZeroPadding2D(((0, 2), (0, 2)),",
        check_transitions,
    ),
    "Keras' epsilon": (
        'v2.bn_relu(x, "last")',
        'layers.Activation("relu")(layers.BatchNormalization()(x))',
        check_order,
    ),
}  # fmt: skip


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_fails_its_check(mistake, planted):
    right, wrong, check = PLANTED[mistake]
    module = planted(NAME, right, wrong)
    model = module.slim_densenet() if "63" in right else tiny(module, (2, 2, 1, 1), side=64)
    with pytest.raises(AssertionError):
        check(model)


# Parity with keras.applications: all weights random, batch norm's statistics included


def randomise(model, seed=0):
    """Draw all weights at random, the statistics of batch norm, too."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            n = layer.gamma.shape[0]
            gamma, (beta, mean) = rng.uniform(0.5, 1.5, n), rng.normal(0, 0.3, (2, n))
            layer.set_weights([gamma, beta, mean, rng.uniform(0.5, 1.5, n)])
        elif layer.weights:
            kernel, *bias = (weight.shape for weight in layer.weights)
            drawn = rng.normal(0, (2 / np.prod(kernel[:-1])) ** 0.5, kernel)
            layer.set_weights([drawn, *(rng.normal(0, 0.3, shape) for shape in bias)])
    return model


@cache
def theirs(depth):
    """Return keras.applications' network with random weights, images, and its outputs."""
    build = getattr(keras.applications, f"DenseNet{depth}")
    options = {"weights": None, "classes": 10, "classifier_activation": None}
    model = randomise(build(input_shape=(64, 64, 3), **options))
    images = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype("float32")
    counts = ilsvrc.chapter(NAME).blocks[depth]
    taps = [f"conv{b}_block{n}_concat" for b, n in enumerate(counts, 2)]
    taps += ["pool2_pool", "pool3_pool", "pool4_pool", "predictions"]
    return model, images, networks.outputs(model, taps, images)


def name_there(name):
    """Return keras.applications' name of a layer of ours."""
    known = {"conv1": "conv1_conv", "conv1_bn": "conv1_bn", "last_bn": "bn", "dense": "predictions"}
    if name in known:
        return known[name]
    if match := re.fullmatch(r"transition(\d)(_bn)?", name):
        return f"pool{int(match[1]) + 1}_{'bn' if match[2] else 'conv'}"
    block, layer, which, *norm = name.removeprefix("dense").split("_")
    end = f"{int(which) - 1}_bn" if norm else f"{which}_conv"
    return f"conv{int(block) + 1}_block{layer}_{end}"


def copied(module, depth):
    """Return our network with the weights of keras.applications'."""
    there, *_ = theirs(depth)
    ours = module.densenet(depth, (64, 64, 3), 10, logits=True)
    for layer in [one for one in ours.layers if one.weights]:
        layer.set_weights(there.get_layer(name_there(layer.name)).get_weights())
    return ours


def distance(module, depth, ours=None):
    """Return the largest difference in logits and taps, as a share of the largest value."""
    there, images, expected = theirs(depth)
    ours = ours or copied(module, depth)
    taps = [f"dense{b}_{n}_join" for b, n in enumerate(module.blocks[depth], 1)]
    taps += [f"transition{b}_pool" for b in (1, 2, 3)] + ["dense"]
    assert networks.learnable(ours) == networks.learnable(there)
    return networks.apart(networks.outputs(ours, taps, images), expected)


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("depth", COUNTS)
def test_outputs_and_counts_agree_with_keras_applications(module, depth):
    """Counted for 1,000 classes and 224 x 224, whose grids are 3.5 times as wide as those of 64."""
    ours = copied(module, depth)
    assert distance(module, depth, ours) <= 1e-4
    last, sums = ours.get_layer("dense").kernel.shape[0], ledger.totals(ours)
    assert sums["parameters"] + 990 * (last + 1) == COUNTS[depth][0]
    macs = 3.5**2 * (sums["macs"] - 10 * last) + 1000 * last
    assert round(macs / 1e9, 3) == COUNTS[depth][1]


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("mistake", ["no ReLU at the end", "Keras' epsilon"])
def test_parity_catches_a_planted_mistake(mistake, planted):
    if mistake == "Keras' epsilon":  # in all batch norms
        module = ilsvrc.chapter(NAME)
        _, images, expected = theirs(121)
        ours = copied(module, 121)
        for layer in ours.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.epsilon = 1e-3
        found = networks.apart([answers(ours, images)], expected[-1:])
    else:
        right, wrong, _ = PLANTED[mistake]
        found = distance(planted(NAME, right, wrong), 121)
    assert found > 1e-3


# One block, by hand


def test_a_dense_block_is_the_papers_equation(module):
    """x_l = H_l([x_0, ..., x_{l-1}]), with H written out, batch norm's statistics included."""
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 6)).astype("float32")
    image = keras.Input(x.shape[1:])
    model = randomise(keras.Model(image, module.dense_block(image, 3, 4, "dense1")))

    def composite(value, name):
        for i in (1, 2):
            norm, conv = model.get_layer(f"{name}_{i}_bn"), model.get_layer(f"{name}_{i}")
            gamma, beta, mean, variance = norm.get_weights()
            value = np.maximum((value - mean) / (variance + 1e-5) ** 0.5 * gamma + beta, 0)
            kernel, (n, side) = conv.get_weights()[0], (len(conv.get_weights()[0]), 5)
            wide = np.pad(value, [(0, 0), (n // 2,) * 2, (n // 2,) * 2, (0, 0)])
            value = sum(
                wide[:, a : a + side, b : b + side] @ kernel[a, b]
                for a in range(n)
                for b in range(n)
            )
        return value

    states = [x]
    for layer in (1, 2, 3):
        states.append(composite(np.concatenate(states, -1), f"dense1_{layer}"))
    found = answers(model, x)
    assert networks.apart([found], [np.concatenate(states, -1)]) < 1e-5


# Who reads whom


SMALL = (2, 3, 5, 1)


@pytest.fixture(scope="module")
def small(module):
    return randomise(tiny(module, SMALL))


def test_connections_are_those_of_the_formula(module, small):
    links = module.connections(small)
    for number, n in enumerate(SMALL, 1):
        inside = [link for link in links if link[1].startswith(f"dense{number}_")]
        assert len(inside) == n * (n + 1) // 2
        last = "dense" if number == 4 else f"transition{number}"
        assert sum(reader == last for _, reader, _ in links) == n + 1
    for reader in {reader for _, reader, _ in links}:
        slices = [maps for _, other, maps in links if other == reader]
        assert slices[0].start == 0
        assert all(a.stop == b.start for a, b in pairwise(slices))
        assert slices[-1].stop == small.get_layer(reader).kernel.shape[-2]


@pytest.mark.once
def test_what_is_cut_is_read_no_more_and_is_put_back(module, small):
    rng = np.random.default_rng(1)
    images, labels = rng.normal(size=(8, 32, 32, 3)).astype("float32"), rng.integers(0, 10, 8)
    links, before = module.connections(small), small.get_weights()
    silent = [link for link in links if link[0] == "dense2_3_2"]
    module.cut(small, silent)
    deaf = answers(small, images)
    conv = small.get_layer("dense2_3_2")
    conv.set_weights([3 * conv.get_weights()[0]])
    np.testing.assert_array_equal(answers(small, images), deaf)
    small.set_weights(before)
    right = module.accuracies(small, images, labels, [[], silent, links])
    labels_of = [answers(small, images), deaf]
    assert list(right[:2]) == [(one.argmax(-1) == labels).mean() for one in labels_of]
    for old, new in zip(before, small.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_newest_and_the_oldest_sources_are_told_apart(module, small):
    links = module.connections(small)
    row = [link for link in links if link[1] == "dense3_5_1"]
    lost = {newest: module.beyond(links, 2, newest) for newest in (True, False)}
    assert [link for link in lost[True] if link[1] == "dense3_5_1"] == row[:-2]
    assert [link for link in lost[False] if link[1] == "dense3_5_1"] == row[2:]
    assert not any(reader in ("dense", "transition1") for _, reader, _ in lost[True])
    assert module.beyond(links, 5) == []


@pytest.mark.once
def test_a_strength_is_the_mean_absolute_weight_of_its_connection(module, small):
    before, links = small.get_weights(), module.connections(small)
    i = next(i for i, link in enumerate(links) if link[:2] == ("dense2_2_2", "transition2"))
    layer, norm = small.get_layer("transition2"), small.get_layer("transition2_bn")
    kernel, maps = layer.get_weights()[0], links[i][2]
    kernel[:, :, maps] = np.where(kernel[:, :, maps] > 0, 2, -2)
    layer.set_weights([kernel])
    gamma, *rest = norm.get_weights()
    gamma[maps] = -0.25
    norm.set_weights([gamma, *rest])
    assert module.strengths(small)[i] == pytest.approx(2)
    assert module.strengths(small, scaled=True)[i] == pytest.approx(0.5)
    small.set_weights(before)


# Memory


def test_memory_is_counted_by_what_gradients_need(module):
    """A block of n layers by hand: with the square of n, or in proportion if made again."""
    side, k, m = 4, 2, 6

    def block(n):
        image = keras.Input((side, side, m), name="image")
        return keras.Model(image, module.dense_block(image, n, k, "dense1"))

    for n in (1, 3, 6):
        values = {name: size // (4 * side**2) for name, size in module.kept(block(n)).items()}
        reads = [m + k * i for i in range(n)]  # by batch norm, and once more behind its ReLU
        assert sum(values.values()) == 2 * sum(reads) + 2 * 4 * k * n
        assert f"dense1_{n}_join" not in values and f"dense1_{n}_2" not in values
        again = {
            name: size // (4 * side**2)
            for name, size in module.kept(block(n), module.CHEAP).items()
        }
        assert sum(again.values()) == m + 4 * k * n + k * (n - 1)


def test_additions_keep_nothing_and_max_pooling_keeps_both_ends(module):
    x = keras.Input((8, 8, 4), name="x")
    y = layers.MaxPooling2D(2, name="pool")(layers.ReLU(name="free")(x))
    y = layers.Activation("relu", name="relu")(y)
    y = layers.Add(name="add")([y, layers.Conv2D(4, 1, name="conv")(y)])
    found = module.kept(keras.Model(x, y))
    assert found == {"free": 4 * 256, "pool": 4 * 64, "relu": 4 * 64}


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_rivals_have_as_many_parameters_or_macs(module):
    dense = ledger.totals(module.slim_densenet())
    by_name = {run.name: run for run in module.runs}
    for name in ("residual", "residual-long"):
        assert ledger.totals(by_name[name].small())["parameters"] == pytest.approx(
            dense["parameters"], rel=0.005
        )
    work = ledger.totals(by_name["residual-work"].small())
    assert work["macs"] == pytest.approx(dense["macs"], rel=0.005)
    for name in ("theta-1-fewer", "no-bottleneck"):
        assert ledger.totals(by_name[name].small())["parameters"] == pytest.approx(
            dense["parameters"], rel=0.09
        )


# What the page says of the paper


@pytest.mark.once
def test_the_papers_numbers_say_what_the_page_says():
    error = {d: facts.value(f"densenet{d}.top1_error") for d in (121, 169, 201, 264)}
    torch = {d: facts.value(f"resnet{d}.torch_top1_error") for d in (34, 50, 101, 152)}
    assert abs(error[201] - torch[101]) < 0.2
    assert facts.value("resnet101.parameters") > 2 * facts.value("densenet201.parameters")
    assert facts.value("densenet121.top1_error_10") < error[121] == 25.02
    cifar = [
        facts.value(f"densenet.cifar_{key}_error") for key in ("100_12", "100_24", "bc_100_12")
    ]
    assert cifar == [4.10, 3.74, 4.51]
    assert facts.value("densenet.memory") / facts.value("densenet.memory_shared") > 3


@pytest.mark.once
def test_what_a_run_leaves_is_what_the_page_draws(module, small):
    images = np.random.default_rng(0).normal(size=(4, *small.input_shape[1:])).astype("float32")
    labels = small.predict(images, verbose=0).argmax(-1)
    before = small.get_weights()
    found = module.measured(SimpleNamespace(model=small, sample=lambda n: (images, labels)))
    for old, new in zip(before, small.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert found["silenced"].shape == (1 + len(found["sources"]),) and found["silenced"][0] == 1
    assert found["few"].shape == (2, len(module.FEW))
    assert len(found["strengths"]) == len(found["strengths/twin"]) == len(found["links"])


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_what_the_page_counts(module):
    """Depth 264 is 265; where a bottleneck saves; what is kept, and by which block."""
    assert 1 + 2 * sum(module.blocks[264]) + 3 + 1 == 265
    plain, bottle = (lambda m, k=32: 9 * k * m), (lambda m, k=32: 4 * k * m + 36 * k * k)
    assert bottle(230) > plain(230) and bottle(231) < plain(231)
    model = module.densenet()
    memory, by_kind, by_block = module.kept(model), {}, {}
    for name, size in memory.items():
        kind = type(model.get_layer(name)).__name__
        by_kind[kind] = by_kind.get(kind, 0) + size / sum(memory.values())
        block = name.split("_")[0]
        by_block[block] = by_block.get(block, 0) + size
    shares = [by_kind[kind] for kind in ("Activation", "Concatenate", "Conv2D")]
    assert [round(100 * share) for share in shares] == [48, 31, 16]
    assert "BatchNormalization" not in by_kind
    assert max(by_block, key=by_block.get) == "dense1" and min(module.blocks[121]) == 6
    rivals = module.v1.resnet(50, width=0.541), module.v1.resnet(50)
    again = [sum(module.kept(one, module.CHEAP).values()) for one in (model, *rivals)]
    kept = [sum(module.kept(one).values()) for one in (model, *rivals)]
    assert min(again) == again[0] and max(kept) == kept[0]


# What the page says of its published run


@pytest.fixture(scope="module")
def published():
    return records.read(paths.record("2016_densenet", "densenet"))


def test_the_published_runs_curves_are_as_their_caption_says(published):
    history = {k: np.array(v) for k, v in published["seeds"][0]["history"].items()}
    assert round(100 * history["accuracy"][-1]) == 89
    assert round(100 * history["val_accuracy"][-1]) == 76
    assert round(100 * (history["accuracy"][-1] - history["val_accuracy"][-1])) == 12
    assert np.ptp(history["val_accuracy"][-5:]) < 0.01 and np.ptp(history["val_loss"][-6:]) < 0.035


def test_the_oldest_sources_do_better_alone_than_the_newest(module, published):
    newest, oldest = published.arrays["few"].astype(float)
    assert newest[0] < 0.2 and (oldest > newest).all() and module.FEW[-1] == 8


def test_the_newest_eight_cut_into_four_layers_alone(module):
    links = module.connections(module.slim_densenet())
    cut = {reader for _, reader, _ in module.beyond(links, module.FEW[-1])}
    assert cut == {f"dense3_{i}_1" for i in (9, 10, 11, 12)}


def spread(read):
    """Return the deviation of weights as a share of their mean."""
    return read.std() / read.mean()


def test_what_the_page_says_of_the_papers_four_sights(module, published):
    links, weights = published.arrays["links"], published.arrays["strengths"].astype(float)
    twin = published.arrays["strengths/twin"].astype(float)
    for values, later in ((weights, 1.2), (twin, 1)):
        end = values[links[:, 1] == "dense"]
        n = len(end) // 2
        assert end[n:].mean() / end[:n].mean() == pytest.approx(later, abs=0.03)
    for reader in set(links[:, 1]):
        read, chance = weights[links[:, 1] == reader], twin[links[:, 1] == reader]
        assert read.min() > 0.6 * read.max() and chance.min() > 0.8 * chance.max()  # over all
        if len(read) > 1 and reader != "dense":
            assert read[0] > 0.95 * read.mean()  # the block's input comes first


def test_training_leaves_a_pattern_in_the_last_columns(published):
    links, weights = published.arrays["links"], published.arrays["strengths"].astype(float)
    twin = published.arrays["strengths/twin"].astype(float)
    more = {
        reader: spread(weights[links[:, 1] == reader]) / spread(twin[links[:, 1] == reader])
        for reader in ("transition1", "transition2", "transition3", "dense")
    }
    assert min(more, key=more.get) == "dense" and more["dense"] == pytest.approx(2, abs=0.1)
    rows = {"trained": [], "twin": []}
    for reader in {reader for reader in links[:, 1] if re.match(r"dense3_\d+_1", reader)}:
        at = links[:, 1] == reader
        if at.sum() > 1:
            rows["trained"].append(weights[at][0] / weights[at][1:].mean())
            rows["twin"].append(twin[at][0] / twin[at][1:].mean())
    assert np.mean(rows["trained"]) > 1.06 and np.mean(rows["twin"]) < 1.02


def test_weights_do_not_tell_which_layer_is_dear(published):
    arrays = published.arrays
    right = arrays["silenced"].astype(float)
    lost = dict(zip(arrays["sources"], right[0] - right[1:], strict=True))
    links, weights = arrays["links"], arrays["strengths"].astype(float)
    mean = {reader: weights[links[:, 1] == reader].mean() for reader in set(links[:, 1])}
    relative = weights / [mean[reader] for reader in links[:, 1]]
    layer_names = [name for name in lost if name.startswith("dense")]
    read = [relative[links[:, 0] == name].mean() for name in layer_names]
    assert min(read) > 0.9 and max(read) < 1.15
    ranks = [np.argsort(np.argsort(values)) for values in (read, [lost[n] for n in layer_names])]
    assert np.corrcoef(ranks)[0, 1] < 0
    blocks = [[lost[n] for n in layer_names if n.startswith(f"dense{b}_")] for b in (1, 2, 3, 4)]
    assert min(blocks[0]) > 0.04 and max(blocks[0]) < 0.115
    assert max(max(block) for block in blocks[1:]) < 0.07 and min(blocks[2]) < 0


def test_without_a_blocks_input_the_network_guesses(published):
    right = published.arrays["silenced"].astype(float)
    lost = dict(zip(published.arrays["sources"], right[0] - right[1:], strict=True))
    inputs = {name for name in lost if not name.startswith("dense")}
    assert len(inputs) == 4
    assert all((cost > 0.6) == (name in inputs) for name, cost in lost.items())
    assert max(cost for name, cost in lost.items() if name not in inputs) < 0.15


@pytest.fixture(scope="module")
def pair():
    return [records.read(paths.record(NAME, run)) for run in ("dense-long", "residual-long")]


def test_dense_beats_residual_at_equal_parameters(pair):
    dense, residual = pair
    assert dense["recipe"]["epochs"] == residual["recipe"]["epochs"] == 30
    means = [
        {
            curve: np.mean([one["history"][curve] for one in record["seeds"]], 0)
            for curve in ("loss", "accuracy", "val_loss", "val_accuracy")
        }
        for record in pair
    ]
    for curve, one in means[0].items():
        ahead = (one - means[1][curve]) * (-1 if "loss" in curve else 1)
        assert (ahead > 0).all(), curve
    ends = [100 * np.mean([one["top1"] for one in record["seeds"]]) for record in pair]
    assert [round(end) for end in ends] == [74, 70]
    trained, right = (records.compare_training(dense, residual), records.compare(dense, residual))
    assert right["verdict"] == trained["verdict"] == "holds"
    assert trained["here (points)"] > right["here (points)"] > right["smallest to be seen"]
    for curves in means:
        assert np.ptp(curves["val_accuracy"][-5:]) < 0.006
        assert np.ptp(curves["val_loss"][-5:]) < 0.015
    assert dense["network"]["macs"] > 2 * residual["network"]["macs"]
