"""The figures: what they draw, by reading it back from the figure, and what they refuse."""

import io
import subprocess
import sys
from itertools import pairwise

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import layers

from ilsvrc import vis

RNG = np.random.default_rng(0)
NAMES = ["church", "gas pump", "tench"]


def history(epochs=4, best=0.8):
    up = np.linspace(0.1, best, epochs)
    return {
        "loss": 2 - up, "val_loss": 2.2 - up, "accuracy": up, "val_accuracy": up - 0.05
    }  # fmt: skip


def texts(fig):
    return [t.get_text() for t in fig.findobj(plt.Text) if t.get_text() and t.get_visible()]


def image_of(ax):
    return np.asarray(ax.images[0].get_array())


def figures():
    """Every kind of figure once, small."""
    kernel = RNG.normal(size=(5, 5, 3, 8))
    truth = np.array([0, 1, 2, 0])
    p = np.array([[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.95, 0.03, 0.02], [0.9, 0.05, 0.05]])
    images = RNG.integers(0, 255, (4, 8, 8, 3), dtype="uint8")
    yield vis.curves({"net": history()})
    yield vis.curves({n: [history(), history(best=0.7)] for n in "abcd"})
    yield vis.confusion(truth, p, NAMES)
    yield vis.filters(kernel, each=True, groups=2)
    yield vis.filters_over_epochs({0: kernel, 10: 2 * kernel})
    yield vis.activation_maps(RNG.normal(size=(6, 6, 9)), n=9)
    yield vis.mistakes(images, truth, p, NAMES)


def test_figures_are_shown_once_legible_and_as_wide_as_the_page():
    plt.close("all")
    for fig in figures():
        assert not plt.get_fignums()  # still open, a notebook would show it a second time
        file = io.BytesIO()
        fig.savefig(file, bbox_inches="tight", dpi=40)
        assert file.getvalue()
        assert fig.get_figwidth() == 7
        assert fig.get_facecolor() == (1, 1, 1, 1)
        assert min(t.get_fontsize() for t in fig.findobj(plt.Text) if t.get_text()) >= 8


def test_importing_vis_loads_no_framework():
    code = (
        "import sys; from ilsvrc import vis; vis.curves, vis.filters, vis.mistakes; "
        "sys.exit(any(m in sys.modules for m in ('keras', 'tensorflow', 'jax')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Curves, confusion, mistakes


def test_curves_draw_the_history():
    fig = vis.curves({"net": history()})
    loss, accuracy = fig.axes
    drawn = [line.get_ydata() for line in accuracy.lines]
    np.testing.assert_allclose(drawn[0], 100 * history()["accuracy"])
    np.testing.assert_allclose(drawn[1], 100 * history()["val_accuracy"])
    assert list(accuracy.lines[0].get_xdata()) == [1, 2, 3, 4]
    assert {"net, train", "net, val."} <= set(texts(fig))
    assert loss.get_title("left") == "loss"


def test_curves_of_several_seeds_are_a_mean_in_a_band():
    fig = vis.curves({"net": [history(best=0.6), history(best=0.8)]})
    ax = fig.axes[1]
    assert ax.lines[1].get_ydata()[-1] == pytest.approx(100 * (0.7 - 0.05))
    band = ax.collections[1].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((5, 75))


def test_labels_of_curves_that_end_together_do_not_touch():
    fig = vis.curves({name: history() for name in ["relu", "tanh", "sigmoid", "none"]})
    fig.canvas.draw()
    ends = [t for t in fig.axes[1].texts if t.get_text()]
    boxes = sorted((t.get_window_extent() for t in ends), key=lambda b: b.y0)
    assert len(boxes) == 4
    assert all(a.y1 <= b.y0 + 1 for a, b in pairwise(boxes))


def test_curves_refuse_an_empty_history():
    with pytest.raises(ValueError, match=r"fit\(\.\.\.\)\.history"):
        vis.curves({"net": {}})


def test_confusion_counts_truth_by_row():
    fig = vis.confusion([0, 0, 0, 0, 1], [0, 0, 0, 1, 1], NAMES)
    np.testing.assert_allclose(image_of(fig.axes[0]), [[75, 25, 0], [0, 100, 0], [0, 0, 0]])
    assert {"75", "25", "100", "church"} <= set(texts(fig))
    logits = np.eye(3)[[0, 0, 0, 1, 1]] * 7
    again = vis.confusion([0, 0, 0, 0, 1], logits, NAMES)
    np.testing.assert_array_equal(image_of(again.axes[0]), image_of(fig.axes[0]))


def test_confusion_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="3 class names"):
        vis.confusion([0, 3], [0, 1], NAMES)
    with pytest.raises(ValueError, match="2 true classes"):
        vis.confusion([0, 1], [0, 1, 1], NAMES)


