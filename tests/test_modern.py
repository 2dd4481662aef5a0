"""Today's recipe: each change does what it says, on every backend, and breaks when it is broken."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from ilsvrc import chapters, facts, keys, paths, profiles, records, training

NAME = "modern"


@pytest.fixture(scope="module")
def module():
    return chapters.chapter(NAME)


def array(tensor):
    return ops.convert_to_numpy(tensor)


def tiny(side=16, classes=4):
    """Return a network that compiles at once, with all kinds of weights."""
    image = keras.Input((side, side, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes, name="dense")(x))


def photographs(count=32, side=18, classes=4):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    images = rng.integers(0, 60, (count, side, side, 3)) + 60 * labels[:, None, None, None] // 2
    return SimpleNamespace(
        x_train=images.astype("uint8"), y_train=labels, x_val=images[:8].astype("uint8"),
        y_val=labels[:8], size=side, title="drawn", class_names=list("abcd"),
    )  # fmt: skip


# Mixed images, mixed labels


def mixed(module, kind, count=6, side=32):
    """Return images of one grey each, (count,), what a mix has made of them, and the mix."""
    grey = np.arange(1.0, count + 1)
    images = np.broadcast_to(grey[:, None, None, None], (count, side, side, 3)).astype("float32")
    mix = module.Mix(kind)
    return grey, array(mix(images, training=True)), mix


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_mixup_blends_each_image_with_another_by_the_share_of_its_labels(module, seed):
    keras.utils.set_random_seed(seed)
    grey, images, mix = mixed(module, "mixup")
    share, shift = float(array(mix.share)), int(array(mix.shift))
    assert 0 <= share <= 1 and 1 <= shift < len(grey)  # with another one, never with itself
    other = np.roll(grey, -shift)
    np.testing.assert_allclose(images[:, 0, 0, 0], share * grey + (1 - share) * other, rtol=1e-5)
    assert np.ptp(images, axis=(1, 2, 3)).max() < 1e-5

    labels, rng = np.arange(6) % 4, np.random.default_rng(0)
    logits = rng.normal(size=(6, 4)).astype("float32")
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    soft = share * np.eye(4)[labels] + (1 - share) * np.eye(4)[np.roll(labels, -shift)]
    loss = array(module.cross_entropy(mix)(labels, ops.convert_to_tensor(logits)))
    np.testing.assert_allclose(loss, -(soft * logs).sum(-1), rtol=1e-4)
    wrong = array(module.cross_entropy()(labels, ops.convert_to_tensor(logits)))
    assert not np.allclose(loss, wrong, rtol=1e-3)  # what unmixed labels would say


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_cutmix_pastes_one_box_and_its_share_is_the_area_that_is_left(module, seed):
    keras.utils.set_random_seed(seed)
    grey, images, mix = mixed(module, "cutmix")
    share, shift = float(array(mix.share)), int(array(mix.shift))
    other = np.roll(grey, -shift)
    own = images[..., 0] == grey[:, None, None]
    assert (own | (images[..., 0] == other[:, None, None])).all()
    np.testing.assert_allclose(own.mean((1, 2)), share, atol=1e-6)
    assert (own == own[0]).all()  # the same box in each
    rows, columns = np.where(~own[0])
    assert len(rows) == np.ptp(rows) * np.ptp(columns) + np.ptp(rows) + np.ptp(columns) + 1


def test_a_box_in_the_middle_has_the_area_asked_for(module):
    for share in (0.25, 0.75, 0.9):
        mask = array(module.outside_a_box(128, share, (0.5, 0.5)))
        assert mask.shape == (1, 128, 128, 1)
        assert mask.mean() == pytest.approx(share, abs=0.02)
    corner = array(module.outside_a_box(128, 0.75, (0.0, 0.0)))  # three quarters are cut off
    assert corner.mean() == pytest.approx(1 - 0.25 / 4, abs=0.01)


def test_a_test_mixes_nothing_and_counts_own_labels(module):
    _, _, mix = mixed(module, "mixup")
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(array(mix(images)), images, atol=1e-6)
    assert float(array(mix.share)) == 1 and int(array(mix.shift)) == 0


@pytest.mark.once
def test_planted_mistakes_in_mixing_are_caught(planted):
    swapped = planted(NAME, "return mix.share * own + (1 - mix.share) * other",
                      "return (1 - mix.share) * own + mix.share * other")  # fmt: skip
    with pytest.raises(AssertionError):
        test_mixup_blends_each_image_with_another_by_the_share_of_its_labels(swapped, 1)
    drawn = planted(NAME, "return mask, ops.mean(mask), shift", "return mask, share, shift")
    with pytest.raises(AssertionError):  # boxes at the edge
        for seed in (1, 2, 3, 4):
            test_cutmix_pastes_one_box_and_its_share_is_the_area_that_is_left(drawn, seed)


def test_smooth_labels_are_those_of_the_formula(module):
    logits = np.array([[2.0, 0.0, -1.0, 0.5]], "float32")
    logs = logits - np.log(np.exp(logits).sum())
    soft = 0.1 / 4 + 0.9 * np.eye(4)[[2]]
    loss = array(module.cross_entropy(epsilon=0.1)(np.array([2]), ops.convert_to_tensor(logits)))
    np.testing.assert_allclose(loss, -(soft * logs).sum(-1), rtol=1e-5)


# RandAugment


@pytest.mark.once
def test_each_operation_alters_as_its_name_says(module):
    rng = np.random.default_rng(0)
    image = rng.integers(60, 180, (32, 32, 3), dtype="uint8")
    done = {name: np.asarray(f(module.Image.fromarray(image), 0.3))
            for name, f in module.OPERATIONS.items()}  # fmt: skip
    assert len(done) == 14 and all(one.shape == image.shape for one in done.values())
    assert [name for name, one in done.items() if np.array_equal(one, image)] == ["identity"]
    assert np.array_equal(done["moved along"][:, :20], image[:, 4:24])
    assert np.array_equal(done["moved down"][:20], image[4:24])
    assert done["brightness"].mean() > 1.2 * image.mean()
    assert done["contrast stretched"].min() == 0 and done["contrast stretched"].max() == 255
    assert len(np.unique(done["posterised"])) < len(np.unique(image))
    assert done["contrast"].std() > image.std()


@pytest.mark.once
def test_each_image_gets_operations_of_its_own_and_the_same_if_asked_again(module):
    image = np.random.default_rng(1).integers(0, 255, (18, 18, 3), dtype="uint8")
    dataset = photographs()
    dataset.x_train = np.repeat(image[None], 32, axis=0)
    feed = training.feed(dataset, 16)
    altered = module.Altered(feed.train)
    one, labels = altered[0]
    assert len(altered) == 2 and one.dtype == np.uint8 and one.shape == (16, 18, 18, 3)
    assert len({each.tobytes() for each in one}) > 8
    assert np.array_equal(one, altered[0][0]) and np.array_equal(labels, feed.train[0][1])
    assert not np.array_equal(one, altered[1][0])
    feed.train.reorder(0, 1)
    assert not np.array_equal(one, altered[0][0])


# Schedules, averages, decay


def test_the_schedules_values(module):
    steps = module.WarmSteps(0.05, 300)
    values = [float(array(steps(step))) for step in (0, 15, 30, 99, 100, 199, 200, 299)]
    assert values == pytest.approx([0.005, 0.0275, *[0.05] * 2, *[0.005] * 2, *[0.0005] * 2])
    cosine = module.WarmCosine(0.05, 300)
    ends = [float(array(cosine(step))) for step in (0, 30, 165, 300)]
    assert ends == pytest.approx([0.005, 0.05, 0.025, 0], abs=1e-6)


class Path(keras.callbacks.Callback):
    """Keeps the dense kernel after each step."""

    def __init__(self):
        super().__init__()
        self.path = []

    def on_train_batch_end(self, batch, logs=None):
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        self.path.append(array(self.model.layers[-2].get_layer("dense").kernel).copy())


@pytest.fixture
def fitted(module):
    """Return a function that trains a tiny network in four steps by some options of `fit`."""

    def train(fit=module.fit, epochs=2, callbacks=(), **options):
        keras.utils.set_random_seed(0)
        model = tiny()
        before = {weight.path: array(weight).copy() for weight in model.trainable_weights}
        history = fit(model, training.feed(photographs(), 16), epochs, list(callbacks), **options)
        after = {weight.path: array(weight) for weight in model.trainable_weights}
        return model, before, after, history

    return train


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "WarmSteps"},
        {"mix": "cutmix", "rough": True, "ema": True, "spared": ("gamma",), "epsilon": 0.1},
        {"mix": "mixup", "alpha": 0.2},
    ],
    ids=lambda options: "-".join(options),
)
def test_every_training_runs_and_moves_all_weights(module, fitted, options):
    if "schedule" in options:
        options = {"schedule": module.WarmSteps}
    _, before, after, history = fitted(**options)
    assert all(np.isfinite(history.history[name]).all() for name in ("loss", "val_loss"))
    assert [name for name in before if np.array_equal(before[name], after[name])] == []


def test_the_average_of_weights_is_the_one_computed_by_hand(fitted):
    path = Path()
    model, _, _, history = fitted(epochs=20, callbacks=[path], ema=True)
    beta, mean = 1 - 20 / 40, path.path[0]  # forty steps: back over two
    for weights in path.path[1:]:
        mean = beta * mean + (1 - beta) * weights
    got = array(model.get_layer("dense").kernel)
    np.testing.assert_allclose(got, mean, rtol=1e-4, atol=1e-6)
    assert not np.allclose(got, path.path[-1], rtol=1e-4, atol=1e-6)
    loss = history.model.evaluate(training.feed(photographs(), 16).val, verbose=0)[0]
    assert loss == pytest.approx(history.history["val_loss"][-1], rel=1e-4)  # tested with it, too


def test_decay_spares_what_it_is_told_to(module):
    def decayed(spared):
        model = tiny()
        sgd = keras.optimizers.SGD(0.5, weight_decay=0.1)
        sgd.exclude_from_weight_decay(var_names=list(spared))
        for weight in model.trainable_weights:
            weight.assign(ops.ones(weight.shape))
        none = [ops.zeros(weight.shape) for weight in model.trainable_weights]
        sgd.apply(none, model.trainable_weights)
        return {w.name: float(array(w).mean()) for w in model.trainable_weights}

    assert list(decayed(()).values()) == pytest.approx([0.95] * 4)  # two kernels, one name
    left = decayed(module.SPARED)
    assert left == {"kernel": pytest.approx(0.95), "gamma": 1, "beta": 1, "bias": 1}


def test_gradients_of_several_batches_make_one_step(fitted):
    path = Path()
    fitted(epochs=2, callbacks=[path], batches=2, rate=0.1)
    one, two, three, four = path.path
    assert not np.array_equal(one, two) and np.array_equal(two, three)
    assert not np.array_equal(three, four)
    assert np.isfinite(four).all()


def test_grown_images_train_the_same_weights_at_three_sizes(module, fitted):
    sides = []

    class Side(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            sides.append((epoch, self.model.layers[-2].input_shape[1]))

    model, before, after, history = fitted(module.grown, epochs=3, callbacks=[Side()])
    assert sides == [(0, 8), (1, 12), (2, 16)]
    assert [name for name in before if np.array_equal(before[name], after[name])] == []
    assert history.model.layers[-2] is model  # what is tested is the whole network


# The network


@pytest.mark.once
def test_without_changes_the_network_is_resnets(module):
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    plain = module.slim_modern((32, 32, 3), logits=True)
    paper = module.v1.slim_resnet(18, (32, 32, 3), logits=True)
    plain.set_weights(paper.get_weights())
    np.testing.assert_allclose(array(plain(images)), array(paper(images)), atol=1e-4)


@pytest.mark.usefixtures("counted")
@pytest.mark.once
def test_the_changes_are_where_they_belong(module):
    whole = module.slim_modern(se=True, blur=True, drop=0.1, logits=True)
    names = [layer.name for layer in whole.layers]
    assert len([name for name in names if name.endswith("_se_gate")]) == 8
    assert "pool1_blur" in names and "pool1" not in names
    drops = [layer.rate for layer in whole.layers if layer.name.endswith("_drop")]
    np.testing.assert_allclose(drops, 0.1 * np.arange(1, 9) / 8)
    for name in names:
        if name.endswith("_add"):  # gates and dropping stand on F, before the addition
            _, f = whole.get_layer(name).input
            drop = whole.get_layer(name.replace("_add", "_drop"))
            assert f is drop.output
            assert drop.input is whole.get_layer(name.replace("_add", "_se_scale")).output


def test_stochastic_depth_keeps_the_expectation_and_drops_whole_images(module):
    keras.utils.set_random_seed(1)
    x = keras.Input((4, 4, 8))
    unit = keras.Model(x, module.block(x, 8, 1, "conv5_2", "B", drop=0.4))
    f = unit.get_layer("conv5_2_drop")
    ones = np.ones((4000, 4, 4, 8), "float32")
    out = array(f(ones, training=True))
    each = out.reshape(4000, -1)
    assert (each == each[:, :1]).all()  # an image as a whole
    np.testing.assert_allclose(np.unique(each), [0, 1 / 0.6], rtol=1e-5)
    assert each.mean() == pytest.approx(1, abs=0.05)
    assert np.array_equal(array(f(ones, training=False)), ones)


def test_blur_pooling_is_the_binomial_filter_thinned_out(module):
    rng = np.random.default_rng(0)
    x = keras.Input((8, 8, 2))
    images = rng.normal(size=(1, 8, 8, 2)).astype("float32")
    got = array(keras.Model(x, module.blur_pool(x, "p"))(images))
    wide = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], "reflect")
    by_hand = sum(
        a * b / 16 * wide[:, i : i + 8 : 2, j : j + 8 : 2]
        for i, a in enumerate((1, 2, 1)) for j, b in enumerate((1, 2, 1))
    )  # fmt: skip
    np.testing.assert_allclose(got, by_hand, atol=1e-6)


def test_blur_makes_pooling_less_sensitive_to_a_move_by_one_pixel(module):
    stripes = np.tile([1.0, 0.0], 16).astype("float32")  # the finest pattern there is
    image = np.broadcast_to(stripes[None, None, :, None], (1, 32, 32, 1))
    moved = np.roll(image, 1, axis=2)
    x = keras.Input((32, 32, 1))
    blurred = keras.Model(x, module.blur_pool(x, "p"))
    thinned = keras.Model(x, keras.layers.MaxPooling2D(1, 2)(x))
    change = {
        net: abs(array(net(image))[:, 2:-2, 2:-2] - array(net(moved))[:, 2:-2, 2:-2]).max()
        for net in (blurred, thinned)
    }
    assert change[thinned] == 1 and change[blurred] < 1e-6


# The page


@pytest.mark.once
def test_the_runs_differ_in_one_thing_each(module):
    runs = {run.name: run for run in module.runs}
    plans = {name: profiles.settle(run, profiles.PROFILES["laptop"]) for name, run in runs.items()}
    recipes = {keys.recipe(plan, "digest") for plan in plans.values() if plan.run.claim}
    assert len(recipes) == sum(run.claim is not None for run in module.runs)
    base = runs["baseline"]
    for run in module.runs:
        if run.claim == "alone" and run is not base:
            differs = [run.fit.keywords != base.fit.keywords, run.fit.func is not base.fit.func]
            differs.append(run.build.keywords != base.build.keywords)
            assert sum(differs) == 1, run.name
    assert {claim.one for claim in module.tested} | {claim.other for claim in module.tested} == {
        run.name for run in module.runs if run.claim
    }
    assert all(run.seeds == 5 and run.size == 128 for run in module.runs if not run.claim)


@pytest.mark.once
def test_the_ladder_goes_up_as_the_page_says():
    def value(step):
        return facts.value(f"bello2021.{step}_accuracy")

    assert value("decay") - value("start") == pytest.approx(3.2)
    assert value("d") - value("decay") == pytest.approx(1.2)
    assert value("long") < value("cosine")  # longer training alone loses
    assert facts.value("wightman2021.resnet50_accuracy") > 80


@pytest.mark.once
def test_what_the_page_says_of_its_records_is_so(module):
    """Sentences without numbers in them hold for the records that there are."""
    there = {run.name: records.read(paths.record(NAME, run.name)) for run in module.runs}
    for name, record in there.items():
        if record and name.startswith("board"):
            assert record["data"]["size"] == 128 and record["top1"]["seeds"] == 5
            assert record["recipe"]["epochs"] == int(name.split("-")[1])
