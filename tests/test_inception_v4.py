"""Inception v4 and its residual relatives against the paper, keras.applications, and mistakes."""

import re
from functools import cache
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import ilsvrc
import networks
from ilsvrc import facts, ledger, page, paths, records


@pytest.fixture(scope="module")
def module():
    return ilsvrc.chapter("2016_inception_v4")


def kinds(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def adds(model):
    return kinds(model, keras.layers.Add)


def inputs(layer):
    """Return the layers whose outputs a layer takes."""
    return [tensor._keras_history.operation for tensor in layer.input]


# Inception v4

check_v4_parameters = networks.parameters("inception_v4", 42_679_816)
check_v4_macs = networks.gmac(12.254)
check_v4_grids = networks.grids(
    {"conv1": 149, "conv2": 147, "conv3": 147, "stem1": 73, "stem2": 71, "stem3": 35, "a4": 35}
    | {"reduce_a": 17, "b7": 17, "reduce_b": 8, "c3": 8}
)


def check_v4_shapes(model):
    maps = {"stem1": 160, "stem2": 192, "stem3": 384, "a1": 384, "a4": 384, "reduce_a": 1024}
    maps |= {"b1": 1024, "b7": 1024, "reduce_b": 1536, "c1": 1536, "c3": 1536}
    assert {name: model.get_layer(name).output.shape[-1] for name in maps} == maps
    names = {layer.name for layer in model.layers}
    assert not names & {"a5", "b8", "c4"}


def check_forks(model):
    """The stem forks three times, and each time two branches are joined."""
    for name in ("stem1", "stem2", "stem3"):
        joined = model.get_layer(name)
        assert isinstance(joined, keras.layers.Concatenate) and len(inputs(joined)) == 2, name


def check_no_shortcuts(model):
    """Every module hands on its own maps alone: nothing is added, and nothing passes it by."""
    assert not kinds(model, keras.layers.Add)
    for name in ("a2", "b2", "c2"):
        before = name[0] + "1"
        assert before not in [one.name for one in inputs(model.get_layer(name))]


def check_norms(model):
    norms = kinds(model, keras.layers.BatchNormalization)
    assert {(norm.epsilon, norm.center) for norm in norms} == {(1e-3, True)}
    convs = [one for one in kinds(model, keras.layers.Conv2D) if "expand" not in one.name]
    assert len(norms) == len(convs) and not any(one.use_bias for one in convs)


def check_kernels(model):
    found = {one.name: one.kernel_size for one in kinds(model, keras.layers.Conv2D)}
    for i in [i for i in range(1, 8) if f"b{i}_1x1_1" in found]:
        assert [found[f"b{i}_7x7_{j}"] for j in (1, 2, 3)] == [(1, 1), (1, 7), (7, 1)]
        sizes = [found[f"b{i}_double_{j}"] for j in range(1, 6)]
        assert sizes == [(1, 1), (1, 7), (7, 1), (1, 7), (7, 1)]
    assert [found[f"stem2_7x7_{j}"] for j in (1, 2, 3)] == [(1, 1), (7, 1), (1, 7)]


V4 = [check_v4_parameters, check_v4_macs, check_v4_grids, check_v4_shapes]
V4 += [check_forks, check_no_shortcuts, check_norms, check_kernels]


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_inception_v4_is_the_papers(module):
    model = module.inception_v4()
    for check in V4:
        check(model)
    assert facts.value("inception_v4.macs") == pytest.approx(12.254e9, abs=5e6)
    released = module.inception_v4(gamma=False)
    scales = sum(norm.gamma.shape[0] for norm in kinds(model, keras.layers.BatchNormalization))
    assert networks.learnable(released) == 42_679_816 - scales == 42_648_232


# Inception-ResNet

check_v2_parameters = networks.parameters("inception_resnet_v2", 55_813_192)
check_v2_macs = networks.gmac(13.156)
check_v2_grids = networks.grids(
    {"conv1": 149, "conv3": 147, "pool1": 73, "conv5": 71, "pool2": 35, "stem": 35, "a10": 35}
    | {"reduce_a": 17, "b20": 17, "reduce_b": 8, "c9": 8, "c10_add": 8, "conv6": 8}
)


def check_v2_scales(model):
    """0.17, 0.10 and 0.20 by grid; the last block is not scaled."""
    scales = {one.name: one.scale for one in kinds(model, keras.layers.Rescaling)}
    blocks = [one.name.removesuffix("_add") for one in adds(model)]
    expected = {f"{name}_scale": {"a": 0.17, "b": 0.10, "c": 0.20}[name[0]] for name in blocks}
    last = sum(name[0] == "c" for name in blocks)
    assert blocks and scales == expected | {f"c{last}_scale": 1.0}


def check_additions(model):
    """Each sum is of what came in and of a scaled 1 x 1 convolution with a bias, no ReLU on it."""
    for add in kinds(model, keras.layers.Add):
        x, scaled = inputs(add)
        assert isinstance(scaled, keras.layers.Rescaling)
        expand = scaled.input._keras_history.operation
        assert isinstance(expand, keras.layers.Conv2D) and expand.use_bias
        assert expand.kernel_size == (1, 1) and expand.activation is keras.activations.linear
        assert expand.filters == x.output.shape[-1]
        relu = getattr(x, "activation", None) is keras.activations.relu
        assert relu or isinstance(x, keras.layers.Concatenate), x.name


def check_last_block(model):
    """Released, the last sum goes uncut into a convolution of 1,536 maps (here times the width)."""
    end, blocks = model.get_layer("conv6"), sum(one.name[0] == "c" for one in adds(model))
    assert end.input._keras_history.operation is model.get_layer(f"c{blocks}_add")
    width = model.get_layer("conv1").filters / 32
    assert end.filters == round(1536 * width)


def check_no_gamma(model):
    assert not any(one.scale for one in kinds(model, keras.layers.BatchNormalization))


def check_stem(model):
    """The released stem is Inception v3's with a module that has a 5 x 5."""
    assert model.get_layer("stem_5x5_2").kernel_size == (5, 5)
    assert len(inputs(model.get_layer("stem"))) == 4


V2 = [check_v2_parameters, check_v2_macs, check_v2_grids, check_v2_scales, check_additions]
V2 += [check_last_block, check_norms, check_no_gamma, check_stem]


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_inception_resnet_v2_is_the_released_one(module):
    model = module.inception_resnet_v2()
    for check in V2:
        check(model)
    assert facts.value("inception_resnet_v2.macs") == pytest.approx(13.156e9, abs=5e6)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_the_papers_stem_is_an_option_with_its_own_count(module):
    model = module.inception_resnet_v2(stem=module.stem_v4)
    assert networks.learnable(model) == 57_942_536
    assert facts.value("inception_resnet_v2.paper_stem_parameters") == 57_942_536
    networks.gmac(14.352)(model)
    maps = {"stem3": 384, "a10": 384, "reduce_a": 1152, "b20": 1152, "reduce_b": 2144}
    assert {name: model.get_layer(name).output.shape[-1] for name in maps} == maps


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize(
    ("version", "count", "billions", "maps"),
    [
        ("v1", 22_742_808, 6.206, (256, 896, 1792)),
        ("v2", 32_417_496, 9.258, (384, 1152, 2144)),
    ],
)
def test_the_papers_drawings_are_built_and_counted(module, version, count, billions, maps):
    model = module.inception_resnet_drawn(version)
    assert networks.learnable(model) == count
    networks.gmac(billions)(model)
    check_additions(model)
    check_norms(model)
    ends = [model.get_layer(name) for name in ("a5", "b10", "c5")]
    assert tuple(end.output.shape[-1] for end in ends) == maps
    assert all(end.activation is keras.activations.relu for end in ends)
    assert model.get_layer("average").input is ends[-1].output  # no batch norm in between


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_version_1_is_the_first_drawing(module):
    small = {"blocks": (1, 1, 1), "width": 0.1}
    one = module.inception_resnet_v1((75, 75, 3), 10, **small)
    other = module.inception_resnet_drawn("v1", (75, 75, 3), 10, **small)
    assert [layer.name for layer in one.layers] == [layer.name for layer in other.layers]
    assert one.name == "inception_resnet_v1"


# Mistakes that circulate

PLANTED = {  # right, wrong, the check that catches it
    "a ReLU on the last block": ("row, relu=False)", "row, relu=True)", check_last_block),
    "no scales": (
        "scales=(0.17, 0.10, 0.20), blocks=(10",
        "scales=(1.0, 1.0, 1.0), blocks=(10",
        check_v2_scales,
    ),
    "the last block scaled, too": ("c and 1.0, row", "c, row", check_v2_scales),
    "no shortcuts": ('f = layers.Add(name=f"{name}_add")([x, f])', "pass", check_v2_scales),
    "a ReLU before the sum": (
        'layers.Conv2D(x.shape[-1], 1, name=f"{name}_expand")',
        'layers.Conv2D(x.shape[-1], 1, activation="relu", name=f"{name}_expand")',
        check_additions,
    ),
    "no bias": (
        '1, name=f"{name}_expand")',
        '1, use_bias=False, name=f"{name}_expand")',
        check_additions,
    ),
    "the shortcut scaled": ("([x, f])", "([layers.Rescaling(scale)(x), f])", check_additions),
    "the paper's stem sold as the released": ("stem=stem_v2", "stem=stem_v4", check_stem),
    "3 x 3 for 5 x 5": ("[(48, 1), (64, 5)]", "[(48, 1), (64, 3)]", check_stem),
    "another last convolution": ('1536, 1, "conv6"', '1792, 1, "conv6"', check_last_block),
    "a gamma": ("stem=stem_v2, width=1.0, gamma=False", "stem=stem_v2, width=1.0, gamma=True",
                check_no_gamma),
    "another epsilon": ('"epsilon": 1e-3', '"epsilon": 1e-5', check_norms),
}  # fmt: skip
SMALL = {"input_shape": (75, 75, 3), "blocks": (1, 1, 2), "width": 0.25}


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_the_small_network_passes_the_checks_of_the_large(module):
    model = module.inception_resnet_v2(**SMALL)
    for check in {check for *_, check in PLANTED.values()}:
        check(model)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_fails_its_check(mistake, planted):
    right, wrong, check = PLANTED[mistake]
    model = planted("2016_inception_v4", right, wrong).inception_resnet_v2(**SMALL)
    with pytest.raises((AssertionError, ValueError)):  # ValueError: no layer of that name
        check(model)


V4_PLANTED = {
    "shortcuts in v4": (
        "return join(name, a, b, c, d)",
        "return layers.Add(name=name)([x, join(f'{name}_all', a, b, c, d)])",
        check_no_shortcuts,
    ),
    "two rows of 1 x 7, as printed": (
        "(224, (1, 7)), (256, (7, 1))])",
        "(224, (1, 7)), (256, (1, 7))])",
        check_kernels,
    ),
    "one module too few": ("modules=(4, 7, 3)", "modules=(4, 7, 2)", check_v4_shapes),
    "no second fork in the stem": (
        'x = join("stem2", a, conv(b, 96, 3, "stem2_7x7_4", 1, pad))',
        'x = conv(b, 192, 3, "stem2", 1, pad)',
        check_forks,
    ),
}


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("mistake", V4_PLANTED)
def test_a_mistake_in_inception_v4_fails_its_check(mistake, planted):
    right, wrong, check = V4_PLANTED[mistake]
    small = {} if check is check_v4_shapes else {"modules": (2, 2, 2), "width": 0.25}
    model = planted("2016_inception_v4", right, wrong).inception_v4((75, 75, 3), **small)
    with pytest.raises((AssertionError, ValueError)):
        check(model)


# Parity with keras.applications: all weights random, batch norm's statistics included


def rows(name, *lengths):
    return [f"{name}_{i}_{j}" for i, n in enumerate(lengths, 1) for j in range(1, n + 1)]


PATH = [f"conv{i}" for i in range(1, 6)]
PATH += ["stem_1x1_1", "stem_5x5_1", "stem_5x5_2", *(f"stem_3x3_{i}" for i in (1, 2, 3))]
PATH += ["stem_pool_1", *(one for i in range(1, 11) for one in rows(f"a{i}", 1, 2, 3))]
PATH += [*rows("reduce_a", 1, 3), *(one for i in range(1, 21) for one in rows(f"b{i}", 1, 3))]
PATH += [*rows("reduce_b", 2, 2, 3), *(one for i in range(1, 11) for one in rows(f"c{i}", 1, 3))]
NAMED = {f"{k}{i}_expand": f"{block}_{i}_conv" for k, block, n in
         [("a", "block35", 10), ("b", "block17", 20), ("c", "block8", 10)]
         for i in range(1, n + 1)}  # fmt: skip
TAPS = {"pool2": "max_pooling2d", "stem": "mixed_5b", "a10": "block35_10_ac"}
TAPS |= {"reduce_a": "mixed_6a", "b20": "block17_20_ac", "reduce_b": "mixed_7a"}
TAPS |= {"c9": "block8_9_ac", "conv6_relu": "conv_7b_ac", "dense": "predictions"}
SIDE = (107, 107, 3)


def numbered(model, kind):
    """Return a model's layers of a kind that Keras named itself, in the order of their numbers."""
    named = ("conv2d", "batch_normalization", "max_pooling2d")
    found = [one for one in kinds(model, kind) if one.name.startswith(named)]
    numbers = {one.name: re.search(r"_(\d+)$", one.name) for one in found}
    return sorted(found, key=lambda one: int(numbers[one.name][1]) if numbers[one.name] else 0)


@cache
def theirs():
    """Return keras.applications' network with random weights, its images and its outputs."""
    options = {"weights": None, "classes": 10, "classifier_activation": None}
    model = keras.applications.InceptionResNetV2(input_shape=SIDE, **options)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n = layer.beta.shape[0]
            layer.set_weights([*rng.normal(0, 0.3, (2, n)), rng.uniform(0.3, 1.5, n)])
        elif layer.weights:
            kernel, *bias = (weight.shape for weight in layer.weights)
            scale = (2 / np.prod(kernel[:-1])) ** 0.5
            layer.set_weights(
                [rng.normal(0, scale, kernel), *(rng.normal(0, 0.3, b) for b in bias)]
            )
    images = rng.normal(size=(2, *SIDE)).astype("float32")
    pool = numbered(model, keras.layers.MaxPooling2D)[1].name
    taps = [pool, *list(TAPS.values())[1:]]
    return model, images, networks.outputs(model, taps, images)


def distance(module):
    """Return the largest difference in logits and taps, as a share of the largest value."""
    there, images, expected = theirs()
    model = module.inception_resnet_v2(SIDE, 10, logits=True)
    given = [numbered(there, kind) for kind in
             (keras.layers.Conv2D, keras.layers.BatchNormalization)]  # fmt: skip
    for name, conv, norm in zip(PATH, *given, strict=True):
        model.get_layer(name).set_weights(conv.get_weights())
        model.get_layer(f"{name}_bn").set_weights(norm.get_weights())
    ends = {"conv6": "conv_7b", "conv6_bn": "conv_7b_bn", "dense": "predictions"}
    for ours, name in (NAMED | ends).items():
        model.get_layer(ours).set_weights(there.get_layer(name).get_weights())
    return networks.apart(networks.outputs(model, list(TAPS), images), expected)


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.once
@pytest.mark.slow
def test_outputs_agree_with_keras_applications(module):
    assert distance(module) <= 1e-4
    there, _, _ = theirs()
    assert networks.learnable(there) == networks.learnable(module.inception_resnet_v2(SIDE, 10))


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("mistake", ["a ReLU on the last block", "no scales"])
def test_parity_catches_a_planted_mistake(mistake, planted):
    right, wrong, _ = PLANTED[mistake]
    assert distance(planted("2016_inception_v4", right, wrong)) > 1e-3


# The slim networks


@pytest.mark.once
@pytest.mark.usefixtures("counted")
def test_the_slim_pair_costs_the_same(module):
    pure, residual = module.slim_inception_v4(), module.slim_inception_resnet_v2()
    assert len(adds(pure)) == 0 and len(adds(residual)) == 6
    costs = [ledger.totals(model)["macs"] for model in (pure, residual)]
    assert max(costs) / min(costs) < 1.05
    for model in (pure, residual):
        assert (model.input_shape, model.output_shape) == ((None, 64, 64, 3), (None, 10))
    sides = [one.output.shape[1] for one in map(residual.get_layer, ("a2", "b2", "c2_add"))]
    assert sides == [16, 8, 4]


def test_units_are_looked_at_on_every_grid(module):
    names = [layer.name for layer in module.slim_inception_resnet_v2().layers]
    for begin, end in module.units_of.values():
        assert [name for name in names if name.startswith(begin) and name.endswith(end)], begin


@pytest.mark.once
@pytest.mark.slow
def test_short_trainings_begin_alike_and_a_high_rate_kills(module):
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(16, 32, 32, 3)).astype("float32"), np.arange(16) % 4
    losses, zeros = module.short_trainings(
        images, labels, 4, 0.05, 1.0, [1e-3, 3.0], steps=6, batch=8, every=3
    )
    assert losses.shape == (2, 6) and zeros.shape == (2, 2)
    assert losses[0, 0] == pytest.approx(losses[1, 0], rel=1e-4) and zeros[0, 0] == zeros[1, 0]
    assert zeros[1, 1] > zeros[0, 1] and zeros[0, 1] < 0.5


