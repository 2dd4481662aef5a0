"""The architecture diagram: read back from its SVG, for chains, branches, repeats and heads."""

import re
import xml.etree.ElementTree as ET
from itertools import combinations

import keras
import pytest
from keras import layers

from ilsvrc import vis

pytestmark = pytest.mark.once

SVG = "{http://www.w3.org/2000/svg}"


def drawn(model):
    return ET.fromstring(re.search(r"<svg.*</svg>", vis.diagram(model).data, re.S)[0])


def words(svg):
    return [text.text for text in svg.iter(f"{SVG}text")]


def boxes(svg):
    """Return (left, top, right, bottom) of each box, frames left out."""
    found = []
    for rect in svg.iter(f"{SVG}rect"):
        if "box" in rect.get("class"):
            x, y, w, h = (float(rect.get(k)) for k in ("x", "y", "width", "height"))
            found.append((x, y, x + w, y + h))
    return found


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def chain():
    x = inputs = keras.Input((67, 67, 3))
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(6, 11, 4, name="conv1")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    x = layers.Conv2D(8, 5, padding="same", groups=2, activation="relu", name="conv2")(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.5)(layers.Dense(10, name="fc6")(x))
    return keras.Model(inputs, layers.Softmax()(x), name="small<net>")


def inception(x, filters, name):
    def conv(x, n, size, part):
        return layers.Conv2D(n, size, padding="same", name=f"{name}_{part}")(x)

    a, b, c = filters
    branches = [
        conv(x, a, 1, "1x1"),
        conv(conv(x, b, 1, "3x3_reduce"), b, 3, "3x3"),
        conv(layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x), c, 1, "pool_proj"),
    ]
    return layers.Concatenate(name=f"{name}_concat")(branches)


def branched():
    inputs = keras.Input((16, 16, 3))
    first = inception(inputs, (4, 6, 2), "inception_3a")
    head = layers.GlobalAveragePooling2D(name="aux_pool")(first)
    head = layers.Dense(5, name="aux_fc")(head)
    x = inception(inception(first, (4, 8, 2), "inception_3b"), (3, 3, 3), "inception_4a")
    x = layers.Dense(5, name="fc")(layers.GlobalAveragePooling2D(name="pool5")(x))
    return keras.Model(inputs, [x, head], name="branched")


def residual(blocks=10):
    x = inputs = keras.Input((8, 8, 4))
    for i in range(blocks):
        y = layers.Conv2D(4, 3, padding="same", name=f"conv2_block{i}_1")(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.Conv2D(4, 3, padding="same", name=f"conv2_block{i}_2")(y)
        x = layers.ReLU()(layers.Add()([y, x]))
    return keras.Model(inputs, layers.Dense(3, name="fc")(layers.GlobalAveragePooling2D()(x)))


def test_a_chain_says_sizes_strides_groups_and_shapes():
    svg = drawn(chain())
    said = words(svg)
    for text in [
        "input 67×67×3", "conv1", "conv 11×11 / 4, 6", "BN · ReLU", "15×15×6", "max pool 3×3 / 2",
        "conv 5×5, 8, 2 groups", "ReLU · flatten", "7×7×8", "dense 10", "dropout 0.5 · softmax",
    ]:  # fmt: skip
        assert text in said
    assert len(boxes(svg)) == 5  # input, conv1, pool1, conv2, fc6


@pytest.mark.parametrize("build", [chain, branched, lambda: residual(2)])
def test_boxes_lie_apart_and_within_the_picture(build):
    svg = drawn(build())
    left, top, width, height = map(float, svg.get("viewBox").split())
    found = boxes(svg)
    assert not [pair for pair in combinations(found, 2) if overlap(*pair)]
    for a, b, c, d in found:
        assert left <= a and top <= b and c <= left + width and d <= top + height


def test_branches_stand_side_by_side():
    svg = drawn(branched())
    said = words(svg)
    assert said.count("concatenate") == 3
    assert {"inception_3a", "inception_3b", "inception_4a", "16×16×12"} <= set(said)
    rows = {}
    for box in boxes(svg):
        rows.setdefault(box[1], []).append(box)
    assert sorted(map(len, rows.values()), reverse=True)[:3] == [3, 3, 3]


def test_an_auxiliary_head_hangs_beside_the_trunk():
    svg = drawn(branched())
    assert words(svg).count("dense 5") == 2 and "aux" in words(svg)
    found = boxes(svg)
    trunk = max(right for _, _, right, _ in found[:-2])
    assert all(left > trunk for left, *_ in found[-2:])


def test_every_edge_ends_where_its_boxes_are():
    for model in (chain(), branched(), residual(2)):
        svg = drawn(model)
        found = boxes(svg)
        feet = {(round((a + c) / 2), round(d)) for a, _, c, d in found}
        heads = {(round((a + c) / 2), round(b)) for a, b, c, _ in found}
        edges = [p.get("d") for p in svg.iter(f"{SVG}path")]
        assert len(edges) >= len(found) - 1
        for edge in edges:
            numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", edge)]
            assert any(abs(numbers[0] - x) < 2 and abs(numbers[1] - y) < 2 for x, y in feet)
            assert any(abs(numbers[-1] - y) < 2 for _, y in heads)


def test_equal_blocks_of_a_long_network_are_drawn_once():
    svg = drawn(residual(10))
    assert "× 10" in words(svg)
    assert words(svg).count("add") == 1
    assert "conv2_block0 … conv2_block9" in words(svg)
    short = drawn(residual(2))
    assert words(short).count("add") == 2 and not any("× " in w for w in words(short))


def test_it_reads_in_light_and_dark_and_aloud():
    page = vis.diagram(chain())._repr_html_()
    svg = drawn(chain())
    assert svg.get("role") == "img"
    assert "input 67×67×3" in svg.get("aria-label") and "conv1: conv 11×11" in svg.get("aria-label")
    assert svg.find(f"{SVG}title").text == "Architecture of small<net>"
    style = re.search(r"<style>(.*)</style>", page, re.S)[1]
    assert "fill:currentColor" in style and "black" not in style and "white" not in style
    sizes = [float(s) for s in re.findall(r"font-size:(\d+)px", style)]
    assert min(sizes) >= 11
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.slow
def test_a_known_deep_network_fits_a_page():
    svg = drawn(keras.applications.ResNet50(weights=None))
    _, _, width, height = map(float, svg.get("viewBox").split())
    assert width < 700 and height < 2000
    assert [w for w in words(svg) if "× " in w] == ["× 2", "× 3", "× 5", "× 2"]
    assert {"112×112×64", "56×56×256", "28×28×512", "14×14×1024", "7×7×2048"} <= set(words(svg))
