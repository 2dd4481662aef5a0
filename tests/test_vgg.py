"""VGG against the paper, Keras and an independent graph; each planted mistake is caught."""

import keras
import numpy as np
import pytest

import ilsvrc
import networks
from ilsvrc import facts, ledger, page, paths, records, vis
from ilsvrc.profiles import PROFILES, settle

ZEROS = keras.initializers.Zeros  # to count and to look at shapes is enough
TABLE = {  # configuration: fact, parameters, MACs in billions, convolutions a stage
    "A": ("vgg_a", 132_863_336, 7.609, (1, 1, 2, 2, 2)),
    "A-LRN": ("vgg_a_lrn", 132_863_336, 7.609, (1, 1, 2, 2, 2)),
    "B": ("vgg_b", 133_047_848, 11.308, (2, 2, 2, 2, 2)),
    "C": ("vgg_c", 133_638_952, 11.771, (2, 2, 3, 3, 3)),
    "D": ("vgg16", 138_357_544, 15.470, (2, 2, 3, 3, 3)),
    "E": ("vgg19", 143_667_240, 19.632, (2, 2, 4, 4, 4)),
}
HEAD = ["flatten", "dense6", "relu6", "dropout6", "dense7", "relu7", "dropout7", "dense8"]


def layout(name):
    """Return all layers after the input in their order, by the paper's table."""
    order = []
    for s, n in enumerate(TABLE[name][3], 1):
        for i in range(1, n + 1):
            order += [f"conv{s}_{i}", f"relu{s}_{i}"]
        order += ["norm1"] if name == "A-LRN" and s == 1 else []
        order.append(f"pool{s}")
    return [*order, *HEAD, "softmax"]


def check_kernels(name):
    """Return a check that all filters are 3 x 3, but the last of C's late stages."""

    def check_kernels(model):
        for s, n in enumerate(TABLE[name][3], 1):
            for i in range(1, n + 1):
                side = 1 if name == "C" and (s, i) in [(3, 3), (4, 3), (5, 3)] else 3
                assert model.get_layer(f"conv{s}_{i}").kernel_size == (side, side)

    return check_kernels


def check_pools(model):
    for s in range(1, 6):
        pool = model.get_layer(f"pool{s}")
        assert (pool.pool_size, pool.strides) == ((2, 2), (2, 2))


def check_rates(model):
    assert [model.get_layer(f"dropout{i}").rate for i in (6, 7)] == [0.5, 0.5]