@pytest.mark.once
def test_what_the_page_says_of_counts():
    drawn, v4 = (
        facts.value(f"{key}macs") for key in ("inception_resnet_v2.drawn_", "inception_v4.")
    )
    assert drawn / v4 == pytest.approx(0.75, abs=0.01)
    released = facts.value("inception_v4.released_parameters")
    assert facts.value("inception_v4.parameters") - released == 31_584
    assert facts.value("inception_resnet_v2.macs") > v4


@pytest.mark.once
@pytest.mark.usefixtures("counted")
def test_without_scales_or_shortcuts_only_that_changes(module):
    whole = module.slim_inception_resnet_v2()
    for scales, sums in (((1.0, 1.0, 1.0), 6), ((None, None, None), 0)):
        other = module.slim_inception_resnet_v2(scales=scales)
        assert len(adds(other)) == sums
        shapes = [[tuple(w.shape) for w in model.weights] for model in (whole, other)]
        assert shapes[0] == shapes[1]


# What the page says of published records


@pytest.fixture(scope="module")
def published():
    return records.read(paths.record("2016_inception_v4", "inception_resnet_v2"))


@pytest.mark.once
def test_the_published_run_ends_where_the_caption_says(published):
    history = published["seeds"][0]["history"]
    assert round(100 * history["accuracy"][-1]) == 81
    assert round(100 * history["val_accuracy"][-1]) == 74
    for metric in ("accuracy", "val_accuracy"):
        assert np.ptp(history[metric][-5:]) < 0.02


