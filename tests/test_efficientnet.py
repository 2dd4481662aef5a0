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
from ilsvrc import facts, ledger, paths, records, training

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


def network(module, size, *arguments, **options):
    """Return a network to be counted."""
    build = module.nasnet if size in module.NASNETS else module.efficientnet
    with networks.counting():
        return build(size, *arguments, **options)


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
    assert set(bends.values()) == {keras.activations.silu}
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
    assert all(one.noise_shape == (None, 1, 1, 1) for one in drops)
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


@pytest.mark.usefixtures("counted")
@pytest.mark.once
@pytest.mark.slow
def test_counts_are_those_of_keras_applications(module):
    for size in set(COUNTS) - {"L2", *SIDES}:  # those have their outputs compared
        build = f"NASNet{size.title()}" if size in module.NASNETS else f"EfficientNet{size}"
        there = getattr(keras.applications, build)(weights=None)
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


SIDES = {"B0": 75, "B3": 64, "mobile": 75}


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


def pairs(module, size, model):
    """Return keras.applications' names of our layers with weights, and of those that are tapped."""
    names = [one.name for one in model.layers if one.weights]
    if size in module.SIZES:
        letters = letters_of(module, size)
        there = {name: efficientnet_name(name, letters) for name in names}
        adds = [one.name for one in kinds(model, layers.Add)][::3]
        return there, {name: f"{letters[int(name[5:-4])]}add" for name in adds}
    N = module.NASNETS[size][0]
    there = {name: nasnet_name(name, N) for name in names}
    taps = {f"reduction{i}": f"reduction_concat_stem_{i}" for i in (1, 2)}
    taps |= {f"reduction{i}": f"reduction_concat_reduce_{N * (i - 2)}" for i in (3, 4)}
    for stage in (2, 3, 4):
        last = there[f"normal{stage}_{N}_h"].rsplit("_", 1)[1]
        taps[f"normal{stage}_{N}"] = f"normal_concat_{last}"
    return there, taps


def distance(module, size):
    """Return the largest difference in logits and taps, as a share of the largest value."""
    there, images = theirs(size)
    build = module.nasnet if size in module.NASNETS else module.efficientnet
    model = build(size, images.shape[1:], 10, logits=True)
    names, taps = pairs(module, size, model)
    known = {layer.name: layer for layer in there.layers}
    for layer in [one for one in model.layers if one.weights]:
        weights = known[names[layer.name]].get_weights()
        wanted = [tuple(weight.shape) for weight in layer.weights]
        layer.set_weights([w.reshape(s) for w, s in zip(weights, wanted, strict=True)])
    grey_levels = 255 if size in module.SIZES else 1  # Keras' EfficientNet divides by them
    ours = networks.outputs(model, [*taps, "dense"], images)
    expected = networks.outputs(there, [*taps.values(), "predictions"], images * grey_levels)
    assert networks.learnable(model) == networks.learnable(there)
    return networks.apart(ours, expected)


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("size", SIDES)
def test_outputs_agree_with_keras_applications(module, size):
    assert distance(module, size) <= 1e-4


SIGNATURE = 'unit=8, ratio=0.25, act="silu"'
PARITY = {  # what is right, what is wrong
    "ReLU6 for swish": (SIGNATURE, SIGNATURE.replace("silu", "relu6")),
    "swish for sigmoid": ('"sigmoid", name', '"silu", name'),
    "swish behind the bottleneck": ('_project", activation=None)', '_project", act)'),
    "the branch twice": ('_add")([f, x])', '_add")([f, f])'),
}


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("mistake", PARITY)
def test_parity_catches_a_planted_mistake(mistake, planted):
    right, wrong = PARITY[mistake]
    assert distance(planted(NAME, right, wrong), "B0") > 1e-3


# NASNet: what a count of parameters does not see


