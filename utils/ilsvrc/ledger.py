"""What each layer of a network costs and sees: shape, parameters, MACs, memory, receptive field.

One MAC is one multiplication and one addition. Only convolutions and dense layers are counted, as
the papers do; biases, activations, normalisation and pooling are not.
"""

import contextlib
import math
from collections import Counter
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd

FLOAT32 = 4  # bytes
# Colours are the page's; figures stand under one another.
TABLE_STYLE = """<style>
table.dataframe.ledger {font-size: 0.72rem; font-variant-numeric: tabular-nums}
table.dataframe.ledger :is(th, td) {padding: 0.15rem 0.25rem; text-align: right}
table.dataframe.ledger :is(tbody th, td) {white-space: nowrap}
table.dataframe.ledger :is(tbody th, th:nth-child(2), td:nth-child(2)) {text-align: left}
table.dataframe.ledger td:nth-child(2) {white-space: normal}
table.dataframe.ledger tbody tr:last-child {font-weight: bold; border-top: 1px solid}
</style>
"""
SUMMED = ["parameters", "statistics", "macs", "activation_bytes"]

DENSE_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
CONVOLUTIONS = (*DENSE_CONVOLUTIONS, *DEPTHWISE, *SEPARABLE)
POOLS = (
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
)
UPSAMPLING = (keras.layers.UpSampling1D, keras.layers.UpSampling2D, keras.layers.UpSampling3D)
GLOBAL_POOLS = (
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GlobalMaxPooling3D,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
)
ELEMENTWISE = (
    *(keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU),
    *(keras.layers.Identity, keras.layers.Rescaling, keras.layers.Add, keras.layers.Subtract),
    *(keras.layers.Multiply, keras.layers.Average, keras.layers.Maximum, keras.layers.Minimum),
)
DROPOUTS = (  # and other noise: nothing at test time
    *(keras.layers.Dropout, keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D),
    *(keras.layers.SpatialDropout3D, keras.layers.AlphaDropout, keras.layers.GaussianDropout),
    *(keras.layers.GaussianNoise, keras.layers.ActivityRegularization),
)
# These change the grid at its border only: each output still sees what its input saw.
BORDER = (
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.ZeroPadding3D,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Cropping3D,
)
# With weights that the ledger understands, and without: these multiply nothing that is counted.
WEIGHTED = (
    *(*CONVOLUTIONS, *TRANSPOSED, keras.layers.Dense, keras.layers.BatchNormalization),
    *(keras.layers.LayerNormalization, keras.layers.GroupNormalization, keras.layers.PReLU),
    *(keras.layers.Normalization, keras.layers.Embedding),
)
WEIGHTLESS = (
    *(*POOLS, *UPSAMPLING, *GLOBAL_POOLS, *BORDER, *ELEMENTWISE, *DROPOUTS),
    *(keras.layers.InputLayer, keras.layers.Flatten, keras.layers.Reshape, keras.layers.Permute),
    *(keras.layers.RepeatVector, keras.layers.Concatenate, keras.layers.Resizing),
    *(keras.layers.CenterCrop, keras.layers.Softmax, keras.layers.UnitNormalization),
)
# Operations of `keras.ops`: what works on each value; what leaves places where they are, or whose
# result's shape tells what it did; what moves or mixes places. None of these is counted.
POINTWISE = {
    *("Abs", "Absolute", "Add", "Average", "BatchNorm", "Cast", "Celu", "Clip", "Copy"),
    *("Divide", "DivideNoNan", "Elu", "Exp", "Expm1", "Gelu", "HardSigmoid", "HardSilu"),
    *("HardTanh", "LeakyRelu", "Log", "Log1p", "LogSigmoid", "Maximum", "Minimum", "Multiply"),
    *("Negative", "Power", "Reciprocal", "Relu", "Relu6", "Round", "Rsqrt", "Selu", "Sigmoid"),
    *("Sign", "Silu", "Softplus", "Softsign", "Sqrt", "Square", "StopGradient", "Subtract"),
    *("Tanh", "Threshold", "TrueDivide", "Where"),
}
BY_SHAPE = {
    *("Amax", "Amin", "Concatenate", "ExpandDims", "LogSoftmax", "Max", "Mean", "Min", "Ravel"),
    *("Reshape", "Softmax", "Split", "Squeeze", "Std", "Sum", "Var"),
}
MOVING = {
    *("AdaptiveAveragePool", "AdaptiveMaxPool", "AveragePool", "DepthToSpace", "Flip"),
    *("GetItem", "MaxPool", "Moveaxis", "Pad", "Repeat", "Resize", "Roll", "Rot90"),
    *("SpaceToDepth", "Stack", "Swapaxes", "Take", "Tile", "Transpose"),
}
NORMALISED = {"LocalResponseNorm", "LocalResponseNormalization", "LRN"}  # whoever wrote the layer


