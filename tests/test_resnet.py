"""ResNet against the paper and two independent builds; each planted mistake is caught."""

from functools import cache, partial

import keras
import numpy as np
import pytest

import ilsvrc
import networks
from ilsvrc import data, facts, ledger, page, paths, records, vis

COUNTS = {
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 3.858),
    "resnet101": (44_549_160, 7.570),
    "resnet152": (60_192_808, 11.282),
}
BLOCKS = {18: 8, 34: 16, 50: 16, 101: 33, 152: 50}


@pytest.fixture(scope="module")
def module():
    return ilsvrc.chapter("2015_resnet")


def depth(model):
    return int("".join(c for c in model.name if c.isdigit()))


def check_parameters(model):
    assert networks.learnable(model) == COUNTS[model.name][0]


def check_macs(model):
    assert round(ledger.totals(model)["macs"] / 1e9, 3) == COUNTS[model.name][1]


def check_depth(model):
    weighted = [one.name for one in model.layers if getattr(one, "kernel", None) is not None]
    assert len([name for name in weighted if "shortcut" not in name]) == depth(model)


def check_additions(model):
    """Each block ends in x + BN(...), and only then comes the ReLU."""
    uses = ledger.calls(model)
    adds = [i for i, use in enumerate(uses) if isinstance(use.layer, keras.layers.Add)]
    assert len(adds) == BLOCKS[depth(model)]
    for i in adds:
        x, f = (uses[j] for j in uses[i].inputs)
        assert isinstance(f.layer, keras.layers.BatchNormalization), f.name
        assert x.name == "pool1" or x.name.endswith(("_relu", "_shortcut_bn")), x.name
        (after,) = [use for use in uses if i in use.inputs]
        assert after.layer.activation is keras.activations.relu, after.name


def check_norms(model):
    norms = [one for one in model.layers if isinstance(one, keras.layers.BatchNormalization)]
    convs = [one for one in model.layers if isinstance(one, keras.layers.Conv2D)]
    assert len(norms) == len(convs)
    assert {norm.epsilon for norm in norms} == {1e-5}


def check_padding(model):
    """Evenly padded, the first place of every grid looks at the first pixel."""
    for name in ("conv1", "pool1", "conv3_1_1", "conv4_1_1", "conv5_1_1"):
        [(top, left, bottom, right)] = ledger.boxes(model, name, [(0, 0)])
        assert (top + bottom, left + right) == (1, 1), name


CHECKS = [check_parameters, check_macs, check_depth, check_additions, check_norms, check_padding]


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("layers", BLOCKS)
def test_it_is_the_papers_network(module, layers):
    model = module.resnet(layers)
    for check in CHECKS:
        check(model)
    assert facts.value(f"resnet{layers}.parameters") == COUNTS[model.name][0]
    assert facts.value(f"resnet{layers}.macs") == pytest.approx(
        COUNTS[model.name][1] * 1e9, abs=5e6
    )
    wide = 512 if layers < 50 else 2048
    assert model.get_layer("average").input.shape == (None, 7, 7, wide)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("layers", [18, 34])
def test_option_a_and_the_plain_network_have_the_same_parameters(module, layers):
    plain, option_a = module.plain(layers), module.resnet(layers, option="A")
    known = facts.value(f"resnet{layers}.option_a_parameters")
    assert networks.learnable(plain) == networks.learnable(option_a) == known
    assert ledger.totals(plain)["macs"] == ledger.totals(option_a)["macs"]
    assert not [one for one in plain.layers if isinstance(one, keras.layers.Add)]