def check_pools(model):
    """What halves the grid by pooling has zeros put around it by hand, so that they count."""
    pools = kinds(model, (layers.MaxPooling2D, layers.AveragePooling2D))
    strided = [one for one in pools if one.strides[0] == 2]
    uses = {use.name: use for use in ledger.calls(model)}
    order = list(uses)
    assert len(strided) == 3 * 4
    for one in strided:
        (before,) = uses[one.name].inputs
        assert order[before] == f"{one.name}_pad" and one.padding == "valid", one.name


def check_states(model):
    """Behind a halving p is the cell before it; in the large network one cell older still."""
    uses = ledger.calls(model)
    N = 6 if model.name == "nasnet_large" else 4
    for stage in (3, 4):
        at = next(use for use in uses if use.name == f"normal{stage}_1_p_relu")
        last = f"normal{stage - 1}_{N - 1 if N == 6 else N}"
        assert uses[at.inputs[0]].name == last


def check_twice(model):
    """Separable convolutions come in pairs, without batch norm between filter and mixture."""
    found = kinds(model, layers.SeparableConv2D)
    assert len(found) == 2 * (4 * 5 + 12 * 5) and not kinds(model, layers.DepthwiseConv2D)


@pytest.fixture(scope="module")
def mobile(module):
    return network(module, "mobile")


@pytest.mark.once
def test_nasnet_is_the_papers_network(module, mobile):
    check_counts(mobile, "mobile")
    for check in (check_pools, check_states, check_twice):
        check(mobile)
    check_states(network(module, "large"))


PLANTED = {  # what is right, what is wrong, in which network, and which check catches it
    "ReLU6 for swish": (SIGNATURE, SIGNATURE.replace("silu", "relu6"), "B0", check_bends),
    "squeezed from the expanded width": ("int(ratio * C)", "int(ratio * t * C)", "B0", check_gates),
    "depth for width": (
        "width, depth, side, dropout = SIZES",
        "depth, width, side, dropout = SIZES",
        *("B1", check_counts),
    ),
    "layers rounded down": ("math.ceil(depth * n)", "math.floor(depth * n)", "B1", check_counts),
    "maps not rounded to eights": (
        "rounded(width * maps, unit)",
        "int(width * maps)",
        *("B2", check_counts),
    ),
    "one stride of 2 too few": ("(6, 5, 2, 192, 4)", "(6, 5, 1, 192, 4)", "B0", check_halvings),
    "3 x 3 for 5 x 5": ("(6, 5, 1, 112, 3)", "(6, 3, 1, 112, 3)", "B0", check_blocks),
    "strides in every block": ("1 if i else s", "s", "B0", check_halvings),
    "the first block expanded": (
        '_expand", act) if t > 1 else x',
        '_expand", act)',
        *("B0", check_counts),
    ),
    "no gates": ('_se", act) if ratio else f', '_se", act) if False else f', "B0", check_counts),
    "no shortcuts": ("if s > 1 or maps != C", "if True", "B0", check_shortcuts),
    "numbers dropped, not blocks": ("(None, 1, 1, 1), name", "name", "B0", check_drops),
    '"same" where Keras pads by hand': (
        'return pool(k, s, name=name)(layers.ZeroPadding2D(edge, name=f"{name}_pad")(x))',
        'return pool(k, s, "same", name=name)(x)',
        *("mobile", check_pools),
    ),
    "separable once": ("((1, s), (2, 1))", "((1, s),)", "mobile", check_twice),
    "the older state in the mobile one": ('size == "large" and', "", "mobile", check_states),
    "the older state forgotten": (
        'p if size == "large"',
        'x if size == "large"',
        *("large", check_states),
    ),
    "another pick": ('("sep7", "p")', '("sep5", "p")', "mobile", check_counts),
}  # fmt: skip


@pytest.mark.once
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_fails_its_check(mistake, planted):
    right, wrong, size, check = PLANTED[mistake]
    model = network(planted(NAME, right, wrong), size)
    with pytest.raises(AssertionError):
        check(model, size) if check is check_counts else check(model)


# The searches


def test_random_search_tries_each_network_once(module):
    tried = module.random_search(None, 32, np.random.default_rng(0))
    assert sorted(tried) == sorted(module.SPACE) and len(module.SPACE) == 32


