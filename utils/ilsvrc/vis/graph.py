"""A network's architecture as a drawing: an inline SVG made from the Keras graph.

A layer that only follows another (activation, normalisation, dropout) shares its box. The graph is
cut where all paths meet; what lies between two such points is a module, drawn with its branches
side by side. In long networks equal modules in a row are drawn once, with their number.
"""

import html
import re
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain, pairwise, takewhile

import keras
from IPython.display import HTML
from sklearn.isotonic import isotonic_regression

from ilsvrc import ledger

LONG = 30  # boxes; a longer network has its repeated modules folded
GAP, SIDE_GAP, LANE = 15, 12, 10  # pixels between rows, between boxes of a row, for a passing edge
COLOURS = {"conv": "#0072B2", "pool": "#009E73", "dense": "#D55E00"}  # Okabe and Ito
ACTIVATIONS = {"relu": "ReLU", "relu6": "ReLU6", "silu": "swish"}
PASSING = {  # layers that take a place in a box, but no box; "" is not worth saying
    "BatchNormalization": "BN",
    "LayerNormalization": "LN",
    "Flatten": "flatten",
    "Reshape": "",
    "ZeroPadding2D": "",
    "ReLU": "ReLU",
    "Softmax": "softmax",
    "LocalResponseNorm": "LRN",
    "LocalResponseNormalization": "LRN",
}
MERGES = {"Add": "add", "Concatenate": "concatenate", "Multiply": "multiply", "Average": "average"}

# Type and lines take the page's colour (currentColor); tints are faint enough for either ground.
STYLE = (
    "<style>"
    ".ilsvrc-diagram text{fill:currentColor;font-family:system-ui,sans-serif}"
    ".ilsvrc-diagram .main{font-size:12px;font-weight:500}"
    ".ilsvrc-diagram .small{font-size:11px}"
    ".ilsvrc-diagram .middle{text-anchor:middle}"
    ".ilsvrc-diagram .edge{fill:none;stroke:currentColor;stroke-opacity:.55;stroke-width:1.2}"
    ".ilsvrc-diagram .fold{fill:none;stroke:currentColor;stroke-opacity:.6;stroke-dasharray:4 3}"
    ".ilsvrc-diagram .box{fill:currentColor;fill-opacity:.07;stroke:currentColor}"
    + "".join(
        f".ilsvrc-diagram .{kind}{{fill:{colour};fill-opacity:.22;stroke:{colour}}}"
        for kind, colour in COLOURS.items()
    )
    + "</style>"
)


@dataclass
class Box:
    """One box of the drawing: a layer with those that only follow it, or lead up to it.

    Attributes:
        uses: the layers' uses, in order.
        main: the use that gives the box its main line.
        inputs: positions of the boxes it reads from.
        kind: "conv", "pool", "dense", or "".
        lines: (text, whether it is the main line), from top to bottom.
        width, height, x, y: in pixels; x is the centre, y the top.
    """

    uses: list
    main: ledger.Call
    inputs: list[int]
    kind: str = ""
    lines: list[tuple[str, bool]] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0
    x: float = 0.0
    y: float = 0.0


def diagram(model) -> HTML:
    """Draw a network's architecture, from the image at the top to the answer at the bottom.

    Colours are blue for convolutions, green for pooling, orange for dense layers; type and lines
    take the page's colour, so that the drawing reads in light and dark mode. "conv 11×11 / 4, 96"
    is a convolution with 96 filters of 11×11 and a stride of 4. Names stand at the left, shapes of
    the outputs at the right. Outputs beside the deepest one (auxiliary heads) hang at the right.

    Args:
        model: a built, flat Keras model with a fixed input size.

    Returns:
        An object that a notebook shows as an inline SVG, with a description for screen readers;
        its ``data`` is the SVG.

    Raises:
        ValueError: as `ledger.calls` does.
    """
    uses = ledger.calls(model)
    boxes = _boxes(uses)
    trunk, sides = _trunk(boxes)
    modules = _modules(boxes, trunk)
    sections = _fold(boxes, modules) if len(boxes) > LONG else [([m], [m]) for m in modules]
    return HTML(_svg(model, boxes, sections, sides))