@pytest.mark.once
def test_without_shortcuts_the_published_run_gets_there_too(published):
    plain = records.read(paths.record("2016_inception_v4", "inception_v4"))
    assert plain["top1"]["mean"] > published["top1"]["mean"] - 0.01
    assert plain["network"]["macs"] == pytest.approx(published["network"]["macs"], rel=0.05)
    same = [{k: v for k, v in one["recipe"].items() if k != "key"} for one in (plain, published)]
    assert same[0] == same[1]


def test_a_scale_keeps_the_last_layer_alive_and_not_yet_the_loss_low(published):
    found = {key: published.arrays[f"deaths/{key}"].astype(float) for key in ("zeros", "losses")}
    plain, some, small = found["zeros"][..., -1]  # by scale: (widths, rates)
    assert (plain[:, 1:3] > 0.45).all() and plain[:, 1:3].mean() > 0.7
    assert (small[:, 1:3] < 0.55).all() and small[-1, -1] > 0.9  # the widest dies with a scale
    assert (np.diff(plain.mean(1)) > 0).all() and (np.diff(small.mean(1)) > 0).all()
    assert plain[0, 3] > 0.95 and 0.25 < 1 - some[0, 3] < 0.3 and 0.4 < 1 - small[0, 3] < 0.5
    losses = found["losses"][..., 1:3, -5:].mean((1, 2, 3))
    assert losses[0] < losses[2] - 0.1 and abs(losses - np.log(10)).max() < 0.25