def test_a_mutation_changes_one_choice_and_stays_in_the_space(module):
    rng = np.random.default_rng(0)
    for genes in module.SPACE:
        child = module.mutated(genes, rng)
        assert child in module.SPACE and sum(a != b for a, b in zip(child, genes, strict=True)) == 1


def smooth(genes):
    """A score to which each choice adds something."""
    return sum(w * value for w, value in zip((1, 2, 3, 4, 5), genes, strict=True))


def test_evolution_climbs_where_choices_add_up(module):
    found = {rule: [] for rule in ("random_search", "evolution")}
    for rule, bests in found.items():
        for number in range(200):
            tried = getattr(module, rule)(smooth, 12, np.random.default_rng(number))
            assert len(tried) == len(set(tried)) == 12
            bests.append(max(map(smooth, tried)))
    assert np.mean(found["evolution"]) > np.mean(found["random_search"]) + 0.5


def test_the_oldest_dies_however_good(module, monkeypatch):
    """Parents are among the last P that came, the repeated ones too."""
    seen, mutate = [], module.mutated

    def watched(genes, rng):
        child = mutate(genes, rng)
        seen.append((genes, child))
        return child

    monkeypatch.setattr(module, "mutated", watched)
    tried = module.evolution(smooth, 12, np.random.default_rng(3), P=4, S=2)
    came = tried[:4]
    for parent, child in seen:
        assert parent in came[-4:]
        came.append(child)


def test_a_pick_is_judged_by_the_seeds_that_the_search_did_not_see(module):
    rng = np.random.default_rng(0)
    truth = {genes: rng.normal() for genes in module.SPACE}
    scores = {genes: np.array([lucky, one, one]) for (genes, one), lucky in zip(
        truth.items(), rng.permutation(list(truth.values())), strict=True)}  # fmt: skip
    paths = module.replay(module.random_search, scores, times=9, budget=32)
    assert paths.shape == (9, 32)
    lucky = max(scores, key=lambda genes: scores[genes][0])
    assert paths[::3, -1] == pytest.approx(truth[lucky])  # seed 0 is seen: the others judge
    best = max(truth, key=truth.get)
    assert paths[1::3, -1] == pytest.approx((scores[best][0] + truth[best]) / 2)


def test_the_score_is_the_papers(module):
    run = {"seeds": [{"top1": 0.5}], "network": {"macs": 2 * module.T}}
    assert module.rewards({1: run})[1] == pytest.approx(0.5 * 2**-0.07)


# The students


def test_a_tenth_has_the_same_share_of_each_class(module):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 30))
    known = module.tenth(labels)
    assert len(set(known)) == 30 and (np.bincount(labels[known]) == 3).all()


class Fake:
    """A network that has learned to answer one class."""

    def __init__(self, answer):
        self.answer = answer

    def predict(self, images, **options):
        return np.eye(10)[np.full(len(images), self.answer)]

    def evaluate(self, data, verbose):
        return 0.0, self.answer / 10


def test_students_learn_their_teachers_answers_and_the_known_labels(module, monkeypatch):
    """The teacher sees the tenth, unnoised; each student all, with what its teacher said."""
    given = []

    def lesson(model, data, places, labels, epochs, noise):
        given.append((np.array(places), np.array(labels), bool(noise)))
        return Fake(len(given))

    def fit(model, data, epochs, callbacks, noise):
        tell, logs = callbacks[0], {}
        tell.on_epoch_begin(0)
        tell.on_epoch_begin(1)  # only before the first
        tell.on_epoch_end(0, logs)
        return logs, np.array(data.train.labels), noise

    monkeypatch.setattr(module, "lesson", lesson)
    monkeypatch.setattr(module, "fit", fit)
    truth = np.repeat(np.arange(10), 20)
    data = SimpleNamespace(train=SimpleNamespace(labels=truth.copy(), images=truth), val=None)
    logs, labels, noise = module.self_training(None, data, 5, [])
    known = module.tenth(truth)
    unknown = np.setdiff1d(np.arange(200), known)
    assert logs == {f"val_accuracy_{i}": (i + 1) / 10 for i in range(3)} and noise
    assert [one[2] for one in given] == [False, True, True]
    assert set(given[0][0]) == set(known) and len(given[0][0]) == 200
    for teacher, (places, told, _) in enumerate(given[1:], 1):
        assert list(places) == list(range(200))
        assert (told[known] == truth[known]).all() and (told[unknown] == teacher).all()
    assert (labels[unknown] == 3).all() and (labels[known] == truth[known]).all()