def diagrams(networks: dict) -> HTML:
    """Draw several networks side by side, or one below the other where there is no room.

    Args:
        networks: {title: model}, each as `diagram` takes it.

    Returns:
        As `diagram` does.
    """
    parts = [
        f'<div style="flex:1 1 min-content;min-width:0"><p><b>{html.escape(title)}</b></p>'
        f"{diagram(model).data}</div>"
        for title, model in networks.items()
    ]
    style = "display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start"
    return HTML(f'<div style="{style}">{"".join(parts)}</div>')


# From layers to boxes


def _boxes(uses: list) -> list[Box]:
    readers = defaultdict(list)
    for i, use in enumerate(uses):
        for j in use.inputs:
            readers[j].append(i)
        readers[i] += [None] * len(use.outputs)
    boxes, owner = [], {}
    for i, use in enumerate(uses):
        before = owner.get(use.inputs[0]) if len(use.inputs) == 1 else None
        alone = before is not None and len(readers[use.inputs[0]]) == 1
        # Padding belongs to what comes after it.
        trails = _follows(use) and not isinstance(use.layer, ledger.BORDER)
        if alone and (trails or _follows(boxes[before].main)):
            box = boxes[before]
            box.uses.append(use)
            box.main = box.main if _follows(use) else use
        else:
            boxes.append(Box([use], use, list(dict.fromkeys(owner[j] for j in use.inputs))))
            before = len(boxes) - 1
        owner[i] = before
    for box in boxes:
        box.kind = _kind(box.main.layer)
        box.lines = _lines(box)
        box.width = 12 + max(40, *((7.0 if main else 6.5) * len(t) for t, main in box.lines))
        box.height = 8 + 13 * len(box.lines)
    return boxes


def _kind(layer) -> str:
    if isinstance(layer, (*ledger.CONVOLUTIONS, *ledger.TRANSPOSED)):
        return "conv"
    if isinstance(layer, keras.layers.Dense):
        return "dense"
    return "pool" if "Pool" in type(layer).__name__ else ""


def _follows(use) -> bool:
    """Tell whether a layer goes into the box of the one before it."""
    return len(use.inputs) == 1 and not _kind(use.layer) and not _weighs(use.layer)


def _weighs(layer) -> bool:
    """Tell whether a layer is one of somebody's own, with weights: it gets a box of its own."""
    return bool(getattr(layer, "weights", ())) and not type(layer).__module__.startswith("keras")


def _lines(box: Box) -> list[tuple[str, bool]]:
    at = box.uses.index(box.main)
    own = getattr(box.main.layer, "activation", None) if box.kind else None
    before = [_said(use) for use in box.uses[:at]]
    after = [_activation(own), *(_said(use) for use in box.uses[at + 1 :])]
    small = [" · ".join(filter(None, words)) for words in (before, after)]
    lines = [(small[0], False), (_title(box.main), True), (small[1], False)]
    return [line for line in lines if line[0]]


def _title(use) -> str:
    layer, name = use.layer, type(use.layer).__name__
    if not use.inputs:
        return f"input {_shape(use.shape)}"
    if isinstance(layer, keras.layers.Dense):
        return f"dense {layer.units}"
    if _kind(layer) == "conv":
        word = "depthwise" if isinstance(layer, ledger.DEPTHWISE) else "conv"
        word = "separable" if isinstance(layer, ledger.SEPARABLE) else word
        word = "transposed" if isinstance(layer, ledger.TRANSPOSED) else word
        text = f"{word} {_shape(layer.kernel_size)}{_step(layer.strides)}"
        text += "" if word == "depthwise" else f", {layer.filters}"
        text += f", dilated {max(layer.dilation_rate)}" if max(layer.dilation_rate) > 1 else ""
        return text + (f", {layer.groups} groups" if getattr(layer, "groups", 1) > 1 else "")
    if _kind(layer) == "pool":
        which = "max" if "Max" in name else "average"
        if "Global" in name:
            return f"global {which} pool"
        return f"{which} pool {_shape(layer.pool_size)}{_step(layer.strides)}"
    if _weighs(layer):
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return MERGES.get(name) or _said(use) or name


def _said(use) -> str:
    """Return what a box says of a layer that has no box of its own."""
    layer, name = use.layer, type(use.layer).__name__
    if name in PASSING:
        return PASSING[name]
    if isinstance(layer, keras.layers.Activation):
        return _activation(layer.activation)
    if isinstance(layer, keras.layers.Dropout):
        return f"dropout {layer.rate:g}"
    return name


def _activation(function) -> str:
    name = getattr(function, "__name__", "linear")
    return "" if name == "linear" else ACTIVATIONS.get(name, name)