PLANTED = {
    "stride in the 3 x 3": ("grow=1, strided=1", "grow=1, strided=2", 50, check_macs),
    "ReLU before the addition": ("if i < len(sizes):", "if True:", 18, check_additions),
    "no ReLU after it": (
        'return layers.Activation("relu", name=f"{name}_relu")(f)',
        'return layers.Activation("linear", name=f"{name}_relu")(f)',
        *(18, check_additions),
    ),
    "no shortcut": ("    if option:\n", "    if False:\n", 18, check_additions),
    "zeros for a projection": ('option="B",', 'option="A",', 18, check_parameters),
    "a projection in every block": (
        'option == "C" or (option == "B" and grows)',
        "option",
        *(18, check_parameters),
    ),
    "Keras' epsilon": ("epsilon=1e-5, ", "", 18, check_norms),
    "biases": ('"use_bias": False', '"use_bias": True', 18, check_parameters),
    "padding on one side": ("size > 1 and strides > 1", "False", 18, check_padding),
    "pool padded on one side": (
        'ZeroPadding2D(1, name="pool1_pad")',
        'ZeroPadding2D(((0, 1), (0, 1)), name="pool1_pad")',
        *(18, check_padding),
    ),
    "one block too few": ("18: (2, 2, 2, 2)", "18: (2, 2, 2, 1)", 18, check_depth),
}


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_fails_its_check(mistake, planted):
    right, wrong, layers, check = PLANTED[mistake]
    model = planted("2015_resnet", right, wrong).resnet(layers)
    with pytest.raises(AssertionError):
        check(model)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_a_shortcut_without_projection_does_not_fit(planted):
    module = planted("2015_resnet", "return ops.pad(x, [(0, 0)] * 3 +", "return x if 1 else (x +")
    with pytest.raises(ValueError, match="shape"):
        module.resnet(18, option="A")


def test_bypassed_blocks_hand_on_what_they_get(module):
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    for build in (module.slim_plain, module.slim_resnet):
        model = build(logits=True)
        for name in ("conv2_2", "conv3_2"):
            module.bypass(model, name)
        ends = ["conv2_1_relu", "conv2_2_relu", "conv3_1_relu", "conv3_2_relu"]
        tapped = keras.Model(model.input, [model.get_layer(end).output for end in ends])
        a, b, c, d = map(keras.ops.convert_to_numpy, tapped(x, training=False))
        np.testing.assert_allclose(a, b, rtol=1e-5)
        np.testing.assert_allclose(c, d, rtol=1e-5)
        assert abs(a).max() > 0.1 and a.shape != c.shape


def test_a_plain_blocks_bypass_thins_where_the_shape_changes(module):
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    model = module.slim_plain(logits=True)
    module.bypass(model, "conv3_1")
    ends = [model.get_layer(name).output for name in ("conv2_2_relu", "conv3_1_relu")]
    before, after = map(
        keras.ops.convert_to_numpy, keras.Model(model.input, ends)(x, training=False)
    )
    np.testing.assert_allclose(after[..., :16], before[:, ::2, ::2], rtol=1e-5)
    assert not after[..., 16:].any()


def test_deletion_leaves_the_network_as_it_was_and_strength_is_a_ratio_of_norms(module):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(4, 64, 64, 3)).astype("float32"), np.zeros(4, int)
    model = module.slim_resnet(logits=True)
    before = model.get_weights()
    assert module.deleted(model, x, labels).shape == (9,)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    module.bypass(model, "conv4_2")
    add = model.get_layer("conv4_1_add")
    both = map(keras.ops.convert_to_numpy, keras.Model(model.input, add.input)(x, training=False))
    sizes = [np.linalg.norm(value.reshape(4, -1), axis=1) for value in both]
    ratios = module.strength(model, x)
    assert ratios[4] == pytest.approx((sizes[1] / sizes[0]).mean(), rel=1e-4)
    assert ratios[5] == 0 and (np.delete(ratios, 5) > 0).all()


# Parity: all weights random, batch norm's statistics included; logits and one tap a stage