def test_a_lesson_is_a_fresh_copy_on_the_images_given(module, monkeypatch):
    model = module.tiny(module.STUDENT, drop=0.3, dropout=0.4)
    before, seen = model.get_weights(), {}

    def fit(copy, data, epochs, callbacks, noise):
        rates = [one.rate for one in kinds(copy, layers.Dropout)]
        seen.update(rates=rates, data=data, copy=copy, epochs=epochs)
        return SimpleNamespace(model=copy)

    monkeypatch.setattr(module, "fit", fit)
    images, labels = np.arange(40).reshape(40, 1, 1, 1), np.arange(40) % 10
    train = training.Batches(images, labels, 4, ragged=False)
    data = SimpleNamespace(train=train, val="none", steps=10, mean=0)
    assert module.lesson(model, data, np.array([3, 5, 3, 5]), labels + 1, 2, False) is seen["copy"]
    assert set(seen["rates"]) == {0} and seen["data"].steps == 1 and seen["data"].val is None
    assert sorted(seen["data"].train.labels) == [4, 4, 6, 6]
    assert not np.array_equal(seen["copy"].get_weights()[0], before[0])
    module.lesson(model, data, np.arange(40), labels, 2, True)
    assert max(seen["rates"]) == 0.4 and seen["data"].steps == 10


# What the page computes and says


def test_a_ring_is_what_lies_outside_the_inner_three(module):
    kernel = np.ones((5, 5, 4))
    assert module.ring(kernel) == pytest.approx(16 / 25)
    assert module.cut(kernel).sum() == 36 and module.cut(kernel)[1:4, 1:4].all()
    three = np.ones((3, 3, 4))
    assert module.cut(three) is three and module.ring(three) == 0


@pytest.mark.once
def test_what_a_run_leaves_is_what_the_page_draws(module):
    model = module.slim_efficientnet(input_shape=(32, 32, 3), logits=True)
    images = np.random.default_rng(0).normal(size=(6, 32, 32, 3)).astype("float32")
    labels = model.predict(images, verbose=0).argmax(-1)
    before = model.get_weights()
    found = module.measured(SimpleNamespace(model=model, sample=lambda n: (images, labels)))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert found["cut"].shape == (11,) and found["cut"][0] == 1
    assert len(found["ring/trained"]) == len(found["ring/twin"]) == len(found["sizes"]) == 10
    assert list(found["sizes"]) == [3, 3, 5, 3, 3, 5, 5, 5, 5, 3]
    assert ((found["ring/twin"] > 0) == (found["sizes"] == 5)).all()


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_what_is_grown_takes_about_twice_the_work(module):
    runs = {run.name: run for run in module.runs}
    macs = {
        name: ledger.totals(runs[name].small(input_shape=(side, side, 3)))["macs"]
        for name, (_, _, side) in module.GROWN.items()
    }
    for name in set(macs) - {"base"}:
        assert 1.85 < macs[name] / macs["base"] < 2.2, name
    for name in ("compound", "deeper", "wider", "finer"):
        long, short = runs[f"{name}-long"], runs[name]
        assert (long.small.keywords, long.small.args) == (short.small.keywords, short.small.args)
        assert long.small_size == short.small_size == module.GROWN[name][2]


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_runs_differ_in_what_they_say(module):
    names = ("searched", "relu6", "no-gates", "only-3", "only-5")
    slim = {run.name: run.small() for run in module.runs if run.name in names}
    full = {run.name: run.build() for run in module.runs if run.name in names[2:]}
    sizes = {
        name: {one.kernel.shape[0] for one in kinds(net, layers.DepthwiseConv2D)}
        for name, net in (slim | {f"full-{name}": net for name, net in full.items()}).items()
    }
    assert sizes["searched"] == {3, 5}
    assert sizes["only-3"] == sizes["full-only-3"] == {3}
    assert sizes["only-5"] == sizes["full-only-5"] == {5}
    assert not kinds(slim["no-gates"], layers.Multiply)
    assert not kinds(full["no-gates"], layers.Multiply)
    bends = {one.activation for one in kinds(slim["relu6"], layers.Activation)}
    assert bends == {keras.activations.relu6}