@pytest.mark.once
def test_the_published_pair_crosses_as_the_page_says(module):
    runs = {
        name: records.read(paths.record("2016_inception_v4", f"{name}-long"))
        for name in ("residual", "pure")
    }
    seen = {
        kind: [run.by_epoch(kind) for run in runs.values()] for kind in ("accuracy", "val_accuracy")
    }
    lead = np.subtract(*(each.mean(0) for each in seen["accuracy"]))
    assert (lead[:10] > 0).all() and (lead[10:] < 0.0001).all() and 0.025 < -lead[-1] < 0.035
    claims = [one for one in module.tested if one.other == "pure-long"]
    table = page.verdicts({f"{name}-long": run for name, run in runs.items()}, claims)
    assert table.verdict.tolist() == ["too small to see here", "the opposite"]
    assert [one.training for one in claims] == [False, True]
    ends = [each.mean(0)[-1] for each in seen["val_accuracy"]]
    gaps = [100 * (a.mean(0)[-1] - v) for a, v in zip(seen["accuracy"], ends, strict=True)]
    assert all(5 <= gap < 8.5 for gap in gaps)
    costs = [{k: r["network"][k] for k in ("macs", "parameters")} for r in runs.values()]
    assert costs[0]["macs"] / costs[1]["macs"] == pytest.approx(1.02, abs=0.005)
    assert costs[0]["parameters"] / costs[1]["parameters"] == pytest.approx(1.24, abs=0.005)