class Call(NamedTuple):
    """One use of a layer (or of a ``keras.ops`` operation) in a model.

    Attributes:
        name: the layer's name; later uses of a shared layer get ``:2``, ``:3``, ...
        layer: the Keras layer or operation.
        inputs: positions of the calls it reads from, in the list that holds this call.
        outputs: positions of the model's outputs that it computes.
        shape: its output's shape without the batch.
        first: whether this is the first use of the layer.
        tensor: its output in this model; the layer's own `output` may be that of another.
    """

    name: str
    layer: keras.Operation
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shape: tuple[int, ...]
    first: bool
    tensor: keras.KerasTensor


@contextlib.contextmanager
def counting():
    """Build networks in this block whose weights have shapes and no values: to count and to draw.

    Drawing 60 million weights takes seconds and memory, and nothing here looks at them; who runs
    such a network has them drawn each time. Afterwards Keras numbers the layers that it names
    itself from the start.
    """
    policy = keras.config.dtype_policy()
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        keras.utils.clear_session(free_memory=False)  # or the next network makes them values
        keras.config.set_dtype_policy(policy)


def calls(model) -> list[Call]:
    """List the uses of layers in a flat model, each after those it reads from.

    Branches come one after the other, in the order in which they are joined.

    Args:
        model: a built Keras model, functional or sequential, with a fixed input size.

    Raises:
        ValueError: if it is no model, it is not built, its input size is open, or it holds another
            model.
    """
    outputs = _outputs(model)
    order = _in_order([_node(tensor) for tensor in outputs])
    position = {id(node): i for i, node in enumerate(order)}
    used, found = Counter(), []
    for node in order:
        layer, shape = node.operation, tuple(node.output_tensors[0].shape[1:])
        if isinstance(layer, keras.Model):
            raise ValueError(
                f"{model.name!r} holds another model, {layer.name!r}. Make one graph of both, "
                "model = ledger.flattened(model), or ask for the inner one, "
                f"model.get_layer({layer.name!r})."
            )
        if None in shape:
            raise ValueError(
                f"The output of {layer.name!r} has an open size, {shape}. Build the model with a "
                "fixed input_shape, such as (227, 227, 3)."
            )
        used[id(layer)] += 1
        again = used[id(layer)]
        found.append(
            Call(
                name=layer.name if again == 1 else f"{layer.name}:{again}",
                layer=layer,
                inputs=tuple(position[id(_node(t))] for t in node.input_tensors),
                outputs=tuple(i for i, t in enumerate(outputs) if _node(t) is node),
                shape=shape,
                first=again == 1,
                tensor=node.output_tensors[0],
            )
        )
    return found