def test_the_space_has_a_run_for_each_network(module):
    runs = {run.name: run for run in module.runs}
    for genes in module.SPACE:
        run = runs[module.run_name(genes)]
        assert run.build.args == (genes,) and run.seeds == 3 and run.size == 32
    for name in ("noisy", "quiet"):
        assert runs[name].build.args == (module.STUDENT,)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_the_papers_numbers_say_what_the_page_says(module):
    def error(key):
        return facts.value(f"{key}_top1_error")

    alpha, beta, gamma = (facts.value(f"efficientnet.{one}") for one in ("alpha", "beta", "gamma"))
    assert alpha * beta**2 * gamma**2 == pytest.approx(2, rel=0.05)
    grown = {way: error(f"efficientnet.{way}") for way in ("deeper", "wider", "finer", "compound")}
    assert list(grown.values()) == [21.0, 21.1, 20.9, 18.9]
    work = facts.value("efficientnet_b2.macs") / facts.value("efficientnet_b0.macs")
    assert round(work, 1) == 2.6
    errors = [facts.value(f"efficientnet_b{i}.top1_error") for i in range(8)]
    assert errors == sorted(errors, reverse=True)
    large, senet = facts.value("nasnet_large.top1_error"), 17.3
    assert large == senet  # as both papers' tables have it for the challenge's last winner
    days = [
        facts.value(f"price.{key}_devices") * facts.value(f"price.{key}_days")
        for key in ("first_search", "nasnet", "noisy_student", "meta_pseudo_labels")
    ]
    assert days == [22_400, 2_000, 12_288, 22_528]
    assert 100 - facts.value("efficientnet_l2.mpl_top1_error") == pytest.approx(90.2)
    more, C = 0, 32  # gates from the wide middle
    for t, _, _, maps, n in module.B0:
        for _ in range(n):
            more += (t - 1) * (C // 4) * (2 * t * C + 1)
            C = maps
    wide = module.efficientnet(ratio=0.25 * 6)
    first = 5 * 8 * (2 * 32 + 1)  # the first block does not expand, and ratio 1.5 widens it too
    assert networks.learnable(wide) - first == COUNTS["B0"][0] + more


def test_what_the_page_says_of_the_published_run():
    record = records.read(paths.record("2019_efficientnet", "efficientnet"))
    history = record["seeds"][0]["history"]
    ends = [round(100 * history[key][-1]) for key in ("accuracy", "val_accuracy")]
    assert ends == [80, 68] and np.ptp(history["val_accuracy"][-6:]) < 0.01
    arrays = {key: record.arrays[key].astype(float) for key in ("cut", "ring/trained", "ring/twin")}
    ring = arrays["ring/trained"] - arrays["ring/twin"]
    five = record.arrays["sizes"] == 5
    assert [*np.flatnonzero(five)] == [2, 5, 6, 7, 8]
    assert ring[2] < -0.1 and abs(ring[5:9]).max() < 0.04
    lost = 100 * (arrays["cut"][0] - arrays["cut"][1:])
    assert [*np.flatnonzero(lost > 2)] == [2, 5, 7] and lost.argmax() == 2
    assert sorted(lost)[-2] > 10 > sorted(lost)[-3]