@cache
def theirs(layers):
    """Return keras.applications' network with random weights, its images and its outputs."""
    build = getattr(keras.applications, f"ResNet{layers}")
    options = {"weights": None, "classes": 10, "classifier_activation": None}
    model, rng = build(input_shape=(64, 64, 3), **options), np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n, end = layer.gamma.shape[0], layer.name.endswith("_3_bn")
            gamma = rng.uniform(0.5, 1.5, n) * (0.4 if end else 1)
            layer.set_weights([gamma, *rng.normal(0, 0.3, (2, n)), rng.uniform(0.3, 1.5, n)])
        elif layer.weights:
            kernel, bias = (weight.shape for weight in layer.weights)
            scale = (2 / np.prod(kernel[:-1])) ** 0.5
            layer.set_weights([rng.normal(0, scale, kernel), rng.normal(0, 0.3, bias)])
    images = rng.normal(size=(2, 64, 64, 3)).astype("float32")
    last = {
        stage: max(
            int(one.name.split("_")[1].removeprefix("block"))
            for one in model.layers
            if one.name.startswith(f"conv{stage}_block")
        )
        for stage in range(2, 6)
    }
    taps = [f"conv{stage}_block{n}_out" for stage, n in last.items()] + ["predictions"]
    return model, images, networks.outputs(model, taps, images)


def distance(module, layers):
    """Return the largest difference in logits and taps, as a share of the largest value."""
    there, images, expected = theirs(layers)
    arrays = {weight.path: np.asarray(weight) for weight in there.weights}
    ours = module.resnet(layers, (64, 64, 3), 10, logits=True)
    model = ilsvrc.chapter("pretrained").filled(ours, arrays)
    counts = module.blocks[layers]
    taps = [f"conv{stage}_{n}_relu" for stage, n in enumerate(counts, 2)] + ["dense"]
    return networks.apart(networks.outputs(model, taps, images), expected)


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("layers", [50, 152])
def test_outputs_agree_with_keras_applications(module, layers):
    assert distance(module, layers) <= 1e-4
    known = {50: 25_636_712, 152: 60_419_944}[layers]  # in Keras' documentation
    ours = module.resnet(layers)
    biases = sum(one.filters for one in ours.layers if isinstance(one, keras.layers.Conv2D))
    assert ours.count_params() + biases == known


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize(
    "mistake",
    ["stride in the 3 x 3", "ReLU before the addition", "Keras' epsilon", "padding on one side"],
)
def test_parity_catches_a_planted_mistake(mistake, planted):
    right, wrong, *_ = PLANTED[mistake]
    assert distance(planted("2015_resnet", right, wrong), 50) > 1e-3


@pytest.mark.once
def test_v15_agrees_with_the_onnx_graph(module):
    graph = networks.onnx_graph("light_resnet50")
    there = []
    for node in graph.node:
        given = networks.attributes(node)
        if node.op_type == "Conv":
            there.append((*given["kernel_shape"], *given.get("strides", [1, 1])))
        if node.op_type == "BatchNormalization":
            assert given["epsilon"] == pytest.approx(1e-5)
    model = module.resnet(50, unit=partial(module.bottleneck, strided=2))
    convs = [one for one in model.layers if isinstance(one, keras.layers.Conv2D)]
    ours = [(*one.kernel_size, *one.strides) for one in convs]
    assert sorted(ours) == sorted(there) and len(ours) == 53
    assert round(ledger.totals(model)["macs"] / 1e9, 3) == 4.089


def test_the_slim_sibling_takes_small_images(module):
    slim = module.slim_resnet(logits=True)
    assert (slim.input_shape, slim.output_shape) == ((None, 64, 64, 3), (None, 10))
    assert slim.layers[-1].name == "dense" and slim.count_params() < 1_000_000
    check_depth(slim)
    check_additions(slim)


# What the page says of published records


def published(name):
    return records.read(paths.record("2015_resnet", name))


def test_the_rows_of_the_claims_are_as_the_page_says(module):
    evidence = {run.name: published(run.name) for run in module.runs}
    table = page.verdicts(evidence, module.tested)
    assert table.verdict.tolist() == [
        *("holds", "holds", "too small to see here", "too small to see here"),
        *("holds", "holds", "holds", "holds"),
        *("too small to see here", "the opposite"),
    ]
    points = table["here (points)"].tolist()
    assert round(points[7], 1) == 3.5 and points[9] < -10