def _shape(sides) -> str:
    return "×".join(str(side) for side in sides)


def _step(strides) -> str:
    steps = dict.fromkeys(strides)
    return "" if list(steps) == [1] else f" / {_shape(steps)}"


# From boxes to modules


def _trunk(boxes: list[Box]) -> tuple[list[int], list[list[int]]]:
    """Return the boxes that lead to the deepest output, and the other outputs' own boxes."""
    depth = []
    for box in boxes:
        depth.append(1 + max((depth[i] for i in box.inputs), default=0))
    ends = [i for i, box in enumerate(boxes) if any(use.outputs for use in box.uses)]
    ends.sort(key=lambda i: -depth[i])
    taken, groups = set(), []
    for end in ends:
        group, stack = set(), [end]
        while stack:
            i = stack.pop()
            if i not in taken and i not in group:
                group.add(i)
                stack += boxes[i].inputs
        taken |= group
        if group:
            groups.append(sorted(group))
    trunk, *sides = groups
    return trunk, sorted(sides, key=lambda side: boxes[side[0]].inputs)


def _modules(boxes: list[Box], trunk: list[int]) -> list[list[int]]:
    """Cut the trunk behind every box that all paths run through."""
    position = {i: k for k, i in enumerate(trunk)}
    last = [0] * len(trunk)  # how far edges from before a box reach
    for k, i in enumerate(trunk):
        for j in boxes[i].inputs:
            last[position[j]] = max(last[position[j]], k)
    modules, current, reach = [], [], 0
    for k, i in enumerate(trunk):
        current.append(i)
        if reach <= k:  # no edge passes this box
            modules.append(current)
            current = []
        reach = max(reach, last[k])
    return modules


def _fold(boxes: list[Box], modules: list) -> list[tuple[list, list]]:
    """Return sections (drawn, all): runs of equal modules, up to four in turn, drawn once."""
    signs = []
    for module in modules:
        inside = {i: k for k, i in enumerate(module)}
        signs.append(
            [(boxes[i].lines, [inside.get(j, -1) for j in boxes[i].inputs]) for i in module]
        )
    sections, at = [], 0
    while at < len(modules):
        saved, period, times = 1, 1, 1  # folding one box away does not pay
        for p in range(1, 5):
            unit, n = signs[at : at + p], 1
            while signs[at + n * p : at + (n + 1) * p] == unit:
                n += 1
            if (n - 1) * sum(map(len, unit)) > saved:
                saved, period, times = (n - 1) * sum(map(len, unit)), p, n
        sections.append((modules[at : at + period], modules[at : at + period * times]))
        at += period * times
    return sections


# From modules to places


def _place(boxes: list[Box], inside: list[int], top: float, axis=0.0) -> dict:
    """Give a module's boxes their places around an axis, rows of branches from `top` down.

    Returns:
        {(from, to): [(x, top, bottom), ...]}: where an edge passes rows between its ends.
    """
    row = {}
    for i in inside:
        row[i] = 1 + max((row[j] for j in boxes[i].inputs if j in row), default=-1)
    rows = [[] for _ in range(max(row.values()) + 1)]
    for i in inside:
        rows[row[i]].append((i, boxes[i].width, 1.0, i))  # order, width, weight, key
    for i in inside:
        for j in boxes[i].inputs:
            order = j if j in row else float("inf")  # a shortcut passes at the right
            for r in range(row.get(j, -1) + 1, row[i]):
                rows[r].append((order, LANE, 0.01, (j, i)))
    neighbours = defaultdict(list)
    for i in inside:
        for j in boxes[i].inputs:
            passed = [(r, (j, i)) for r in range(row.get(j, -1) + 1, row[i])]
            path = [(row[j], j) if j in row else None, *passed, (row[i], i)]
            for a, b in pairwise(path):
                neighbours[b].append(a)
                neighbours[a].append(b)
    for node, near in list(neighbours.items()):  # branches go straight down, then to the end
        if node and isinstance(node[1], tuple):
            wanted = [n for n in near if n and n[1] in (node[1][0], node[1])]
        else:
            wanted = [n for n in near if n is None or n[1] != inside[-1]]
        neighbours[node] = wanted or near
    neighbours[row[inside[-1]], inside[-1]] = [None]  # the end stands on the axis
    x = {(r, key): 0.0 for r, entries in enumerate(rows) for *_, key in entries} | {None: 0.0}
    for entries in rows:
        entries.sort(key=lambda entry: entry[0])
    for _ in range(30):  # each box towards the middle of its neighbours, none over another
        for r, entries in enumerate(rows):
            wished = [
                sum(x[n] for n in neighbours[r, key]) / max(1, len(neighbours[r, key]))
                for *_, key in entries
            ]
            offsets, weights = [0.0], [weight for _, _, weight, _ in entries]
            for (_, a, _, _), (_, b, _, _) in pairwise(entries):
                offsets.append(offsets[-1] + (a + b) / 2 + SIDE_GAP)
            free = [w - o for w, o in zip(wished, offsets, strict=True)]
            placed = isotonic_regression(free, sample_weight=weights)
            for (*_, key), p, o in zip(entries, placed, offsets, strict=True):
                x[r, key] = float(p + o)
    passing, y = defaultdict(list), top
    for r, entries in enumerate(rows):
        height = max([boxes[key].height for *_, key in entries if isinstance(key, int)])
        for *_, key in entries:
            if isinstance(key, int):
                boxes[key].x, boxes[key].y = axis + x[r, key], y
            else:
                passing[key].append((axis + x[r, key], y, y + height))
        y += height + GAP
    return passing


