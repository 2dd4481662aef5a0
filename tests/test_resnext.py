"""ResNeXt against the paper; the block's three forms are one; each planted mistake is caught."""

import re
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, ops

import ilsvrc
import networks
from ilsvrc import facts, ledger, page, paths, records

COUNTS = {  # billion MACs; with batch norm, as other libraries count
    "50_32x4d": (25_028_904, 4.23, 4.26),
    "101_32x4d": (44_177_704, 7.97, 8.01),
    "101_64x4d": (83_455_272, 15.46, 15.52),
}
STAGES = range(2, 6)


@pytest.fixture(scope="module")
def module():
    return ilsvrc.chapter("2016_resnext")


def form(model):
    """Return a network's layers, paths, maps a path, and width, from its name and first layer."""
    numbers = map(int, re.findall(r"\d+", model.name))
    return (*numbers, model.get_layer("conv1").filters / 64)


def blocks(model):
    """Return the names of the blocks."""
    names = [one.name for one in model.layers]
    return [name.removesuffix("_relu2") for name in names if name.endswith("_relu2")]


def check_parameters(model):
    assert networks.learnable(model) == COUNTS[model.name.removeprefix("resnext")][0]


def check_macs(model):
    _, macs, more = COUNTS[model.name.removeprefix("resnext")]
    table = ledger.ledger(model)
    norms = table[table.kind == "BatchNormalization"]
    total = ledger.totals(table)["macs"]
    assert round(total / 1e9, 2) == macs
    assert round((total + 2 * sum(np.prod(one) for one in norms.output)) / 1e9, 2) == more


def check_depth(model):
    """Three convolutions a block, one before them, a dense layer after."""
    names = [one.name for one in model.layers if getattr(one, "kernel", None) is not None]
    assert len([name for name in names if "shortcut" not in name]) == form(model)[0]
    assert all(f"{name}_{i}" in names for name in blocks(model) for i in (1, 2, 3))


def check_paths(model):
    """A path has d maps, and twice as many a stage; one layer holds all paths of a block."""
    _, C, d, width = form(model)
    for name in blocks(model):
        grow = 2 ** (int(name[4]) - 2)
        first, middle, last = (model.get_layer(f"{name}_{i}") for i in (1, 2, 3))
        a_path = max(1, round(d * width * grow))
        assert getattr(middle, "groups", None) == C, name
        assert middle.kernel.shape == (3, 3, a_path, C * a_path), name
        assert (first.groups, last.groups) == (1, 1)
        assert (first.filters, last.filters) == (C * a_path, 256 * width * grow), name
        deviation = float(ops.std(middle.kernel))  # he_normal: by the inputs of one path
        assert deviation == pytest.approx((2 / (9 * a_path)) ** 0.5, rel=0.15), name


