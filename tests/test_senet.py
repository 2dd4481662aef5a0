"""SENet against the paper and its release; each planted mistake is caught; gates are gates."""

import re

import keras
import numpy as np
import pytest

import ilsvrc
import networks
from ilsvrc import facts, ledger, page, paths, records

NAME = "2017_senet"
COUNTS = {  # parameters, billion MACs
    "se_resnet50": (28_088_024, 3.860),
    "se_resnet101": (49_326_872, 7.575),
    "se_resnet152": (66_821_848, 11.289),
    "se_resnext50_32x4d": (27_559_896, 4.233),
    "se_resnext101_32x4d": (48_955_416, 7.975),
    "senet154": (115_088_984, 20.688),
}
CIRCULATES = {"se_resnet50": 3.88, "senet154": 20.77}  # billion MACs, counted otherwise
BLOCKS = {"26": 8, "50": 16, "101": 33, "152": 50, "154": 50}


@pytest.fixture(scope="module")
def module():
    return ilsvrc.chapter(NAME)


def build(module, name):
    kind = name.removeprefix("se_resnext")
    if name == "senet154":
        return module.senet154()
    if kind != name:
        return module.se_resnext(kind)
    return module.se_resnet(int(name.removeprefix("se_resnet")))


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def check_parameters(model):
    assert networks.learnable(model) == COUNTS[model.name][0]


def check_macs(model):
    assert round(ledger.totals(model)["macs"] / 1e9, 3) == COUNTS[model.name][1]


def check_first_convolution(model):
    """The image is halved at once, by a 7 x 7, or by the first of SENet-154's three 3 x 3."""
    first = layers_of(model, keras.layers.Conv2D)[0]
    size = 3 if model.name == "senet154" else 7
    assert (first.kernel_size, first.strides) == ((size, size), (2, 2))
    assert model.get_layer("pool1").output.shape[1:3] == (56, 56)


def check_bottlenecks(model):
    """Every block has three convolutions: 1 x 1, 3 x 3, 1 x 1."""
    convs = layers_of(model, keras.layers.Conv2D)
    for add in layers_of(model, keras.layers.Add):
        name = add.name.removesuffix("_add")
        row = [conv.kernel_size for conv in convs if re.fullmatch(rf"{name}_\d", conv.name)]
        assert row == [(1, 1), (3, 3), (1, 1)], name


def check_gates(model):
    """A gate: mean of the map, C / 16 units with biases, ReLU, C units with biases, sigmoid."""
    gates = [one for one in model.layers if one.name.endswith("_se_gate")]
    assert len(gates) == len(layers_of(model, keras.layers.Add)) > 0
    for gate in gates:
        name = gate.name.removesuffix("_gate")
        parts = ("squeeze", "reduce", "relu", "expand")
        squeeze, reduce, relu, expand = (model.get_layer(f"{name}_{part}") for part in parts)
        assert isinstance(squeeze, keras.layers.GlobalAveragePooling2D)
        assert reduce.units == squeeze.output.shape[-1] // 16 and reduce.use_bias, name
        assert expand.units == squeeze.output.shape[-1] and expand.use_bias, name
        assert relu.activation is keras.activations.relu, name
        assert gate.activation is keras.activations.sigmoid, name


def check_place(model):
    """x + SE(F(x)): what is squeezed is what is scaled, F's last batch norm; x is not gated."""
    uses = ledger.calls(model)
    adds = [use for use in uses if isinstance(use.layer, keras.layers.Add)]
    assert len(adds) == BLOCKS[model.name.removeprefix("se_").split("_")[0].lstrip("resnxt")]
    for add in adds:
        x, f = (uses[i] for i in add.inputs)
        assert x.name == "pool1" or x.name.endswith(("_relu", "_shortcut_bn")), x.name
        assert f.name.endswith("_se_scale"), f.name
        u, _ = (uses[i] for i in f.inputs)
        squeeze = next(use for use in uses if use.name == f.name.replace("_scale", "_squeeze"))
        assert isinstance(u.layer, keras.layers.BatchNormalization), u.name
        assert uses[squeeze.inputs[0]] is u, f.name


