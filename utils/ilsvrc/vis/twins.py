"""Is a picture of a network to be trusted? The same picture of its twin, which has learned nothing.

Adebayo et al. 2018, "Sanity checks for saliency maps": a map that hardly changes when random
weights take the place of the learned ones shows the image and the architecture, not what was
learned.
"""

import random

import keras
import numpy as np
from scipy import stats

from ilsvrc import ledger
from ilsvrc.vis import attribution, checks


def randomised(model, down_to=None, seed=0) -> keras.Model:
    """Return a copy of a model whose upper layers have forgotten what they had learned.

    Their weights are drawn anew by each layer's own initialiser: the layers are as they were before
    training, statistics of batch normalisation included, and answers keep the scale that the
    network was designed to begin with. The layers below keep what they learned.

    Args:
        model: a flat Keras model. It stays as it is.
        down_to: the name of the lowest layer to draw anew; all after it are, too, up to the
            outputs. None: all layers.
        seed: draws the weights.

    Returns:
        A Keras model with the same layers and names, weights of its own, not compiled.

    Raises:
        ValueError: if the model is not flat, or has no such layer; the message names its layers.
    """
    names = [use.name for use in ledger.calls(model)]
    if down_to is not None:
        checks.outputs(model, [down_to])
    state = random.getstate()
    # Keras draws a seed for each initialiser from here. With the bare number a network that was
    # built after set_random_seed(number) would get back the weights that it began with.
    random.seed(f"twin {seed}")
    graph = getattr(model, "_functional", None) or model  # of a sequential one
    plain = keras.Model(graph.input, graph.output, name=model.name)  # without loss and optimiser
    twin = keras.models.clone_model(plain, clone_function=_fresh)
    random.setstate(state)
    kept = names[: names.index(down_to)] if down_to else []
    for layer in model.layers:
        if layer.name in kept and layer.weights:
            twin.get_layer(layer.name).set_weights(layer.get_weights())
    return twin


def _fresh(layer):
    """Return a layer's copy with new weights; a Lambda has none, and Keras cannot copy it."""
    if isinstance(layer, keras.layers.Lambda):
        return layer
    return type(layer).from_config(layer.get_config())


def similarity(maps, others) -> np.ndarray:
    """Return how alike two networks' maps of each image are: Spearman's rank correlation.

    Args:
        maps: (n, ...) maps or pictures of one network.
        others: those of the other, in the same shape.

    Returns:
        (n,) floats from -1 to 1, over all values of an image; 0 where a map is constant.
    """
    maps, others = (np.asarray(each, float) for each in (maps, others))  # SciPy knows no bfloat16
    pairs = [(np.ravel(a), np.ravel(b)) for a, b in zip(maps, others, strict=True)]
    return np.array(
        [stats.spearmanr(a, b).statistic if np.ptp(a) and np.ptp(b) else 0.0 for a, b in pairs]
    )


def with_twin(f, model, images=None, down_to=None, seed=0, titles=None):
    """Draw any maps or pictures of a network above those of its randomised twin.

    Args:
        f: a function of a model that returns (n, height, width) maps or (n, height, width, 3)
            pictures, floats from 0 to 1, as in
            ``with_twin(lambda m: saliency(m, prepared, 3), model, photographs)``.
        model: a flat Keras model.
        images: n photographs for maps to lie over, as in `overlay`; None for none.
        down_to: as in `randomised`; or several, from the top down, each a twin and a row of its
            own (cascading randomisation).
        seed: as in `randomised`.
        titles: n titles of the columns.

    Returns:
        A Matplotlib figure as `overlay`'s. Each twin's title says which layers are random and
        gives the mean `similarity` of its maps to the network's, as ρ.

    Raises:
        ValueError: as `randomised` and `overlay` do.
    """
    own = f(model)
    rows = {"network": own}
    for layer in [down_to] if down_to is None or isinstance(down_to, str) else down_to:
        twins = f(randomised(model, layer, seed))
        which = f"random from\n{layer}" if layer else "all random"
        rows[f"{which}\nρ = {similarity(own, twins).mean():.2f}"] = twins
    return attribution.overlay(images, rows, titles)