def _outputs(model) -> list:
    """Return the outputs of a model that has a graph, or raise a ValueError."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"A Keras model is asked for, got a {type(model).__name__}.")
    try:
        outputs = list(model.outputs)
    except (AttributeError, ValueError):
        outputs = []
    if not outputs:
        raise ValueError(
            f"The model {model.name!r} has no graph yet. Build it with keras.Input and "
            "keras.Model(inputs, outputs), or give its first layer an input shape."
        )
    return outputs


def flattened(model) -> keras.Model:
    """Return a model that holds others as one flat graph of the same layers, weights shared.

    Args:
        model: a built functional or sequential model; those that it holds have graphs, too.

    Raises:
        ValueError: if a model within has no graph, or two layers have the same name.
    """
    _outputs(model)
    while any(isinstance(layer, keras.Model) for layer in model.layers):
        for layer in model.layers:
            if isinstance(layer, keras.Model) and not getattr(layer, "inputs", None):
                raise ValueError(
                    f"{layer.name!r} is a subclass of keras.Model without a graph of layers; its "
                    "inside cannot be laid open. Saliency, integrated gradients and occlusion take "
                    "any model."
                )
        model = keras.Model(model.inputs, model.outputs, name=model.name)  # sequential ones, too
        try:
            model = keras.models.clone_model(
                model, clone_function=lambda layer: layer, call_function=_without_border
            )
        except ValueError as error:
            if "should be unique" not in str(error):
                raise
            raise ValueError(
                f"{model.name!r} cannot be one graph: two of the models in it have a layer of the "
                f"same name. Build one of them with other names. ({error})"
            ) from error
    return model


def _without_border(layer, *args, **options):
    """Call a layer; of a model, call its layers one by one, so that they join the graph outside."""
    if not isinstance(layer, keras.Model):
        return layer(*args, **options)
    graph = keras.Model(layer.inputs, layer.outputs)
    return graph._run_through_graph(args[0], lambda operation: operation)  # as clone_model does


def known(layer) -> bool:
    """Return whether a layer is Keras' or the course's, and not a user's, a subclass, a Lambda."""
    kind = type(layer)
    ours = kind.__module__.startswith(("keras.", "ilsvrc."))
    return kind.__name__ in NORMALISED or (ours and not isinstance(layer, keras.layers.Lambda))


def understood(layer) -> bool:
    """Return whether the ledger knows what a layer (or a ``keras.ops`` operation) multiplies.

    It knows the kinds named above and the course's own layers without weights. It does not know
    layers of a user's own, layers that hold others (attention, wrappers), a kernel that is kept as
    something else (quantised, with LoRA beside it), and operations that multiply two tensors.
    """
    kind = type(layer).__name__
    if not isinstance(layer, keras.Layer):
        return kind in POINTWISE | BY_SHAPE | MOVING
    if not known(layer) or layer._layers:
        return False
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return False
    if layer.weights:
        return isinstance(layer, WEIGHTED)
    augments = type(layer).__module__.startswith("keras.") and kind.startswith("Random")
    ours = type(layer).__module__.startswith("ilsvrc.") or kind in NORMALISED
    return ours or augments or isinstance(layer, (*WEIGHTLESS, *WEIGHTED))


def _stays(use: Call) -> bool:
    """Return whether an output sees its own place alone, or its shape tells that it sees more."""
    layer, kind = use.layer, type(use.layer).__name__
    if isinstance(layer, (keras.layers.Permute, keras.layers.RepeatVector)) or kind in MOVING:
        return False
    if kind in ("Softmax", "LogSoftmax", "UnitNormalization", "LayerNormalization"):
        axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
        return len(use.shape) == 1 or all(axis in (-1, len(use.shape)) for axis in axes)
    return understood(layer)