def test_mistakes_show_the_most_confident_first():
    images = np.stack([np.full((4, 4, 3), i, "uint8") for i in range(4)])
    p = np.array([[0.4, 0.6, 0], [1, 0, 0], [0.9, 0.002, 0.098], [0, 0, 1]])
    fig = vis.mistakes(images, [0, 0, 1, 2], p, NAMES)
    shown = [ax for ax in fig.axes if ax.images]
    assert [int(image_of(ax)[0, 0, 0]) for ax in shown] == [2, 0]
    assert shown[0].get_title("left") == "says church, 90 %\nis gas pump, <1 %"
    assert shown[1].get_title("left") == "says gas pump, 60 %\nis church, 40 %"


def test_mistakes_without_a_mistake_and_with_logits():
    images = np.zeros((2, 4, 4, 3))
    fig = vis.mistakes(images, [0, 1], np.eye(3)[:2], NAMES)
    assert "No mistake among 2 images." in texts(fig)
    with pytest.raises(ValueError, match="softmax"):
        vis.mistakes(images, [0, 1], 5 * np.eye(3)[:2], NAMES)
    with pytest.raises(ValueError, match="2 images, but 1"):
        vis.mistakes(images, [0], np.eye(3)[:1], NAMES)


# Filters


def test_filters_share_one_symmetric_scale():
    kernel = np.zeros((3, 3, 3, 4))
    kernel[..., 0], kernel[..., 1], kernel[..., 2] = 0.5, -1, 0.25
    mosaic = image_of(vis.filters(kernel, columns=2).axes[0])
    assert mosaic.shape == (7, 7, 3)
    np.testing.assert_allclose(mosaic[0, 0], 0.75)  # half of the largest weight, and positive
    np.testing.assert_allclose(mosaic[0, 4], 0)
    np.testing.assert_allclose(mosaic[4, 0], 0.625)
    np.testing.assert_allclose(mosaic[4, 4], 0.5)  # zero is mid-grey
    np.testing.assert_allclose(mosaic[3], 1)  # white between them


def test_filters_each_on_its_own():
    kernel = np.zeros((3, 3, 3, 2))
    kernel[..., 0], kernel[..., 1] = 0.5, -1
    shared, own = (image_of(vis.filters(kernel, each=each).axes[0]) for each in (False, True))
    np.testing.assert_allclose(shared[0, 0], 0.75)
    np.testing.assert_allclose(own[0, 0], 1)
    np.testing.assert_allclose(own[0, 4], 0)


def test_filters_that_were_only_scaled_remember_their_start():
    rng = np.random.default_rng(0)
    start, other = rng.normal(size=(2, 11, 11, 3, 8))
    np.testing.assert_allclose(vis.filter_memory(start, 3 * start + 1), 1)
    assert np.abs(np.median(vis.filter_memory(start, other))) < 0.05
    mixed = vis.filter_memory(start, start + other)
    np.testing.assert_allclose(mixed, 0.5**0.5, atol=0.1)


def test_filters_of_two_towers_are_apart():
    kernel = np.concatenate([np.ones((3, 3, 3, 4)), -np.ones((3, 3, 3, 4))], axis=-1)
    fig = vis.filters(kernel, groups=2)
    assert [ax.get_title("left") for ax in fig.axes] == ["tower 1", "tower 2"]
    np.testing.assert_allclose(image_of(fig.axes[0])[:3, :3], 1)
    np.testing.assert_allclose(image_of(fig.axes[1])[:3, :3], 0)
    assert len(fig.axes[1].lines) == 1  # the rule between them


def test_filters_refuse_deeper_layers():
    with pytest.raises(ValueError, match=r"first layer.*\(3, 3, 96, 256\)"):
        vis.filters(np.zeros((3, 3, 96, 256)))
    with pytest.raises(ValueError, match="5 filters"):
        vis.filters(np.zeros((3, 3, 3, 5)), groups=2)


