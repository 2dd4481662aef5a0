"""Networks of every chapter survive Keras' own ways to keep and copy a model, in one process."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import ilsvrc
from networks import NETWORKS

pytestmark = pytest.mark.once

SLIM = {
    "2012_alexnet": ["slim_alexnet", "lenet5"],
    "2013_zfnet": ["slim_zfnet"],
    "2014_vgg": ["slim_vgg"],
    "2014_googlenet": ["slim_googlenet"],
    "2015_inception_v3": ["slim_inception_v3"],
    "2015_resnet": ["slim_resnet"],
    "2016_resnet_v2": ["slim_resnet_v2"],
    "2016_inception_v4": ["slim_inception_resnet_v2"],
    "2016_resnext": ["slim_resnext"],
    "2016_squeezenet": ["slim_squeezenet"],
    "2017_mobilenet": ["slim_mobilenet_v2", "slim_xception"],
    "2016_densenet": ["slim_densenet"],
    "2019_efficientnet": ["slim_efficientnet"],
    "2017_senet": ["slim_se_resnet"],
}
BUILDERS = [(chapter, builder) for chapter, names in SLIM.items() for builder in names]


def answers(model, images):
    found = keras.tree.flatten(model(images, training=False))
    return [keras.ops.convert_to_numpy(one) for one in found]


def built(chapter, builder):
    keras.utils.set_random_seed(0)
    model = getattr(ilsvrc.chapter(chapter), builder)(logits=True)
    return model, np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("f4")


OPEN = [  # an image of any size: networks that end in an average; dense layers want to know it
    ("2014_googlenet", "googlenet", {"auxiliary": False}, None),
    ("2015_inception_v3", "inception_v3", {}, None),
    ("2015_resnet", "resnet", {}, None),
    ("2016_densenet", "densenet", {}, None),
    ("2017_senet", "se_resnet", {}, None),
    ("2016_squeezenet", "squeezenet", {}, None),
    ("2012_alexnet", "alexnet", {}, "dense6/kernel"),
    ("2013_zfnet", "zfnet", {}, "dense6/kernel"),
    ("2014_vgg", "vgg", {}, "dense6/kernel"),
    ("2014_googlenet", "googlenet", {}, "head_4a_hidden/kernel"),
]


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize(("chapter", "builder", "options", "wants"), OPEN)
def test_an_open_size_is_taken_or_the_layer_named_that_wants_it(chapter, builder, options, wants):
    build = getattr(ilsvrc.chapter(chapter), builder)
    if wants is None:
        assert build(input_shape=(None, None, 3), **options).output_shape == (None, 1000)
        return
    with pytest.raises(ValueError, match=rf"must be fully-defined.*'{wants}'"):
        build(input_shape=(None, None, 3), **options)


def test_every_chapter_with_a_network_is_here():
    assert set(SLIM) == set(NETWORKS)


@pytest.mark.parametrize(("chapter", "builder"), BUILDERS)
def test_a_network_is_saved_loaded_and_copied(chapter, builder, tmp_path):
    model, images = built(chapter, builder)
    expected = answers(model, images)
    model.save(tmp_path / "network.keras")
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for again in (keras.models.load_model(tmp_path / "network.keras"), copy):
        for one, other in zip(answers(again, images), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


# Keras' older file, and the description alone: networks with layers of our own, or several outputs.
@pytest.mark.parametrize(("chapter", "builder"), BUILDERS[:5])
def test_a_network_is_kept_in_the_older_format_and_described(chapter, builder, tmp_path):
    model, images = built(chapter, builder)
    expected = answers(model, images)
    model.save(tmp_path / "network.h5")
    described = model.to_json()
    assert json.loads(described)["config"]
    copy = keras.models.model_from_json(described)
    copy.set_weights(model.get_weights())
    for again in (keras.models.load_model(tmp_path / "network.h5"), copy):
        for one, other in zip(answers(again, images), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


LOAD = """
import sys, keras, numpy as np
from ilsvrc import chapter
chapter(sys.argv[1])
images = np.load(sys.argv[3])
np.save(sys.argv[3], keras.models.load_model(sys.argv[2]).predict(images, verbose=0))
"""


@pytest.mark.slow
def test_a_saved_network_is_loaded_elsewhere_as_the_guide_says(tmp_path):
    model, images = built("2012_alexnet", "slim_alexnet")
    model.save(tmp_path / "mine.keras")
    np.save(tmp_path / "images.npy", images)
    files = [str(tmp_path / name) for name in ("mine.keras", "images.npy")]
    subprocess.run([sys.executable, "-c", LOAD, "2012_alexnet", *files], check=True)
    found = np.load(tmp_path / "images.npy")
    np.testing.assert_allclose(found, answers(model, images)[0], rtol=1e-4, atol=1e-5)


def test_a_compiled_inception_keeps_its_loss(tmp_path):
    module = ilsvrc.chapter("2015_inception_v3")
    model, images = built("2015_inception_v3", "slim_inception_v3")
    model.compile("sgd", module.Smoothing(0.3), metrics=["accuracy"])
    model.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert loaded.loss.epsilon == 0.3
    labels = np.array([1, 2])
    np.testing.assert_allclose(
        loaded.evaluate(images, labels, verbose=0), model.evaluate(images, labels, verbose=0), 1e-5
    )


def test_the_loss_is_the_mean_of_the_function(tmp_path):
    module, rng = ilsvrc.chapter("2015_inception_v3"), np.random.default_rng(0)
    labels, logits = rng.integers(0, 5, 7), rng.normal(size=(7, 5)).astype("float32")
    for epsilon in (0.0, 0.1):
        one = keras.ops.convert_to_numpy(module.Smoothing(epsilon)(labels, logits))
        all_of = keras.ops.convert_to_numpy(module.smoothed(labels, logits, epsilon))
        np.testing.assert_allclose(one, all_of.mean(), rtol=1e-6)