def test_the_pairs_curves_end_flat_and_as_the_page_says():
    errors = {
        f"{kind}-{depth}": 100 - 100 * published(f"{kind}-{depth}-long").by_epoch("accuracy")
        for kind in ("plain", "resnet")
        for depth in (18, 34)
    }
    last = {name: each[:, -1].mean() for name, each in errors.items()}
    for name, each in errors.items():
        assert each.shape == (3, 30) and np.ptp(each.mean(0)[-3:]) < 1, name
    assert last["plain-34"] > 2 * last["plain-18"] > 4 * last["resnet-18"]
    assert max(last["resnet-18"], last["resnet-34"]) < 10


def test_the_published_run_over_fits_as_its_caption_says():
    history = published("resnet")["seeds"][0]["history"]
    assert history["accuracy"][-1] > 0.9 and 0.75 < history["val_accuracy"][-1] < 0.765
    ahead = np.array(history["accuracy"]) - history["val_accuracy"]
    assert ahead[:9].max() < 0.07 and ahead[10:].min() > 0.03 and ahead[-1] > 0.15
    assert min(history["val_loss"][20:]) > history["val_loss"][-1] - 0.02


def test_the_published_runs_filters_turn_after_the_first_epochs():
    filters = published("resnet").filters
    assert np.median(vis.filter_memory(filters[0], filters[30])) < 0.2
    change = [np.median(vis.filter_memory(filters[1], filters[n])) for n in (5, 12, 18, 30)]
    assert change[0] > 0.98 and change[0] - change[3] > 0.15  # "between the epochs named"
    assert filters[30].std() < 0.7 * filters[1].std()  # "others fade"


def test_the_run_with_the_stronger_decay_is_ahead_of_all_with_the_weaker_one():
    stronger, weaker = published("resnet"), published("resnet-18-long")
    assert stronger["top1"]["mean"] > 0.01 + max(one["top1"] for one in weaker["seeds"])


def test_no_gradient_vanishes_towards_the_image():
    arrays = published("resnet").arrays
    grown = {kind: arrays[f"gradients/{kind}"][[0, -1]] for kind in ("plain", "resnet")}
    grown = {kind: first / last for kind, (first, last) in grown.items()}
    assert grown["plain"] > 3 * grown["resnet"] > 3


def test_blocks_learn_smaller_changes_and_more_blocks_smaller_ones_yet(module):
    def inner(arrays, values):
        keeps = [not name.endswith("_1") or name == "conv2_1" for name in arrays["blocks"]]
        return np.median(values[np.array(keeps)])

    rng = np.random.default_rng(0)
    photographs = data.load("photographs", size=64, images=200).x_val
    some = photographs[rng.permutation(len(photographs))[:100]].astype("float32")
    some = (some - some.mean((0, 1, 2))) / some.std((0, 1, 2))
    keras.utils.set_random_seed(0)
    medians = {}
    for run, options in {"resnet": {}, "resnet-34-long": {"depth": 34, "option": "A"}}.items():
        arrays, start = published(run).arrays, module.slim_resnet(logits=True, **options)
        before = module.strength(start, some, training=True)
        medians[run] = [inner(arrays, arrays["strength"]), inner(arrays, before)]
    shallow, deep = np.array(list(medians.values()))
    assert (deep < shallow).all()  # and so it is before training
    assert shallow[0] < 0.8 * shallow[1] and deep[0] < 0.95 * deep[1]
    assert deep[0] > 0.3  # small corrections they are not


def test_a_deleted_block_takes_the_plain_network_to_chance_and_no_other():
    plain, residual = (published(f"{kind}-34-long").arrays for kind in ("plain", "resnet"))
    assert plain["deleted"][1:].max() < 0.2
    assert np.median(residual["deleted"][1:]) > 0.8 * residual["deleted"][0]