def test_filters_over_epochs_choose_learned_ones_on_one_scale():
    noise = RNG.normal(size=(7, 7, 3, 20))
    learned = noise.copy()
    learned[..., 13] = np.cos(np.arange(7))[:, None, None] * 1.5
    fig = vis.filters_over_epochs({1: noise, 0: 0.1 * noise, 30: learned})
    titles = [ax.get_title("center") for ax in fig.axes[:3]]
    assert titles == ["epoch 0", "1", "30"]
    assert fig.axes[0].get_ylabel() == "13"
    assert np.ptp(image_of(fig.axes[0])) < 0.2 * np.ptp(image_of(fig.axes[1]))
    chosen = vis.filters_over_epochs({0: noise, 30: learned}, indices=[4, 2])
    assert [ax.get_ylabel() for ax in chosen.axes[::2]] == ["4", "2"]
    with pytest.raises(ValueError, match="no epoch"):
        vis.filters_over_epochs({})


def test_filter_colour_tells_grey_from_colour():
    grey = np.repeat(RNG.normal(size=(11, 11, 1, 5)), 3, axis=2)
    colour = grey - [[[[1], [0], [0]]]] * grey * 3  # (-2, 1, 1): adds up to zero
    noise = RNG.normal(size=(11, 11, 3, 500))
    np.testing.assert_allclose(vis.filter_colour(grey), 0, atol=1e-12)
    np.testing.assert_allclose(vis.filter_colour(colour), 1)
    assert vis.filter_colour(noise).mean() == pytest.approx(2 / 3, abs=0.01)
    assert np.isnan(vis.filter_colour(np.zeros((3, 3, 3, 1)))).all()


def test_filter_smoothness_tells_edges_from_noise():
    noise = vis.filter_smoothness(RNG.normal(size=(11, 11, 3, 500)))
    edge = np.zeros((11, 11, 3, 1)) + np.tanh(np.linspace(-2, 2, 11))[:, None, None, None]
    assert abs(noise.mean()) < 0.01
    assert vis.filter_smoothness(edge)[0] > 0.8
    np.testing.assert_allclose(vis.filter_smoothness(np.ones((5, 5, 3, 2))), 1)


# Activations


@pytest.fixture(scope="module")
def net():
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(4, 3, name="conv1")(inputs)
    x = layers.ReLU(name="relu1")(x)
    x = layers.Dropout(0.9, name="drop1")(x)
    x = layers.Dense(2, name="fc")(layers.Flatten(name="flatten")(x))
    return keras.Model(inputs, x, name="net")


def test_activations_are_the_layers_outputs_at_test_time(net):
    images = RNG.normal(size=(3, 12, 12, 3)).astype("float32")
    out = vis.activations(net, images, ["relu1", "fc", "drop1"])
    assert {k: v.shape for k, v in out.items()} == {
        "relu1": (3, 10, 10, 4), "fc": (3, 2), "drop1": (3, 10, 10, 4)
    }  # fmt: skip
    np.testing.assert_array_equal(out["drop1"], out["relu1"])
    assert out["relu1"].min() == 0
    np.testing.assert_allclose(out["fc"], keras.ops.convert_to_numpy(net(images)), atol=1e-4)
    assert list(vis.activations(net, images, "conv1")) == ["conv1"]


def test_activations_name_the_layers_that_would_do(net):
    with pytest.raises(ValueError, match=r"Did you mean 'conv1'.*maps: conv1, relu1, drop1\."):
        vis.activations(net, np.zeros((1, 12, 12, 3)), "conv_1")
    with pytest.raises(ValueError, match=r"\(n, 12, 12, 3\), got \(12, 12, 3\).*prepare"):
        vis.activations(net, np.zeros((12, 12, 3)), "conv1")


def test_activation_maps_draw_the_strongest_on_one_scale():
    maps = np.stack([np.full((4, 4), v) for v in [0.0, 3.0, 1.0, 2.0]], axis=-1)
    fig = vis.activation_maps(maps[None], n=2)
    axes = [ax for ax in fig.axes if ax.get_title("center")]
    assert [ax.get_title("center") for ax in axes] == ["1", "3"]
    assert {ax.images[0].get_clim() for ax in axes} == {(0, 3)}
    fig = vis.activation_maps(maps, channels=[2, 0])
    assert [ax.get_title("center") for ax in fig.axes if ax.images][:2] == ["2", "0"]
    with pytest.raises(ValueError, match=r"\['conv1'\]\[0\]"):
        vis.activation_maps(np.zeros((2, 4, 4, 3)))