check_grids = networks.grids({f"pool{s}": 224 // 2**s for s in range(1, 6)})


def checks(name):
    fact, count, billions, _ = TABLE[name]
    order = layout(name)
    return {
        "parameters": networks.parameters(fact, count),
        "macs": networks.gmac(billions),
        "order": networks.order(order),
        "relus": networks.relus(*(layer for layer in order if layer.startswith("relu"))),
        "kernels": check_kernels(name),
        "grids": check_grids,
        "pools": check_pools,
        "rates": check_rates,
    }


@pytest.fixture(scope="module")
def module():
    return ilsvrc.chapter("2014_vgg")


@pytest.mark.usefixtures("counted")
@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("name", TABLE)
def test_it_is_the_papers_network(module, name):
    model = module.vgg(name, start=ZEROS)
    for check in checks(name).values():
        check(model)


def test_lrn_has_alexnets_constants(module):
    norm = module.vgg("A-LRN", (32, 32, 3), 10, 0.125, 64).get_layer("norm1")
    assert (norm.k, norm.n, norm.alpha, norm.beta) == (2.0, 5, 1e-4, 0.75)


def test_the_start_is_the_papers(module):
    model = module.vgg("A", (32, 32, 3), 10, units=256)
    for layer in model.layers:
        if getattr(layer, "kernel", None) is not None:
            kernel = keras.ops.convert_to_numpy(layer.kernel)
            assert np.std(kernel) == pytest.approx(0.01, rel=0.06)
            assert not keras.ops.convert_to_numpy(layer.bias).any()


def randomise(model, seed=0):
    """Draw all weights anew so that signals keep their size, biases included."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        drawn = []
        for weight in layer.weights:
            shape = tuple(weight.shape)
            deviation = 0.1 if len(shape) == 1 else (2 / np.prod(shape[:-1])) ** 0.5
            drawn.append(np.float32(deviation) * rng.standard_normal(shape, "float32"))
        if drawn:
            layer.set_weights(drawn)


def difference(one, other):
    """Return the largest difference, in units of the largest value."""
    return np.abs(one - other).max() / np.abs(other).max()


def parity(ours, theirs, image):
    """Copy their weights into ours; return the differences at five taps and the logits."""
    mine = [layer for layer in ours.layers if layer.weights]
    given = [layer for layer in theirs.layers if layer.weights]
    for own, other in zip(mine, given, strict=True):
        own.set_weights(other.get_weights())
    taps = [
        keras.Model(model.inputs, [*(model.get_layer(n).output for n in names), model.outputs[0]])
        for model, names in [
            (ours, [f"pool{s}" for s in range(1, 6)]),
            (theirs, [f"block{s}_pool" for s in range(1, 6)]),
        ]
    ]
    found = [[keras.ops.convert_to_numpy(y) for y in tap(image, training=False)] for tap in taps]
    return [difference(one, other) for one, other in zip(*found, strict=True)]


PARITY = 1e-4  # at most, as max abs difference over max abs value


def reference(name, side, classes):
    build = {"D": keras.applications.VGG16, "E": keras.applications.VGG19}[name]
    theirs = build(
        weights=None, input_shape=(side, side, 3), classes=classes, classifier_activation=None
    )
    randomise(theirs)
    image = np.random.default_rng(1).normal(size=(1, side, side, 3)).astype("float32")
    return theirs, image


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("name", ["D", "E"])
def test_it_agrees_with_keras_applications(module, name):
    theirs, image = reference(name, 64, 10)  # at 224 px their copies take gigabytes
    ours = module.vgg(name, (64, 64, 3), 10, logits=True, start=ZEROS)
    assert max(parity(ours, theirs, image)) <= PARITY


@pytest.fixture(scope="module")
def small_reference():
    return reference("D", 64, 10)


NUMERICAL = {
    "one ReLU linear": ('Activation("relu", name=f"relu{s}', 'Activation("relu" if s - 4 else '
                        '"linear", name=f"relu{s}'),
    "average pooling": ("layers.MaxPooling2D(2,", "layers.AveragePooling2D(2,"),
    "leaky ReLU": ('Activation("relu", name=f"relu{i}', 'Activation("leaky_relu", name=f"relu{i}'),
}  # fmt: skip


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("mistake", [None, *NUMERICAL])
def test_parity_tells_a_planted_mistake_tenfold(mistake, planted, module, small_reference):
    theirs, image = small_reference
    built = planted("2014_vgg", *NUMERICAL[mistake]) if mistake else module
    ours = built.vgg("D", (64, 64, 3), 10, logits=True, start=ZEROS)
    worst = max(parity(ours, theirs, image))
    assert worst <= PARITY if mistake is None else worst >= 10 * PARITY


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_kernels_agree_with_the_onnx_graph(module):
    graph = networks.onnx_graph("light_vgg19")
    ours = [
        layer
        for layer in module.vgg("E", (32, 32, 3), 10, 0.125, 64).layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    theirs = [node for node in graph.node if node.op_type == "Conv"]
    assert len(ours) == len(theirs) == 16
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    shapes |= {
        one.name: tuple(d.dim_value for d in one.type.tensor_type.shape.dim) for one in graph.input
    }
    for layer, node in zip(ours, theirs, strict=True):
        given = networks.attributes(node)
        assert list(layer.kernel_size) == list(given["kernel_shape"]) == [3, 3]
        assert list(layer.strides) == list(given.get("strides", [1, 1]))
        assert list(given["pads"]) == [1, 1, 1, 1] and layer.padding == "same"
        if node.input[1] in shapes:
            assert shapes[node.input[1]][0] == 8 * layer.filters
    assert sum(node.op_type == "MaxPool" for node in graph.node) == 5
    assert sum(node.op_type == "LRN" for node in graph.node) == 0


C = '"C": ["33", "33", "331", "331", "331"]'
DROPOUT = 'return layers.Dropout(dropout, name=f"dropout{i}")(x)'
PLANTED = {
    "1x1 and 3x3 confused": ("C", C, C.replace("331", "313"), "kernels"),
    "3x3 for 1x1": ("C", C, C.replace("331", "333"), "parameters"),
    "a convolution missing": ("D", '"D": ["33", "33", "333"', '"D": ["33", "33", "33"', "order"),
    "valid padding": ("A", '"padding": "same"', '"padding": "valid"', "grids"),
    "no ReLU": (
        "A",
        'x = layers.Activation("relu", name=f"relu{s}_{i}")(x)',
        "x = x",
        "order",
    ),
    "one ReLU linear": (
        "A",
        'Activation("relu", name=f"relu{s}',
        'Activation("relu" if s - 4 else "linear", name=f"relu{s}',
        "relus",
    ),
    "LRN in A": ("A", '"A": ["3", "3"', '"A": ["3n", "3"', "order"),
    "no LRN in A-LRN": ("A-LRN", '"3n"', '"3"', "order"),
    "pools of 3x3": ("A", "MaxPooling2D(2, name", 'MaxPooling2D(3, 2, "same", name', "pools"),
    "one dropout": ("A", DROPOUT, DROPOUT + " if i == 6 else x", "order"),
    "dropout of 0.4": ("A", "    dropout=0.5,", "    dropout=0.4,", "rates"),
    "batch norm": ("A", "batch_norm=False, logits", "batch_norm=True, logits", "order"),
    "1024 maps at the end": ("A", "5, five, round(512", "5, five, round(1024", "parameters"),
    "maps not doubled": ("A", "2, two, round(128", "2, two, round(64", "parameters"),
}


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_fails_its_check(mistake, planted):
    name, right, wrong, check = PLANTED[mistake]
    model = planted("2014_vgg", right, wrong).vgg(name, start=ZEROS)
    with pytest.raises((AssertionError, ValueError)):
        checks(name)[check](model)


@pytest.mark.once
@pytest.mark.slow
def test_dense_layers_as_convolutions_give_the_same_at_224_and_a_map_beyond(module):
    model = module.vgg("A", logits=True, start=ZEROS, width=0.5, units=512)
    randomise(model)
    image = np.random.default_rng(1).normal(size=(1, 224, 224, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(image, training=False))
    dense = module.fully_convolutional(model, 224)
    found = keras.ops.convert_to_numpy(dense(image, training=False))
    assert found.shape == (1, 1, 1, 1000)
    assert difference(found[:, 0, 0], expected) <= PARITY
    assert module.fully_convolutional(model, 320).output_shape == (None, 4, 4, 1000)


def test_class_maps_are_probabilities_and_at_its_own_size_the_networks_answer(module):
    model = module.slim_vgg(configuration="A", logits=True)
    randomise(model)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([np.abs(w) + 0.5 for w in layer.get_weights()])
    images = np.random.default_rng(0).normal(size=(2, 128, 128, 3)).astype("float32")
    maps = module.class_maps(model, images)
    assert maps.shape == (2, 3, 3, 10)
    np.testing.assert_allclose(maps.sum(-1), 1, rtol=1e-5)
    one = keras.ops.convert_to_numpy(module.fully_convolutional(model, 64)(images[:, :64, :64]))
    direct = keras.ops.convert_to_numpy(model(images[:, :64, :64], training=False))
    assert difference(one[:, 0, 0], direct) <= PARITY


def test_as_layers_go_where_they_belong(module):
    a, e = (
        module.slim_vgg(
            (32, 32, 3), configuration=name, batch_norm=False, start=module.thin_gaussian
        )
        for name in "AE"
    )
    before = {layer.name: layer.get_weights() for layer in e.layers if layer.weights}
    module.copy_layers(a, e)
    given = {"conv1_1", "conv2_1", "conv3_1", "conv3_2", "dense6", "dense7", "dense8"}
    for name, weights in before.items():
        now = e.get_layer(name).get_weights()[0]
        source = a.get_layer(name).get_weights()[0] if name in given else weights[0]
        np.testing.assert_array_equal(now, source)
        assert (name in given) == (not np.array_equal(now, weights[0]))


@pytest.mark.once
@pytest.mark.slow
def test_e_does_not_start_alone_but_from_as_layers(module):
    rng = np.random.default_rng(0)
    y = np.arange(64) % 2
    x = rng.normal(0, 0.5, (64, 32, 32, 3)).astype("float32")
    x[y == 1, :, :16] += 1  # bright above, or not

    def build(name):
        keras.utils.set_random_seed(0)
        options = {"batch_norm": False, "dropout": 0.0, "start": module.thin_gaussian}
        return module.slim_vgg((32, 32, 3), 2, configuration=name, logits=True, **options)

    def learn(model):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.AdamW(1e-3, beta_2=0.99), loss)
        return model.fit(x, y, epochs=50, batch_size=64, verbose=0).history["loss"][-1]

    a, alone, helped = build("A"), build("E"), build("E")
    assert learn(a) < 0.3
    module.copy_layers(a, helped)
    assert learn(alone) > 0.65  # chance: 0.693
    assert learn(helped) < 0.5


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.parametrize("profile", ["laptop", "gpu"])
def test_one_7x7_costs_what_three_3x3_cost(module, profile):
    runs = {run.name: run for run in module.runs}
    macs = {}
    for name in ("E", "E-7x7"):
        plan = settle(runs[name], PROFILES[profile])
        model = plan.build(input_shape=(plan.size, plan.size, 3), classes=10, start=ZEROS)
        macs[name] = ledger.totals(model)["macs"]
    assert macs["E-7x7"] == pytest.approx(macs["E"], rel=0.025)


def test_the_slim_sibling_takes_small_images(module):
    slim = module.slim_vgg(configuration="D", logits=True)
    assert slim.input_shape == (None, 64, 64, 3) and slim.output_shape == (None, 10)
    assert slim.count_params() < 500_000
    assert sum(isinstance(one, keras.layers.BatchNormalization) for one in slim.layers) == 13


def test_logits_leave_the_softmax_out(module):
    assert module.vgg("A", (32, 32, 3), 10, 0.125, 64, logits=True).layers[-1].name == "dense8"


def test_errors_of_one_training_size_are_the_papers_table_3():
    errors = [facts.value(f"vgg.{n}_top1_error_256") for n in ("a", "a_lrn", "b", "c", "d", "e")]
    assert errors == [29.6, 29.7, 28.7, 28.1, 27.0, 27.3]


# What the page writes about the paper's numbers and its published records


@pytest.fixture(scope="module")
def published(module):
    """Return the chapter's published records by run, or None."""
    folder = paths.RESULTS / "2014_vgg"
    return {run.name: records.read(folder / f"{run.name}.json") for run in module.runs}


@pytest.fixture(scope="module")
def told(module, published):
    """Return the table of claims, by claim."""
    return page.verdicts(published, module.tested).set_index("claim")


def test_the_papers_errors_fall_to_16_layers_and_c_lies_between():
    error = {n: facts.value(f"vgg.{n}_top1_error_256") for n in ("a", "a_lrn", "b", "c", "d", "e")}
    assert error["a"] > error["b"] > error["c"] > error["d"] < error["e"]
    assert error["a_lrn"] > error["a"]


def test_the_published_run_over_fits_as_its_caption_says(published):
    training, validation = (
        published["vgg"].by_epoch(metric)[0] for metric in ("accuracy", "val_accuracy")
    )
    assert (training[4:] > validation[4:]).all() and training[3] < validation[3]
    assert [f"{100 * one[-1]:.0f}" for one in (training, validation)] == ["94", "81"]
    loss = published["vgg"].by_epoch("val_loss")[0]
    assert loss.argmin() < len(loss) - 3 and loss[-1] > loss.min()
    assert published["vgg"]["network"]["options"] == {"configuration": "A", "width": 1.5}


CLAIMS = ["A", "B", "C", "D", "E", "A-LRN", "B-5x5", "E-7x7", "E-gaussian", "E-from-A"]


def test_the_claims_runs_are_of_five_epochs_and_three_seeds(published):
    for name in CLAIMS:
        assert published[name]["recipe"]["epochs"] == 5 and published[name]["top1"]["seeds"] == 3
    for name in ("A-long", "D-long", "A-bare", "D-bare"):
        assert published[name]["recipe"]["epochs"] == 30 and published[name]["top1"]["seeds"] == 3


def test_here_depth_loses_at_every_step_in_training_too_and_the_curves_still_rise(published, told):
    for metric in ("accuracy", "val_accuracy"):
        curves = [published[name].by_epoch(metric).mean(0) for name in "ABDE"]
        ends = [curve[-1] for curve in curves]
        assert ends == sorted(ends, reverse=True) and 0.55 < ends[-1] < ends[0] < 0.75
        assert all(curve[-1] > curve[-2] for curve in curves)
    verdict = told["verdict"]
    assert verdict["13 layers do better than 11"] == "too small to see here"
    for claim in (
        "16 layers do better than 13",
        "19 layers do better than 16",
        "19 layers fit their training images better than 11",
    ):
        assert verdict[claim] == "the opposite"


def test_after_thirty_epochs_11_and_16_layers_are_level(published, told):
    claim = "16 layers do better than 11, 30 epochs"
    assert (
        told["verdict"][claim] == "too small to see here" and abs(told["here (points)"][claim]) < 1
    )
    curves = {
        n: published[n].by_epoch("val_accuracy").mean(0) for n in ("A", "D", "A-long", "D-long")
    }
    assert 2.5 < 100 * (curves["A"][-1] - curves["D"][-1]) < 3.5  # "three points behind"
    for name in ("A-long", "D-long"):
        assert np.ptp(curves[name][-4:]) < 0.01 and 0.775 < curves[name][-1] < 0.785
    error = {n: facts.value(f"vgg.{n}_top1_error_256") for n in "ad"}
    assert 2.2 < error["a"] - error["d"] < 2.8  # "two and a half points in the paper"


def test_without_batch_norm_both_end_far_lower_and_within_chance(published, told):
    claim = "16 layers do better than 11, 30 epochs, no batch norm"
    assert told["verdict"][claim] == "too small to see here" and told["here (points)"][claim] < 0
    curves = {n: published[n].by_epoch("val_accuracy").mean(0) for n in ("A-bare", "D-bare")}
    assert all(np.ptp(curve[-4:]) < 0.01 for curve in curves.values())
    assert round(100 - 50 * sum(curve[-1] for curve in curves.values())) == 38


def test_what_is_said_of_the_other_claims(told):
    verdict, here = told["verdict"], told["here (points)"]
    assert verdict["three layers of 1 x 1 help"] == "the opposite"
    assert verdict["3 x 3 does better than 1 x 1"] == "holds"
    assert verdict["LRN helps"] == "too small to see here" and here["LRN helps"] > 0
    small = "two 3 x 3 do better than one 5 x 5"
    assert verdict[small] == "too small to see here" and here[small] < 0
    assert told["paper (points)"][small] == 7
    assert verdict["three 3 x 3 do better than one 7 x 7, equal cost"] == "the opposite"
    assert verdict["A's layers help E to start"] == "too small to see here"


def test_as_layers_take_e_off_chance_in_one_of_three_seeds(published):
    ends = {n: published[n].by_epoch("accuracy")[:, -1] > 0.15 for n in ("E-from-A", "E-gaussian")}
    assert ends["E-from-A"].sum() == 1 and ends["E-gaussian"].sum() == 0


def test_where_the_dense_map_says_church_and_that_it_costs_accuracy_here(published):
    own, twin = 100 * published["vgg"].arrays["dense/maps"].astype("float32")
    assert own[1, :3].min() > 90 and own[0, 1] > 50  # the roof
    assert own[4, 3] > 80 and own[6, 1:3].min() > 50  # the right edge, the trees
    assert np.median(own[2:6, :3]) < 10  # the walls
    assert own[:, 4:].max() < 6.5 and twin.max() < 6.5  # sky and lake
    record = published["vgg"]
    assert record.arrays["dense/top1"] < record["views"]["1"] < record["views"]["10"]
    assert record["data"]["stored_size"] < int(record.arrays["dense/side"])


@pytest.mark.usefixtures("counted")
def test_the_claims_networks_differ_in_as_many_layers_as_is_said(module):
    depth = {
        name: sum(kind != "n" for one in layout for kind in one)
        for name, layout in module.configurations.items()
    }
    assert depth["B"] - depth["B-5x5"] == 5 and depth["E"] - depth["E-7x7"] == 4
    assert depth["C"] - depth["B"] == 3 and depth["D"] == depth["C"]
    assert [depth[name] + 3 for name in "ABDE"] == [11, 13, 16, 19]


@pytest.mark.usefixtures("counted")
def test_a_layer_in_the_last_stage_lets_d_see_the_whole_image(module, monkeypatch):
    def field(configuration):
        table = ledger.ledger(module.vgg(configuration, (32, 32, 3), 10, 0.125, 64))
        return table[table.index.str.startswith("conv5")].receptive_field.iloc[-1]

    d = module.configurations["D"]
    monkeypatch.setitem(module.configurations, "late", [*d[:4], d[4] + "3"])
    monkeypatch.setitem(module.configurations, "early", [d[0] + 14 * "3", *d[1:]])
    assert (field("D"), field("late"), field("early")) == (196, 228, 224)


@pytest.mark.once
def test_the_papers_start_starves_e_hes_does_not(module):
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(16, 32, 32, 3)).astype("float32"), np.arange(16) % 10
    he = keras.initializers.HeNormal
    a, e, helped = (
        [
            norm
            for layer, norm in vis.gradient_norms(module.plain(*one), images, labels).items()
            if layer.startswith("conv")
        ]
        for one in [("A", module.thin_gaussian), ("E", module.thin_gaussian), ("E", he)]
    )
    assert max(e) < min(a) / 100 and max(a) < min(helped) / 100
    assert len(e) == len(helped) == 16 and min(helped) > 0.01


def test_the_winners_error_falls_by_over_two_fifths_in_2014():
    error = {year: facts.value(f"challenge.{year}.top5_error") for year in (2013, 2014)}
    assert 0.4 < 1 - error[2014] / error[2013] < 0.5