def ledger(model) -> pd.DataFrame:
    """Return a network's ledger, one row a layer.

    Shared layers have a row for each use, and their parameters in the first of them, so that the
    sum of the columns ``parameters`` and ``statistics`` is ``model.count_params()``.

    Args:
        model: a built, flat Keras model with a fixed input size; branches are welcome.

    Returns:
        A table with the layers' names as index and the columns

        - ``kind``: the layer's class,
        - ``output``: its output's shape without the batch, a tuple,
        - ``parameters``: its weights and biases, those of a frozen layer too,
        - ``statistics``: numbers that it keeps and does not learn: batch norm's moving averages,
        - ``macs``: multiplications with addition for one image (convolutions and dense layers); nan
          for a layer that is not `understood`,
        - ``activation_bytes``: bytes of its output for one image in float32,
        - ``receptive_field``: the side in input pixels of the square that one output can see
          (a tuple where it is not square); None is the whole image: after flattening, or after a
          global pooling. Borders do not count: it may exceed the image.
        - ``stride``: the step in input pixels from one output to the next; None where no grid is
          left. A field or stride that cannot be told (a layer that resamples) is nan.

    Raises:
        ValueError: as `calls` does.
    """
    uses = calls(model)
    fields, rows = [], []
    for use in uses:
        before = [uses[i] for i in use.inputs]
        fields.append(_field(use, before, [fields[i] for i in use.inputs]))
        field, stride = fields[-1]
        learned, kept = _counts(use)
        rows.append(
            {
                "kind": type(use.layer).__name__,
                "output": use.shape,
                "parameters": learned,
                "statistics": kept,
                "macs": _macs(use, before),
                "activation_bytes": FLOAT32 * math.prod(use.shape),
                "receptive_field": _readable(field),
                "stride": _readable(stride),
            }
        )
    return Ledger(
        {column: _column([row[column] for row in rows]) for column in rows[0]},
        index=pd.Index([use.name for use in uses], name="layer"),
    )


def boxes(model, layer: str, places) -> np.ndarray:
    """Return what a layer's outputs see of the image: their receptive fields as boxes.

    Each window is followed back to the image, uneven padding included; where branches meet, the box
    encloses them all. A layer that changes the grid by anything but windows and borders (a global
    pooling, a resampling) is taken to see all of its input.

    Args:
        model: a built, flat Keras model with a fixed input size.
        layer: the name of a layer with maps.
        places: (n, 2) ints, rows and columns in these maps.

    Returns:
        (n, 4) ints: top, left, bottom, right in input pixels, the last two excluded. A box may
        stick out of the image.
    """
    uses = calls(model)
    end = [use.name for use in uses].index(layer)
    first, last = {end: np.array(places)}, {end: np.array(places)}
    for i in range(end, -1, -1):
        for j in uses[i].inputs if i in first else ():
            low, high = _seen(uses[i], uses[j].shape, first[i], last[i])
            first[j] = np.minimum(first.get(j, low), low)
            last[j] = np.maximum(last.get(j, high), high)
    image = min(first)
    return np.concatenate([first[image], last[image] + 1], axis=-1)


def totals(model) -> dict[str, int]:
    """Return a model's (or ledger's) sums of `SUMMED`: parameters, statistics, MACs, bytes.

    The MACs are nan where a layer's are not known.
    """
    table = model if isinstance(model, pd.DataFrame) else ledger(model)
    sums = {column: sum(table[column]) for column in SUMMED}
    return {column: n if n != n else int(n) for column, n in sums.items()}


def stages(model, stages: dict[str, str | list[str]]) -> pd.DataFrame:
    """Fold a ledger to stages, so that a deep network's fits on a page.

    Args:
        model: a model, or its ledger.
        stages: for each stage's title the prefix, or prefixes, of its layers' names. Where several
            fit a layer the longest counts. Layers without a stage are summed in the row
            ``(other)``.

    Returns:
        A table like `ledger`'s, one row a stage in the given order: ``kind`` counts the layers
        with parameters (all, where none has any), sums are sums, and shape, field and stride are
        those of the stage's last layer.

    Raises:
        ValueError: if no layer's name begins with a prefix, or two stages have the same.
    """
    table = model if isinstance(model, pd.DataFrame) else ledger(model)
    owner = {}
    for title, prefixes in stages.items():
        for prefix in [prefixes] if isinstance(prefixes, str) else prefixes:
            if prefix in owner:
                raise ValueError(f"Both {owner[prefix]!r} and {title!r} ask for {prefix!r}.")
            if not any(name.startswith(prefix) for name in table.index):
                raise ValueError(
                    f"No layer's name begins with {prefix!r} (stage {title!r}). "
                    f"There are: {', '.join(table.index)}."
                )
            owner[prefix] = title
    fits = [[p for p in owner if name.startswith(p)] for name in table.index]
    titles = np.array([owner[max(f, key=len)] if f else "(other)" for f in fits])
    rows = {}
    for title in [*stages, "(other)"]:
        part = table[titles == title]
        if len(part):
            weighted = part[part["parameters"] > 0]
            kinds = Counter((weighted if len(weighted) else part)["kind"])
            rows[title] = {
                "kind": ", ".join(f"{n} {k}" if n > 1 else k for k, n in kinds.items()),
                **part.iloc[-1][["output", "receptive_field", "stride"]],
                **part[SUMMED].sum(),
            }
    return Ledger(
        {column: _column([row[column] for row in rows.values()]) for column in table.columns},
        index=pd.Index(rows, name="stage"),
    )