def check_appendix(model):
    """What SENet-154 changes in a ResNeXt of 152 layers and 64 paths, by the paper's appendix."""
    for stage, n in {2: 64, 3: 128, 4: 256, 5: 512}.items():
        first, middle, last = (model.get_layer(f"conv{stage}_1_{i}") for i in (1, 2, 3))
        assert (first.filters, middle.filters, last.filters) == (2 * n, 4 * n, 4 * n)
        assert middle.groups == 64 and first.strides == (1, 1)
        shortcut = model.get_layer(f"conv{stage}_1_shortcut")
        assert shortcut.kernel_size == ((1, 1) if stage == 2 else (3, 3))
        assert middle.strides == shortcut.strides == ((1, 1) if stage == 2 else (2, 2))
    stem = [model.get_layer(f"conv1_{i}") for i in (1, 2, 3)]
    assert [(one.filters, one.kernel_size[0]) for one in stem] == [(64, 3), (64, 3), (128, 3)]
    assert model.get_layer("dropout").rate == facts.value("senet154.dropout")


def check_circulating_macs(model):
    """What others count is ours and two operations a value that batch norm touches."""
    norms = layers_of(model, keras.layers.BatchNormalization)
    touched = sum(int(np.prod(norm.output.shape[1:])) for norm in norms)
    ours = ledger.totals(model)["macs"]
    assert round((ours + 2 * touched) / 1e9, 2) == CIRCULATES[model.name]