def check_strides(model):
    """Five halvings: the first convolution, the pooling, and three stages' 3 x 3."""
    side = model.input_shape[1]
    ends = {stage: [name for name in blocks(model) if name[4] == str(stage)] for stage in STAGES}
    found = [model.get_layer(name).output.shape[1] for name in ("conv1", "pool1")]
    found += [model.get_layer(f"{ends[stage][-1]}_relu").output.shape[1] for stage in (3, 4, 5)]
    assert found == [side // 2**i for i in range(1, 6)]
    for stage in (3, 4, 5):
        strides = [model.get_layer(f"conv{stage}_1_{i}").strides for i in (1, 2, 3, "shortcut")]
        assert strides == [(1, 1), (2, 2), (1, 1), (2, 2)]


def check_additions(model):
    """Each block ends in x + BN(...), and only then comes the ReLU."""
    uses = ledger.calls(model)
    adds = [i for i, use in enumerate(uses) if isinstance(use.layer, layers.Add)]
    assert len(adds) == len(blocks(model)) > 0
    for i in adds:
        _, f = (uses[j] for j in uses[i].inputs)
        assert f.name.endswith("_3_bn"), f.name
        (after,) = [use for use in uses if i in use.inputs]
        assert after.layer.activation is keras.activations.relu, after.name


def check_padding(model):
    """Evenly padded, the first place of every grid looks at the first pixel."""
    for name in ("conv1", "pool1", "conv3_1_2", "conv4_1_2", "conv5_1_2"):
        [(top, left, bottom, right)] = ledger.boxes(model, name, [(0, 0)])
        assert (top + bottom, left + right) == (1, 1), name


def check_norms(model):
    norms = [one for one in model.layers if isinstance(one, layers.BatchNormalization)]
    convs = [one for one in model.layers if isinstance(one, layers.Conv2D)]
    assert len(norms) == len(convs)
    assert {norm.epsilon for norm in norms} == {1e-5}
    assert not any(conv.use_bias for conv in convs)


CHECKS = [check_depth, check_paths, check_strides, check_additions, check_padding, check_norms]


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("kind", COUNTS)
def test_it_is_the_papers_network(module, kind):
    model = module.resnext(kind)
    for check in (check_parameters, check_macs, *CHECKS):
        check(model)
    assert facts.value(f"resnext{kind}.parameters") == COUNTS[kind][0]
    assert facts.value(f"resnext{kind}.macs") == pytest.approx(COUNTS[kind][1] * 1e9, abs=5e6)
    assert model.get_layer("average").input.shape == (None, 7, 7, 2048)


FIRST = '7, 2, "conv1")'
POOL = """  # (112, 112, 64)
    x = layers.Activation("relu", name="conv1_relu")(x)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, 2,"""
BUNDLED = "x = BundledConv2D(maps, size, strides, padding, **options, name=name)(x)"
SLICES = """parts = enumerate(ops.split(x, groups, -1))
    x = layers.Concatenate(name=name)([
        layers.Conv2D(maps // groups, size, strides, padding, use_bias=False)(part)
        for _, part in parts
    ])"""
BEFORE = """f = conv_norm(x, wide, 1, {}, f"{{name}}_1")  # every path's first layer
    f = layers.Activation("relu", name=f"{{name}}_relu1")(f)
    f = conv_norm(f, wide, 3, {},"""
PLANTED = {  # what is right, what is wrong, for which network, and which check catches it
    "twice the inner maps outside": (
        "x = unit(x, round(maps * width), wide,",
        "x = unit(x, 2 * wide, wide,",
        *("26_64x4d", check_paths),
    ),
    "d maps in every stage": ("d * width * maps / 256", "d * width", "26_32x4d", check_paths),
    "groups by slices": (BUNDLED, SLICES, "26_8x14d", check_paths),
    "no groups": (', groups=C)', ', groups=1)', "26_32x4d", check_paths),
    "one group for a path's maps": (
        'f"{name}_2", groups=C)',
        'f"{name}_2", groups=wide // C)',
        *("26_8x14d", check_paths),
    ),
    "another start": ('"kernel_initializer": "he_normal"', "**{}", "26_32x4d", check_paths),
    "a first convolution of stride 1": (
        FIRST,
        FIRST.replace("2", "1", 1),
        *("26_8x14d", check_strides),
    ),
    "three strides in place of five": (
        FIRST + POOL,
        FIRST.replace("2", "1", 1) + POOL.replace("3, 2", "3, 1"),
        *("26_8x14d", check_strides),
    ),
    "stride in the first 1 x 1": (
        BEFORE.format(1, "strides"),
        BEFORE.format("strides", 1),
        *("26_8x14d", check_strides),
    ),
    "two convolutions a block": (
        'f = conv_norm(x, wide, 1, 1, f"{name}_1")',
        "f = x",
        *("26_8x14d", check_depth),
    ),
    "ReLU before the addition": (
        "f = end(f, name) if end else f",
        'f = layers.Activation("relu", name=f"{name}_relu3")(f)',
        *("26_8x14d", check_additions),
    ),
    "no shortcut": (
        "    if option:\n        x = ",
        "    if False:\n        x = ",
        *("26_8x14d", check_additions),
    ),
    "padding on one side": (
        "x = layers.ZeroPadding2D(size // 2,",
        "x = layers.ZeroPadding2D(((0, 2), (0, 2)),",
        *("26_8x14d", check_padding),
    ),
    "Keras' epsilon": (
        "layers.BatchNormalization(epsilon=1e-5, ",
        "layers.BatchNormalization(",
        *("26_8x14d", check_norms),
    ),
}  # fmt: skip


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_slim_networks_pass_the_checks_too(module):
    for kind in ("20_32x4d", "20_8x14d", "20_1x64d"):
        model = module.slim_resnext(kind)
        for check in CHECKS:
            check(model)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_fails_its_check(mistake, planted):
    right, wrong, kind, check = PLANTED[mistake]
    model = planted("2016_resnext", right, wrong).resnext(kind, (64, 64, 3), width=0.25)
    with pytest.raises(AssertionError):
        check(model)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_a_rule_for_the_output_that_holds_at_32x4d_alone_makes_34_million_90(module):
    """ResNeXt-29, 8x64d: Keras-ResNeXt, issue 6, has 89,599,808 that learn, no bias at the end."""

    def resnext29(outside):
        image = keras.Input((32, 32, 3))
        x = module.conv_norm(image, 64, 3, 1, "conv1")
        for stage, maps in enumerate(outside):
            for i in range(3):
                strides = 2 if stage and not i else 1
                x = module.block(x, maps, 512 * 2**stage, strides, f"conv{stage}_{i}", C=8)
        x = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
        return networks.learnable(keras.Model(image, x))

    assert resnext29((256, 512, 1024)) == 34_426_698
    assert resnext29((1024, 2048, 4096)) == 89_599_808 + 10


# One function


def randomise(model, seed=0):
    """Draw all weights of a model at random, batch norm's statistics included."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            n = layer.gamma.shape[0]
            layer.set_weights(
                [rng.uniform(0.5, 1.5, n), *rng.normal(0, 0.3, (2, n)), rng.uniform(0.5, 1.5, n)]
            )
        elif layer.weights:
            kernel = layer.kernel.shape
            draws = [rng.normal(0, (2 / np.prod(kernel[:-1])) ** 0.5, kernel)]
            layer.set_weights(draws + [rng.normal(0, 0.3, w.shape) for w in layer.weights[1:]])
    return model


def branches(paths, inputs=24, maps=24, d=3, side=9, strides=2, early=False):
    """Return form (a) of a block, or (b), path by path, each layer with its own batch norm."""

    def layer(x, maps, size, strides, name, norm=True):
        x = layers.ZeroPadding2D(1)(x) if strides > 1 else x
        x = layers.Conv2D(
            maps, size, strides, "valid" if strides > 1 else "same", use_bias=False, name=name
        )(x)
        return layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x) if norm else x

    image, ends = keras.Input((side, side, inputs)), []
    for i in range(paths):
        f = layers.ReLU()(layer(image, d, 1, 1, f"{i}_1"))
        f = layers.ReLU()(layer(f, d, 3, strides, f"{i}_2"))
        ends.append(f if early else layer(f, maps, 1, 1, f"{i}_3", norm=False))
    f = layers.Concatenate()(ends) if early else layers.Add()(ends)
    f = layer(f, maps, 1, 1, "3", norm=False) if early else f
    f = layers.BatchNormalization(epsilon=1e-5, name="3_bn")(f)
    x = layer(layers.MaxPooling2D(1, strides)(image), maps, 1, 1, "shortcut")
    return keras.Model(image, layers.ReLU()(layers.Add()([x, f])))


@pytest.mark.parametrize("early", [False, True])
def test_paths_that_are_summed_joined_or_grouped_are_the_same_block(module, early):
    C, d = 4, 3
    image = keras.Input((9, 9, 24))
    whole = randomise(keras.Model(image, module.block(image, 24, C * d, 2, "b", C, option="C")))
    parts = branches(C, early=early)
    for layer in parts.layers:
        path, _, which = layer.name.partition("_")
        if not layer.weights:
            continue
        if not which or which == "bn":  # shared by all paths
            name = f"b_{path}" + "_bn" * (which == "bn")
            layer.set_weights(whole.get_layer(name).get_weights())
            continue
        mine = slice(int(path) * d, int(path) * d + d)
        weights = whole.get_layer(f"b_{which}").get_weights()
        last = which == "3"
        layer.set_weights([w[:, :, mine] if last else w[..., mine] for w in weights])
    x = np.random.default_rng(1).normal(size=(3, 9, 9, 24)).astype("float32")
    one, other = (ops.convert_to_numpy(net(x, training=False)) for net in (whole, parts))
    assert abs(one - other).max() <= 1e-5 * abs(one).max() and one.max() > 1
    first = parts.get_layer("0_2")
    first.set_weights([first.get_weights()[0][::-1]])  # one path's filters upside down
    assert abs(ops.convert_to_numpy(parts(x, training=False)) - one).max() > 0.01 * one.max()


@pytest.mark.once
def test_one_path_is_resnet_with_its_stride_in_the_3_x_3(module):
    v1, options = module.v1, {"width": 0.25, "logits": True}
    late = partial(v1.bottleneck, strided=2)
    theirs = randomise(v1.resnet(50, (64, 64, 3), 10, unit=late, **options))
    ours = module.resnext("50_1x64d", (64, 64, 3), 10, **options)
    for layer in ours.layers:
        layer.set_weights(theirs.get_layer(layer.name).get_weights())
    x = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype("float32")
    taps = [f"conv{stage}_{n}_relu" for stage, n in enumerate(v1.blocks[50], 2)] + ["dense"]
    found = [networks.outputs(net, taps, x) for net in (ours, theirs)]
    assert networks.apart(*found) <= 1e-6


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_without_shortcuts_only_these_are_missing(module):
    plain, whole = (module.slim_resnext(option=option) for option in (None, "B"))
    assert not [one for one in plain.layers if isinstance(one, layers.Add)]
    side = sum(one.count_params() for one in whole.layers if "shortcut" in one.name)
    assert plain.count_params() == whole.count_params() - side
    check_depth(plain)


@pytest.mark.once
def test_a_layer_put_at_the_end_of_a_branch_stands_just_before_the_addition(module):
    def end(f, name):
        return layers.Dropout(0.1, name=f"{name}_end")(f)

    unit = partial(module.block, end=end)
    model = module.resnext("26_2x40d", (64, 64, 3), 10, width=0.25, unit=unit)
    adds = [one for one in model.layers if isinstance(one, layers.Add)]
    for add in adds:
        layer = add.input[1]._keras_history.operation
        assert layer.name == add.name.replace("_add", "_end")
        assert layer.input._keras_history.operation.name == add.name.replace("_add", "_3_bn")
    assert len(adds) == 8


# What paths do


@pytest.fixture(scope="module")
def small(module):
    model = randomise(module.slim_resnext("26_8x14d", logits=True))
    x = np.random.default_rng(1).normal(size=(6, 64, 64, 3)).astype("float32")
    return model, x


@pytest.mark.once
def test_a_silenced_path_changes_nothing_any_more(module, small):
    model, x = small
    kept = model.get_weights()
    path = module.paths(model, "conv3_1")[2]
    module.silence(model, "conv3_1", path)
    before = ops.convert_to_numpy(model(x, training=False))
    conv = model.get_layer("conv3_1_2")
    kernel = conv.get_weights()[0]
    kernel[..., path] *= 3
    conv.set_weights([kernel])
    np.testing.assert_array_equal(before, ops.convert_to_numpy(model(x, training=False)))
    kernel[..., module.paths(model, "conv3_1")[3]] *= 3
    conv.set_weights([kernel])
    assert abs(ops.convert_to_numpy(model(x, training=False)) - before).max() > 1e-3
    model.set_weights(kept)


def test_what_paths_add_adds_up_and_silencing_leaves_the_network_as_it_was(module, small):
    model, x = small
    kept = model.get_weights()
    scores = module.accuracies(model, x, np.zeros(6, int), [{}, {"conv2_2": [0, 1]}])
    assert scores.shape == (2,)
    for old, new in zip(kept, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    name = "conv5_2"
    added = module.at_work(model, x, name)
    assert added.shape == (6, 8, 2, 2)
    tapped = keras.Model(model.input, model.get_layer(f"{name}_3_bn").output)
    whole = ops.convert_to_numpy(tapped(x, training=False))
    path = module.paths(model, name)[5]
    module.silence(model, name, path)
    without = ops.convert_to_numpy(tapped(x, training=False))
    model.set_weights(kept)
    np.testing.assert_allclose(
        np.linalg.norm(whole - without, axis=-1), added[:, 5], rtol=1e-2, atol=1e-3
    )


def test_likeness_is_one_for_the_same_and_none_for_unrelated_filters(module):
    same = np.tile(np.eye(4)[:, :2].repeat(2, 1), 1)  # two paths of two equal filters
    assert module.alike(same, 2) == pytest.approx((1, 0))
    turned = same[:, [0, 2, 1, 3]]
    assert module.alike(turned, 2) == pytest.approx((0, 0.5))
    within, between = module.alike(np.random.default_rng(0).normal(size=(50, 200)), 10)
    assert within == pytest.approx(1 / 50, rel=0.2) and between == pytest.approx(1 / 50, rel=0.1)
    assert np.isnan(module.alike(same, 4)[0]) and np.isnan(module.alike(same, 1)[1])


@pytest.mark.once
def test_what_a_run_leaves_is_what_the_page_draws(module, small):
    model, x = randomise(module.slim_resnext("26_2x40d", logits=True)), small[1]
    dataset = SimpleNamespace(x_val=np.zeros((6, 73, 73, 3), "uint8"), y_val=np.zeros(6, int))
    trained = SimpleNamespace(
        model=model,
        dataset=dataset,
        prepare=lambda images: x[: len(images)],
        sample=lambda n: (x, np.zeros(len(x), int)),
    )
    found = module.measured(trained)
    shapes = {name: value.shape for name, value in found.items()}
    assert shapes == {
        "blocks": (8,),
        "silenced": (8, 2),
        "thinned": (6,),
        "alike": (8, 2, 2),
        "alike/twin": (8, 2, 2),
        "temple": (2, 16, 16),
    }
    assert (found["alike"] > 0).all() and np.isfinite(found["temple"]).all()


# What the page says of the paper


def test_the_papers_errors_fall_as_the_page_says():
    for depth in (50, 101):
        errors = [
            facts.value(f"resnext{depth}.{one}_top1_error")
            for one in ("1x64d", "2x40d", "4x24d", "8x14d", "32x4d")
        ]
        falls = -np.diff(errors)
        assert (falls > 0).all() and falls[0] == max(falls)
    half = facts.value("resnext101.32x4d_top1_error")
    deeper, wider = (facts.value(f"resnext.{way}_top1_error") for way in ("deeper", "wider"))
    assert half < wider < deeper and round(wider - half, 1) == 0.1
    one = facts.value("resnext101.1x64d_top1_error")
    twice = [
        facts.value(f"resnext.{way}_top1_error") for way in ("deeper", "wider", "2x64d", "64x4d")
    ]
    assert [round(one - error, 1) for error in twice] == [0.3, 0.7, 1.3, 1.6]


def test_resnext_came_second():
    table = facts.challenge()
    first, second = (
        table[(table.year == 2016) & (table["rank"] == rank)].iloc[0] for rank in (1, 2)
    )
    assert "ResNeXt" not in first.team and second.team == "ResNeXt"
    assert round(second.top5_error - first.top5_error, 2) == 0.04


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_the_slim_networks_of_the_claims_cost_about_the_same(module):
    names = {*module.FORMS, "deeper", "wider", "more-paths"}
    runs = [run for run in module.runs if run.name in names]
    macs = {run.name: ledger.totals(run.small())["macs"] for run in runs}
    alike = [macs[form] for form in module.FORMS]
    assert round(100 * (max(alike) / min(alike) - 1), 1) == 6.7
    assert (max(alike), min(alike)) == (macs["8x14d"], macs["1x64d"])
    tables = [ledger.ledger(run.small()) for run in runs if run.name in ("1x64d", "8x14d")]
    early = [t.macs[t.index.str.fullmatch(r"conv[345]_1_1")].sum() for t in tables]
    assert early[1] - early[0] > max(alike) - min(alike)  # all the rest together shrinks
    rounded = 16 * 16 * (8 * 4 - 28) * (16 + 64) + 16 * 16 * 9 * (4 * 4 - 3.5 * 3.5) * 8
    assert macs["8x14d"] - rounded < macs["32x4d"] < macs["8x14d"]  # 3.5 maps a path, not 4
    twice = [macs[name] for name in ("deeper", "wider", "more-paths")]
    assert max(twice) < 1.12 * min(twice) and min(twice) > 1.55 * macs["1x64d"]
    assert max(twice) == macs["more-paths"] and max(twice) < 2 * macs["1x64d"]


# What the page says of published records


@pytest.fixture(scope="module")
def published():
    return records.read(paths.record("2016_resnext", "resnext"))


@pytest.mark.once
def test_the_published_run_ends_where_the_caption_says(published):
    history = published["seeds"][0]["history"]
    assert round(100 * history["accuracy"][-1]) == 88
    assert round(100 * history["val_accuracy"][-1]) == 70
    assert max(history["val_accuracy"]) - history["val_accuracy"][19] < 0.02


@pytest.fixture(scope="module")
def pair():
    return [records.read(paths.record("2016_resnext", f"{one}-long")) for one in ("1x64d", "32x4d")]


@pytest.mark.once
def test_of_the_long_pair_one_path_learns_more_and_on_new_images_none_is_ahead(pair):
    one, many = (run.by_epoch("val_accuracy")[:, -1] for run in pair)
    assert max(min(one), min(many)) < min(max(one), max(many))  # the bands overlap
    seen, learned = records.compare(*pair), records.compare_training(*pair)
    assert (seen["verdict"], learned["verdict"]) == ("too small to see here", "holds")
    assert learned["here (points)"] > 4 * learned["smallest to be seen"]
    lasts = [run.by_epoch("accuracy")[:, -1] for run in pair]
    assert min(lasts[0]) > max(lasts[1]) + 0.01
    recipes = [{**run["recipe"], "key": None} for run in pair]
    assert recipes[0] == recipes[1] and len(one) == len(many) == 3


@pytest.mark.once
def test_after_five_epochs_more_paths_do_not_help(module):
    runs = {file.stem: records.read(file) for file in paths.RESULTS.glob("2016_resnext/*.json")}
    table = page.verdicts(runs, module.tested).set_index("claim")
    steps = table[:4]
    assert steps.verdict.tolist() == ["the opposite", *["too small to see here"] * 3]
    assert table.verdict["32x4d does better than 1x64d"] == "too small to see here"
    assert table.verdict["without shortcuts, 32x4d beats 1x64d"] == "the opposite"
    assert (table.verdict[table.index.str.startswith("shortcuts help")] == "holds").all()
    twice = table.verdict[table.index.str.startswith("twice the work")]
    assert twice.tolist() == ["holds", "the opposite"]  # deeper, wider


@pytest.mark.once
def test_the_long_pair_stands_silenced_maps_nearly_alike(pair):
    one, many = (run.arrays["thinned"] for run in pair)
    assert abs(one - many).max() < 0.07 and one[0] - one[-1] > 0.5


@pytest.mark.once
def test_two_paths_in_three_cost_less_than_a_point_and_none_very_much(published):
    lost = 100 * (published.arrays["thinned"][0] - published.arrays["silenced"])
    assert lost.shape == (6, 32) and lost.max() < 6
    assert (lost < 1).mean() == pytest.approx(2 / 3, abs=0.02)


@pytest.mark.once
def test_filters_of_a_path_are_a_little_more_alike_and_still_no_family(published):
    trained, twin = (published.arrays[key][1:] for key in ("alike", "alike/twin"))
    ratio = trained[..., 0] / trained[..., 1]  # within to between
    reading, writing = ratio.T
    assert [round(100 * (end - 1)) for end in (min(reading), max(reading))] == [2, 12]
    assert (writing > 1).sum() == 3
    assert trained.max() < 0.03  # of 1, the same filter
    assert (trained[..., 1] < 1.6 * twin[..., 1]).all()
    maps = np.array([(64, 128), (128, 256), (256, 256), (256, 512), (512, 512)])
    np.testing.assert_allclose(twin[..., 1] * maps, 1, atol=0.05)  # falls as 1 / n
    assert published.arrays["temple"].shape == (32, 16, 16)