class Ledger(pd.DataFrame):
    """A data frame that a notebook shows as a readable table with its sums in the last row.

    The table leaves the column `statistics` out, for the sake of its width.
    """

    @property
    def _constructor(self):
        return Ledger

    def _repr_html_(self) -> str:
        heads = {
            "parameters": "parameters",
            "macs": "MACs",
            "activation_bytes": "activations (kB)",
            "receptive_field": "receptive field (px)",
            "stride": "stride (px)",
        }
        shown = pd.DataFrame(self).drop(columns="statistics", errors="ignore").astype(object)
        sums = [column for column in SUMMED if column in shown]
        if sums and "total" not in shown.index:
            shown.loc["total"] = [shown[c].sum() if c in sums else "" for c in shown.columns]
        for column in shown.columns:
            shown[column] = [_written(column, value) for value in shown[column]]
        shown = shown.rename(columns=heads).rename_axis(None)
        return TABLE_STYLE + shown.to_html(border=0, classes="ledger")


def _written(column: str, value) -> str:
    if value is None:
        return "all" if column == "receptive_field" else ""
    if isinstance(value, tuple):
        return "×".join(map(str, value))
    if isinstance(value, float) and math.isnan(value):
        return "?"
    if column == "activation_bytes" and not isinstance(value, str):
        return f"{value / 1000:,.0f}"
    return value if isinstance(value, str) else f"{value:,}"


def _column(values: list):
    """Keep tuples and None as they are; pandas would make nan or columns of them."""
    if all(isinstance(v, (int, np.integer)) for v in values):
        return np.array(values, "int64")
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _node(tensor):
    operation, i, _ = tensor._keras_history
    return operation._inbound_nodes[i]


def _in_order(ends: list) -> list:
    """Order the nodes that lead to `ends` depth first, so that a branch stays together."""
    order, seen = [], set()
    stack = [(node, False) for node in reversed(ends)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(_node(tensor), False) for tensor in reversed(node.input_tensors)]
    return order


def _counts(use: Call) -> tuple[int, int]:
    """Return how many numbers a layer learns, and how many it keeps beside; none if used before."""
    if not (use.first and isinstance(use.layer, keras.Layer)):
        return 0, 0
    parts = use.layer._flatten_layers()
    learned = {id(weight) for part in parts for weight in part._trainable_variables}  # frozen, too
    sizes = [(id(weight) in learned, math.prod(weight.shape)) for weight in use.layer.weights]
    return sum(n for learns, n in sizes if learns), sum(n for learns, n in sizes if not learns)


