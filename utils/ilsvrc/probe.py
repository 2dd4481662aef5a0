"""What a headline run leaves to look at: its view of the probe, and what its units answer to."""

import keras
import numpy as np

from ilsvrc import data, ledger, vis
from ilsvrc.vis import checks

LABEL = "church"  # the class that is nearest to the photograph of a temple
MAPS, UNITS, CLASSES = 16, 8, 10  # at most so many are kept


def look(trained) -> dict[str, np.ndarray]:
    """Return what the network makes of `data.probe`, and pictures made for its units.

    Args:
        trained: A `training.Trained`.

    Returns:
        Arrays by name:

        - ``probe/probabilities`` (classes,), ``probe/label``: the class looked for, LABEL or the
          likeliest one;
        - ``probe/maps`` (height, width, 16), ``probe/channels``: the strongest first-layer maps;
        - ``probe/grad_cam`` (2, side, side): the network's and its randomised twin's, in logits;
        - ``probe/occlusion`` (16, 16): by how much the class's probability drops with each cell
          and its eight neighbours covered;
        - ``features/classes`` (10, side, side, 3) uint8: `vis.feature_visualisation` of the logits;
        - ``features/<layer>`` and ``features/<layer>/units``: the same for eight units of the last
          layer with maps.
    """
    model, names = trained.model, list(trained.dataset.class_names)
    image = trained.prepare(data.probe(trained.net.input_shape[1])[None])
    side, layers = image.shape[1], with_maps(model)
    logits = keras.Model(model.inputs, checks.logits(model)).predict(image, verbose=0)[0]
    logits = logits.astype("float32")
    label = names.index(LABEL) if LABEL in names else int(logits.argmax())
    maps = vis.activations(model, image, layers[0])[layers[0]][0]
    channels = np.argsort(-maps.max((0, 1)), kind="stable")[:MAPS]
    twins = [
        vis.grad_cam(one, image, label, layers[-1])[0] for one in (model, vis.randomised(model))
    ]
    drop = vis.occlusion(
        model, image, label, patch=3 * (side // 16), stride=side // 16, probability=True
    )
    arrays = {
        "probe/probabilities": keras.ops.convert_to_numpy(keras.ops.softmax(logits)),
        "probe/maps": maps[..., channels],
        "probe/grad_cam": np.stack(twins),
        "probe/occlusion": drop[0, :: side // 16, :: side // 16],
    }
    arrays = {name: array.astype("float16") for name, array in arrays.items()}
    arrays |= {"probe/label": np.int32(label), "probe/channels": channels}
    last = model.get_layer(layers[-1]).output.shape[-1]
    units = np.linspace(0, last - 1, UNITS).astype(int)
    arrays["features/classes"] = made(
        trained, checks.logits(model)._keras_history.operation.name, range(min(len(names), CLASSES))
    )
    arrays[f"features/{layers[-1]}"] = made(trained, layers[-1], units)
    arrays[f"features/{layers[-1]}/units"] = units
    return arrays


def made(trained, layer: str, units) -> np.ndarray:
    """Return the pictures that units of a layer answer to most, (n, side, side, 3) uint8."""
    pictures, _ = vis.feature_visualisation(trained.model, layer, units, *trained.pixels)
    return np.round(255 * pictures).astype("uint8")


def with_maps(model) -> list[str]:
    """Return the layers with maps whose activations are worth a look, first to last.

    These are the ReLUs, and where branches are put side by side, all of their maps. Layers that
    lead to another output than the first are left out.
    """
    trunk = keras.Model(model.inputs, model.outputs[0])
    uses = [use for use in ledger.calls(trunk) if len(use.shape) == 3 and use.inputs]
    kinds = keras.layers.Activation | keras.layers.ReLU | keras.layers.Concatenate
    return [use.name for use in uses if isinstance(use.layer, kinds)]