def test_a_smaller_scale_leaves_fewer_zeros_and_more_maps_have_more(published):
    zeros = published.arrays["deaths/zeros"].astype(float)  # scale, width, rate, step
    assert published.arrays["deaths/losses"].shape[-1] == 60 and zeros.shape[-1] == 5  # 0 to 48
    end, begin = zeros[..., -1], zeros[..., 0]
    assert (np.diff(end, axis=0) < 0).all()  # from no scale to 0.1
    assert (np.diff(end[..., 2:], axis=1) > 0).all()  # from a rate of 0.06 on
    assert (end[:, -1, -1] > 0.9).all()
    assert begin.min() > 0.075 and begin.max() < 0.165
    losses = published.arrays["deaths/losses"].astype(float)[..., -5:]
    plain, _, small = losses[..., 1:3, :].mean((1, 2, 3))
    assert plain < np.log(10) < small
    assert losses[:, 0, -1].mean(-1) == pytest.approx([np.log(10)] * 3, abs=0.2)


@pytest.mark.once
def test_what_equal_cost_means_in_the_papers_pairs():
    def ratio(one, other, what):
        return facts.value(f"{one}.{what}") / facts.value(f"{other}.{what}")

    first, second = ("inception_resnet_v1", "inception_v3"), ("inception_resnet_v2", "inception_v4")
    more = [ratio(*pair, "macs") - 1 for pair in (first, second)]
    assert [round(100 * part) for part in more] == [9, 7]
    assert round(100 * (ratio(*second, "parameters") - 1)) == 31