def _grid(layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    channels_first = getattr(layer, "data_format", None) == "channels_first"
    return shape[1:] if channels_first else shape[:-1]


def _macs(use: Call, before: list[Call]) -> int | float:
    layer = use.layer
    if not understood(layer):
        return math.nan
    if isinstance(layer, keras.layers.Dense):
        return math.prod(layer.kernel.shape) * math.prod(use.shape[:-1])
    if isinstance(layer, TRANSPOSED):  # each input is multiplied by the whole kernel
        return math.prod(layer.kernel.shape) * math.prod(_grid(layer, before[0].shape))
    if isinstance(layer, SEPARABLE):
        kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
    elif isinstance(layer, CONVOLUTIONS):
        kernels = [layer.kernel]  # (height, width, input channels / groups, filters)
    else:
        return 0
    return sum(math.prod(k.shape) for k in kernels) * math.prod(_grid(layer, use.shape))


def _field(use: Call, before: list[Call], fields: list) -> tuple[np.ndarray, np.ndarray]:
    """Return (receptive field, stride) along each axis of the grid, as floats.

    A field of infinity is the whole image, a stride of 0 means that no grid is left, nan that
    nobody can tell.
    """
    layer = use.layer
    if not before:
        sides = len(use.shape) - 1
        return np.ones(sides), np.ones(sides)
    sides = max(f.size for f, _ in fields)  # a row of numbers beside maps has none
    field = np.maximum.reduce([f for f, _ in fields if f.size == sides])
    stride = np.maximum.reduce([s for _, s in fields if s.size == sides])
    unknown = np.full_like(field, np.nan), np.full_like(stride, np.nan)
    if not _stays(use) and stride.any():
        return unknown
    if isinstance(layer, keras.layers.GroupNormalization):  # its mean is over all places
        return np.full_like(field, np.inf), stride
    if isinstance(layer, (*CONVOLUTIONS, *POOLS)):
        size, step = _window(layer)
        return field + (size - 1) * stride, stride * step
    if isinstance(layer, TRANSPOSED):
        size, step = _window(layer)
        return field + (np.ceil(size / step) - 1) * stride, stride / step
    if isinstance(layer, UPSAMPLING):
        return field, stride / np.array(layer.size)
    if isinstance(layer, (*BORDER, keras.layers.Dense)):
        return field, stride
    shape = before[0].shape
    for other in before[1:]:
        if len(other.shape) > len(shape):
            shape = other.shape
    if len(use.shape) < len(shape):  # flattened, or pooled globally, or an axis is gone
        whole = np.full_like(field, np.inf), np.zeros_like(stride)
        return whole if len(use.shape) == 1 or not stride.any() else unknown
    if _grid(layer, use.shape) == _grid(layer, shape) or not stride.any():
        return field, stride
    if set(_grid(layer, use.shape)) == {1}:  # a global pooling that keeps the axes, or a mean
        return np.full_like(field, np.inf), np.zeros_like(stride)
    return unknown


def _seen(use: Call, before: tuple[int, ...], first, last) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last place of an input, of shape `before`, that some places see."""
    layer, grid = use.layer, np.array(_grid(use.layer, before))
    whole = grid - 1 if grid.size == 2 else 0
    if not _stays(use) or isinstance(layer, keras.layers.GroupNormalization):
        return 0 * first, 0 * last + whole
    if isinstance(layer, (*CONVOLUTIONS, *POOLS)):
        size, step = _window(layer)
        added = np.maximum((np.ceil(grid / step).astype(int) - 1) * step + size - grid, 0)
        first, last = first * step, last * step + size - 1
        pad = added // 2 if layer.padding == "same" else 0  # an odd one comes last
        return first - pad, last - pad
    if isinstance(layer, BORDER):
        kept = getattr(layer, "cropping", None) or -np.array(layer.padding)
        before = np.array(kept)[:, 0]
        return first + before, last + before
    if tuple(grid) == _grid(layer, use.shape):
        return first, last
    return 0 * first, 0 * last + whole


def _window(layer) -> tuple[np.ndarray, np.ndarray]:
    """Return a convolution's or pool's extent, dilation included, and its step."""
    size = np.array(layer.pool_size if isinstance(layer, POOLS) else layer.kernel_size)
    dilation = np.array(getattr(layer, "dilation_rate", 1))
    return dilation * (size - 1) + 1, np.array(layer.strides)


def _readable(sides: np.ndarray):
    """Return one number for equal sides, else a tuple; None for the whole image or no grid."""
    if np.isnan(sides).any():
        return math.nan
    if not sides.size or np.isinf(sides).any() or not sides.any():
        return None
    numbers = tuple(int(s) if s == int(s) else float(s) for s in sides)
    return numbers[0] if len(set(numbers)) == 1 else numbers
