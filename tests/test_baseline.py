"""The baseline of chapters/ilsvrc.md: what its descriptions hold, and its error on real images."""

import numpy as np
import pytest

from ilsvrc import chapter, data, facts


@pytest.fixture(scope="module")
def ilsvrc():
    return chapter("ilsvrc")


def test_a_grey_image_has_no_edges_and_one_colour(ilsvrc):
    image = np.full((64, 64, 3), (200, 100, 10), "uint8")
    assert ilsvrc.edges(image).shape == (7 * 7 * 2 * 2 * 9,)
    assert np.allclose(ilsvrc.edges(image), 0)
    colours = ilsvrc.colours(image).reshape(4, 64)
    assert (colours.argmax(axis=1) == 3 * 16 + 1 * 4 + 0).all()
    assert np.allclose(colours.max(axis=1), 1)


def test_colours_are_counted_by_quarter(ilsvrc):
    image = np.zeros((64, 64, 3), "uint8")
    image[:32, 32:] = 255  # upper right
    white = ilsvrc.colours(image).reshape(4, 64)[:, 63]
    assert white.tolist() == [0, 1, 0, 0]


def test_the_direction_of_an_edge_is_seen(ilsvrc):
    image = np.zeros((64, 64, 3), "uint8")
    image[:, 36:] = 255
    upright, lying = ilsvrc.edges(image), ilsvrc.edges(image.swapaxes(0, 1))
    bins = [described.reshape(-1, 9).sum(axis=0).argmax() for described in (upright, lying)]
    assert abs(bins[0] - bins[1]) in (4, 5)  # of nine bins over half a turn


def test_it_learns_the_photographs(ilsvrc):
    images = data.load("photographs", size=64, images=200)
    model = ilsvrc.linear_svm().fit(ilsvrc.describe(images.x_train), images.y_train)
    some = np.random.default_rng(0).permutation(len(images.y_val))[:100]
    assert model.score(ilsvrc.describe(images.x_val[some]), images.y_val[some]) > 0.5


@pytest.mark.real
@pytest.mark.slow
def test_its_error_on_imagenette_is_the_one_in_the_facts(ilsvrc, real_imagenette):
    images = data.load("imagenette", size=64)
    if not images.squashed:
        pytest.skip("the number is for Imagenette squashed to squares")
    model = ilsvrc.linear_svm().fit(ilsvrc.describe(images.x_train), images.y_train)
    error = 100 * (1 - model.score(ilsvrc.describe(images.x_val), images.y_val))
    assert error == pytest.approx(facts.value("baseline.imagenette_top1_error"), abs=0.3)