@pytest.mark.parametrize(("size", "factor"), [(1e-3, 100), (1e3, 10)])
def test_a_step_of_rmsprop_shrinks_by_the_scale_squared_only_while_gradients_are_small(
    module, monkeypatch, size, factor
):
    monkeypatch.setattr(keras.Model, "fit", lambda net, *_, **__: net.optimizer)
    image = keras.Input((8, 8, 3))
    small = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
    data = SimpleNamespace(steps=10, mean=0.0, size=8, train=None, val=None)

    def change(scale):  # of what is added, by the optimiser that fit takes, unclipped
        weight, rule = keras.Variable(np.zeros(3, "float32")), module.fit(small, data, 1, [])
        rule.global_clipnorm = None
        rule.build([weight])
        rule.apply([keras.ops.full((3,), size * scale)])
        return scale * keras.ops.convert_to_numpy(weight)[0]

    assert change(1.0) / change(0.1) == pytest.approx(factor, rel=0.01)


@pytest.mark.once
def test_modules_add_after_five_epochs_about_what_they_began_with():
    runs = {
        name: records.read(paths.record("2016_inception_v4", name)).arrays
        for name in ("residual", "unscaled")
    }
    for arrays in runs.values():
        assert (abs(arrays["strength"] / arrays["strength/twin"] - 1) < 0.25).all()
    scaled, unscaled = (arrays["strength"] for arrays in runs.values())
    assert scaled[:-1].max() < 0.125 and unscaled.min() > 0.25


@pytest.mark.once
def test_five_epochs_tell_shortcuts_and_small_scales_from_none(module):
    runs = {
        file.stem: records.read(file) for file in paths.RESULTS.glob("2016_inception_v4/*.json")
    }
    table = page.verdicts(runs, module.tested).set_index("claim").verdict
    assert table["the same modules, unscaled, do worse without shortcuts"] == "holds"
    scales = table[table.index.str.contains("as none, or better")]
    assert scales.tolist() == ["too small to see here", "holds", "holds"]  # released, 0.1, 0.3