CHECKS = [check_parameters, check_macs, check_first_convolution, check_bottlenecks, check_gates]
CHECKS += [check_place]


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("name", COUNTS)
def test_it_is_the_papers_network(module, name):
    model = build(module, name)
    assert model.name == name
    more = [check_circulating_macs] * (name in CIRCULATES) + [check_appendix] * (name == "senet154")
    for check in CHECKS + more:
        check(model)
    assert facts.value(f"{name}.parameters") == COUNTS[name][0]
    assert facts.value(f"{name}.macs") == pytest.approx(COUNTS[name][1] * 1e9, rel=1e-3)
    assert model.get_layer("average").input.shape == (None, 7, 7, 2048)
    ends = {layer.name[:5]: layer.output.shape[1:] for layer in layers_of(model, keras.layers.Add)}
    assert list(ends.values()) == [(56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)]


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_an_unplanted_network_passes_the_checks_that_mistakes_fail(module):
    for check in (check_first_convolution, check_bottlenecks, check_gates, check_place):
        check(module.se_resnet(26))


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_the_cost_is_under_one_per_cent_of_macs_and_a_tenth_of_parameters(module):
    """Most of it in the last stage; the formula of the paper's section 4, and the biases."""
    table = ledger.ledger(module.se_resnet())
    inside = table.index.str.contains("_se_")
    added, bare = table[inside], table[~inside]
    assert bare.parameters.sum() == facts.value("resnet50.parameters")
    assert added.macs.sum() / bare.macs.sum() < 0.01
    assert added.parameters.sum() / bare.parameters.sum() == pytest.approx(0.10, abs=0.005)
    last = added[added.index.str.startswith("conv5")].parameters.sum()
    assert 0.6 < last / added.parameters.sum() < 0.65
    stages = [(3, 256), (4, 512), (6, 1024), (3, 2048)]
    weights = sum(2 * n * c**2 // 16 for n, c in stages)
    biases = sum(n * (c // 16 + c) for n, c in stages)
    assert added.macs.sum() == weights and added.parameters.sum() == weights + biases
    without_last = added.parameters.sum() - last
    assert without_last / bare.parameters.sum() == pytest.approx(0.04, abs=0.005)


PLANTED = {
    "no biases": (
        '{"kernel_initializer": "he_normal"}',
        '{"kernel_initializer": "he_normal", "use_bias": False}',
        check_parameters,
    ),
    "no biases, seen": (
        '{"kernel_initializer": "he_normal"}',
        '{"kernel_initializer": "he_normal", "use_bias": False}',
        check_gates,
    ),
    "behind the addition": (
        '    f = excite(f, f"{name}_se") if excite else f\n'
        '    x = shortcut(x, f.shape[-1], strides, "B", name)\n'
        '    y = layers.Add(name=f"{name}_add")([x, f])\n',
        '    x = shortcut(x, f.shape[-1], strides, "B", name)\n'
        '    y = layers.Add(name=f"{name}_add")([x, f])\n'
        '    y = excite(y, f"{name}_se")\n',
        check_place,
    ),
    "on the shortcut": (
        'name=f"{name}_add")([x, f])\n    return',
        'name=f"{name}_add")([f, x])\n    return',
        check_place,
    ),
    "squeezed from the wrong tensor": (
        "    f = residual(x, maps, strides, name)\n    f = excite(f,",
        "    f = residual(x, maps, strides, name)\n"
        '    f = layers.Activation("relu")(f)\n    f = excite(f,',
        check_place,
    ),
    "a first convolution of stride 1": (
        'conv_norm(x, maps, 7, 2, "conv1")',
        'conv_norm(x, maps, 7, 1, "conv1")',
        check_first_convolution,
    ),
    "a first convolution of 3 x 3": (
        'conv_norm(x, maps, 7, 2, "conv1")',
        'conv_norm(x, maps, 3, 2, "conv1")',
        check_first_convolution,
    ),
    "blocks of two convolutions": (
        "zip((v1.conv_norm, middle, v1.conv_norm), (1, 3, 1), wide)",
        "zip((v1.conv_norm, middle), (3, 3), wide[1:])",
        check_bottlenecks,
    ),
    "another ratio": ("name, r=16,", "name, r=8,", check_gates),
    "maxima": ('pool="average"', 'pool="max"', check_gates),
    "softmax for gates": ('gate="sigmoid"', 'gate="softmax"', check_gates),
    "no ReLU in the middle": (
        'layers.Activation("relu", name=f"{name}_relu")(s)',
        'layers.Activation("linear", name=f"{name}_relu")(s)',
        check_gates,
    ),
    "stride in the 3 x 3": ("wide=(1, 1, 4), strided=1", "wide=(1, 1, 4), strided=2", check_macs),
    "no SE in the last stage": ("stages=(2, 3, 4, 5)", "stages=(2, 3, 4)", check_gates),
}


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_fails_its_check(mistake, planted):
    right, wrong, check = PLANTED[mistake]
    counted = check in (check_parameters, check_macs)
    model = planted(NAME, right, wrong).se_resnet(50 if counted else 26)
    with pytest.raises(AssertionError):
        check(model)


# What the block computes


def outputs(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


@pytest.mark.parametrize("pool", ["average", "max"])
@pytest.mark.parametrize("gate", ["sigmoid", "tanh", "relu"])
def test_the_block_is_the_papers_equation(module, pool, gate):
    rng = np.random.default_rng(0)
    u = rng.normal(size=(2, 5, 4, 32)).astype("float32")
    x = keras.Input(u.shape[1:])
    model = keras.Model(x, module.squeeze_excite(x, "se", r=4, pool=pool, gate=gate))
    W1, b1, W2, b2 = (rng.normal(size=weight.shape) for weight in model.weights)
    model.set_weights([W1, b1, W2, b2])
    z = u.mean((1, 2)) if pool == "average" else u.max((1, 2))
    t = np.maximum(z @ W1 + b1, 0) @ W2 + b2
    s = {"sigmoid": 1 / (1 + np.exp(-t)), "tanh": np.tanh(t), "relu": np.maximum(t, 0)}[gate]
    np.testing.assert_allclose(outputs(model, u), s[:, None, None] * u, rtol=1e-4, atol=1e-4)


@pytest.mark.once
def test_without_gates_it_is_resnet(module):
    """The same weights give ResNet's outputs; with all gates at 1 SE-ResNet does so, too."""
    options = {"input_shape": (32, 32, 3), "classes": 10, "width": 0.125, "logits": True}
    resnet, bare = module.v1.resnet(50, **options), module.se_resnet(50, stages=(), **options)
    gated, rng = module.se_resnet(50, **options), np.random.default_rng(0)
    for layer in resnet.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.weights])
        for other in (bare, gated):
            other.get_layer(layer.name).set_weights(layer.get_weights())
    images = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    expected = outputs(resnet, images)
    np.testing.assert_allclose(outputs(bare, images), expected, rtol=1e-5, atol=1e-4)
    assert networks.apart([outputs(gated, images)], [expected]) > 0.01
    for layer in module.gate_layers(gated):
        expand = gated.get_layer(layer.name.replace("_gate", "_expand"))
        expand.set_weights([np.zeros(expand.kernel.shape), np.full(expand.units, 30.0)])
    assert networks.apart([outputs(gated, images)], [expected]) < 1e-5


@pytest.mark.once
@pytest.mark.parametrize("place", ["before", "beside", "after"])
def test_another_place_is_another_network(module, place):
    """Each stands where it says, told by the layer that its product feeds."""
    model = module.slim_se_resnet(block=module.partial(module.elsewhere, place=place))
    uses = ledger.calls(model)
    at = next(i for i, use in enumerate(uses) if use.name == "conv2_2_se_scale")
    fed = sorted(use.name for use in uses if at in use.inputs)
    assert fed == {
        "before": ["conv2_2_1"],
        "beside": ["conv2_2_add"],
        "after": ["conv3_1_1_pad" if "conv3_1_1_pad" in [u.name for u in uses] else "conv3_1_1",
                  "conv3_1_shortcut"],
    }[place]  # fmt: skip
    squeezed = next(use for use in uses if use.name == "conv2_2_se_squeeze")
    given = uses[squeezed.inputs[0]].name
    assert given == ("conv2_2_relu" if place == "after" else given)
    assert given.endswith("_relu")


@pytest.mark.once
def test_gates_are_added_to_any_network(module):
    """VGG gets them behind each ReLU, Inception behind each module; the rest stays as it was."""
    small = {"input_shape": (64, 64, 3), "classes": 10}
    bare = module.vgg.slim_vgg(**small)
    gated = module.slim_se_vgg(**small)
    relus = [one.name for one in bare.layers if one.name.startswith("relu") and "_" in one.name]
    assert [one.name for one in module.gate_layers(gated)] == [f"{r}_se_gate" for r in relus]
    kept = [one.name for one in gated.layers if "_se_" not in one.name]
    assert kept == [one.name for one in bare.layers]
    inception = ilsvrc.chapter("2014_googlenet").slim_googlenet(auxiliary=False, **small)
    with_gates = module.with_se(inception, r"inception_\d\w")
    assert len(module.gate_layers(with_gates)) == 9
    scaled = with_gates.get_layer("inception_3a_se_scale").input[0]
    assert scaled is with_gates.get_layer("inception_3a").output


def test_frozen_gates_do_not_see_the_image(module):
    rng = np.random.default_rng(0)
    model = module.slim_se_resnet(input_shape=(32, 32, 3), stages=(3,), logits=True)
    images, labels = rng.normal(size=(6, 32, 32, 3)).astype("float32"), np.zeros(6, int)
    before, found = model.get_weights(), module.gates(model, images)
    assert len(found) == 2 and all(((one >= 0) & (one <= 1)).all() for one in found)
    assert module.frozen(model, images, labels, found).shape == (4,)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    module.freeze(model, "conv3_1", found[0].mean(0))
    mean = np.clip(found[0].mean(0), 1e-4, 1 - 1e-4)  # a sigmoid's bias cannot say 0 or 1
    still = module.gates(model, images)[0]
    np.testing.assert_allclose(still, np.tile(mean, (6, 1)), atol=1e-5)


def test_a_twins_gates_are_taken_with_batch_norm_at_work(module):
    """A batch's own averages take its scale out; those of a network not yet trained do not."""
    keras.utils.set_random_seed(0)
    model = module.slim_se_resnet(input_shape=(32, 32, 3), stages=(5,), logits=True)
    images = np.random.default_rng(0).normal(size=(20, 32, 32, 3)).astype("float32")
    for training in (True, False):
        dim, bright = (module.gates(model, k * images, training)[-1] for k in (1, 10))
        assert (networks.apart([bright], [dim]) < 0.01) == training


@pytest.mark.once
def test_a_spread_between_classes_is_told_from_chance(module):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 25)
    values = rng.normal(0, 0.1, (100, 30)) + labels[:, None]
    means = module.by_class(values, labels)
    np.testing.assert_allclose(means, np.arange(4)[:, None] * np.ones(30), atol=0.1)
    assert module.spread(means) == pytest.approx(np.std(range(4)), abs=0.05)
    assert module.spread(module.by_class(values, rng.permutation(labels))) < 0.4


@pytest.mark.once
def test_the_slim_sibling_takes_small_images(module):
    slim = module.slim_se_resnet(logits=True)
    assert (slim.input_shape, slim.output_shape) == ((None, 64, 64, 3), (None, 10))
    assert slim.layers[-1].name == "dense" and slim.count_params() < 1_500_000
    for check in (check_gates, check_bottlenecks):
        check(slim)


# What the page says of the paper


@pytest.mark.once
def test_the_papers_numbers_say_what_the_page_says():
    nets = ("resnet50", "resnet101", "resnet152", "resnext50", "resnext101", "vgg16")
    nets += ("inception_v2", "inception_resnet_v2", "mobilenet", "shufflenet")
    gains = [
        facts.value(f"senet.{net}_top1_error") - facts.value(f"senet.{net}_se_top1_error")
        for net in nets
    ]
    assert nets[int(np.argmin(gains))] == "resnext101" and round(min(gains), 1) == 0.5
    assert nets[int(np.argmax(gains))] == "mobilenet" and round(max(gains), 1) == 3.1
    error = {key: facts.value(f"senet.ablation_{key}_top1_error") for key in ("none", "r16")}
    error |= {r: facts.value(f"senet.ablation_r{r}_top1_error") for r in (2, 4, 8, 16, 32)}
    assert max(error[r] for r in (2, 4, 8, 16)) - min(error[r] for r in (2, 4, 8, 16)) < 0.05
    assert facts.value("senet.ablation_relu_top1_error") > error["none"]
    half = (error["none"] + error["r16"]) / 2
    for key in ("after", "r32"):
        assert facts.value(f"senet.ablation_{key}_top1_error") == pytest.approx(half, abs=0.1)
    alone = sum(
        error["none"] - facts.value(f"senet.ablation_stage{s}_top1_error") for s in (2, 3, 4)
    )
    assert alone == pytest.approx(error["none"] - error["r16"], abs=0.15)
    slower = facts.value("senet.step_se_resnet50") / facts.value("senet.step_resnet50")
    assert slower == pytest.approx(1.1, abs=0.01)


@pytest.mark.once
def test_the_last_steps_of_the_challenge_are_small():
    error = [facts.value(f"challenge.{year}.top5_error") for year in range(2010, 2018)]
    assert error == sorted(error, reverse=True)
    assert [year for year, e in zip(range(2010, 2018), error, strict=True) if e < 5.1] == [
        2015,
        2016,
        2017,
    ]
    assert error[-1] / error[-2] == pytest.approx(0.75, abs=0.01)
    assert error[-1] < facts.value("ilsvrc.mislabelled")
    assert (-np.diff(error)[-2:] < 1).all() and (-np.diff(error)[:-2] > 2).all()


# What the page says of published records


@pytest.fixture(scope="module")
def published():
    return records.read(paths.record("2017_senet", "se_resnet"))


@pytest.mark.once
def test_the_published_run_ends_where_the_caption_says(published):
    history = published["seeds"][0]["history"]
    assert 0.88 < history["accuracy"][-1] < 0.92 and max(history["val_accuracy"]) < 0.7
    assert max(history["val_accuracy"][23:]) - min(history["val_accuracy"][23:]) < 0.01
    ahead = np.subtract(history["accuracy"], history["val_accuracy"])
    assert ahead[4] < 0 and (ahead[5:] > 0).all() and ahead[9] < ahead[19] < ahead[29]


@pytest.mark.once
def test_the_published_run_is_the_lowest_of_the_pairs_three_seeds(published):
    pair = records.read(paths.record("2017_senet", "se-long"))
    first, *others = [one["history"]["val_accuracy"] for one in pair["seeds"]]
    assert published["seeds"][0]["history"]["val_accuracy"] == first
    assert all(first[-1] < other[-1] for other in others)


@pytest.mark.once
def test_gates_follow_classes_in_every_block_and_stay_half_open(published):
    found = published.arrays
    apart, chance = found["gates/between"], found["gates/between/shuffled"]
    twin = found["gates/between/twin"]
    assert (apart > 3 * chance).all() and (apart[1:] > 2 * twin[1:]).all()
    assert 0.7 * apart[0] < twin[0] < apart[0]  # "little more", "most of that"
    names = found["gates/blocks"].tolist()
    assert apart.argmax() == names.index("conv4_1") and apart.argmin() == 0
    assert apart[-1] > apart[-2]  # no more alike in the last block
    middle = found["gates/levels"][:, 2]
    assert (abs(middle - 0.5) < 0.02).all()


@pytest.mark.once
def test_one_frozen_block_is_hardly_missed_and_all_are(published):
    whole, *each, still = 100 * published.arrays["gates/frozen"]
    assert whole - min(each) < 2 and 3.5 < whole - still < 4.5


@pytest.mark.once
def test_the_pair_differs_as_the_page_says(module):
    runs = {
        name: records.read(paths.record("2017_senet", name)) for name in ("se-long", "resnet-long")
    }
    table = page.verdicts(runs, [one for one in module.tested if "30 epochs" in one.says])
    assert table.verdict.tolist() == ["too small to see here", "holds"]
    assert abs(table["here (points)"][0] - table["paper (points)"][0]) < 0.3  # "as much as"
    course = {name: run.by_epoch("val_accuracy") for name, run in runs.items()}
    means = {name: each.mean(0) for name, each in course.items()}
    assert (means["se-long"] > means["resnet-long"]).all()
    overlap = course["se-long"].min(0) <= course["resnet-long"].max(0)
    assert np.flatnonzero(~overlap).max() + 2 == 15  # the first epoch of those that overlap
    training = {name: run.by_epoch("accuracy") for name, run in runs.items()}
    assert (training["se-long"].min(0) > training["resnet-long"].max(0)).all()
    more = [runs[name]["network"]["parameters"] for name in ("se-long", "resnet-long")]
    assert more[0] / more[1] == pytest.approx(1.1, abs=0.01)  # "a tenth more parameters"
    assert all(np.ptp(each[-3:]) < 0.01 for each in means.values())


@pytest.mark.once
def test_other_gates_and_places_differ_more_than_the_paper_saw(module):
    runs = {file.stem: records.read(file) for file in paths.RESULTS.glob("2017_senet/*.json")}
    table = page.verdicts(runs, module.tested).set_index("claim")
    seen = table[(table.verdict != "too small to see here") & ~table.index.str.startswith("SE ")]
    assert seen.verdict.to_dict() == {
        "a sigmoid does better than tanh": "holds",
        "a sigmoid does better than a ReLU": "holds",
        "on F is better than after the addition": "holds",
        "before F is better than on F": "the opposite",
        "on the shortcut is better than on F": "the opposite",
    }
    helps = table["here (points)"][table.index.str.startswith("SE helps")]
    assert len(helps) == 5 and (helps > 0).all()  # "all have the higher mean with SE"
    papers = seen["paper (points)"]
    assert (abs(seen["here (points)"]) > 5 * papers).all()  # "far larger"
    places = seen[seen.verdict == "the opposite"]
    assert (places["paper (points)"] < 0.1).all()  # "hardly a difference"
    where = table["here (points)"].filter(regex="before F|on the shortcut|after the addition").abs()
    assert where.idxmax() == "on the shortcut is better than on F"  # "lose most of all"
    assert round(papers["a sigmoid does better than a ReLU"], 1) == 1.2
    assert (runs["relu"].by_epoch("accuracy")[:, -1] < 0.15).all()  # "nothing is learned"
    losses = runs["relu"].by_epoch("val_loss")
    assert np.isfinite(losses).all() and losses.max() > 1e20