def _stack(boxes: list[Box], sections: list, sides: list[list[int]]) -> dict:
    """Give every box its place; return all that is to be drawn, in pixels around the trunk."""
    passing, rows, frames, drawn_as, y = {}, [], [], {}, 4.0
    for unit, whole in sections:
        drawn, everything = list(chain(*unit)), list(chain(*whole))
        drawn_as |= {i: drawn[k % len(drawn)] for k, i in enumerate(everything)}
        folded, top = len(whole) > len(unit), y
        y += 10 * folded
        for module in unit:
            passing |= _place(boxes, module, y)
            y = _bottom(boxes[module[-1]]) + GAP
        names = [_name(boxes, part) for part in (drawn, everything[-len(drawn) :])]
        names = dict.fromkeys(filter(None, names))
        rows.append((boxes[drawn[-1]], " … ".join(names), boxes[everything[-1]].main.shape))
        if folded:
            low, high = _span(boxes, drawn, passing)
            frames.append((low - 10, top, high + 10, y - GAP + 9, len(whole) // len(unit)))
            y += 10
    shown = sorted(set(drawn_as.values()))
    low, high = _span(boxes, shown, passing)
    low, high = min([low, *(f[0] for f in frames)]), max([high, *(f[2] + 30 for f in frames)])
    beside = high + 16 + 7.2 * max(len(_shape(shape)) for *_, shape in rows)  # past the shapes
    right, bottom, hung, labels = beside, 0.0, [], []
    for side in sides:
        source = drawn_as[next(j for i in side for j in boxes[i].inputs if j in drawn_as)]
        top = max(bottom + 2 * GAP, _bottom(boxes[source]) + 2 * GAP)
        a, b = _span(boxes, side, _place(boxes, side, top))
        passing |= _place(boxes, side, top, axis=beside - a)
        right, bottom = max(right, beside + b - a), _bottom(boxes[side[-1]])
        hung += side
        labels.append((boxes[side[0]].x + 6, top - 5, _name(boxes, side)))
    edges = []
    for i in [*shown, *hung]:
        for j in boxes[i].inputs:
            source = boxes[drawn_as.get(j, j)]
            across = i in hung and j in drawn_as
            edges.append((_across if across else _down)(source, boxes[i], passing.get((j, i), [])))
    return {
        "boxes": [boxes[i] for i in [*shown, *hung]],
        "edges": edges,
        "rows": rows,
        "frames": frames,
        "labels": labels,
        "left": low,
        "shapes": high,
        "right": right,
        "bottom": max(y - GAP, bottom),
    }


def _bottom(box: Box) -> float:
    return box.y + box.height


def _span(boxes: list[Box], inside: list[int], passing: dict) -> tuple[float, float]:
    """Return the leftmost and rightmost pixel of some boxes and the edges that end in them."""
    lanes = [x for (_, i), path in passing.items() if i in inside for x, *_ in path]
    left = min([boxes[i].x - boxes[i].width / 2 for i in inside] + lanes)
    return left, max([boxes[i].x + boxes[i].width / 2 for i in inside] + lanes)


def _name(boxes: list[Box], inside: list[int]) -> str:
    """Return what the layers' names begin with, or "" where Keras made the names up."""
    mains = [boxes[i].main for i in inside]
    names = [
        use.name
        for use in mains
        if re.sub(r"(_\d+)?(:\d+)?$", "", use.name).replace("_", "")
        != type(use.layer).__name__.lower()
    ]
    named = [u.name for u in mains if u.name in names and _kind(u.layer)] or names
    if len(named) == 1 and len(inside) == 1:
        return named[0]
    words = zip(*(name.split("_") for name in named), strict=False)
    return "_".join(word[0] for word in takewhile(lambda word: len(set(word)) == 1, words))


# From places to the drawing


def _down(source: Box, target: Box, path: list) -> str:
    """Return an edge from a box's foot to another's head, by way of `path`."""
    x, y, line = source.x, _bottom(source), f"M{source.x:.1f} {_bottom(source):.1f}"
    for at, top, bottom in [*path, (target.x, target.y, target.y)]:
        middle = top - GAP / 2 if top - y > 2 * GAP else (y + top) / 2
        if middle > (y + top) / 2:
            line += f"V{top - GAP:.1f}"
            y = top - GAP
        line += f"C{x:.1f} {middle:.1f} {at:.1f} {middle:.1f} {at:.1f} {top:.1f}V{bottom:.1f}"
        x, y = at, bottom
    return line


def _across(source: Box, target: Box, path: list) -> str:
    """Return an edge to a box that hangs beside the trunk."""
    foot = _bottom(source)
    return f"M{source.x:.1f} {foot:.1f}v{GAP / 2}H{target.x:.1f}V{target.y:.1f}"


def _svg(model, boxes: list[Box], sections: list, sides: list[list[int]]) -> str:
    drawing = _stack(boxes, sections, sides)
    names = [name for _, name, _ in drawing["rows"]]
    gutter = 14 + 6.2 * max(len(name) for name in names)
    left, top = drawing["left"] - gutter, 0
    width, height = drawing["right"] - left + 4, drawing["bottom"] + 6
    parts = [f'<path class="edge" d="{d}"/>' for d in drawing["edges"]]
    for low, top, high, bottom, times in drawing["frames"]:
        parts.append(
            f'<rect class="fold" x="{low:.1f}" y="{top:.1f}" width="{high - low:.1f}" '
            f'height="{bottom - top:.1f}" rx="6"/>'
            + _text(high + 6, (top + bottom) / 2 + 4, f"× {times}", "main")
        )
    for box in drawing["boxes"]:
        parts.append(
            f'<rect class="box {box.kind}" x="{box.x - box.width / 2:.1f}" y="{box.y:.1f}" '
            f'width="{box.width:.1f}" height="{box.height:.1f}" rx="4"/>'
        )
        for k, (text, main) in enumerate(box.lines):
            kind = "main middle" if main else "small middle"
            parts.append(_text(box.x, box.y + 14.5 + 13 * k, text, kind))
    for box, name, shape in drawing["rows"]:
        parts.append(_text(left, box.y + box.height / 2 + 4, name, "small"))
        if box.main.inputs:  # the input says its shape itself
            parts.append(
                _text(drawing["shapes"] + 10, box.y + box.height / 2 + 4, _shape(shape), "small")
            )
    parts += [_text(x, y, name, "small") for x, y, name in drawing["labels"]]
    title = f"Architecture of {model.name}"
    return (
        f'<div class="ilsvrc-diagram" style="overflow-x:auto" tabindex="0">{STYLE}'
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'aria-label="{html.escape(_described(model, title, drawing))}" '
        f'viewBox="{left:.1f} 0 {width:.1f} {height:.1f}" width="{width:.0f}" '
        f'style="max-width:100%;min-width:{0.9 * width:.0f}px;height:auto">'
        f"<title>{html.escape(title)}</title>{''.join(parts)}</svg></div>"
    )


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{html.escape(text)}</text>' * bool(text)


def _described(model, title: str, drawing: dict) -> str:
    """Return the drawing in words, for those who cannot see it."""
    steps = []
    for box, name, shape in drawing["rows"]:
        what = ", ".join(text for text, _ in box.lines)
        steps.append(f"{name}: {what}, {_shape(shape)}" if name else f"{what}, {_shape(shape)}")
    count = ledger.totals(model)["parameters"]
    return f"{title}, {count:,} parameters, from input to output: " + "; ".join(steps)
